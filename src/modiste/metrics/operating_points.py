"""Operating points: how many chosen labels can be auto-approved at a wanted precision, and how many need review.

Every label has an approval threshold. A chosen label whose probability is above it is auto-approved; any other chosen
label needs review. Labels that are not chosen cost nobody's time.
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
FEWEST_PHOTOS = 10  # rightly chosen, before a label may be auto-approved: even 10 right of 10 leave 0.72 possible
NEVER_APPROVED = 1.0  # no probability lies above it


@dataclass(frozen=True, eq=False)
class OperatingPoint:
    """What a precision costs in reviews.

    Unknown targets are left out of `precision` and of thresholds; labels chosen there are auto-approved or need review
    like the rest, since a shop doesn't know either.

    Attributes:
        wanted: precision asked for.
        precision: of the auto-approved labels; nan where there are none.
        auto_approved: share of the chosen labels that are auto-approved; nan where none is chosen.
        photos: share of photos without a label that needs review, those without any chosen label among them.
        labels_to_review: chosen labels that need review per 1,000 photos.
        photos_to_review: photos with a label that needs review per 1,000 photos.
        thresholds: (labels,) float64; NEVER_APPROVED where the label always needs review.
    """

    wanted: float
    precision: float
    auto_approved: float
    photos: float
    labels_to_review: float
    photos_to_review: float
    thresholds: np.ndarray


def approval_thresholds(targets: np.ndarray, probs: np.ndarray, decisions: np.ndarray, precision: float) -> np.ndarray:
    """The lowest approval threshold of each label above which at least `precision` of the chosen labels are right.

    Args:
        targets: (n, labels) 1, 0 or -1 = unknown.
        probs: (n, labels) probabilities.
        decisions: (n, labels) 1 where the label is chosen.
        precision: in (0, 1].

    Returns:
        (labels,) float64: chosen labels with a strictly greater probability are auto-approved. NEVER_APPROVED where no
        threshold will do, or where the label is rightly chosen for fewer than FEWEST_PHOTOS photos.

    Raises:
        UsageError: shapes differ, a probability or a precision is outside its range.
    """
    _check(targets, probs, decisions, [precision])
    thresholds: np.ndarray = _thresholds(targets, probs, decisions, [precision])[0]
    return thresholds


def operating_point(
    targets: np.ndarray,
    probs: np.ndarray,
    decisions: np.ndarray,
    precision: float,
    *,
    folds: np.ndarray | None = None,
    thresholds: np.ndarray | None = None,
) -> OperatingPoint:
    """What happens where `precision` is wanted of the auto-approved labels.

    Thresholds must not be measured on the photos that set them. So either they come from other photos
    (`thresholds`), or photos are dealt into folds, and each fold takes the thresholds of the others (`folds`); the
    thresholds returned are then those of all photos.

    Args:
        targets: (n, labels) 1, 0 or -1 = unknown.
        probs: (n, labels) calibrated probabilities of photos that the model wasn't trained on.
        decisions: (n, labels) 1 where the label is chosen.
        precision: in (0, 1].
        folds: (n,) int, at least two different ones.
        thresholds: (labels,) of `approval_thresholds` on other photos.

    Raises:
        UsageError: shapes differ, a probability or a precision is outside its range, one fold only, or not one of
            `folds` and `thresholds`.
    """
    if (folds is None) == (thresholds is None):
        raise UsageError.expected("either folds or thresholds", "both or none", "one of them")
    if folds is not None:
        return operating_curve(targets, probs, decisions, [precision], folds=folds)[0]
    _check(targets, probs, decisions, [precision])
    thresholds = np.asarray(thresholds, dtype=np.float64)
    if thresholds.shape != targets.shape[1:]:
        want = f"thresholds ({targets.shape[1]},)"
        raise UsageError.expected(want, f"{thresholds.shape}", "those of the same label set")
    return _point(targets, decisions, probs > thresholds, precision, thresholds)


def operating_curve(
    targets: np.ndarray,
    probs: np.ndarray,
    decisions: np.ndarray,
    precisions: Sequence[float] = PRECISIONS,
    *,
    folds: np.ndarray,
) -> list[OperatingPoint]:
    """The operating point of each precision, measured across folds; arguments and errors are `operating_point`'s."""
    _check(targets, probs, decisions, precisions)
    kinds, fold_of_photo = np.unique(folds, return_inverse=True)
    if folds.shape != targets.shape[:1] or len(kinds) < 2:
        got = f"shape {folds.shape} with {len(kinds)}"
        raise UsageError.expected(f"folds ({len(targets)},) with two or more", got, "dealing the photos into five")
    thresholds = _thresholds(targets, probs, decisions, precisions)
    others = [folds != kind for kind in kinds]
    crossed = np.stack([_thresholds(targets[by], probs[by], decisions[by], precisions) for by in others], axis=1)
    return [
        _point(targets, decisions, probs > of_fold[fold_of_photo], wanted, own)
        for wanted, of_fold, own in zip(precisions, crossed, thresholds, strict=True)
    ]


def _point(
    targets: np.ndarray, decisions: np.ndarray, above: np.ndarray, wanted: float, thresholds: np.ndarray
) -> OperatingPoint:
    chosen = decisions == 1
    out, left = chosen & above, chosen & ~above
    right, wrong = (out & (targets == 1)).sum(), (out & (targets == 0)).sum()
    waiting = _share(left.any(axis=1).sum(), len(left))
    return OperatingPoint(
        wanted=wanted,
        precision=_share(right, right + wrong),
        auto_approved=_share(out.sum(), chosen.sum()),
        photos=1 - waiting,
        labels_to_review=1000 * _share(left.sum(), len(left)),
        photos_to_review=1000 * waiting,
        thresholds=thresholds,
    )


def _thresholds(
    targets: np.ndarray, probs: np.ndarray, decisions: np.ndarray, precisions: Sequence[float]
) -> np.ndarray:
    """Thresholds (precisions, labels), each the lowest that reaches its precision among the chosen labels."""
    chosen = np.where(decisions == 1, targets, UNKNOWN)
    of_labels = each_label(lambda cuts: [_threshold(cuts, precision) for precision in precisions], chosen, probs)
    return np.asarray(of_labels, dtype=np.float64).T


def _threshold(chosen: Sweep, precision: float) -> float:
    lowest = lowest_with_precision(chosen, precision) if chosen.positives >= FEWEST_PHOTOS else None
    return NEVER_APPROVED if lowest is None else lowest


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
