"""Dealing photos into folds so that every fold has the same share of every label, groups kept whole.

Iterative stratification (Sechidis, Tsoumakas, Vlahavas 2011, "On the Stratification of Multi-Label
Data") deals photos one at a time, the rarest label first, each to the fold that lacks it most. Here
photos (or groups) with the same labels are counted together: each fold gets its whole share of them at
once, and only the few that are left over are dealt one at a time.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def stratified_folds(
    targets: np.ndarray, groups: np.ndarray | None, fractions: Sequence[float], seed: int
) -> np.ndarray:
    """Deal photos into folds of given sizes with equal label frequencies.

    Args:
        targets: (n, labels) int8: 1, 0, UNKNOWN; unknown counts neither as a positive nor as a negative.
        groups: (n,) ids; photos of one id go into one fold. None: every photo for itself.
        fractions: share of the photos for each fold; their ratio counts, not their sum.
        seed: the same seed gives the same folds.

    Returns:
        (n,) int64 fold numbers from 0.
    """
    share = np.asarray(fractions, float) / np.sum(fractions)
    generator = np.random.default_rng(seed)
    counts, group_of_photo = _group_counts(targets, groups)
    # One random 64-bit sum a row tells the rows apart; np.unique(axis=0) takes ten times as long.
    key = counts @ generator.integers(2**63, size=counts.shape[1])
    _, first, kind_of_group, many = np.unique(key, return_index=True, return_inverse=True, return_counts=True)
    kinds = counts[first].astype(float)
    dealt = _deal(kinds, many, share, generator)
    shuffled = np.lexsort((generator.random(len(counts)), kind_of_group))
    fold_of_group = np.empty(len(counts), np.int64)
    fold_of_group[shuffled] = np.repeat(np.tile(np.arange(len(share)), len(kinds)), dealt.ravel())
    folds: np.ndarray = fold_of_group[group_of_photo]
    return folds


def _group_counts(targets: np.ndarray, groups: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """What each group holds, (groups, 1 + features) int: photos, positives, negatives; and the group of each photo.

    Negatives follow from photos and positives where every photo is known, and are left out there.
    """
    partly = (targets < 0).any(axis=0)
    features = np.column_stack([np.ones(len(targets), bool), targets == 1, targets[:, partly] == 0])
    if groups is None:
        return features.astype(np.int8), np.arange(len(targets))
    _, group_of_photo = np.unique(groups, return_inverse=True)
    columns = [np.bincount(group_of_photo, weights=feature) for feature in features.T]
    return np.column_stack(columns).astype(np.int64), group_of_photo


def _deal(kinds: np.ndarray, many: np.ndarray, share: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """How many groups of each kind go to each fold, (kinds, folds) int; `many[i]` groups are of kind i."""
    due = np.outer(many, share)
    dealt = np.floor(due + 1e-9).astype(np.int64)
    owed = due - dealt  # (kinds, folds), in [0, 1)
    # A squared deviation weighs as much as its label is rare and its fold small: Pearson's chi-squared.
    weight = kinds / np.maximum(many @ kinds, 1)
    need = 1e-6 * generator.random((len(share), kinds.shape[1]))  # the seed decides between equal folds
    for kind in np.argsort(-weight.sum(axis=1), kind="stable"):  # the largest and rarest first
        need += np.outer(owed[kind], kinds[kind])
        for _ in range(many[kind] - dealt[kind].sum()):
            fold = np.argmax((2 * need - kinds[kind]) @ weight[kind] / share)
            dealt[kind, fold] += 1
            need[fold] -= kinds[kind]
    return dealt
