"""Thresholds: from probabilities to decisions. The only place where a probability meets its threshold."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from modiste.errors import RunError, UsageError
from modiste.labels import LabelSet
from modiste.storage import write_text


@dataclass(frozen=True, eq=False)
class Thresholds:
    """One threshold a label.

    Attributes:
        values: (labels,) float32 in [0, 1], in the order of the label set; 1 never says the label.
        source: where they come from, in words for a person ("fixed 0.5").

    Raises:
        UsageError: `values` has another shape or a value outside [0, 1].
    """

    values: np.ndarray
    source: str

    def __post_init__(self) -> None:
        values = np.array(self.values, dtype=np.float32)
        if values.ndim != 1:
            raise UsageError.expected("thresholds of shape (labels,)", f"shape {values.shape}", "one number a label")
        outside = values[~((values >= 0) & (values <= 1))]  # this form catches nan too
        if outside.size:
            raise UsageError.expected("thresholds in [0, 1]", f"{outside[0]}", "a probability, such as 0.5")
        values.flags.writeable = False
        object.__setattr__(self, "values", values)

    @classmethod
    def fixed(cls, value: float, labels: int) -> Self:
        """The same threshold for each of `labels` labels."""
        return cls(np.full(labels, value), f"fixed {value:g}")

    def apply(self, probs: np.ndarray, labels: LabelSet) -> np.ndarray:
        """Decisions (n, labels) int8 from probs (n, labels).

        A label of a free group is 1 where its probability is strictly greater than its threshold
        (paper: 0.5). Of an exclusive group exactly the most probable label is 1, whatever the thresholds.

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
        for where in labels.exclusive.values():
            decisions[:, where] = np.arange(len(where)) == probs[:, where].argmax(axis=1)[:, None]
        return decisions

    def write(self, path: Path | str, labels: LabelSet) -> None:
        """Write as JSON, {label id: threshold}, atomically.

        Raises:
            RunError: there are more or fewer thresholds than labels.
        """
        if len(labels) != len(self.values):
            raise RunError.expected(
                f"{len(labels)} thresholds for '{labels.name}'", len(self.values), "thresholds of the same label set"
            )
        # item() of a float32 would show its binary tail (0.30000001192092896); str gives the shortest that reads back
        content = {label: float(str(value)) for label, value in zip(labels.ids, self.values, strict=True)}
        write_text(path, json.dumps(content, ensure_ascii=False, indent=1) + "\n")

    @classmethod
    def read(cls, path: Path | str, labels: LabelSet) -> Self:
        """Read what `write` wrote; the file's order doesn't matter, its ids must be those of `labels`.

        Raises:
            RunError: the file is missing, is not {label id: threshold}, or is about other labels.
        """
        path = Path(path)
        again = "the thresholds.json that was written with this label set"
        try:
            content = dict(json.loads(path.read_text(encoding="utf-8")))
            differing = sorted(set(content) ^ set(labels.ids))
            values = [] if differing else [float(content[label]) for label in labels.ids]
        except (OSError, ValueError, TypeError) as error:
            raise RunError.expected(f"thresholds as JSON, {{label id: threshold}}, in {path}", error, again) from error
        if differing:
            raise RunError.expected(
                f"{path} to have the labels of '{labels.name}'",
                f"{', '.join(differing[:3])} in only one of them",
                again,
            )
        try:
            return cls(np.array(values), f"read from {path.name}")
        except UsageError as error:
            raise RunError(f"{path}: {error}") from error
