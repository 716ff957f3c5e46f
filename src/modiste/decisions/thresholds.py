"""Thresholds: from probabilities to decisions. The only place where a probability meets its threshold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np

from modiste.errors import UsageError
from modiste.labels import LabelSet


@dataclass(frozen=True, eq=False)
class Thresholds:
    """One threshold a label, and one an exclusive group that may abstain.

    Attributes:
        values: (labels,) float32 in [0, 1], in the order of the label set; 1 never predicts the label.
        source: where they come from, in words for a person ("fixed 0.5").
        top: of the free labels, predict this many, the most probable ones; None: those above their thresholds.
        never_empty: where no label at all is above its threshold, predict the most probable one.
        groups: name of an exclusive group -> its threshold, a float32 in [0, 1]: its most probable label is predicted
            where it is above it, else none is. Of a group that isn't named here the most probable one always is.

    Raises:
        UsageError: `values` has another shape, a value is outside [0, 1], or `top` is below 1.
    """

    values: np.ndarray
    source: str
    top: int | None = None
    never_empty: bool = False
    groups: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        values = np.array(self.values, dtype=np.float32)
        if values.ndim != 1:
            raise UsageError.expected("thresholds of shape (labels,)", f"shape {values.shape}", "one number a label")
        groups = {name: float(np.float32(value)) for name, value in self.groups.items()}
        every = np.append(values, [*groups.values()])
        outside = every[~((every >= 0) & (every <= 1))]  # this form catches nan too
        if outside.size:
            raise UsageError.expected("thresholds in [0, 1]", f"{outside[0]}", "a probability, such as 0.5")
        if self.top is not None and self.top < 1:
            raise UsageError.expected("the number of labels to predict to be at least 1", self.top, "top:3")
        values.flags.writeable = False
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "groups", groups)

    @classmethod
    def fixed(cls, value: float, labels: int) -> Self:
        """The same threshold for each of `labels` labels."""
        return cls(np.full(labels, value), f"fixed {value}")

    def with_groups(self, groups: Mapping[str, float], label_set: LabelSet) -> Self:
        """The same with thresholds of exclusive groups; they stand as the values of their labels, too.

        Raises:
            UsageError: one is no exclusive group, or outside [0, 1].
        """
        values = self.values.copy()
        for name, threshold in groups.items():
            if name not in label_set.exclusive:
                known = ", ".join(label_set.exclusive) or "none, as all groups are free"
                raise UsageError.expected(f"exclusive groups of '{label_set.name}'", f"'{name}'", known)
            values[label_set.exclusive[name]] = threshold
        return replace(self, values=values, groups=groups)

    def deciding(self, label_set: LabelSet) -> np.ndarray:
        """The thresholds that decide something, (labels,) float32; nan where the most probable label is predicted."""
        values = self.values.copy()
        if self.top is not None:
            values[label_set.free_labels] = np.nan
        for name, where in label_set.exclusive.items():
            if not self.groups.get(name):
                values[where] = np.nan
        return values

    def apply(self, probs: np.ndarray, label_set: LabelSet) -> np.ndarray:
        """Decisions (n, labels) int8 from probs (n, labels).

        A label of a free group is 1 where its probability is strictly greater than its threshold
        (paper: 0.5). Of an exclusive group the most probable label is 1, and no other; where the group has a
        threshold, only if its probability is strictly greater, and else none: the group is unsure.

        Raises:
            UsageError: `probs` has another number of labels.
        """
        if probs.ndim != 2 or probs.shape[1] != len(self.values):
            raise UsageError.expected(
                f"probs of shape (n, {len(self.values)})",
                f"shape {probs.shape}",
                "the thresholds of the same label set",
            )
        decisions = (probs > self.values).astype(np.int8)
        if self.top is not None and label_set.free_labels.size:
            decisions[:, label_set.free_labels] = _best(probs[:, label_set.free_labels], self.top)
        for name, where in label_set.exclusive.items():
            decisions[:, where] = _best(probs[:, where], 1)
            if name in self.groups:
                decisions[:, where] &= probs[:, where] > np.float32(self.groups[name])
        if self.never_empty:
            empty = ~decisions.any(axis=1)
            decisions[empty] = _best(probs[empty], 1)
        return decisions


def _best(probs: np.ndarray, count: int) -> np.ndarray:
    """1 at the `count` most probable labels of each photo, of equal ones the first in order, (n, labels) int8."""
    order = np.argsort(-probs, axis=1, kind="stable")[:, :count]
    best = np.zeros(probs.shape, dtype=np.int8)
    np.put_along_axis(best, order, 1, axis=1)
    return best
