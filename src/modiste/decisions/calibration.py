"""Calibration: a monotone map a label, after which a probability of p is right in a share p of the photos.

The labels of an exclusive group share one map, so that its most probable label stays what it is. The maps work on
logits, log(p / (1 - p)), and are all of one kind: straight pieces through knots, continued with one slope. A map leaves
the order of the photos as it is, and never says 0 or 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Self

import numpy as np

from modiste.errors import RunError, UsageError
from modiste.labels import UNKNOWN, LabelSet
from modiste.prediction import check_range

CALIBRATION_METHODS = ("none", "temperature", "platt", "isotonic")  # from the stiffest to the most flexible

# Isotonic regression has a value for each block of photos. With fewer positives or negatives than this a block
# rests on a handful (a share among ten photos is sure to 0.3), and cross-validation can't tell luck from shape.
ENOUGH = 50

_EDGE = 1e-7  # a float32 sigmoid may say 0 or 1, which have no logit
_RANGE = -80.0, 16.6  # logits whose sigmoid float32 still holds apart from 0 and from 1
_STEEPEST = 20.0  # slopes lie between 1 / 20 and 20: beyond, a label is hopeless or was never wrong
_CELLS_PER_LOGIT = 64  # far finer than any method sees; a fit then takes the same time however many photos


@dataclass(frozen=True)
class LabelCalibration:
    """The map of one label: logit -> logit.

    Attributes:
        method: one of METHODS, how it was found. "none" returns probabilities untouched.
        slope: before the first and after the last knot, above 0.
        x, y: knots, rising. A line has one knot: temperature T is slope 1 / T through (0, 0), Platt's
            a * logit + b is slope a through (0, b).

    Raises:
        UsageError: none of METHODS, no knots, or a map that isn't finite and rising.
    """

    method: str = "none"
    slope: float = 1.0
    x: tuple[float, ...] = (0.0,)
    y: tuple[float, ...] = (0.0,)

    def __post_init__(self) -> None:
        _check_method(self.method)
        rising = len(self.x) == len(self.y) > 0 and (np.diff([self.x, self.y]) > 0).all()
        if not (rising and self.slope > 0 and np.isfinite([self.slope, *self.x, *self.y]).all()):
            raise UsageError.expected("a calibration to rise", self, "fitting it again")

    def apply(self, prob: np.ndarray) -> np.ndarray:
        """Calibrated probabilities (n,) float32 of probabilities (n,) in [0, 1]; inside (0, 1) but for "none"."""
        if self.method == "none":
            return prob.astype(np.float32)
        z = _logit(prob)
        beyond = z - np.clip(z, self.x[0], self.x[-1])
        return _sigmoid(np.interp(z, self.x, self.y) + self.slope * beyond).astype(np.float32)


@dataclass(frozen=True)
class Calibration:
    """The maps of all labels, in the order of the label set."""

    labels: tuple[LabelCalibration, ...]

    @classmethod
    def none(cls, count: int) -> Self:
        """The calibration of `count` labels that changes nothing."""
        return cls((LabelCalibration(),) * count)

    def apply(self, probs: np.ndarray, label_set: LabelSet | None = None) -> np.ndarray:
        """Calibrated probabilities (n, labels) float32 of probabilities (n, labels).

        Args:
            probs: in [0, 1].
            label_set: names the label axis. Where float32 can't hold the calibrated probabilities of a group with one
                map apart, its most probable label then keeps the highest one.

        Raises:
            UsageError: `probs` has another number of labels.
        """
        if probs.ndim != 2 or probs.shape[1] != len(self.labels):
            want = f"probs of shape (n, {len(self.labels)})"
            raise UsageError.expected(want, f"shape {probs.shape}", "the calibration of the same label set")
        calibrated = np.empty(probs.shape, dtype=np.float32)
        for k, label in enumerate(self.labels):
            calibrated[:, k] = label.apply(probs[:, k])
        for where in label_set.exclusive.values() if label_set is not None else ():
            maps = {self.labels[k] for k in where}
            if len(maps) == 1 and maps != {LabelCalibration()}:
                calibrated[:, where] = _keep_top(probs[:, where], calibrated[:, where])
        return calibrated

    def to_dict(self, label_set: LabelSet) -> dict[str, Any]:
        """Plain data for JSON: {label id: {"method", "slope", "x", "y"}}.

        Raises:
            RunError: there are more or fewer maps than labels.
        """
        if len(label_set) != len(self.labels):
            want = f"calibrations of the {len(label_set)} labels of '{label_set.name}'"
            raise RunError.expected(want, len(self.labels), "the calibration of the same label set")
        return {
            name: {"method": label.method, "slope": label.slope, "x": list(label.x), "y": list(label.y)}
            for name, label in zip(label_set.ids, self.labels, strict=True)
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], label_set: LabelSet) -> Self:
        """Read what `to_dict` made; the order of the ids doesn't matter.

        Raises:
            RunError: the layout is another one, or it is about other labels.
        """
        again = "the calibration that was written with this label set"
        try:
            differing = sorted(set(data) ^ set(label_set.ids))
            maps = () if differing else tuple(_read_label(data[name]) for name in label_set.ids)
        except (KeyError, TypeError, ValueError, UsageError) as error:
            want = "a calibration as {label id: {method, slope, x, y}}"
            raise RunError.expected(want, f"{type(error).__name__}: {error}", again) from error
        if differing:
            got = f"{', '.join(map(str, differing[:3]))} in only one of them"
            raise RunError.expected(f"the calibration to have the labels of '{label_set.name}'", got, again)
        return cls(maps)


def fit_label(target: np.ndarray, prob: np.ndarray, method: str) -> LabelCalibration:
    """Fit the map of one label.

    Sources: temperature, Guo et al. 2017, "On Calibration of Modern Neural Networks"; Platt 1999, "Probabilistic
    Outputs for Support Vector Machines"; isotonic, Zadrozny & Elkan 2002, centred as in Oron & Flournoy 2017,
    "Centered Isotonic Regression", so that no two probabilities become one.

    Args:
        target: (n,) 1, 0 or -1 = unknown.
        prob: (n,) probabilities in [0, 1].
        method: one of METHODS.

    Returns:
        The map; that of "none" where the known photos have no positives or no negatives.

    Raises:
        UsageError: none of METHODS.
    """
    return _fit(_count(target, prob), method)


def fit_calibration(
    targets: np.ndarray, probs: np.ndarray, folds: np.ndarray, label_set: LabelSet, method: str = "auto"
) -> Calibration:
    """Fit the maps of all labels.

    Those of an exclusive group get one map, fitted on its highest probability against whether that label is the
    right one, over the photos where that is known.

    "auto" chooses for each label by log loss out of fold, and takes the more flexible method only where it gains
    more than the standard error of the gain over the photos; isotonic regression needs ENOUGH positives and
    negatives. Labels whose known photos have no positives or no negatives get "none".

    Args:
        targets: (n, labels) 1, 0 or -1 = unknown.
        probs: (n, labels) probabilities in [0, 1] of photos that the model wasn't trained on.
        folds: (n,) int, at least two different ones; used by "auto" alone.
        label_set: names the label axis.
        method: one of METHODS or "auto".

    Raises:
        UsageError: shapes differ, a probability is outside [0, 1], one fold only, or an unknown method.
    """
    from modiste.metrics.group_tops import GroupTops  # tagging loads no metrics

    _check(targets, probs, folds)
    fit = partial(_choose, folds=folds) if method == "auto" else partial(fit_label, method=method)
    maps = [LabelCalibration()] * len(label_set)
    for k in label_set.free_labels:
        maps[k] = fit(targets[:, k], probs[:, k])
    for where in label_set.exclusive.values():
        tops = GroupTops.of(targets[:, where], probs[:, where])
        shared = fit(tops.right, tops.probs)
        for k in where:
            maps[k] = shared
    return Calibration(tuple(maps))


class _Cells(NamedTuple):
    """Known photos counted by logit: mean logit, positives and photos of each cell that isn't empty."""

    z: np.ndarray
    hits: np.ndarray
    photos: np.ndarray


def _count(target: np.ndarray, prob: np.ndarray) -> _Cells:
    known = target != UNKNOWN
    z = _logit(prob[known])
    cell = np.floor((z + 17) * _CELLS_PER_LOGIT).astype(np.int64)  # logits of _EDGE are -16.1 and 16.1
    photos, hits = np.bincount(cell), np.bincount(cell, target[known])
    some = photos > 0
    return _Cells(np.bincount(cell, z)[some] / photos[some], hits[some], photos[some])


def _fit(cells: _Cells, method: str) -> LabelCalibration:
    _check_method(method)
    if method == "none" or not 0 < cells.hits.sum() < cells.photos.sum():
        return LabelCalibration()
    if method == "isotonic":
        return _isotonic(cells)
    return _line(cells, method)


def _line(cells: _Cells, method: str) -> LabelCalibration:
    """Temperature or Platt's line, the one that passes through 0 and the one that needn't.

    Both towards Platt's targets, (positives + 1) / (positives + 2) for 1 and 1 / (negatives + 2) for 0: with few
    photos they keep the slope moderate, and where a threshold parts positives from negatives they keep it finite.
    """
    from scipy.optimize import minimize

    positives, known = cells.hits.sum(), cells.photos.sum()
    negatives = known - positives
    wanted = cells.hits * (positives + 1) / (positives + 2) + (cells.photos - cells.hits) / (negatives + 2)

    def loss(line: np.ndarray) -> tuple[float, np.ndarray]:
        z = line[0] * cells.z + line[1]
        excess = (cells.photos * _sigmoid(z) - wanted) / known
        return (cells.photos @ np.logaddexp(0, z) - wanted @ z) / known, np.array([excess @ cells.z, excess.sum()])

    shifts = (-_STEEPEST, _STEEPEST) if method == "platt" else (0, 0)
    # L-BFGS-B finds the same, but wakes all threads of the linear algebra, which takes 50 times as long on a busy
    # machine.
    found = minimize(loss, (1, 0), jac=True, method="TNC", bounds=[(1 / _STEEPEST, _STEEPEST), shifts], tol=1e-12)
    return LabelCalibration(method, float(found.x[0]), y=(float(found.x[1]),))


def _isotonic(cells: _Cells) -> LabelCalibration:
    """Blocks of isotonic regression, each at its mean logit.

    A share is (positives + prior) / (photos + 1), so that it isn't 0 or 1. That pulls small blocks more than large
    ones and may put neighbours out of order, hence the second regression.
    """
    from sklearn.isotonic import isotonic_regression

    prior = cells.hits.sum() / cells.photos.sum()
    _, cells = _pool(cells, isotonic_regression(cells.hits / cells.photos, sample_weight=cells.photos))
    share = isotonic_regression((cells.hits + prior) / (cells.photos + 1), sample_weight=cells.photos + 1)
    y, cells = _pool(cells, np.round(_logit(share), 6))  # blocks that differ in their last bit are one
    return LabelCalibration("isotonic", x=tuple(cells.z.tolist()), y=tuple(y.tolist()))


def _pool(cells: _Cells, values: np.ndarray) -> tuple[np.ndarray, _Cells]:
    """The different values, rising, and the cells of each made one."""
    each, block = np.unique(values, return_inverse=True)
    photos = np.bincount(block, cells.photos)
    return each, _Cells(np.bincount(block, cells.z * cells.photos) / photos, np.bincount(block, cells.hits), photos)


def _choose(target: np.ndarray, prob: np.ndarray, folds: np.ndarray) -> LabelCalibration:
    known = target != UNKNOWN
    target, prob, folds = target[known], prob[known], folds[known]
    methods = CALIBRATION_METHODS if np.bincount(target, minlength=2).min() >= ENOUGH else CALIBRATION_METHODS[:-1]
    probs = _out_of_fold(target, prob, folds, methods)
    losses = -np.log(np.maximum(np.where(target == 1, probs, 1 - probs), _EDGE))
    best = 0
    for k in range(1, len(methods)):
        gain = losses[best] - losses[k]
        if len(gain) > 1 and gain.mean() > gain.std(ddof=1) / np.sqrt(len(gain)):
            best = k
    return fit_label(target, prob, methods[best])


def _out_of_fold(target: np.ndarray, prob: np.ndarray, folds: np.ndarray, methods: Sequence[str]) -> np.ndarray:
    """Calibrated probabilities (methods, n) float32, by maps fitted on the other folds."""
    calibrated = np.empty((len(methods), len(prob)), dtype=np.float32)
    for fold in np.unique(folds):
        inside = folds == fold
        cells = _count(target[~inside], prob[~inside])
        for row, method in zip(calibrated, methods, strict=True):
            row[inside] = _fit(cells, method).apply(prob[inside])
    return calibrated


def _keep_top(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Make the most probable label of each photo, (n, values) before a map, the only one with the highest after it."""
    tied = after == after.max(axis=1, keepdims=True)
    tied[np.arange(len(tied)), before.argmax(axis=1)] = False
    return np.where(tied, np.nextafter(after, np.float32(0)), after)


def _logit(prob: np.ndarray) -> np.ndarray:
    prob = np.clip(prob.astype(np.float64), _EDGE, 1 - _EDGE)
    return np.asarray(np.log(prob) - np.log1p(-prob))


def _sigmoid(logit: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-np.clip(logit, *_RANGE))))


def _read_label(item: Mapping[str, Any]) -> LabelCalibration:
    x, y = (tuple(map(float, item[key])) for key in ("x", "y"))
    return LabelCalibration(str(item["method"]), float(item["slope"]), x, y)


def _check_method(method: str) -> None:
    if method not in CALIBRATION_METHODS:
        raise UsageError.expected(
            f"a method of calibration: {', '.join(CALIBRATION_METHODS)}", f"'{method}'", "'platt'"
        )


def _check(targets: np.ndarray, probs: np.ndarray, folds: np.ndarray) -> None:
    if targets.ndim != 2 or targets.shape != probs.shape or folds.shape != targets.shape[:1]:
        got = f"{targets.shape}, {probs.shape} and {folds.shape}"
        raise UsageError.expected("targets and probs (n, labels) and folds (n,)", got, "arrays of the same photos")
    check_range(probs)
    if len(np.unique(folds)) < 2:
        raise UsageError.expected("two folds or more", "one", "dealing the photos into five")
