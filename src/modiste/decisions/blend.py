"""Blending: the probabilities of several members become one set of probabilities.

Three ways, from the simplest on: the mean; one weight a member (a mixture); and a stack (Wolpert 1992,
"Stacked Generalization"), which also sees the members' probabilities of all other labels, and so learns that a
dress is seldom sports. What is fitted is judged on photos it wasn't fitted on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np

from modiste.decisions.stacking import logits_of
from modiste.errors import RunError, UsageError
from modiste.labels import LabelSet
from modiste.prediction import check_range

Method = Literal["mean", "weights", "stack"]


@dataclass(frozen=True, eq=False)
class Blend:
    """How the probabilities of members become one.

    Attributes:
        method: "mean", "weights", or "stack".
        weights: (members,) float64, none negative, sum 1; equal ones in a mean and a stack.
        coefficients: (labels, members * labels) float64 of a stack, else None; member by member, and
            inside a member label by label: the weight of the logits for each label.
        intercepts: (labels,) float64 of a stack, else None.

    Raises:
        UsageError: another method, arrays of another shape, nan, or weights that are no shares of 1.
    """

    method: Method
    weights: np.ndarray
    coefficients: np.ndarray | None = None
    intercepts: np.ndarray | None = None

    def __post_init__(self) -> None:
        for name in ("weights", "coefficients", "intercepts"):
            if getattr(self, name) is not None:
                values = np.array(getattr(self, name), dtype=np.float64)
                values.flags.writeable = False
                object.__setattr__(self, name, values)
        shares = self.weights.ndim == 1 and (self.weights >= 0).all() and abs(self.weights.sum() - 1) < 1e-6
        if not (shares and self._whole()):
            arrays = (self.weights, self.coefficients, self.intercepts)
            shapes = [None if values is None else values.shape for values in arrays]
            want = "a mean, weights that sum to 1, or a stack with finite coefficients and intercepts for each label"
            fix = "Blend.mean, fit_weights or fit_stack"
            raise UsageError.expected(want, f"'{self.method}' with arrays of shape {shapes}", fix)

    def _whole(self) -> bool:
        if self.coefficients is None or self.intercepts is None:
            return self.method in ("mean", "weights") and self.coefficients is self.intercepts
        shape = self.intercepts.size, len(self.weights) * self.intercepts.size
        return (self.method, self.intercepts.ndim, self.coefficients.shape) == ("stack", 1, shape) and bool(
            np.isfinite(self.coefficients).all() and np.isfinite(self.intercepts).all()
        )

    @classmethod
    def mean(cls, members: int) -> Self:
        """The mean of the members' probabilities."""
        return cls("mean", np.full(members, 1 / members))

    def apply(self, probs: np.ndarray) -> np.ndarray:
        """Blend probs (members, n, labels) in [0, 1] into probs (n, labels) float32 in [0, 1].

        Raises:
            UsageError: another number of members or labels, or a probability outside [0, 1].
        """
        check_members(probs)
        labels = probs.shape[2] if self.intercepts is None else len(self.intercepts)
        if (len(probs), probs.shape[2]) != (len(self.weights), labels):
            want, fix = f"probs of shape ({len(self.weights)}, n, {labels})", "the members and labels of the fit"
            raise UsageError.expected(want, probs.shape, fix)
        if self.coefficients is None:
            blended = np.tensordot(self.weights, probs.astype(np.float64), axes=1)
        else:
            from scipy.special import expit

            blended = expit(logits_of(probs) @ self.coefficients.T + self.intercepts)
        return np.clip(blended, 0, 1).astype(np.float32)

    def to_dict(self, label_set: LabelSet) -> dict[str, Any]:
        """Plain data for JSON, with the ids that name the label axes; `from_dict` gives the same blend back."""
        data: dict[str, Any] = {"method": self.method, "labels": list(label_set.ids), "weights": self.weights.tolist()}
        if self.coefficients is not None and self.intercepts is not None:
            data |= {"coefficients": self.coefficients.tolist(), "intercepts": self.intercepts.tolist()}
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], label_set: LabelSet, members: int) -> Self:
        """Read what `to_dict` gave.

        Raises:
            RunError: the layout is another one, or it blends other labels or another number of members.
        """
        again = "the blend that was written with these members and labels"
        try:
            blend = cls(data["method"], data["weights"], data.get("coefficients"), data.get("intercepts"))
            ids = tuple(data["labels"])
        except (KeyError, TypeError, ValueError, AttributeError, UsageError) as error:
            raise RunError.expected("a blend with 'method', 'labels' and 'weights'", repr(error), again) from error
        size = len(label_set) if blend.intercepts is None else len(blend.intercepts)
        if (ids, len(blend.weights), size) != (label_set.ids, members, len(label_set)):
            want = f"a blend of {members} members for the {len(label_set)} labels of '{label_set.name}'"
            got = f"{len(blend.weights)} members and the labels {', '.join(map(str, ids[:5]))}, ..."
            raise RunError.expected(want, got, again)
        return blend


def check_members(probs: np.ndarray, targets: np.ndarray | None = None, folds: np.ndarray | None = None) -> None:
    """Refuse arrays that are not probs (members, n, labels), targets (n, labels) and folds (n,) of the same photos.

    Raises:
        UsageError: they are not.
    """
    if probs.ndim != 3 or len(probs) < 2:
        raise UsageError.expected("probs of shape (2 or more members, n, labels)", probs.shape, "naming more members")
    if targets is not None and targets.shape != probs.shape[1:]:
        raise UsageError.expected(
            f"targets of shape {probs.shape[1:]}", targets.shape, "members that saw the same photos and labels"
        )
    check_range(probs)
    if folds is not None and folds.shape != (probs.shape[1],):
        raise UsageError.expected(f"folds of shape ({probs.shape[1]},)", folds.shape, "a fold number for each photo")
    if folds is not None and len(np.unique(folds)) < 2:
        raise UsageError.expected("at least 2 folds", len(np.unique(folds)), "modiste.data.splits.stratified_folds")
