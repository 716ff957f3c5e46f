"""Products: what several photos of one product are together, their probabilities and what is known of them.

mean            the mean of the photos' logits, label by label
most-certain    of a label, the probability that is farthest from one half; of an exclusive group, all
                probabilities of the photo whose highest one there is the highest
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Self

import numpy as np

from modiste.decisions.stacking import NEAREST
from modiste.errors import UsageError
from modiste.labels import LabelSet

Pooling = Literal["mean", "most-certain"]
POOLINGS: tuple[Pooling, ...] = ("mean", "most-certain")  # from the simplest on


@dataclass(frozen=True, eq=False)
class Products:
    """Which of n photos show one product, and what is known of each product.

    Attributes:
        numbers: (n,) int64, the product of each photo, from 0 to products - 1.
        sizes: (products,) int64, how many photos each has.
        targets: (products, labels) int8: 1 where a photo has the label, 0 where it is known of one and none has it,
            else -1 = unknown.
        contradicting: (products,) bool, whose photos disagree: 1 and 0 of a label, or two values of an exclusive group.
    """

    numbers: np.ndarray
    sizes: np.ndarray
    targets: np.ndarray
    contradicting: np.ndarray

    @classmethod
    def of(cls, groups: np.ndarray, targets: np.ndarray, label_set: LabelSet) -> Self:
        """Products of n photos.

        Args:
            groups: (n,) ids, equal where photos show one product.
            targets: (n, labels) int8, 1, 0 or -1 = unknown.
            label_set: names the label axis.
        """
        _, numbers, sizes = np.unique(groups, return_inverse=True, return_counts=True)
        runs = _Runs(numbers)
        yes, no = runs.reduce(np.logical_or, targets == 1), runs.reduce(np.logical_or, targets == 0)
        contradicting = (yes & no).any(axis=1)
        for where in label_set.exclusive.values():
            contradicting |= yes[:, where].sum(axis=1) > 1
        return cls(numbers, sizes, runs.reduce(np.maximum, targets), contradicting)  # -1 < 0 < 1

    def __len__(self) -> int:
        return len(self.sizes)

    @property
    def several(self) -> int:
        """How many products have several photos."""
        return int((self.sizes > 1).sum())

    @property
    def plausible(self) -> bool:
        """Whether they are products at all: no more than half of those with several photos contradict themselves.

        Groups of a person, or of a day, hold different garments and nearly all contradict themselves.
        """
        return 2 * int(self.contradicting.sum()) <= self.several

    def part(self, photos: np.ndarray) -> Self:
        """The products that the photos of a (n,) bool mask show; none of them may have photos outside."""
        kept, numbers = np.unique(self.numbers[photos], return_inverse=True)
        return type(self)(numbers, self.sizes[kept], self.targets[kept], self.contradicting[kept])


def pool(probs: np.ndarray, products: np.ndarray, label_set: LabelSet, pooling: Pooling = "mean") -> np.ndarray:
    """The probabilities of products from those of their photos; a single photo keeps its own.

    Equally certain probabilities of a label give the higher one, equally certain photos of a group the first.

    Args:
        probs: (n, labels) in [0, 1], calibrated.
        products: (n,) int, the product of each photo: every number from 0 to products - 1.
        label_set: names the label axis.
        pooling: "mean" or "most-certain".

    Returns:
        (products, labels) float32.

    Raises:
        UsageError: shapes differ, or there is no such pooling.
    """
    if probs.ndim != 2 or probs.shape != (len(products), len(label_set)):
        want = f"probs of shape ({len(products)}, {len(label_set)})"
        raise UsageError.expected(want, f"shape {probs.shape}", "a row a photo and a column a label")
    if pooling not in POOLINGS:
        raise UsageError.expected(f"pooling to be one of {', '.join(POOLINGS)}", f"'{pooling}'", "mean")
    if not len(products):
        return np.empty((0, len(label_set)), np.float32)
    runs, exact = _Runs(products), probs.astype(np.float64)
    if pooling == "mean":
        return np.where(runs.sizes[:, None] > 1, _mean_of_logits(exact, runs), probs[runs.first]).astype(np.float32)
    high, low = runs.reduce(np.maximum, exact), runs.reduce(np.minimum, exact)
    pooled = np.where(high - 0.5 >= 0.5 - low, high, low)
    for where in label_set.exclusive.values():
        surest = np.lexsort((-exact[:, where].max(axis=1), products))[runs.starts]
        pooled[:, where] = exact[np.ix_(surest, where)]
    return pooled.astype(np.float32)


class _Runs:
    """Rows in the order of their numbers, those of one number as one run."""

    def __init__(self, numbers: np.ndarray) -> None:
        self._order = np.argsort(numbers, kind="stable")
        self.sizes = np.bincount(numbers)
        self.starts = np.cumsum(self.sizes) - self.sizes
        self.first = self._order[self.starts]

    def reduce(self, operation: np.ufunc, rows: np.ndarray) -> np.ndarray:
        """(numbers, ...): each run of `rows` (n, ...) as one row."""
        reduced: np.ndarray = operation.reduceat(rows[self._order], self.starts, axis=0)
        return reduced


def _mean_of_logits(probs: np.ndarray, runs: _Runs) -> np.ndarray:
    clipped = np.clip(probs, NEAREST, 1 - NEAREST)
    mean = runs.reduce(np.add, np.log(clipped / (1 - clipped))) / runs.sizes[:, None]
    return np.asarray(1 / (1 + np.exp(-mean)))
