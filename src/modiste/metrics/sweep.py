"""Sweep: what is predicted of one label, and how much of it rightly, as its threshold falls.

A cut predicts the label for every photo at or above one of the label's probabilities. Curves, average precision
and the best thresholds are read off the counts at the cuts; a threshold makes the cut whose probabilities are strictly
greater than it (`modiste.decisions.thresholds`).
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple, Self, TypeVar

import numpy as np

from modiste.errors import UsageError
from modiste.labels import UNKNOWN, LabelSet
from modiste.prediction import check_range

T = TypeVar("T")
_MANY = 2**18  # (photo, label) pairs; sorting fewer takes a few ms, and threads gain nothing
_PART = 4096  # rows that are turned into columns at a time
_TINY = 1e-300  # stands for a divisor of 0 below a dividend of 0


class Cut(NamedTuple):
    """A threshold and what it reaches."""

    threshold: float  # of float32, in [0, 1]
    score: float


@dataclass(frozen=True, eq=False)
class Sweep:
    """Counts of one label at each of its cuts, over the photos where it is known.

    Attributes:
        probs: (m,) float32 or float64, the distinct probabilities, falling.
        hits: (m,) int64, positives at or above each; float64 once weighted.
        predicted: (m,) int64, photos at or above each; float64 once weighted.
        positives: photos that have the label, each counting 1.
        known: photos of which it is known whether they have it, each counting 1.
        missed: photos that should be hit and are at no cut, as where another value of an exclusive group is more
            probable; they count in recall and F-beta.
    """

    probs: np.ndarray
    hits: np.ndarray
    predicted: np.ndarray
    positives: int
    known: int
    missed: float = 0

    @cached_property
    def rising(self) -> np.ndarray:
        """Positions of the cuts that hit more than the cut above; between two of them all scores only fall."""
        more = np.empty(len(self.hits), bool)
        more[:1] = self.hits[:1] > 0
        np.greater(self.hits[1:], self.hits[:-1], out=more[1:])
        return np.flatnonzero(more)

    @property
    def precision(self) -> np.ndarray:
        """(m,) float64, share of a cut's predictions that are right."""
        return _ratio(self.hits, self.predicted)

    @property
    def recall(self) -> np.ndarray:
        """(m,) float64, share of the positives and missed that a cut hits; 0 where there are none."""
        return _ratio(self.hits, self._wanted)

    def fbeta(self, beta: float, at: np.ndarray | slice = slice(None)) -> np.ndarray:
        """F-beta, float64, of all cuts or of those at some positions; recall counts `beta` times as much."""
        return _ratio((1 + beta**2) * self.hits[at], self.predicted[at] + beta**2 * self._wanted)

    @property
    def _wanted(self) -> np.ndarray:
        return np.asarray(self.hits[-1:] + self.missed)  # the last cut predicts every photo

    @property
    def average_precision(self) -> float:
        """Sum over the cuts of precision times the gain in recall; nan without positives."""
        hits = self.hits[self.rising]
        if not hits.size:
            return math.nan
        gains = np.diff(hits, prepend=0) * _ratio(hits, self.predicted[self.rising])
        return float(gains.sum() / hits[-1])  # no product of matrices, whose threads wait for those of `each_label`

    def weighted(self, positive: float, negative: float) -> Self:
        """The same cuts where a positive photo counts `positive` and a negative one `negative`, both at least 0.

        With importance weights this is the sweep of photos of which another share has the label.
        """
        hits = positive * self.hits
        predicted = hits + negative * (self.predicted - self.hits)
        return replace(self, hits=hits, predicted=predicted, missed=positive * self.missed)


def sweep(target: np.ndarray, prob: np.ndarray) -> Sweep:
    """Count hits at every cut of one label.

    Args:
        target: 1, 0 or -1 = unknown, of any shape; all taken together.
        prob: in [0, 1], of the same shape; float32 stays, all else becomes float64.

    Raises:
        UsageError: shapes differ, or a probability is nan or outside [0, 1].
    """
    _check(target.shape, target, prob)
    return _sweep(target.ravel(), prob.ravel())


def each_label(use: Callable[[Sweep], T], targets: np.ndarray, probs: np.ndarray) -> list[T]:
    """What `use` makes of each label's sweep, in label order; in as many threads as there are cores.

    Args:
        use: called once a label, the sweep is freed afterwards.
        targets: (n, labels) 1, 0 or -1 = unknown.
        probs: (n, labels) in [0, 1].

    Raises:
        UsageError: shapes differ, or a probability is nan or outside [0, 1].
    """
    _check(targets.shape, targets, probs)

    def one(target: np.ndarray, prob: np.ndarray) -> T:
        return use(_sweep(target, prob))

    if targets.size < _MANY:
        return list(map(one, targets.T, probs.T))
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # numpy sorts and counts without Python's lock
        return list(pool.map(one, _columns(targets), _columns(probs)))


def merged(sweeps: Sequence[Sweep]) -> Sweep:
    """The sweep of the photos of several sweeps together, as they are weighted; at least one."""
    probs = np.concatenate([one.probs for one in sweeps])
    order = np.argsort(-probs, kind="stable")
    hits, predicted = (
        np.cumsum(np.concatenate([np.diff(part, prepend=0) for part in parts])[order])
        for parts in ([one.hits for one in sweeps], [one.predicted for one in sweeps])
    )
    probs = probs[order]
    ends = run_ends(probs)
    positives, known, missed = (sum(getattr(one, key) for one in sweeps) for key in ("positives", "known", "missed"))
    return Sweep(probs[ends], hits[ends], predicted[ends], positives, known, missed)


def midway(probs: np.ndarray, at: int) -> float:
    """The threshold that predicts positions 0 to `at`, midway to the next one or to 0.

    Args:
        probs: distinct and falling, in [0, 1].
        at: position of the last one to predict. A probability of 0 can't be predicted, and 0 is returned.
    """
    return float(_midway(probs, np.array([at]))[0])


def best_fbeta(sweep: Sweep, beta: float) -> Cut:
    """The threshold with the best F-beta, exactly: among equal ones the highest, which predicts the fewest.

    Nothing is predicted, with a threshold of 1, where there is nothing to hit.
    """
    at, thresholds = _possible(sweep, _best(sweep, beta, sweep.rising))
    if not at.size:  # where that cut can't be made, the best may hit no more than the one above
        possible, _ = _possible(sweep, np.arange(len(sweep.probs)))
        at, thresholds = _possible(sweep, _best(sweep, beta, possible))
    return Cut(float(thresholds[0]), float(sweep.fbeta(beta, at)[0])) if at.size else Cut(1.0, 0.0)


def lowest_with_precision(sweep: Sweep, precision: float) -> float | None:
    """The lowest threshold, which predicts the most, with a precision of at least `precision`; None without one."""
    _, thresholds = _possible(sweep, np.flatnonzero(sweep.precision >= precision))
    return float(thresholds[-1]) if thresholds.size else None


def highest_with_recall(sweep: Sweep, recall: float) -> float | None:
    """The highest threshold, which predicts the fewest, whose recall is at least `recall`; None where there is none."""
    _, thresholds = _possible(sweep, np.flatnonzero(sweep.recall >= recall))
    return float(thresholds[0]) if thresholds.size else None


def check_probs(targets: np.ndarray, probs: np.ndarray, label_set: LabelSet) -> None:
    """Check probabilities, or decisions, against their targets.

    Args:
        targets: (n, labels).
        probs: (n, labels), in [0, 1]; unknown targets are no exception.
        label_set: names the label axis.

    Raises:
        UsageError: shapes differ, or a probability is nan or outside [0, 1].
    """
    _check((len(targets), len(label_set)), targets, probs, f"arrays that belong to the label set '{label_set.name}'")


def _check(
    shape: tuple[int, ...], targets: np.ndarray, probs: np.ndarray, fix: str = "arrays of the same photos"
) -> None:
    if not shape == targets.shape == probs.shape:
        want = f"targets, probs and decisions of one shape (n{''.join(f', {size}' for size in shape[1:])})"
        raise UsageError.expected(want, f"{targets.shape} and {probs.shape}", fix)
    check_range(probs)


def _sweep(target: np.ndarray, prob: np.ndarray) -> Sweep:
    if prob.dtype != np.float32:
        prob = prob.astype(np.float64)
    unknown = target == UNKNOWN
    known = len(target) - int(np.count_nonzero(unknown))
    # Floats from 0 up are ordered as their bits are, so probability and target are sorted as one integer, which
    # takes a tenth of the time of an argsort. The shift drops the sign, so that -0.0 is 0.
    keys = np.left_shift(prob.view(f"u{prob.itemsize}"), 1)
    keys |= target == 1
    if known < len(keys):
        keys[unknown] = 0  # the lowest, so that the slice leaves them out, or negatives at 0, which look the same
    keys.sort()
    keys = keys[::-1][:known]
    hits = np.cumsum(keys & 1, dtype=np.int64)
    keys >>= 1
    ends = run_ends(keys)
    probs, hits, predicted = keys[ends].view(prob.dtype), hits[ends], np.add(ends, 1, out=ends)
    return Sweep(probs, hits, predicted, int(hits[-1:].sum()), known)


def _columns(table: np.ndarray) -> np.ndarray:
    """(n, labels) -> (labels, n), each row in one piece; in parts that stay in the cache, which halves the time."""
    columns = np.empty(table.shape[::-1], table.dtype)
    for start in range(0, len(table), _PART):
        columns[:, start : start + _PART] = table[start : start + _PART].T
    return columns


def run_ends(values: np.ndarray) -> np.ndarray:
    """Position of the last of each run of equal values (n,), int64."""
    last = np.ones(len(values), bool)
    np.not_equal(values[1:], values[:-1], out=last[:-1])
    return np.flatnonzero(last)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.asarray(part / np.maximum(whole, _TINY), dtype=np.float64)


def _best(sweep: Sweep, beta: float, at: np.ndarray) -> np.ndarray:
    """Of the cuts at some positions the one with the best F-beta, (1,); (0,) where nothing is hit."""
    scores = sweep.fbeta(beta, at)
    return at[scores.argmax() :][:1] if scores.any() else at[:0]


def _possible(sweep: Sweep, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Those of the cuts at some positions that a float32 threshold makes, and the thresholds."""
    thresholds = _midway(sweep.probs, at)
    made = (thresholds >= _below(sweep.probs, at)) & (thresholds < sweep.probs[at])
    return at[made], thresholds[made]


def _midway(probs: np.ndarray, at: np.ndarray) -> np.ndarray:
    predicted = probs[at].astype(np.float64)
    middle: np.ndarray = ((predicted + _below(probs, at)) / 2).astype(np.float32)
    high = middle >= predicted  # rounded up; if the float below doesn't part the two, none does
    middle[high] = np.nextafter(middle[high], np.float32(0))
    return middle


def _below(probs: np.ndarray, at: np.ndarray) -> np.ndarray:
    """The next lower probability of those at some positions, 0 below the last."""
    last = len(probs) - 1
    below: np.ndarray = np.where(at < last, probs[np.minimum(at + 1, last)], probs.dtype.type(0))
    return below
