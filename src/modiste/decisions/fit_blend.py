"""Fitting a blend of several members, and choosing the simplest that none after it surely beats.

What is fitted is judged on photos it was not fitted on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from modiste.decisions.blend import Blend, Method, check_members
from modiste.decisions.stacking import STRENGTHS, fit_logits, logits_of
from modiste.labels import UNKNOWN, LabelSet
from modiste.metrics.bootstrap import Comparison, compare_decided
from modiste.metrics.scores import mean_average_precision
from modiste.prediction import Decided

BLEND_METHODS: tuple[Method, ...] = ("mean", "weights", "stack")  # from the simplest on
SURE = 0.95  # how probable it has to be that the less simple blend is better


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
    check_members(probs, targets)
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
    check_members(probs, targets, folds)
    return _fit(targets, probs, folds, "stack", strengths)


def cross_fit_blend(targets: np.ndarray, probs: np.ndarray, folds: np.ndarray, method: Method) -> np.ndarray:
    """Out-of-fold probabilities of a method: of each photo when fitted on the other folds alone.

    The stack's strength is chosen on the other folds, too; of 2 folds one is left, and then it is the
    strongest regularisation. Arguments and errors as in `fit_stack`.

    Returns:
        (n, labels) float32 in [0, 1].
    """
    check_members(probs, targets, folds)
    blended = np.empty(targets.shape, dtype=np.float32)
    for fold in np.unique(folds):
        held = folds == fold
        blend = _fit(targets[~held], probs[:, ~held], folds[~held], method)
        blended[held] = blend.apply(probs[:, held])
    return blended


@dataclass(frozen=True)
class BlendCandidate:
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
class BlendChoice:
    """Which blend was kept, and why.

    Attributes:
        blend: the kept one, fitted on all photos; a member alone is weights of 1 and 0.
        probs: (n, labels) float32, out-of-fold probabilities of each photo.
        candidates: from the simplest on.
        reason: what was kept and why, a sentence for a person.
    """

    blend: Blend
    probs: np.ndarray
    candidates: tuple[BlendCandidate, ...]
    reason: str


def choose(
    targets: np.ndarray,
    probs: np.ndarray,
    folds: np.ndarray,
    label_set: LabelSet,
    *,
    groups: np.ndarray | None = None,
    seed: int = 0,
) -> BlendChoice:
    """Keep the simplest of best member, mean, weights and stack that none after it surely beats.

    Args:
        targets: (n, labels) int8: 1, 0, -1 = unknown.
        probs: (members, n, labels) in [0, 1], of photos that no member was trained on.
        folds: (n,) fold numbers; the same for all photos of a group.
        label_set: names the label axis.
        groups: (n,) ids; photos of one id are drawn together. None: every photo for itself.
        seed: of the bootstrap draws; the same one gives the same choice.

    Raises:
        UsageError: as `fit_stack`, or a label set or groups of another length.
    """
    check_members(probs, targets, folds)
    # The best member is picked on the photos that judge it. What that flatters is the simplest candidate.
    best = int(np.argmax([mean_average_precision(targets, member, label_set).value for member in probs]))
    said = {f"member {best + 1}": probs[best]} | {
        method: cross_fit_blend(targets, probs, folds, method) for method in BLEND_METHODS
    }
    judged = {name: Decided(each, (each > 0.5).astype(np.int8)) for name, each in said.items()}  # mAP decides nothing
    kept, *others = judged
    candidates = [BlendCandidate(kept, mean_average_precision(targets, said[kept], label_set).value)]
    for name in others:
        pair = compare_decided(judged[kept], judged[name], targets, label_set, groups=groups, seed=seed)
        candidates.append(BlendCandidate(name, pair.second, kept, pair))
        kept = name if pair.better >= SURE else kept
    alone = Blend("weights", np.eye(len(probs))[best])
    blend = next((_fit(targets, probs, folds, method) for method in BLEND_METHODS if method == kept), alone)
    at = list(said).index(kept)
    return BlendChoice(blend, said[kept], tuple(candidates), _reason(candidates[at], candidates[at + 1 :]))


def _reason(kept: BlendCandidate, later: Sequence[BlendCandidate]) -> str:
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
