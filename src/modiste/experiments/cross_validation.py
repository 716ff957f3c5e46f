"""Cross-validation: a run for each fold, and one ensemble of them, tuned on out-of-fold predictions.

folds.json            their numbers
base.toml             the recipe of all
format.json           of this folder
manifest.parquet      photos, targets, test part and folds
fold-0, fold-1, ...   a run each; its own fold validates, the others train
ensemble              a blend folder: the mean of all runs, with the out-of-fold scores
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from modiste.config import DataConfig, Recipe
from modiste.data.manifest import Manifest
from modiste.data.rare_labels import FrequentLabels, frequent_labels
from modiste.decisions.blend import Blend
from modiste.errors import ManifestError, RunError, UsageError
from modiste.evaluation.cached_predictions import predict_kept
from modiste.files import new_folder, only_process, write_text
from modiste.labels import LabelSet
from modiste.runs.blend_run import BlendRun
from modiste.runs.format import check_format, write_format
from modiste.runs.predictions import Predictions, photos_key, write
from modiste.runs.run import Run
from modiste.training.loop import resume, train
from modiste.training.monitor import Monitor
from modiste.training.state import check_recipe, make_fabric, trainable_parts

FOLDS_FILE = "folds.json"


def create_folds(folder: Path, recipe: Recipe, manifest: Manifest, count: int) -> FrequentLabels:
    """Make the folder of a cross-validation, whole or not at all, and return which labels are learnt.

    Folds that the manifest has are kept.

    Args:
        folder: where nothing is yet.
        recipe: of all runs.
        manifest: photos with targets; a test part is kept, or made by the recipe's `data.test_fraction`.
        count: how many folds, at least 2.

    Raises:
        ManifestError: the manifest has another number of folds, or no label has enough photos.
        RunError: the folder exists.
        UsageError: the recipe names one fold.
        The errors of `check_recipe`.
    """
    data = recipe.data
    if data.fold is not None:
        raise UsageError.expected("--folds alone", f"--fold {data.fold} beside it", "one of the two")
    manifest = manifest.with_split(0.0, data.test_fraction, recipe.seed, data.stratify_columns)
    if "fold" not in manifest.frame.columns:
        manifest = manifest.with_folds(count, recipe.seed, data.stratify_columns)
    numbers = sorted({*manifest.frame["fold"].to_list()} - {-1})
    if len(numbers) != count:
        raise ManifestError.expected(f"{count} folds in {manifest.source}", len(numbers), f"--folds {len(numbers)}")
    check_recipe(recipe)
    kept = frequent_labels(manifest, data.min_positives, folds=True)
    manifest = kept.manifest
    for fold in numbers:
        trainable_parts(manifest.with_fold(fold))
    with new_folder(folder.absolute(), f"--resume {folder}, or another -o") as temporary:
        write_text(temporary / FOLDS_FILE, json.dumps({"folds": numbers}) + "\n")
        write_text(temporary / "base.toml", recipe.to_toml())
        manifest.label_set.write(temporary / "labels.json")
        manifest.absolute().write(temporary / "manifest.parquet")
        write_format(temporary)
    return kept


@dataclass(frozen=True)
class _FoldRun:
    """The run whose own fold validates, and its Monitor."""

    fold: int
    run: Run
    monitor: Monitor


def cross_validate(
    folder: Path, *, accelerator: str = "auto", watch: Callable[[str], Monitor] = lambda _: Monitor()
) -> BlendRun:
    """Train what is missing of a cross-validation, and make its ensemble; the ensemble is still to be tuned.

    Args:
        folder: made by `create_folds`.
        accelerator: as for `make_fabric`.
        watch: gives for a run's title the Monitor of its training.

    Raises:
        RunError: the folder is no cross-validation, or another process is at it.
        The errors of `train`.
    """
    check_format(folder)
    if not (folder / FOLDS_FILE).is_file():
        raise RunError.expected(
            f"{folder} to be a cross-validation", f"no {FOLDS_FILE} in it", "modiste train --folds 5"
        )
    with only_process(folder / "folds.lock", f"{folder} to be filled", "waiting for it"):
        if not (folder / "ensemble").is_dir():
            _fill(folder, accelerator, watch)
    return BlendRun.read(folder / "ensemble")


def _fill(folder: Path, accelerator: str, watch: Callable[[str], Monitor]) -> None:
    """Train what is missing, and make the ensemble."""
    numbers: list[int] = json.loads((folder / FOLDS_FILE).read_text(encoding="utf-8"))["folds"]
    recipe = Recipe.read(folder / "base.toml")
    manifest = Manifest.read(folder / "manifest.parquet", DataConfig(), LabelSet.read(folder / "labels.json"))
    runs: list[_FoldRun] = []
    for k, fold in enumerate(numbers, 1):
        at, own = (
            folder / f"fold-{fold}",
            recipe.replace([f"data.fold={fold}", "data.test_fraction=0", "data.min_positives=1"]),
        )
        monitor, fabric = watch(f"fold {fold}, {k} of {len(numbers)}"), make_fabric(own, 1, accelerator)
        if at.exists():
            run = resume(at, fabric=fabric, monitor=monitor)
        else:
            run = train(own, manifest, at, fabric=fabric, monitor=monitor)
        runs.append(_FoldRun(fold, run, monitor))
    with new_folder(folder.absolute() / "ensemble", "removing it") as temporary:
        _assemble(temporary, manifest, runs)


def _assemble(folder: Path, manifest: Manifest, runs: Sequence[_FoldRun]) -> None:
    """Write the ensemble, and the predictions of each run for its own fold."""
    folds = manifest.frame["fold"].to_numpy()
    splits = np.where(folds >= 0, "val", manifest.parts)
    whole = manifest.with_column("split", np.where(np.isin(splits, ("val", "test")), splits, "").tolist())
    part = whole.part("val")
    in_fold = part.frame["fold"].to_numpy()
    raw = np.full((len(part), len(part.label_set)), np.nan, np.float32)
    errors: list[str | None] = [None] * len(part)
    for one in runs:
        rows = np.flatnonzero(in_fold == one.fold)
        said = predict_kept(one.run, part.select(rows), one.monitor.caching)
        raw[rows] = said.raw
        for row, error in zip(rows, said.errors, strict=True):
            errors[row] = error
    read = np.array([error is None for error in errors])
    sentence = f"the mean of {len(runs)} folds; each photo is judged by the run that never saw it"
    known = {"split": "val", "photos": photos_key(part.select(read)), "out_of_fold": [one.fold for one in runs]}
    choice = {**known, "sentence": sentence}
    made = BlendRun.write(folder, [one.run for one in runs], whole, Blend.mean(len(runs)), choice)
    write(made, "val", Predictions(part, raw, errors, made.views))
