"""Bootstrap: how sure each score is, from drawing the photos again and again (Efron 1979).

A replicate draws as many photos, or groups of photos that belong together, as there are, with replacement. It
is never built: it is a weight a group, the number of times that it was drawn. Counts are sums of weights, and
average precision needs only their running sums in the order of probability.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, NamedTuple

import numpy as np

from modiste.errors import UsageError
from modiste.labels import LabelSet
from modiste.metrics.scores import score
from modiste.metrics.sweep import check_probs
from modiste.metrics.weighted import AVERAGES, WeightedScores, flat_scores, score_names
from modiste.prediction import Decided

_WORDS = {"map": "mAP", "micro_ap": "micro AP", "ap": "AP", "f1": "F1", "f2": "F2"}
_BLOCK = 32  # replicates that are worked on at once; fewer where the photos are many
_WEIGHTS = 2**22  # photos x labels x replicates beyond which a block holds fewer


class Interval(NamedTuple):
    """Where a score lies, with the probability that was asked for; nan where nothing can be told."""

    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """Two sets of predictions of the same photos, by one score.

    Attributes:
        name: of the score, a name of `flat`.
        first, second: the score of each.
        interval: of the difference, second less first.
        level: probability that the interval is for.
        better: probability that the second is better, in [0, 1]; a tie counts half.
    """

    name: str
    first: float
    second: float
    interval: Interval
    level: float
    better: float

    @property
    def difference(self) -> float:
        """Score of the second less that of the first."""
        return self.second - self.first

    def sentence(self, first: str = "A", second: str = "B") -> str:
        """The comparison in words, with names for the two."""
        what = spoken(self.name)
        if math.isnan(self.better):
            return f"Nothing is known that {first} and {second} could be compared by in {what}."
        # A thousand replicates don't tell 0.995 from certain.
        sure = "above 0.99" if self.better > 0.99 else "below 0.01" if self.better < 0.01 else f"{self.better:.2f}"
        low, high = self.interval
        return (
            f"{second} is better than {first} in {what} with probability {sure}; "
            f"the difference is {self.difference:.3f}, {100 * self.level:g} % from {low:.3f} to {high:.3f}."
        )


def replicate(
    targets: np.ndarray,
    probs: np.ndarray,
    decisions: np.ndarray,
    label_set: LabelSet,
    *,
    groups: np.ndarray | None = None,
    replicates: int = 1000,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """Every score of `metrics.score` on photos drawn with replacement.

    A replicate where a label has no positive leaves the label out of "map" and "macro", as `metrics.score` does.
    Memory: about 90 bytes a photo and label, and 30 MB. There are as many threads as cores.

    Args:
        targets: (n, labels) int8, 1, 0 or -1 = unknown.
        probs: (n, labels) in [0, 1].
        decisions: (n, labels) 1 or 0.
        label_set: names the label axis.
        groups: (n,) ids, numbers or words; photos of one id are drawn together. None: every photo for itself.
        replicates: how many times to draw.
        seed: a replicate is a function of seed, its number and the number of groups alone.

    Returns:
        Name -> (replicates,) float64; nan where a replicate has nothing to score. The names are those of `flat`.

    Raises:
        UsageError: shapes differ, a probability is nan or outside [0, 1], or there is no photo to draw.
    """
    check_probs(targets, probs, label_set)
    check_probs(targets, decisions, label_set)
    if replicates < 1:
        raise UsageError.expected("at least one replicate", replicates, "1000")
    group = _group_numbers(groups, len(targets))
    weighted = WeightedScores.gather(targets, probs, decisions, label_set, group=group)
    block = max(2, min(_BLOCK, _WEIGHTS // targets.size))

    def some(start: int) -> np.ndarray:
        numbers = range(start, min(start + block, replicates))
        return weighted.scores(np.stack([draw(weighted.groups, seed, number) for number in numbers]))

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        values = np.concatenate(list(pool.map(some, range(0, replicates, block))), axis=1)
    return dict(zip(score_names(label_set.ids, label_set.exclusive), values, strict=True))


def draw(groups: int, seed: int, replicate: int) -> np.ndarray:
    """How often each of so many groups is drawn in a replicate, (groups,) int64; the sum is their number."""
    drawn = np.random.default_rng((seed, replicate)).integers(groups, size=groups)
    return np.bincount(drawn, minlength=groups)


def interval(values: np.ndarray, level: float = 0.95) -> Interval:
    """Percentile interval of replicates (replicates,); those that are nan are left out."""
    values = values[~np.isnan(values)]
    if not values.size:
        return Interval(math.nan, math.nan)
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))


def intervals(
    replicates: Mapping[str, np.ndarray], points: Mapping[str, float], level: float = 0.95
) -> dict[str, Interval]:
    """The interval of each score that `replicate` returned, within [0, 1]; `points` are the scores by name."""
    found = {name: interval(moved(name, values, points[name]), level) for name, values in replicates.items()}
    return {name: Interval(*np.clip(one, 0.0, 1.0).tolist()) for name, one in found.items()}


def moved(name: str, values: np.ndarray, point: float) -> np.ndarray:
    """Replicates of a score, or of a difference, less their bias where they have one.

    Photos that are drawn twice lift the average precision of rare labels, so that its replicates lie higher than the
    score itself by their mean's distance from it (Efron & Tibshirani 1993, section 10.2). Scores of decisions have
    next to no bias.
    """
    if (name not in {"map", "micro_ap"} and not name.endswith(".ap")) or np.isnan(values).all():
        return values
    unbiased: np.ndarray = values - (np.nanmean(values) - point)
    return unbiased


def comparisons(
    first: Decided,
    second: Decided,
    targets: np.ndarray,
    label_set: LabelSet,
    names: Sequence[str],
    *,
    groups: np.ndarray | None = None,
    replicates: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> list[Comparison]:
    """Which of two sets of predictions of the same photos is better, by several scores on the same draws of photos.

    Args:
        first, second: predictions.
        targets: (n, labels) int8, 1, 0 or -1 = unknown.
        label_set: names the label axis.
        names: of the scores, names of `flat`.
        groups, replicates, seed: as in `replicate`.
        level: probability of the intervals.

    Raises:
        UsageError: as `replicate`, or there is no score of one of the names.
    """
    known = score_names(label_set.ids, label_set.exclusive)
    for name in names:
        if name not in known:
            close = ", ".join(f"'{one}'" for one in get_close_matches(name, known, n=3) or known[:3])
            raise UsageError.expected("the name of a score", f"'{name}'", f"one of {close}")
    points = [flat_scores(score(targets, *predicted, label_set)) for predicted in (first, second)]
    draws = [
        replicate(targets, *predicted, label_set, groups=groups, replicates=replicates, seed=seed)
        for predicted in (first, second)
    ]
    return [
        compare_draws(name, (points[0][name], points[1][name]), (draws[0][name], draws[1][name]), level)
        for name in names
    ]


def compare_draws(
    name: str, points: tuple[float, float], draws: tuple[np.ndarray, np.ndarray], level: float = 0.95
) -> Comparison:
    """Which of two is better by one score, of which the replicates (replicates,) each are on the same draws."""
    gains = moved(name, draws[1] - draws[0], points[1] - points[0])
    gains = np.round(gains[~np.isnan(gains)], 12)  # equal scores that were summed up in another order are a tie
    better = float(np.mean(gains > 0) + np.mean(gains == 0) / 2) if gains.size else math.nan
    return Comparison(name, *points, interval(gains, level), level, better)


def compare_decided(
    first: Decided, second: Decided, targets: np.ndarray, label_set: LabelSet, name: str = "map", **options: Any
) -> Comparison:
    """Which is better by one score; arguments, options and errors are those of `comparisons`."""
    return comparisons(first, second, targets, label_set, [name], **options)[0]


def _group_numbers(groups: np.ndarray | None, n: int) -> np.ndarray:
    if n == 0:
        raise UsageError.expected("photos to draw from", "none", "a split that has some")
    if groups is None:
        return np.arange(n)
    if np.shape(groups) != (n,):
        raise UsageError.expected(f"groups of shape ({n},)", f"shape {np.shape(groups)}", "one id a photo")
    return np.unique(groups, return_inverse=True)[1]


def spoken(name: str) -> str:
    """A score's name in words: "mAP", "macro F2", "accuracy of 'garment'"."""
    kind, _, rest = name.partition(".")
    if kind in AVERAGES:
        return f"{kind} {_WORDS.get(rest, rest)}"
    owner, _, key = rest.rpartition(".")
    return f"{_WORDS.get(key, key)} of '{owner}'" if rest else _WORDS[name]
