"""How far label frequencies differ between the parts of a split, beside random splits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from modiste.data.groups import group_numbers
from modiste.data.manifest import Manifest
from modiste.labels import UNKNOWN

_DRAWS = 20  # random splits that the mean is over


@dataclass(frozen=True)
class SplitBalance:
    """How much the frequency of a label differs between the parts of a split.

    Attributes:
        sizes: photos in each part.
        largest: over the labels, of the difference between the parts with the largest and the smallest frequency.
        mean: over the labels, likewise.
        random_largest, random_mean: what dealing whole groups at random gives, mean over 20 draws.
    """

    sizes: dict[str, int]
    largest: float
    mean: float
    random_largest: float
    random_mean: float


def measure_balance(manifest: Manifest, parts: np.ndarray, seed: int) -> SplitBalance:
    """Measure a split of n photos.

    Args:
        manifest: the photos; its groups are kept whole in random splits too.
        parts: (n,) str; photos of part "" take no part.
        seed: of the random splits.
    """
    placed = parts != ""
    names, part = np.unique(parts[placed], return_inverse=True)
    targets, groups = manifest.targets[placed], group_numbers(manifest)[placed]
    sizes = np.bincount(part, minlength=len(names))
    generator = np.random.default_rng(seed)
    drawn = [label_spread(targets, _random(groups, sizes, generator)) for _ in range(_DRAWS)]
    largest, mean = label_spread(targets, part)
    return SplitBalance(
        dict(zip(names.tolist(), sizes.tolist(), strict=True)),
        largest,
        mean,
        *np.mean(drawn, axis=0).tolist(),
    )


def label_spread(targets: np.ndarray, part: np.ndarray) -> tuple[float, float]:
    """Difference between the largest and the smallest frequency of a label over the parts: largest and mean.

    Args:
        targets: (n, labels) int8: 1, 0, UNKNOWN, which is left out.
        part: (n,) int numbers of the parts.

    Returns:
        Largest and mean over the labels; 0 where no label is known in two parts.
    """
    spreads = []
    for column in targets.T:
        known = column != UNKNOWN
        counts = np.bincount(part[known])
        shares = np.bincount(part[known], weights=column[known])[counts > 0] / counts[counts > 0]
        if len(shares) > 1:
            spreads.append(float(np.ptp(shares)))
    return (max(spreads), float(np.mean(spreads))) if spreads else (0.0, 0.0)


def _random(groups: np.ndarray, sizes: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """(n,) parts of about these sizes, from whole groups in random order."""
    _, group, many = np.unique(groups, return_inverse=True, return_counts=True)
    order = generator.permutation(len(many))
    middles = np.empty(len(many))
    middles[order] = np.cumsum(many[order]) - many[order] / 2
    part: np.ndarray = np.searchsorted(np.cumsum(sizes)[:-1], middles, side="right")[group]
    return part
