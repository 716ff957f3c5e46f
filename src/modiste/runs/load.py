"""From a trained model on disk to what tags photos."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from modiste.decisions.decision import DECISION_FILE, Decision
from modiste.errors import RunError, UsageError
from modiste.files import StrPath
from modiste.inference.predictor import (
    PHOTOS_A_CORE,
    BasePredictor,
    Ensemble,
    Predictor,
    Views,
    check_views,
    usable_cores,
)

BUNDLED = "garments"  # the bundled model: benchmarks/garments.py made it
_ON_GPU = 64  # photos that a GPU runs together

if TYPE_CHECKING:  # need torch; a light install can import this module
    from modiste.models.tagger import Tagger
    from modiste.runs.blend_run import BlendRun
    from modiste.runs.run import Run


def load(
    path: StrPath | Sequence[StrPath] | None = None,
    *,
    views: Views | None = None,
    thresholds: str | None = None,
) -> BasePredictor:
    """Open a model for tagging: `modiste.load("coat.onnx").predict("street.jpg").labels`.

    Args:
        path: a run folder, a blend folder or an exported file; several make an ensemble of their mean. None is the
            model that comes with modiste, and "garments" too, where nothing else is called that.
        views: test-time augmentation; None takes the recipe's.
        thresholds: "fixed:0.5" (the paper's rule, on the network's own probabilities) or "top:3"; None takes what
            was tuned.

    Raises:
        RunError: there is no trained model, or the models of an ensemble speak of other labels.
        UsageError: no such views or thresholds, or an ensemble of models that were tuned each for itself.
    """
    if views is not None:
        check_views(views)
    paths = [path] if isinstance(path, str | os.PathLike) else [bundled_model()] if path is None else list(path)
    if not paths:
        raise UsageError.expected("a model", "none", "-m RUN")
    members = [_open(locate(one), views) for one in paths]
    tags = members[0] if len(members) == 1 else _ensemble(paths, members, thresholds)
    if thresholds is None:
        return tags
    return replace(tags, decision=Decision.untuned(thresholds, tags.label_set))


def _open(path: Path, views: Views | None) -> Predictor | Ensemble:
    if path.is_dir() or path.suffix.lower() != ".onnx":
        return predictor(open_run(path), views)
    from modiste.inference.onnx import Exported

    return Exported.read(path).predictor(views)


def bundled_model() -> Path:
    """The model that comes with modiste."""
    return Path(__file__).with_name(f"{BUNDLED}.onnx")


def locate(path: StrPath) -> Path:
    """Where a model is: the path itself, or the bundled model for its name where nothing else is called that."""
    return bundled_model() if os.fspath(path) == BUNDLED and not Path(path).exists() else Path(path)


def model_key(path: StrPath) -> str:
    """Changes where a model's predictions may change: a hash of the files that make it."""
    path = locate(path)
    names = {"model.safetensors", "recipe.toml", "labels.json", DECISION_FILE, "blend.json"}
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.name in names)
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as opened:
            digest.update(hashlib.file_digest(opened, "sha256").digest())
    return digest.hexdigest()


def open_run(folder: StrPath) -> Run | BlendRun:
    """Open a run folder or a blend folder.

    Raises:
        RunError: it is none.
    """
    folder = Path(folder)
    if not folder.exists():
        raise RunError.expected(f"{folder} to be a run folder", "no such folder", "the folder that modiste train made")
    if folder.is_file():
        got = "an exported file" if folder.suffix == ".onnx" else "a file"
        raise RunError.expected(f"{folder} to be a run folder", got, "the folder that modiste train made")
    for name, what, inside in (("folds.json", "cross-validation", "ensemble"), ("compare.toml", "comparison", "best")):
        if (folder / name).is_file():
            raise RunError.expected(f"{folder} to be a run folder", f"that of a {what}", str(folder / inside))
    from modiste.runs.blend_run import BlendRun
    from modiste.runs.run import Run

    return BlendRun.read(folder) if (folder / "blend.json").is_file() else Run.read(folder)


def trained_network(run: Run) -> Tagger:
    """The network of a run, on the CPU.

    Raises:
        RunError: there is no trained model.
        WeightsError: it is another network than the recipe describes.
    """
    from modiste.models.activation import softmax_groups
    from modiste.models.tagger import Tagger

    groups = softmax_groups(run.recipe.loss, run.label_set)
    return Tagger.from_state(run.recipe.model, run.read_weights(), groups)


def predictor(run: Run | BlendRun, views: Views | None = None, *, device: str | None = None) -> Predictor | Ensemble:
    """What tags photos with an opened run or blend, reading with all cores.

    Args:
        run: the run or blend.
        views: test-time augmentation; None takes the model's.
        device: as PyTorch calls it; None takes the GPU if there is one.

    Raises:
        RunError: there is no trained model.
        UsageError: there are no such views.
    """
    if views is not None:
        check_views(views)
    import torch

    from modiste.models.map_cells import find_cells
    from modiste.models.tagger import forward_function
    from modiste.runs.run import Run

    if not isinstance(run, Run):
        asked = views or run.own_views
        return Ensemble(
            tuple(predictor(member, asked, device=device) for member in run.members), run.blend, run.decision
        )
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    model = trained_network(run).to(device).eval()
    cores, image = usable_cores(), run.recipe.image
    return Predictor(
        forward_function(model),
        run.label_set,
        image,
        run.decision,
        views or run.views,
        batch_size=PHOTOS_A_CORE * cores if device == "cpu" else _ON_GPU,
        readers=cores,
        cells=find_cells(model, image.size),
    )


def _shared(one: Decision, other: Decision) -> bool:
    """Whether two models decide alike, by a rule that needs no tuning."""
    plain = not (one.policy.tuned or one.calibrated or one.label_shift or other.calibrated or other.label_shift)
    return plain and one.policy == other.policy and one.thresholds_key == other.thresholds_key


def _ensemble(paths: Sequence[StrPath], members: Sequence[BasePredictor], thresholds: str | None) -> Ensemble:
    """The mean of several models."""
    from modiste.decisions.blend import Blend

    for name, member in zip(paths[1:], members[1:], strict=True):
        if member.label_set.ids != members[0].label_set.ids:
            got = f"{', '.join(member.label_set.ids[:3])}..."
            raise RunError.expected(f"{name} to have the labels of {paths[0]}", got, "models of one label set")
        if thresholds is None and not _shared(member.decision, members[0].decision):
            raise UsageError.expected(
                "thresholds for the mean of several models",
                f"those that {name} or {paths[0]} has for itself",
                "--thresholds fixed:0.5, or modiste blend, which tunes them together",
            )
    return Ensemble(tuple(members), Blend.mean(len(members)), members[0].decision)
