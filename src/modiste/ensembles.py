"""Blending runs: several run folders -> one blend folder, chosen and judged out of fold."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from modiste.blending import Choice, choose
from modiste.blends import BlendRun
from modiste.bootstrap import Predicted
from modiste.bundle import Run
from modiste.deciding import make_folds
from modiste.errors import UsageError
from modiste.evenness import group_numbers
from modiste.predictions import Predictions, Progress, blended, fingerprint, predicted, write
from modiste.storage import refuse_existing

FOLDS = 5


def blend(
    folders: Sequence[Path | str], output: Path | str, *, split: str = "val", progress: Progress = None
) -> tuple[BlendRun, Choice]:
    """Make one model of several runs that were trained with the same split.

    The best single run, the mean, convex weights and a stack over all labels' scores are compared out of fold; the
    simpler one is kept unless another is better beyond noise.

    Args:
        folders: run folders, at least two.
        output: the blend folder to make.
        split: photos to fit on.
        progress: told (photos done, photos in all), for each run that has to be asked.

    Raises:
        RunError: a folder is no run, has no weights, or the output exists.
        UsageError: fewer than two runs, other labels or other photos, or too few photos.
    """
    refuse_existing(Path(output).absolute(), "another -o")
    runs = [_run(Path(folder)) for folder in folders]
    if len(runs) < 2:
        raise UsageError.expected("at least two runs to blend", len(runs), "modiste blend RUN RUN -o BLEND")
    said = [predicted(run, split, None, progress) for run in runs]
    for folder, run, one in zip(folders[1:], runs[1:], said[1:], strict=True):
        _check_same(folders[0], said[0], folder, one)
        _check_unseen(folders[0], runs[0], folder, run)
    read = np.all([one.readable for one in said], axis=0)
    part = said[0].part.select(read)
    raw = np.stack([one.raw[read] for one in said])
    groups = group_numbers(part)
    folds = make_folds(part.targets, groups, FOLDS)
    choice = choose(part.targets, raw, folds, part.labels, groups=groups)
    facts = {"split": split, "photos": fingerprint(part), "folds": FOLDS, "sentence": choice.reason}
    made = BlendRun.create(Path(output), runs, runs[0].manifest(), choice.blend, facts)
    whole = np.stack([one.raw for one in said])
    errors = [next(filter(None, each), None) for each in zip(*(one.errors for one in said), strict=True)]
    outside = blended(made, said[0].part, whole)
    write(made, split, Predictions(said[0].part, outside, errors, made.views), Predicted(outside, outside > 1))
    return made, choice


def _run(folder: Path) -> Run:
    if (folder / "blend.json").is_file():
        raise UsageError.expected(f"{folder} to be a run", "a blend", "the runs that it was made of")
    return Run.read(folder)


def _check_unseen(first: Path | str, one: Run, second: Path | str, other: Run) -> None:
    """Refuse runs of which one learned from photos that judge the blend."""
    learned, judge = _photos(other, ("train",)), _photos(one, ("val", "test"))
    if both := learned & judge:
        got = f"{len(both)} photos that {second} was trained on, such as {min(both)}"
        fix = "runs of one manifest whose split is written down (modiste split), or one seed"
        raise UsageError.expected(f"the val and test photos of {first} to be new to {second}", got, fix)


def _photos(run: Run, splits: tuple[str, ...]) -> set[str]:
    manifest = run.manifest()
    return {str(manifest.photo(k)) for k in np.flatnonzero(np.isin(manifest.parts, splits)).tolist()}


def _check_same(first: Path | str, one: Predictions, second: Path | str, other: Predictions) -> None:
    if one.part.labels.ids != other.part.labels.ids:
        differing = sorted(set(one.part.labels.ids) ^ set(other.part.labels.ids)) or ["their order"]
        got = f"a difference in {', '.join(differing[:3])}"
        raise UsageError.expected(f"{first} and {second} to have the same labels", got, "runs of one label set")
    if fingerprint(one.part) != fingerprint(other.part):
        both = len(set(one.photos()) & set(other.photos()))
        got = f"{len(one.part)} and {len(other.part)}, {both} of them in both"
        fix = "runs of one manifest whose split is written down (modiste split), or one seed"
        raise UsageError.expected(f"{first} and {second} to have the same validation photos", got, fix)
