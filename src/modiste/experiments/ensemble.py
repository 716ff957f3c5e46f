"""Blending runs: several run folders -> one blend folder, chosen and judged out of fold."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from modiste.config import DecideConfig
from modiste.data.groups import group_numbers
from modiste.decisions.fit import make_folds, too_few
from modiste.decisions.fit_blend import BlendChoice, choose
from modiste.errors import UsageError
from modiste.evaluation.scored_photos import own_photos
from modiste.evaluation.tune import Tuned, settings, tune
from modiste.files import StrPath, new_folder, refuse_existing
from modiste.progress import Progress
from modiste.runs.blend_run import BlendRun
from modiste.runs.predictions import Predictions, photos_key, predicted, write
from modiste.runs.run import Run


class Blended(NamedTuple):
    """A blend folder, how its blend was chosen, and how it was tuned."""

    run: BlendRun
    choice: BlendChoice
    tuned: Tuned


def blend(
    folders: Sequence[StrPath],
    output: StrPath,
    *,
    split: str = "val",
    policy: str | None = None,
    calibration: str | None = None,
    progress: Progress | None = None,
) -> Blended:
    """Make one model of several runs that were trained with the same split, and tune it.

    The best single run, the mean, convex weights and a stack over all labels' scores are compared out of fold; the
    simpler one is kept unless another is better beyond noise. The folder appears once it is complete.

    Args:
        folders: run folders, at least two.
        output: the blend folder to make.
        split: photos to fit on.
        policy: as for `tune`; None takes that of the first run's recipe.
        calibration: likewise.
        progress: told (photos done, photos in all), for each run that has to be asked.

    Raises:
        RunError: a folder is no run, has no weights, or the output exists.
        UsageError: fewer than two runs, other labels or other photos, too few photos, or no such policy.
    """
    output = Path(output).absolute()
    refuse_existing(output, "another -o")
    named = [Path(folder) for folder in folders]
    runs = [_run(folder) for folder in named]
    if len(runs) < 2:
        raise UsageError.expected("at least two runs to blend", len(runs), "modiste blend RUN RUN -o BLEND")
    if len({run.folder.resolve() for run in runs}) < len(runs):
        raise UsageError.expected("different runs to blend", "one of them twice", "each run once")
    own_photos(runs[0], split)
    for folder, run in zip(named[1:], runs[1:], strict=True):
        _check_same(named[0], runs[0], folder, run, split)
        _check_unseen(named[0], runs[0], folder, run)
    settings(runs[0], policy, calibration)  # refused before networks are asked
    members = [predicted(run, split, None, progress) for run in runs]
    with new_folder(output, "another -o") as unfinished:
        choice = _make(unfinished, runs, members, split)
        tuned = tune(unfinished, policy=policy, calibration=calibration, split=split)
    return Blended(BlendRun.read(output), choice, tuned)


def _make(folder: Path, runs: Sequence[Run], members: Sequence[Predictions], split: str) -> BlendChoice:
    """Choose a blend, and write its folder and its out-of-fold predictions for the photos it was fitted on."""
    whole = np.stack([one.raw for one in members])
    errors = [next(filter(None, each), None) for each in zip(*(one.errors for one in members), strict=True)]
    read = np.array([error is None for error in errors])
    part = members[0].part.select(read)
    groups = group_numbers(part)
    count = DecideConfig().folds
    lack = too_few(len(part), groups, count)
    if lack is not None:
        fix = "modiste tag -m RUN -m RUN --thresholds fixed:0.5, which takes their mean and needs none"
        raise UsageError.expected(f"at least {lack.least} {split} {lack.noun} to choose a blend on", lack.there, fix)
    folds = make_folds(part.targets, groups, count)
    choice = choose(part.targets, whole[:, read], folds, part.label_set, groups=groups)
    facts = {"split": split, "photos": photos_key(part), "folds": count, "sentence": choice.reason}
    made = BlendRun.write(folder, runs, runs[0].manifest(), choice.blend, facts)
    outside = np.full(whole.shape[1:], np.nan, np.float32)
    outside[read] = choice.probs
    write(made, split, Predictions(members[0].part, outside, errors, made.views))
    return choice


def _run(folder: Path) -> Run:
    if (folder / "blend.json").is_file():
        raise UsageError.expected(f"{folder} to be a run", "a blend", "the runs that it was made of")
    return Run.read(folder)


def _check_unseen(first: Path, one: Run, second: Path, other: Run) -> None:
    """Refuse runs of which one learned from photos that judge the blend."""
    learned, judge = _photos(other, ("train",)), _photos(one, ("val", "test"))
    if both := learned & judge:
        got = f"{len(both)} photos that {second} was trained on, such as {min(both)}"
        fix = "runs of one manifest whose split is written down (modiste split), or one seed"
        raise UsageError.expected(f"the val and test photos of {first} to be new to {second}", got, fix)


def _photos(run: Run, splits: tuple[str, ...]) -> set[str]:
    manifest = run.manifest()
    return set(map(str, manifest.select(np.isin(manifest.parts, splits)).photos()))


def _check_same(first: Path, one: Run, second: Path, other: Run, split: str) -> None:
    """Refuse runs of other labels, or whose photos to fit on are others."""
    if one.label_set.ids != other.label_set.ids:
        differing = sorted(set(one.label_set.ids) ^ set(other.label_set.ids)) or ["their order"]
        got = f"a difference in {', '.join(differing[:3])}"
        raise UsageError.expected(f"{first} and {second} to have the same labels", got, "runs of one label set")
    if photos_key(one.manifest().part(split)) != photos_key(other.manifest().part(split)):
        mine, others = _photos(one, (split,)), _photos(other, (split,))
        got = f"{len(mine)} and {len(others)}, {len(mine & others)} of them in both"
        fix = "runs of one manifest whose split is written down (modiste split), or one seed"
        raise UsageError.expected(f"{first} and {second} to have the same {split} photos", got, fix)
