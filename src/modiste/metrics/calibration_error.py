"""Reliability: whether what is predicted with a probability of p is right in a share p of the photos."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from modiste.labels import UNKNOWN

_Z = 1.959964  # of a normal distribution, 95 % lie within this many standard deviations


@dataclass(frozen=True, eq=False)
class CalibrationError:
    """How far the probabilities of one label are from what happens, and the bins of its reliability diagram.

    Attributes:
        square: mean square distance between probability and share, its bias removed, so that it is 0 in the
            mean where probabilities are right, and may come out below 0; nan with fewer than 2 known photos.
        prob: (bins,) mean probability of each bin, rising.
        share: (bins,) share of positives.
        low, high: (bins,) 95 % interval of the share.
        count: (bins,) int64 photos.
    """

    square: float
    prob: np.ndarray
    share: np.ndarray
    low: np.ndarray
    high: np.ndarray
    count: np.ndarray

    @property
    def value(self) -> float:
        """Root mean square calibration error: the root of `square`, 0 where that is below 0."""
        return _root(self.square)


def calibration_error(target: np.ndarray, prob: np.ndarray, bins: int = 15) -> CalibrationError:
    """Calibration error of one label over bins of equally many photos; equal probabilities share a bin.

    Source: the debiased estimator of Kumar, Liang, Ma 2019, "Verified Uncertainty Calibration", section 5. Their
    bins hold one probability each; here the variance that is taken off is that of target - prob, which is
    theirs, y (1 - y) / (n - 1), where that is so, and takes off no more than chance where a bin is wide.

    Args:
        target: (n,) 1, 0 or -1 = unknown.
        prob: (n,) probabilities in [0, 1].
        bins: at most so many; fewer where ties or fewer than two photos a bin ask for it.
    """
    known = target != UNKNOWN
    order = np.argsort(prob[known], kind="stable")
    hit, prob = (target[known] == 1)[order].astype(np.float64), prob[known][order].astype(np.float64)
    if len(prob) < 2:
        none = np.empty(0)
        return CalibrationError(math.nan, none, none, none, none, none.astype(np.int64))
    wanted = np.linspace(0, len(prob), min(bins, len(prob) // 2) + 1)[1:].round().astype(np.int64)
    ends = np.unique(np.searchsorted(prob, prob[wanted - 1], side="right"))
    starts = np.append(0, ends[:-1])
    count = ends - starts
    share, mean, off = (np.add.reduceat(values, starts) / count for values in (hit, prob, hit - prob))
    chance = (np.add.reduceat((hit - prob) ** 2, starts) / count - off**2) / np.maximum(count - 1, 1)
    # Of a bin with one photo no variance is known, so it can't speak.
    square = np.where(count > 1, off**2 - chance, 0) @ count / len(prob)
    return CalibrationError(float(square), mean, share, *_wilson(share, count), count)


def mean_calibration_error(targets: np.ndarray, probs: np.ndarray) -> float:
    """Root mean square calibration error over the labels with at least 10 positives and 10 negatives.

    The labels' squares are averaged before the root is taken: those that chance made negative outweigh those that
    it made too large, while a mean of roots would never come out at 0. nan where no label has that many.

    Args:
        targets: (n, labels) 1, 0 or -1 = unknown.
        probs: (n, labels) probabilities in [0, 1].
    """
    rarer = np.minimum((targets == 1).sum(axis=0), (targets == 0).sum(axis=0))
    squares = [calibration_error(targets[:, k], probs[:, k]).square for k in np.flatnonzero(rarer >= 10)]
    return _root(float(np.mean(squares))) if squares else math.nan


def _wilson(share: np.ndarray, count: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """95 % interval of a share (Wilson 1927, "Probable Inference"): its two ends."""
    shrink = 1 / (1 + _Z**2 / count)
    middle = shrink * (share + _Z**2 / (2 * count))
    half = shrink * _Z * np.sqrt(share * (1 - share) / count + (_Z / (2 * count)) ** 2)
    return middle - half, middle + half


def _root(square: float) -> float:
    return math.sqrt(max(square, 0.0)) if not math.isnan(square) else math.nan
