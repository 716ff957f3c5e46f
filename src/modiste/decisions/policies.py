"""Policies: what a threshold is to reach, and the thresholds that reach it on photos with known labels.

    fixed:0.5       predicted above 0.5 (the paper)
    fbeta:2         the best F2 of each label (the challenge's score is their mean); any beta
    precision:0.9   as many as possible while at least nine in ten are right
    recall:0.9      as few as possible while at least nine in ten are found
    top:3           the three most probable labels, whatever their probability

"+never-empty" behind any of them predicts the most probable label where no label is above its threshold.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from modiste.decisions.thresholds import Thresholds
from modiste.errors import UsageError

_NEVER_EMPTY = "+never-empty"


@dataclass(frozen=True)
class Policy:
    """What thresholds are to reach.

    Attributes:
        kind: fixed, fbeta, precision, recall or top.
        value: the threshold, beta, the precision, the recall or the number of labels.
        never_empty: predict the most probable label where no label is above its threshold.
    """

    kind: str
    value: float
    never_empty: bool = False

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read "fbeta:2" or "fbeta:2+never-empty".

        Raises:
            UsageError: there is no such policy, or its number can't be.
        """
        base = text.removesuffix(_NEVER_EMPTY)
        kind, _, number = base.partition(":")
        try:
            value = float(number)
        except ValueError:
            value = np.nan
        possible = {
            "fixed": 0 <= value <= 1,
            "fbeta": 0 < value <= 100,
            "precision": 0 < value <= 1,
            "recall": 0 < value <= 1,
            "top": value >= 1 and value == np.floor(value) and np.isfinite(value),
        }
        if not possible.get(kind, False):
            want = "a policy: fixed:0.5 (0 to 1), fbeta:2 (to 100), precision:0.9, recall:0.9 (to 1) or top:3"
            raise UsageError.expected(want, f"'{text}'", "one of them, with '+never-empty' behind it if you like")
        return cls(kind, value, text.endswith(_NEVER_EMPTY))

    def __str__(self) -> str:
        return f"{self.kind}:{self.number}{_NEVER_EMPTY if self.never_empty else ''}"

    @property
    def number(self) -> str:
        """The value as text that reads back as the very same number: "2", "0.9", "0.9999999"."""
        return repr(float(self.value)).removesuffix(".0")

    @property
    def tuned(self) -> bool:
        """Whether the thresholds depend on photos."""
        return self.kind not in {"fixed", "top"}

    @property
    def top(self) -> int | None:
        """How many of the most probable labels are predicted; None where thresholds decide."""
        return int(self.value) if self.kind == "top" else None

    def untuned(self, labels: int) -> Thresholds:
        """Thresholds of a policy that needs no photos.

        Raises:
            UsageError: it needs some.
        """
        if self.tuned:
            raise UsageError.expected(
                "thresholds that need no photos, fixed:0.5 or top:3", f"'{self}'", f"modiste tune RUN --policy {self}"
            )
        words = f"fixed {self.number}" if self.kind == "fixed" else f"the {self.number} most probable"
        value = self.value if self.kind == "fixed" else 0.0
        return Thresholds(np.full(labels, value), words, self.top, self.never_empty)
