"""Trained runs, what they reached, and means over seeds with their uncertainty over photos and seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from modiste.errors import UsageError
from modiste.metrics.bootstrap import Interval

SCORES = {"map": "mAP", "macro.f2": "macro F2"}  # that are compared on the test photos; the first one decides
NOWHERE = Interval(math.nan, math.nan)


@dataclass(frozen=True, eq=False)
class Outcome:
    """One trained run.

    Attributes:
        candidate: what was trained, of one backbone and one optimiser; runs of one candidate differ in their seed.
        backbone, optimizer, seed: as in its recipe.
        folder: of the run, in words.
        val_map: mAP on the validation photos, nan where there is none.
        scores: on the test photos, by the names of `weighted.flat`; at least those of `SCORES`.
        replicates: each of `SCORES` -> (replicates,) on draws of the test photos that all runs share, as of
            `bootstrap.replicate` with one seed.
        seconds: of training, without what a cache took.
        cache_seconds: to compute the features that all runs of this backbone share; each run of it has the same.
        parameters: of the network.
        ms_a_photo: milliseconds to tag one photo.
    """

    candidate: str
    backbone: str
    optimizer: str
    seed: int
    folder: str
    val_map: float
    scores: dict[str, float]
    replicates: dict[str, np.ndarray]
    seconds: float
    cache_seconds: float
    parameters: int
    ms_a_photo: float


@dataclass(frozen=True)
class Mean:
    """Mean over a candidate's seeds, standard deviation (nan for one seed), and the interval of the mean if known."""

    mean: float
    sd: float
    interval: Interval = NOWHERE


def check_outcomes(outcomes: Sequence[Outcome], level: float) -> None:
    """Refuse runs that can't be compared.

    Raises:
        UsageError: as `ranking.rank_candidates` says.
    """
    if not outcomes:
        raise UsageError.expected("runs to compare", "none", "a grid of at least one candidate and seed")
    if not 0 < level < 1:
        raise UsageError.expected("a level between 0 and 1", level, "0.95")
    kinds: dict[str, tuple[str, str]] = {}
    seen: set[tuple[str, int]] = set()
    size = None
    for one in outcomes:
        kind = one.backbone, one.optimizer
        if kinds.setdefault(one.candidate, kind) != kind:
            got = f"{' with '.join(kinds[one.candidate])} and {' with '.join(kind)}"
            raise UsageError.expected(f"'{one.candidate}' to be one candidate", got, "a name for each")
        if (one.candidate, one.seed) in seen:
            raise UsageError.expected(f"one run a seed of '{one.candidate}'", f"two of {one.seed}", "other seeds")
        seen.add((one.candidate, one.seed))
        for name in SCORES:
            drawn = one.replicates.get(name)
            shape = None if drawn is None or name not in one.scores else np.shape(drawn)
            size = size or shape
            if shape is None or len(shape) != 1 or shape != size:
                want = f"{one.folder} to have '{name}' and as many replicates of it as the other runs"
                got = "none" if shape is None else f"shape {shape}"
                raise UsageError.expected(want, got, "evaluating all runs alike")


def mean(values: Sequence[float], interval: Interval = NOWHERE) -> Mean:
    """Over a candidate's seeds, one value each; nan where one of them is."""
    return Mean(float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else math.nan, interval)


class Inferred(NamedTuple):
    """A mean score or a difference of two, its interval, its standard error, and the degrees of freedom of that."""

    value: float
    interval: Interval
    error: float
    freedom: float


def inferred(sides: Sequence[Sequence[Outcome]], name: str, level: float) -> Inferred:
    """Mean score of a side's runs, or that of the first of two sides less that of the second.

    Args:
        sides: one or two candidates' runs.
        name: of the score, one of `SCORES`.
        level: probability of the interval.

    Returns:
        As `ranking.rank_candidates` says.
    """
    from scipy.special import stdtrit

    scores = [np.array([run.scores[name] for run in side]) for side in sides]
    means, draws = [values.mean() for values in scores], [_drawn(side, name) for side in sides]
    value = round(float(means[0] - sum(means[1:])), 12)  # equal scores that were summed up in another order are a tie
    drawn = draws[0] - sum(draws[1:])
    drawn = drawn[~np.isnan(drawn)]
    seeds = [(values.var(ddof=1) / len(values), len(values) - 1) for values in scores if len(values) > 1]
    square = float((drawn.var(ddof=1) if len(drawn) > 1 else math.nan) + sum(part for part, _ in seeds))
    parts = float(sum(part**2 / free for part, free in seeds))
    freedom = square**2 / parts if parts else math.inf
    half = math.sqrt(square) * float(stdtrit(freedom, (1 + level) / 2))
    low, high = np.clip([value - half, value + half], 1 - len(sides), 1).tolist()  # no score leaves [0, 1]
    return Inferred(value, Interval(low, high), math.sqrt(square), freedom)


def _drawn(runs: Sequence[Outcome], name: str) -> np.ndarray:
    """Mean over runs of their replicates (replicates,)."""
    return np.asarray(np.mean([one.replicates[name] for one in runs], axis=0))


def number(value: float, places: int = 3) -> str:
    """In words, an en dash for nan; never "-0.000"."""
    return f"{round(value, places) + 0.0:.{places}f}" if math.isfinite(value) else "–"


def ranged(interval: Interval) -> str:
    """ " (low to high)", or nothing where it is not known."""
    return "" if math.isnan(interval.low) else f" ({number(interval.low)} to {number(interval.high)})"


def spread(mean: Mean) -> str:
    """A mean with the standard deviation over seeds, where there are several."""
    return number(mean.mean) if math.isnan(mean.sd) else f"{number(mean.mean)} ± {number(mean.sd)}"
