"""The most probable value of an exclusive group: how probable it is, and whether it is the right one."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple, Self

import numpy as np

from modiste.labels import UNKNOWN
from modiste.metrics.sweep import Sweep, merged, sweep


class GroupTops(NamedTuple):
    """The most probable value of one exclusive group for n photos.

    Attributes:
        probs: (n,) its probability.
        right: (n,) int8: 1 where it is the photo's value; 0 where another one is, or none is; -1 where that is not
            known: some values are unknown and none is known to be right, or several are.
        values: (n,) int64, position of the photo's value in the group; -1 where it isn't exactly one.
    """

    probs: np.ndarray
    right: np.ndarray
    values: np.ndarray

    @classmethod
    def of(cls, targets: np.ndarray, probs: np.ndarray) -> Self:
        """From the columns of one group, targets 1, 0 or -1 = unknown and probs, (n, values) each."""
        one = (targets == 1).sum(axis=1) == 1
        values = np.where(one, (targets == 1).argmax(axis=1), -1)
        right = np.where(one, values == probs.argmax(axis=1), np.where((targets == 0).all(axis=1), 0, UNKNOWN))
        return cls(probs.max(axis=1), right.astype(np.int8), values)

    def sweep(self, weights: np.ndarray | None = None) -> Sweep:
        """What is said, and how much of it rightly, as the group's threshold falls.

        Photos with another value than the most probable one count as missed.

        Args:
            weights: (values,) what a photo of each value counts; scaled so that all together keep their count.
        """
        if weights is None:
            return _with_missed(self.right, self.probs, self.values >= 0)
        mean = weights[self.values[self.values >= 0]].mean() if (self.values >= 0).any() else 1.0
        each = [1.0, *(weights / max(float(mean), 1e-12)).tolist()]  # photos without a value count as they are
        sweeps = []
        for value, weight in enumerate(each, -1):
            those = self.values == value
            one = _with_missed(self.right[those], self.probs[those], self.values[those] >= 0)
            sweeps.append(one.weighted(weight, weight))
        return merged(sweeps)


def _with_missed(right: np.ndarray, probs: np.ndarray, has_value: np.ndarray) -> Sweep:
    one = sweep(right, np.ascontiguousarray(probs, np.float32))
    return replace(one, missed=int(has_value.sum()) - one.positives)
