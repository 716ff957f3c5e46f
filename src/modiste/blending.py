"""Blending: the probabilities of several members become one set of probabilities.

Three ways, from the simplest on: the mean; one weight a member (a mixture); and a stack (Wolpert 1992,
"Stacked Generalization"), which also sees what the members say of all other labels, and so learns that a
dress is seldom sports. What is fitted is judged on photos it wasn't fitted on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np

from modiste.bootstrap import Comparison, Predicted, compare
from modiste.errors import RunError, UsageError
from modiste.labels import UNKNOWN, LabelSet
from modiste.metrics import mean_average_precision
from modiste.stacking import STRENGTHS, fit_logits, logits_of
from modiste.sweep import check_range

Method = Literal["mean", "weights", "stack"]
METHODS: tuple[Method, ...] = ("mean", "weights", "stack")  # from the simplest on
SURE = 0.95  # how probable it has to be that the less simple blend is better


@dataclass(frozen=True, eq=False)
class Blend:
    """How the probabilities of members become one.

    Attributes:
        method: "mean", "weights", or "stack".
        weights: (members,) float64, none negative, sum 1; equal ones in a mean and a stack.
        coefficients: (labels, members * labels) float64 of a stack, else None; member by member, and
            inside a member label by label: what the logits say of each label.
        intercepts: (labels,) float64 of a stack, else None.

    Raises:
        UsageError: another method, arrays of another shape, nan, or weights that are no shares of 1.
    """

    method: Method
    weights: np.ndarray
    coefficients: np.ndarray | None = None
    intercepts: np.ndarray | None = None

    def __post_init__(self) -> None:
        for name in ("weights", "coefficients", "intercepts"):
            if getattr(self, name) is not None:
                values = np.array(getattr(self, name), dtype=np.float64)
                values.flags.writeable = False
                object.__setattr__(self, name, values)
        shares = self.weights.ndim == 1 and (self.weights >= 0).all() and abs(self.weights.sum() - 1) < 1e-6
        if not (shares and self._whole()):
            arrays = (self.weights, self.coefficients, self.intercepts)
            shapes = [None if values is None else values.shape for values in arrays]
            want = "a mean, weights that sum to 1, or a stack with finite coefficients and intercepts for each label"
            fix = "Blend.mean, fit_weights or fit_stack"
            raise UsageError.expected(want, f"'{self.method}' with arrays of shape {shapes}", fix)

    def _whole(self) -> bool:
        if self.coefficients is None or self.intercepts is None:
            return self.method in ("mean", "weights") and self.coefficients is self.intercepts
        shape = self.intercepts.size, len(self.weights) * self.intercepts.size
        return (self.method, self.intercepts.ndim, self.coefficients.shape) == ("stack", 1, shape) and bool(
            np.isfinite(self.coefficients).all() and np.isfinite(self.intercepts).all()
        )

    @classmethod
    def mean(cls, members: int) -> Self:
        """The mean of the members' probabilities."""
        return cls("mean", np.full(members, 1 / members))

    def apply(self, probs: np.ndarray) -> np.ndarray:
        """Blend probs (members, n, labels) in [0, 1] into probs (n, labels) float32 in [0, 1].

        Raises:
            UsageError: another number of members or labels, or a probability outside [0, 1].
        """
        _check(probs)
        labels = probs.shape[2] if self.intercepts is None else len(self.intercepts)
        if (len(probs), probs.shape[2]) != (len(self.weights), labels):
            want, fix = f"probs of shape ({len(self.weights)}, n, {labels})", "the members and labels of the fit"
            raise UsageError.expected(want, probs.shape, fix)
        if self.coefficients is None:
            blended = np.tensordot(self.weights, probs.astype(np.float64), axes=1)
        else:
            from scipy.special import expit

            blended = expit(logits_of(probs) @ self.coefficients.T + self.intercepts)
        return np.clip(blended, 0, 1).astype(np.float32)

    def to_dict(self, labels: LabelSet) -> dict[str, Any]:
        """Plain data for JSON, with the ids that name the label axes; `from_dict` gives the same blend back."""
        data: dict[str, Any] = {"method": self.method, "labels": list(labels.ids), "weights": self.weights.tolist()}
        if self.coefficients is not None and self.intercepts is not None:
            data |= {"coefficients": self.coefficients.tolist(), "intercepts": self.intercepts.tolist()}
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], labels: LabelSet, members: int) -> Self:
        """Read what `to_dict` gave.

        Raises:
            RunError: the layout is another one, or it blends other labels or another number of members.
        """
        again = "the blend that was written with these members and labels"
        try:
            blend = cls(data["method"], data["weights"], data.get("coefficients"), data.get("intercepts"))
            ids = tuple(data["labels"])
        except (KeyError, TypeError, ValueError, AttributeError, UsageError) as error:
            raise RunError.expected("a blend with 'method', 'labels' and 'weights'", repr(error), again) from error
        size = len(labels) if blend.intercepts is None else len(blend.intercepts)
        if (ids, len(blend.weights), size) != (labels.ids, members, len(labels)):
            want = f"a blend of {members} members for the {len(labels)} labels of '{labels.name}'"
            got = f"{len(blend.weights)} members and the labels {', '.join(map(str, ids[:5]))}, ..."
            raise RunError.expected(want, got, again)
        return blend


def fit_weights(targets: np.ndarray, probs: np.ndarray) -> np.ndarray:
    """Shares of the members in the mixture with the least mean log loss over the known targets.

    Expectation maximisation of mixture weights (Dempster, Laird, Rubin 1977, section 4.3): no step
    makes the loss worse. A probability counts as at least 1e-7 away from being wrong for sure.

    Args:
        targets: (n, labels) int8: 1, 0, -1 = unknown.
        probs: (members, n, labels) in [0, 1].

    Returns:
        (members,) float64, none negative, sum 1; equal where nothing is known. The loss is at most 1e-8
        nats above the least, or about 1e-5 where 500 steps didn't suffice.

    Raises:
        UsageError: fewer than 2 members, shapes that differ, or a probability outside [0, 1].
    """
    _check(probs, targets)
    prob = probs.astype(np.float64)
    of_truth = np.maximum(np.where(targets == 1, prob, 1 - prob)[:, targets != UNKNOWN], 1e-7)
    weights = np.full(len(probs), 1 / len(probs))
    for _ in range(500 if of_truth.size else 0):
        gain = (of_truth / (weights @ of_truth)).mean(axis=1)
        if gain.max() < 1 + 1e-8:  # the loss is convex, so what is left to win is at most this excess
            break
        weights *= gain
    return np.asarray(weights / weights.sum())


def fit_stack(
    targets: np.ndarray, probs: np.ndarray, folds: np.ndarray, strengths: Sequence[float] = STRENGTHS
) -> Blend:
    """For each label a logistic regression on the logits of all labels of all members.

    It fits the deviation from the mean of the members' logits, and penalises the deviation alone: strong
    regularisation gives that mean back, with another intercept. A label without a known positive or
    without a known negative keeps the mean of logits as it is.

    Args:
        targets: (n, labels) int8: 1, 0, -1 = unknown.
        probs: (members, n, labels) in [0, 1].
        folds: (n,) fold numbers; the strength is the one with the least log loss out of fold.
        strengths: prior variances of a coefficient to choose from, rising; 1 / 2 of the squared
            deviation divided by it is added to the summed log loss (C of scikit-learn).

    Raises:
        UsageError: as `fit_weights`, or folds of another length, or fewer than 2 of them.
    """
    _check(probs, targets, folds)
    return _fit(targets, probs, folds, "stack", strengths)


def cross_fit(targets: np.ndarray, probs: np.ndarray, folds: np.ndarray, method: Method) -> np.ndarray:
    """What a method says of each photo when it was fitted on the other folds alone.

    The stack's strength is chosen on the other folds, too; of 2 folds one is left, and then it is the
    strongest regularisation. Arguments and errors as in `fit_stack`.

    Returns:
        (n, labels) float32 in [0, 1].
    """
    _check(probs, targets, folds)
    blended = np.empty(targets.shape, dtype=np.float32)
    for fold in np.unique(folds):
        held = folds == fold
        blend = _fit(targets[~held], probs[:, ~held], folds[~held], method)
        blended[held] = blend.apply(probs[:, held])
    return blended


@dataclass(frozen=True)
class Candidate:
    """One row of the comparison of blends.

    Attributes:
        name: "member 2" (counted from 1), "mean", "weights" or "stack".
        map: mean average precision on photos that it wasn't fitted on.
        against: name of the candidate that was kept before; "" for the first.
        comparison: of that one (first) with this one (second); None for the first.
    """

    name: str
    map: float
    against: str = ""
    comparison: Comparison | None = None


@dataclass(frozen=True, eq=False)
class Choice:
    """Which blend was kept, and why.

    Attributes:
        blend: the kept one, fitted on all photos; a member alone is weights of 1 and 0.
        probs: (n, labels) float32, what it says of each photo when fitted on the other folds.
        candidates: from the simplest on.
        reason: what was kept and why, a sentence for a person.
    """

    blend: Blend
    probs: np.ndarray
    candidates: tuple[Candidate, ...]
    reason: str


def choose(
    targets: np.ndarray,
    probs: np.ndarray,
    folds: np.ndarray,
    labels: LabelSet,
    *,
    groups: np.ndarray | None = None,
    seed: int = 0,
) -> Choice:
    """Keep the simplest of best member, mean, weights and stack that none after it surely beats.

    Args:
        targets: (n, labels) int8: 1, 0, -1 = unknown.
        probs: (members, n, labels) in [0, 1], of photos that no member was trained on.
        folds: (n,) fold numbers; the same for all photos of a group.
        labels: names the label axis.
        groups: (n,) ids; photos of one id are drawn together. None: every photo for itself.
        seed: of the bootstrap draws; the same one gives the same choice.

    Raises:
        UsageError: as `fit_stack`, or a label set or groups of another length.
    """
    _check(probs, targets, folds)
    # The best member is picked on the photos that judge it. What that flatters is the simplest candidate.
    best = int(np.argmax([mean_average_precision(targets, member, labels).value for member in probs]))
    said = {f"member {best + 1}": probs[best]} | {
        method: cross_fit(targets, probs, folds, method) for method in METHODS
    }
    judged = {name: Predicted(each, (each > 0.5).astype(np.int8)) for name, each in said.items()}  # mAP decides nothing
    kept, *others = judged
    candidates = [Candidate(kept, mean_average_precision(targets, said[kept], labels).value)]
    for name in others:
        pair = compare(judged[kept], judged[name], targets, labels, groups=groups, seed=seed)
        candidates.append(Candidate(name, pair.second, kept, pair))
        kept = name if pair.better >= SURE else kept
    alone = Blend("weights", np.eye(len(probs))[best])
    blend = next((_fit(targets, probs, folds, method) for method in METHODS if method == kept), alone)
    at = list(said).index(kept)
    return Choice(blend, said[kept], tuple(candidates), _reason(candidates[at], candidates[at + 1 :]))


def _reason(kept: Candidate, later: Sequence[Candidate]) -> str:
    if math.isnan(kept.map):
        return f"Kept {kept.name}, as no label has a positive to compare by."
    words = f"Kept {kept.name} with mAP {kept.map:.3f} out of fold"
    words += f": {kept.comparison.sentence(kept.against, kept.name)}" if kept.comparison else "."
    unsure = [f"{one.name} (probability {one.comparison.better:.2f})" for one in later if one.comparison]
    return f"{words} Less simple and not surely better: {', '.join(unsure)}." if unsure else words


def _fit(
    targets: np.ndarray, probs: np.ndarray, folds: np.ndarray, method: Method, strengths: Sequence[float] = STRENGTHS
) -> Blend:
    blend = Blend.mean(len(probs))
    if method == "weights":
        return Blend(method, fit_weights(targets, probs))
    if method == "stack":
        return Blend(method, blend.weights, *fit_logits(targets, logits_of(probs), folds, strengths))
    return blend


def _check(probs: np.ndarray, targets: np.ndarray | None = None, folds: np.ndarray | None = None) -> None:
    if probs.ndim != 3 or len(probs) < 2:
        raise UsageError.expected("probs of shape (2 or more members, n, labels)", probs.shape, "naming more members")
    if targets is not None and targets.shape != probs.shape[1:]:
        raise UsageError.expected(
            f"targets of shape {probs.shape[1:]}", targets.shape, "members that saw the same photos and labels"
        )
    check_range(probs)
    if folds is not None and folds.shape != (probs.shape[1],):
        raise UsageError.expected(f"folds of shape ({probs.shape[1]},)", folds.shape, "a fold number for each photo")
    if folds is not None and len(np.unique(folds)) < 2:
        raise UsageError.expected("at least 2 folds", len(np.unique(folds)), "modiste.splits.stratified_folds")
