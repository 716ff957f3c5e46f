"""Thresholds that reach a policy on photos with known labels; those of rare labels are drawn towards a common one.

Of an exclusive group the most probable value is what is said or not, so that it is tuned as one label: how probable it
is, and whether it is the right one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from modiste.decisions.policies import Policy
from modiste.decisions.thresholds import Thresholds
from modiste.errors import UsageError
from modiste.labels import LabelSet
from modiste.metrics.group_tops import GroupTops
from modiste.metrics.sweep import (
    Sweep,
    best_fbeta,
    check_probs,
    highest_with_recall,
    lowest_with_precision,
    merged,
    midway,
    run_ends,
    sweep,
)

POOLING = 20.0  # positives that the pooled threshold counts as much as: measured in benchmarks/coverage.py


FEW = 10  # positives below which a label's scores and thresholds are hardly known


_EDGE = 1e-6  # thresholds are averaged as logits, kept this far from 0 and 1


class Tuning(NamedTuple):
    """Thresholds, and a sentence for each label or group whose threshold is less certain than it seems."""

    thresholds: Thresholds
    notes: tuple[str, ...]


def tune_thresholds(
    policy: Policy,
    targets: np.ndarray,
    probs: np.ndarray,
    label_set: LabelSet,
    weights: np.ndarray | None = None,
) -> Tuning:
    """Thresholds that follow a policy on these photos.

    A label's own threshold is averaged, as a logit, with one that is pooled over all free labels, which counts as
    `POOLING` positives: t = (positives * own + POOLING * pooled) / (positives + POOLING), but not beyond its own
    where a precision or recall would be missed. A label without positives gets the pooled one; where a precision is
    asked for it is never predicted. For F-beta the pooled threshold is the one for all labels with the best
    macro F-beta; else the policy's own of all (photo, label) pairs together.

    An exclusive group is tuned as a label whose probability is the highest of the group and whose positives are the
    photos where that is the right value; recall is that of all photos with a value, and the pooled threshold that of
    the groups. Where a precision is out of reach the group is always unsure, where a recall is, never. "fixed" and
    "top" leave no group unsure.

    Args:
        policy: what to reach.
        targets: (n, labels) int8, 1, 0 or -1 = unknown.
        probs: (n, labels) in [0, 1].
        label_set: names the label axis.
        weights: (labels, 2), what a positive and a negative photo of each label count, of an exclusive group what a
            photo of each value counts; 1 where None.

    Raises:
        UsageError: shapes differ, a probability is nan or outside [0, 1], or no free label has a positive.
    """
    check_probs(targets, probs, label_set)
    if not policy.tuned:
        return Tuning(policy.untuned(len(label_set)), ())
    free = _free_labels(policy, targets, probs, label_set, weights)
    groups = _groups(policy, targets, probs, label_set, weights)
    values = np.array([free.thresholds.get(label, 0.0) for label in label_set.ids])
    thresholds = Thresholds(values, f"tuned for {policy}", None, policy.never_empty)
    return Tuning(thresholds.with_groups(groups.thresholds, label_set), (*free.notes, *groups.notes))


class _Tuned(NamedTuple):
    """Thresholds of labels, or of groups, by name, and sentences about them."""

    thresholds: dict[str, float]
    notes: list[str]


def _free_labels(
    policy: Policy, targets: np.ndarray, probs: np.ndarray, label_set: LabelSet, weights: np.ndarray | None
) -> _Tuned:
    counted = {
        k: sweep(targets[:, k], np.ascontiguousarray(probs[:, k], np.float32)) for k in label_set.free_labels.tolist()
    }
    if counted and not any(one.positives for one in counted.values()):
        raise UsageError.expected("a photo that has one of the labels", "none to tune on", "another split")
    sweeps = {
        label_set.ids[k]: one if weights is None else one.weighted(*weights[k])
        for k, one in counted.items()
        if one.positives
    }
    drawn, thresholds, notes = _draw(policy, sweeps), {}, []
    for name, one in sweeps.items():
        reached = drawn.each[name]
        thresholds[name] = 1.0 if reached is None else reached
        if reached is None:
            notes.append(f"'{name}' never reaches a precision of {policy.number}, so it is never predicted.")
        elif one.positives < FEW:
            count = f"{one.positives} positive photo{'s' if one.positives != 1 else ''}"
            notes.append(
                f"'{name}' has {count} to tune on: its threshold is {_far(one.positives)} to that of all labels."
            )
    for name in (label_set.ids[k] for k, one in counted.items() if not one.positives):
        thresholds[name] = 1.0 if policy.kind == "precision" else drawn.pooled
        fate = "it is never predicted" if policy.kind == "precision" else "its threshold is that of all labels together"
        notes.append(f"'{name}' has no positive photo to tune on: {fate}.")
    return _Tuned(thresholds, notes)


def _groups(
    policy: Policy, targets: np.ndarray, probs: np.ndarray, label_set: LabelSet, weights: np.ndarray | None
) -> _Tuned:
    sweeps = {
        name: GroupTops.of(targets[:, where], probs[:, where]).sweep(None if weights is None else weights[where, 0])
        for name, where in label_set.exclusive.items()
    }
    drawn = _draw(policy, {name: one for name, one in sweeps.items() if one.positives})
    unreached = 1.0 if policy.kind == "precision" else 0.0
    fate = "it is always unsure" if policy.kind == "precision" else "its most probable value is always said"
    thresholds, notes = {}, []
    for name, one in sweeps.items():
        reached = drawn.each.get(name)
        thresholds[name] = unreached if reached is None else reached
        if not one.known:
            notes.append(f"The group '{name}' has no photo to tune on whose value is known, so {fate}.")
        elif reached is None and policy.kind == "fbeta":
            notes.append(f"The most probable value of the group '{name}' is right on no photo to tune on, so {fate}.")
        elif reached is None:
            notes.append(f"The group '{name}' never reaches a {policy.kind} of {policy.number}, so {fate}.")
        elif one.positives < FEW:
            count = f"{one.positives} photo{'s' if one.positives != 1 else ''} to tune on"
            far = f"its threshold is {_far(one.positives)} to that of all groups"
            luck = far if len(drawn.each) > 1 else "its threshold is mostly luck"
            notes.append(f"The most probable value of the group '{name}' is right on {count}: {luck}.")
    return _Tuned(thresholds, notes)


class _Drawn(NamedTuple):
    """Thresholds by name, drawn towards the pooled one; None where none has the precision or recall asked for."""

    each: Mapping[str, float | None]
    pooled: float


def _draw(policy: Policy, sweeps: Mapping[str, Sweep]) -> _Drawn:
    pooled = _pooled(policy, list(sweeps.values())) if sweeps else 0.5  # nothing is drawn towards it
    own = {name: _own(policy, one) for name, one in sweeps.items()}
    drawn = {
        name: None if one is None else _towards(policy, one, pooled, sweeps[name].positives)
        for name, one in own.items()
    }
    return _Drawn(drawn, pooled)


def _far(positives: int) -> str:
    return f"drawn {POOLING / (positives + POOLING):.0%} of the way"


def _own(policy: Policy, one: Sweep) -> float | None:
    if policy.kind == "fbeta":
        return best_fbeta(one, policy.value).threshold
    find = lowest_with_precision if policy.kind == "precision" else highest_with_recall
    return find(one, policy.value)


def _towards(policy: Policy, own: float, pooled: float, positives: int) -> float:
    """A label's own threshold drawn towards the pooled one, but never so that a precision or recall is missed."""
    between = _between(own, pooled, positives)
    bound = {"precision": max, "recall": min}.get(policy.kind)
    return between if bound is None else bound(own, between)


def _between(own: float, pooled: float, positives: int) -> float:
    """The weighted mean of two thresholds as logits."""
    logits = [np.log(p / (1 - p)) for p in np.clip([own, pooled], _EDGE, 1 - _EDGE)]
    mean = (positives * logits[0] + POOLING * logits[1]) / (positives + POOLING)
    return float(1 / (1 + np.exp(-mean)))


def _pooled(policy: Policy, sweeps: list[Sweep]) -> float:
    """One threshold for all labels."""
    if policy.kind != "fbeta":
        own = _own(policy, merged(sweeps))
        return 1.0 if own is None else own
    probs = np.concatenate([one.probs for one in sweeps])
    order = np.argsort(-probs, kind="stable")
    probs = probs[order]
    gains = [np.diff(one.fbeta(policy.value), prepend=0.0) for one in sweeps]
    total = np.cumsum(np.concatenate(gains)[order])
    last = run_ends(probs)
    best = int(np.argmax(np.round(total[last], 12)))
    return midway(probs[last], best)
