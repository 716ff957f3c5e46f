"""A run folder: what training leaves and what evaluation, tagging and export start from. No pickle.

recipe.toml         every setting, defaults written out
labels.json         the label set, in the order of the network's outputs
manifest.parquet    photos, targets and split that this run was made of
decision.json       calibration and thresholds: from probabilities to labels
model.safetensors   weights of the epoch with the best validation mAP
history.csv         a row an epoch
environment.json    versions, machine, command
format.json         of this folder, and the modiste that made it; without it, format 1
checkpoint.pt       only while training is unfinished: where to resume
train.lock          held by the process that trains
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import metadata
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any, Self

import polars as pl

from modiste.config import DataConfig, DecideConfig, Recipe
from modiste.data.manifest import Manifest
from modiste.decisions.decision import DECISION_FILE, Decision
from modiste.decisions.policies import Policy
from modiste.errors import RunError
from modiste.files import new_folder, replacing, write_text
from modiste.inference.predictor import Views
from modiste.labels import LabelSet
from modiste.runs.format import check_format, write_format

if TYPE_CHECKING:  # imported where weights are read or written, so that opening a run stays light
    from torch import Tensor

_PACKAGES = ("modiste", "torch", "timm", "lightning-fabric", "numpy", "pillow", "polars")


@dataclass(frozen=True)
class Run:
    """A run folder that exists.

    Raises:
        RunError: from `read`, where the folder is missing, is no run folder or is of a newer format.
    """

    folder: Path
    recipe: Recipe
    label_set: LabelSet
    decision: Decision

    @classmethod
    def create(cls, folder: Path, recipe: Recipe, manifest: Manifest) -> Self:
        """Make a new run folder, whole or not at all.

        Raises:
            RunError: the folder exists and isn't empty.
            StorageError: it can't be written.
            UsageError: the recipe's policy is none.
        """
        folder = folder.absolute()
        policy = Policy.parse(recipe.decide.policy)
        paper = DecideConfig().policy
        decision = Decision.untuned(paper if policy.tuned else policy, manifest.label_set)  # until it is tuned
        with new_folder(folder, f"--resume {folder}, or another -o") as temporary:
            write_text(temporary / "recipe.toml", recipe.to_toml())
            manifest.label_set.write(temporary / "labels.json")
            manifest.absolute().write(temporary / "manifest.parquet")
            decision.write(temporary / DECISION_FILE, manifest.label_set)
            write_text(temporary / "environment.json", json.dumps(environment(), indent=1) + "\n")
            write_format(temporary)
        return cls(folder, recipe, manifest.label_set, decision)

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Open a run folder."""
        check_format(folder)
        if not (folder / "recipe.toml").is_file():
            got = "a folder without recipe.toml" if folder.is_dir() else "no such folder"
            raise RunError.expected(f"{folder} to be a run folder", got, "the folder that modiste train -o made")
        label_set = LabelSet.read(folder / "labels.json")
        return cls(folder, Recipe.read(folder / "recipe.toml"), label_set, Decision.of(folder, label_set))

    def manifest(self) -> Manifest:
        """The photos, targets and split of this run."""
        return Manifest.read(self.folder / "manifest.parquet", DataConfig(), self.label_set)

    @property
    def name(self) -> str:
        """What a person calls it: the recipe's name."""
        return self.recipe.name

    @property
    def views(self) -> Views:
        """Test-time augmentation that the decision was tuned with, else that of the recipe."""
        views: Views = self.decision.provenance.get("views") or self.recipe.evaluate.views
        return views

    @property
    def data(self) -> DataConfig:
        """How its manifest was read."""
        return self.recipe.data

    @property
    def decide(self) -> DecideConfig:
        """How its decision is made."""
        return self.recipe.decide

    @cached_property
    def key(self) -> str:
        """Changes where the network's probabilities may change: a hash of weights, preparation and activation.

        Raises:
            RunError: there is no trained model.
        """
        path = self.folder / "model.safetensors"
        if not path.is_file():
            fix = f"modiste train --resume {self.folder}"
            raise RunError.expected(f"{path} to hold the best weights", "no such file", fix)
        with path.open("rb") as file:
            weights = hashlib.file_digest(file, "sha256").hexdigest()
        softmax = " softmax" if self.recipe.loss.groups == "softmax" and self.label_set.exclusive else ""
        return f"{weights} {self.recipe.model.backbone} {self.recipe.image.size} {self.recipe.image.mode}{softmax}"

    def facts(self) -> dict[str, str]:
        """What a reader of a report should know of the model."""
        recipe = self.recipe
        return {
            "backbone": recipe.model.title,
            "recipe": f"{recipe.name}, seed {recipe.seed}",
            "stages": ", ".join(f"{stage.name} ({stage.length})" for stage in recipe.stages),
            "photo": f"{recipe.image.size} px, {recipe.image.mode}",
        }

    def write_weights(self, state: dict[str, Tensor]) -> None:
        """Write `model.safetensors`, atomically."""
        from safetensors import SafetensorError
        from safetensors.torch import save_file

        with replacing(self.folder / "model.safetensors", SafetensorError) as temporary:
            tensors = {key: value.contiguous() for key, value in state.items()}
            save_file(tensors, temporary, {"labels": json.dumps(self.label_set.ids, ensure_ascii=False)})

    def read_weights(self) -> dict[str, Tensor]:
        """Read `model.safetensors`.

        Raises:
            RunError: it is missing or broken, or holds the outputs of another label set.
        """
        from safetensors import SafetensorError, safe_open
        from safetensors.torch import load_file

        path = self.folder / "model.safetensors"
        try:
            state = load_file(path)
            with safe_open(path, "pt") as file:
                outputs = json.loads(file.metadata()["labels"])
        except (OSError, SafetensorError, KeyError, TypeError) as error:
            removing = "removing it and then " if path.is_file() else ""
            raise RunError.expected(
                f"{path} to hold the best weights", f"'{error}'", f"{removing}modiste train --resume {self.folder}"
            ) from error
        if tuple(outputs) != self.label_set.ids:
            raise RunError.expected(
                f"{path} to be about the labels of labels.json, in their order",
                f"{len(outputs)} labels, {', '.join(outputs[:3])}...",
                "the labels.json that this model was trained with",
            )
        return state

    def write_history(self, history: Sequence[dict[str, Any]]) -> None:
        """Write `history.csv`, a row an epoch, atomically."""
        with replacing(self.folder / "history.csv") as temporary:
            pl.DataFrame(list(history)).write_csv(temporary)

    def epochs(self) -> int:
        """How many epochs `history.csv` holds."""
        path = self.folder / "history.csv"
        return len(path.read_bytes().splitlines()) - 1 if path.is_file() else 0

    def write_checkpoint(self, state: dict[str, Any]) -> None:
        """Write `checkpoint.pt`, atomically: tensors and plain values only."""
        import torch

        with replacing(self.folder / "checkpoint.pt", RuntimeError) as temporary:
            torch.save(state, temporary)

    def unfinished(self) -> bool:
        """Whether there is a checkpoint to resume from."""
        return (self.folder / "checkpoint.pt").is_file()

    def read_checkpoint(self) -> dict[str, Any] | None:
        """Read `checkpoint.pt`, or None where there is none.

        Raises:
            RunError: it is broken.
        """
        import torch

        path = self.folder / "checkpoint.pt"
        if not path.is_file():
            return None
        try:
            checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        except (OSError, EOFError, RuntimeError, UnpicklingError) as error:
            raise RunError.expected(
                f"{path} to be a whole checkpoint", "a broken file", "removing it: --resume then starts over"
            ) from error
        return checkpoint

    def remove_checkpoint(self) -> None:
        """Remove `checkpoint.pt`: the run is finished."""
        (self.folder / "checkpoint.pt").unlink(missing_ok=True)


def environment() -> dict[str, Any]:
    """What a run was made with: versions, machine, command."""
    import torch

    cuda = torch.cuda.is_available()
    return {
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "devices": [torch.cuda.get_device_name(k) for k in range(torch.cuda.device_count())] if cuda else ["cpu"],
        "versions": {name: metadata.version(name) for name in _PACKAGES},
    }
