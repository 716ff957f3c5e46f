"""Fitting a decision on photos with known labels, and cross-fitting: decisions of photos that it was not fitted on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from modiste.config import DecideConfig
from modiste.data.splits import stratified_folds
from modiste.decisions.calibration import fit_calibration
from modiste.decisions.decision import Decision, LabelShift
from modiste.decisions.fit_thresholds import tune_thresholds
from modiste.decisions.policies import Policy
from modiste.decisions.thresholds import Thresholds
from modiste.errors import UsageError
from modiste.labels import LabelSet
from modiste.metrics.scores import measure_prevalence
from modiste.metrics.sweep import check_probs
from modiste.prediction import Decided

SMALLEST = 50  # photos: with fewer, thresholds are noise


class Fitted(NamedTuple):
    """A decision, and a sentence for each label that it should not be trusted in."""

    decision: Decision
    notes: tuple[str, ...]


class TooFew(NamedTuple):
    """How many photos, or groups of them, it takes to tune, and how many there are."""

    least: int
    there: int
    noun: str


def too_few(photos: int, groups: np.ndarray | None, count: int) -> TooFew | None:
    """What is lacking to tune on photos of these groups (n,) in so many folds; None where nothing is."""
    if photos < SMALLEST:
        return TooFew(SMALLEST, photos, "photos")
    units = photos if groups is None else len(np.unique(groups))
    return TooFew(2 * count, units, "groups of photos") if units < 2 * count else None


def make_folds(targets: np.ndarray, groups: np.ndarray | None, count: int, seed: int = 0) -> np.ndarray:
    """Fold numbers (n,) from 0 for cross-fitting: stratified over labels, groups kept whole.

    Raises:
        UsageError: there are too few photos, or groups, to tune on.
    """
    lack = too_few(len(targets), groups, count)
    if lack is not None:
        fix = "--policy fixed:0.5 --calibration none, which needs none"
        raise UsageError.expected(f"at least {lack.least} {lack.noun} to tune on", lack.there, fix)
    return stratified_folds(targets, groups, [1 / count] * count, seed)


def fit_decision(
    config: DecideConfig,
    targets: np.ndarray,
    raw: np.ndarray,
    folds: np.ndarray,
    label_set: LabelSet,
    *,
    here: np.ndarray | None = None,
) -> Fitted:
    """Calibrate and tune on these photos.

    Args:
        config: policy and calibration.
        targets: (n, labels) int8, 1, 0 or -1 = unknown.
        raw: (n, labels) float32, the network's probabilities.
        folds: (n,) fold numbers, which choose the kind of calibration.
        label_set: names the label axis.
        here: (labels,) share of photos with each label where the model will be used; None: as in these photos.

    Raises:
        UsageError: shapes differ, or a probability is nan or outside [0, 1].
    """
    check_probs(targets, raw, label_set)
    policy = Policy.parse(config.policy)
    calibration = fit_calibration(targets, raw, folds, label_set, config.calibration)
    shares = measure_prevalence(targets)
    shift = None if here is None else LabelShift(shares, here)
    untuned = Decision(policy, Thresholds.fixed(0.5, len(label_set)), calibration, shift)
    probs = untuned.apply(raw, label_set).probs
    tuned = tune_thresholds(policy, targets, probs, label_set, None if here is None else shift_weights(shares, here))
    return Fitted(replace(untuned, thresholds=tuned.thresholds), tuned.notes)


def shift_weights(shares: np.ndarray, here: np.ndarray) -> np.ndarray:
    """What a positive and a negative photo of each label count so that the label is as frequent as `here`."""
    positive = np.where(shares > 0, here / np.maximum(shares, 1e-12), 1)
    negative = np.where(shares < 1, (1 - here) / np.maximum(1 - shares, 1e-12), 1)
    return np.stack([positive, negative], axis=1)


class FoldFit(NamedTuple):
    """The photos of one fold, (n,) bool, and the decision that was fitted on all others."""

    inside: np.ndarray
    decision: Decision


def fit_each_fold(
    config: DecideConfig,
    targets: np.ndarray,
    raw: np.ndarray,
    folds: np.ndarray,
    label_set: LabelSet,
    *,
    here: np.ndarray | None = None,
) -> list[FoldFit]:
    """For each fold a decision fitted on the other folds; arguments and errors as of `fit_decision`."""
    fits = []
    for fold in np.unique(folds):
        inside = folds == fold
        fitted = fit_decision(config, targets[~inside], raw[~inside], folds[~inside], label_set, here=here)
        fits.append(FoldFit(inside, fitted.decision))
    return fits


def decide_out_of_fold(fits: Sequence[FoldFit], raw: np.ndarray, label_set: LabelSet) -> Decided:
    """Decide each photo of `raw` (n, labels) by the decision that its own fold had no part in."""
    probs, decisions = np.empty_like(raw), np.empty(raw.shape, np.int8)
    for inside, decision in fits:
        probs[inside], decisions[inside] = decision.apply(raw[inside], label_set)
    return Decided(probs, decisions)


def cross_fit_decision(
    config: DecideConfig,
    targets: np.ndarray,
    raw: np.ndarray,
    folds: np.ndarray,
    label_set: LabelSet,
    *,
    here: np.ndarray | None = None,
) -> Decided:
    """Out-of-fold decisions: those of each fold by a decision fitted on the other folds.

    Returns:
        probs and decisions of all n photos.
    """
    fits = fit_each_fold(config, targets, raw, folds, label_set, here=here)
    return decide_out_of_fold(fits, raw, label_set)
