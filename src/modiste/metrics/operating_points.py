"""Operating points: what goes out without a look where at least so much of it has to be right.

Every label has a bar. What is said with a probability above it goes out; what is said below it waits for review.
What isn't said costs nobody's time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from modiste.errors import UsageError
from modiste.labels import UNKNOWN
from modiste.metrics.sweep import Sweep, each_label, lowest_with_precision
from modiste.prediction import check_range

PRECISIONS = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.97, 0.99)
FEWEST_PHOTOS = 10  # rightly said photos before a label may have a bar: of ten, even 10 right leave 0.72 possible
NO_BAR = 1.0  # no probability lies above it


@dataclass(frozen=True, eq=False)
class OperatingPoint:
    """What a precision costs in reviews.

    Unknown targets are left out of `precision` and of bars; what is said of them waits for review or goes out like
    the rest, since a shop doesn't know either.

    Attributes:
        wanted: precision asked for.
        precision: precision of what goes out; nan where nothing does.
        through: share of the labels said that go out; nan where nothing is said.
        photos: share of photos with nothing left to review, those of which nothing is said among them.
        labels_left: labels left to review per 1,000 photos.
        photos_left: photos with a label left to review per 1,000 photos.
        bars: (labels,) float64; NO_BAR where everything said is reviewed.
    """

    wanted: float
    precision: float
    through: float
    photos: float
    labels_left: float
    photos_left: float
    bars: np.ndarray


def set_bars(targets: np.ndarray, probs: np.ndarray, decisions: np.ndarray, precision: float) -> np.ndarray:
    """The lowest bar of each label above which at least `precision` of what is said is right.

    Args:
        targets: (n, labels) 1, 0 or -1 = unknown.
        probs: (n, labels) probabilities.
        decisions: (n, labels) 1 where the label is said.
        precision: in (0, 1].

    Returns:
        (labels,) float64: what is said with a probability strictly greater goes out. NO_BAR where no bar will do, or
        where the label is rightly said of fewer than FEWEST photos.

    Raises:
        UsageError: shapes differ, a probability or a precision is outside its range.
    """
    _check(targets, probs, decisions, [precision])
    bars: np.ndarray = _bars(targets, probs, decisions, [precision])[0]
    return bars


def operating_point(
    targets: np.ndarray,
    probs: np.ndarray,
    decisions: np.ndarray,
    precision: float,
    *,
    folds: np.ndarray | None = None,
    bars: np.ndarray | None = None,
) -> OperatingPoint:
    """What happens where `precision` is wanted of all that goes out without review.

    Bars must not be judged by the photos that set them. So either they come from other photos (`bars`), or photos
    are dealt into folds and each fold is judged by the bars of the others (`folds`); the bars returned are then
    those of all photos.

    Args:
        targets: (n, labels) 1, 0 or -1 = unknown.
        probs: (n, labels) calibrated probabilities of photos that the model wasn't trained on.
        decisions: (n, labels) 1 where the label is said.
        precision: in (0, 1].
        folds: (n,) int, at least two different ones.
        bars: (labels,) of `set_bars` on other photos.

    Raises:
        UsageError: shapes differ, a probability or a precision is outside its range, one fold only, or not one of
            `folds` and `bars`.
    """
    if (folds is None) == (bars is None):
        raise UsageError.expected("either folds or bars", "both or none", "one of them")
    if folds is not None:
        return operating_curve(targets, probs, decisions, [precision], folds=folds)[0]
    _check(targets, probs, decisions, [precision])
    bars = np.asarray(bars, dtype=np.float64)
    if bars.shape != targets.shape[1:]:
        raise UsageError.expected(f"bars ({targets.shape[1]},)", f"{bars.shape}", "those of the same label set")
    return _point(targets, decisions, probs > bars, precision, bars)


def operating_curve(
    targets: np.ndarray,
    probs: np.ndarray,
    decisions: np.ndarray,
    precisions: Sequence[float] = PRECISIONS,
    *,
    folds: np.ndarray,
) -> list[OperatingPoint]:
    """The operating point of each precision, judged across folds; arguments and errors are `operating_point`'s."""
    _check(targets, probs, decisions, precisions)
    kinds, fold_of_photo = np.unique(folds, return_inverse=True)
    if folds.shape != targets.shape[:1] or len(kinds) < 2:
        got = f"shape {folds.shape} with {len(kinds)}"
        raise UsageError.expected(f"folds ({len(targets)},) with two or more", got, "dealing the photos into five")
    bars = _bars(targets, probs, decisions, precisions)
    others = [folds != kind for kind in kinds]
    crossed = np.stack([_bars(targets[by], probs[by], decisions[by], precisions) for by in others], axis=1)
    return [
        _point(targets, decisions, probs > of_fold[fold_of_photo], wanted, own)
        for wanted, of_fold, own in zip(precisions, crossed, bars, strict=True)
    ]


def _point(
    targets: np.ndarray, decisions: np.ndarray, above: np.ndarray, wanted: float, bars: np.ndarray
) -> OperatingPoint:
    said = decisions == 1
    out, left = said & above, said & ~above
    right, wrong = (out & (targets == 1)).sum(), (out & (targets == 0)).sum()
    waiting = _share(left.any(axis=1).sum(), len(left))
    return OperatingPoint(
        wanted=wanted,
        precision=_share(right, right + wrong),
        through=_share(out.sum(), said.sum()),
        photos=1 - waiting,
        labels_left=1000 * _share(left.sum(), len(left)),
        photos_left=1000 * waiting,
        bars=bars,
    )


def _bars(targets: np.ndarray, probs: np.ndarray, decisions: np.ndarray, precisions: Sequence[float]) -> np.ndarray:
    """Bars (precisions, labels), each the lowest that reaches its precision among what is said."""
    said = np.where(decisions == 1, targets, UNKNOWN)
    of_labels = each_label(lambda cuts: [_bar(cuts, precision) for precision in precisions], said, probs)
    return np.asarray(of_labels, dtype=np.float64).T


def _bar(said: Sweep, precision: float) -> float:
    lowest = lowest_with_precision(said, precision) if said.positives >= FEWEST_PHOTOS else None
    return NO_BAR if lowest is None else lowest


def _share(part: int, whole: int) -> float:
    return float(part / whole) if whole else math.nan


def _check(targets: np.ndarray, probs: np.ndarray, decisions: np.ndarray, precisions: Sequence[float]) -> None:
    if targets.ndim != 2 or not targets.shape == probs.shape == decisions.shape:
        got = f"{targets.shape}, {probs.shape} and {decisions.shape}"
        raise UsageError.expected("targets, probs and decisions of one shape (n, labels)", got, "those of one split")
    check_range(probs)
    outside = [precision for precision in precisions if not 0 < precision <= 1]
    if outside:
        raise UsageError.expected("a precision in (0, 1]", outside[0], "0.9")
