"""Thresholds that reach a policy on photos with known labels; those of rare labels are drawn towards a common one."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from modiste.decisions.policies import Policy
from modiste.decisions.thresholds import Thresholds
from modiste.errors import UsageError
from modiste.labels import LabelSet
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
    """Thresholds, and a sentence for each label whose threshold is less certain than it seems."""

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

    A label's own threshold is averaged, as a logit, with one that is pooled over all labels, which counts as
    `POOLING` positives: t = (positives * own + POOLING * pooled) / (positives + POOLING), but not beyond its own
    where a precision or recall would be missed. A label without positives gets the pooled one; where a precision is
    asked for it is never predicted. For F-beta the pooled threshold is the one for all labels with the best
    macro F-beta; else the policy's own of all (photo, label) pairs together.

    Args:
        policy: what to reach.
        targets: (n, labels) int8, 1, 0 or -1 = unknown.
        probs: (n, labels) in [0, 1].
        label_set: names the label axis; labels of exclusive groups need no threshold and get the pooled one.
        weights: (labels, 2), what a positive and a negative photo of each label count; 1 where None.

    Raises:
        UsageError: shapes differ, a probability is nan or outside [0, 1], or no free label has a positive.
    """
    check_probs(targets, probs, label_set)
    if not policy.tuned:
        return Tuning(policy.untuned(len(label_set)), ())
    counted = {
        k: sweep(targets[:, k], np.ascontiguousarray(probs[:, k], np.float32)) for k in label_set.free_labels.tolist()
    }
    positives = {k: one.positives for k, one in counted.items()}
    if counted and not any(positives.values()):
        raise UsageError.expected("a photo that has one of the labels", "none to tune on", "another split")
    sweeps = {k: one if weights is None else one.weighted(*weights[k]) for k, one in counted.items() if positives[k]}
    pooled = _pooled(policy, list(sweeps.values())) if sweeps else 0.5  # exclusive groups only: never looked at
    values, notes = np.full(len(label_set), pooled), []
    for k, one in sweeps.items():
        own = _own(policy, one)
        values[k] = 1.0 if own is None else _drawn(policy, own, pooled, positives[k])
        if own is None:
            notes.append(
                f"'{label_set.ids[k]}' never reaches a precision of {policy.number}, so it is never predicted."
            )
        elif positives[k] < FEW:
            notes.append(_few(label_set.ids[k], positives[k]))
    for k in (k for k, count in positives.items() if not count):
        values[k] = 1.0 if policy.kind == "precision" else pooled
        fate = "it is never predicted" if policy.kind == "precision" else "its threshold is that of all labels together"
        notes.append(f"'{label_set.ids[k]}' has no positive photo to tune on: {fate}.")
    return Tuning(Thresholds(values, f"tuned for {policy}", None, policy.never_empty), tuple(notes))


def _few(name: str, positives: int) -> str:
    count = f"{positives} positive photo{'s' if positives != 1 else ''}"
    share = POOLING / (positives + POOLING)
    return f"'{name}' has {count} to tune on: its threshold is drawn {share:.0%} of the way to that of all labels."


def _own(policy: Policy, one: Sweep) -> float | None:
    if policy.kind == "fbeta":
        return best_fbeta(one, policy.value).threshold
    find = lowest_with_precision if policy.kind == "precision" else highest_with_recall
    return find(one, policy.value)


def _drawn(policy: Policy, own: float, pooled: float, positives: int) -> float:
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
