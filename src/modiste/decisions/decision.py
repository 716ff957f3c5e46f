"""Decision: from a network's probabilities to the labels of a photo, as one value and one file.

calibration -> correction for label shift -> thresholds. What was tuned together travels together, and
whoever tags, evaluates or exports applies the same value.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

from modiste.decisions.calibration import Calibration
from modiste.decisions.label_shift import adjust
from modiste.decisions.policies import Policy
from modiste.decisions.thresholds import Thresholds
from modiste.errors import ModisteError, RunError, UsageError
from modiste.files import StrPath, write_text
from modiste.labels import LabelSet
from modiste.prediction import Decided

DECISION_FILE = "decision.json"


class LabelShift(NamedTuple):
    """How often each label holds, (labels,) each: among the photos tuned on, and where the model is used."""

    tuned: np.ndarray
    here: np.ndarray


@dataclass(frozen=True, eq=False, repr=False)
class Decision:
    """How probabilities become decisions.

    Attributes:
        policy: what the thresholds are to reach.
        thresholds: on probabilities that are calibrated and corrected.
        calibration: of the network's probabilities.
        label_shift: corrects calibrated probabilities for a catalogue with other label frequencies; None does not.
        provenance: what it was tuned on, when, and what to expect of it; plain data, empty where nothing was tuned.
    """

    policy: Policy
    thresholds: Thresholds
    calibration: Calibration
    label_shift: LabelShift | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        known = self.provenance
        facts = [f"tuned on {known['count']:,} photos of {known['split']}"] if {"count", "split"} <= set(known) else []
        facts += ["calibrated"] if self.calibrated else []
        return f"Decision({', '.join([repr(str(self.policy)), f'{len(self.thresholds.values)} labels', *facts])})"

    @classmethod
    def untuned(cls, policy: Policy | str, label_set: LabelSet) -> Self:
        """Thresholds on the network's own probabilities, as the paper's rule "fixed:0.5".

        Raises:
            UsageError: the policy has to be tuned on photos.
        """
        if isinstance(policy, str):
            if policy.partition(":")[0] not in {"fixed", "top"}:
                want, fix = (
                    "thresholds that need no photos",
                    "fixed:0.5, or top:3, with '+never-empty' behind it if you like",
                )
                raise UsageError.expected(want, f"'{policy}'", f"{fix}; others are for modiste tune --policy")
            policy = Policy.parse(policy)
        return cls(policy, policy.untuned(len(label_set)), Calibration.none(len(label_set)))

    def apply(self, raw: np.ndarray, label_set: LabelSet) -> Decided:
        """Decide photos whose raw probabilities are `raw`, (n, labels) float32.

        Raises:
            UsageError: `raw` has another number of labels.
        """
        probs = raw
        if self.calibrated:
            probs = self.calibration.apply(raw)
        if self.label_shift is not None:
            probs = adjust(probs, self.label_shift.tuned, self.label_shift.here, label_set)
        return Decided(probs, self.thresholds.apply(probs, label_set))

    @property
    def thresholds_key(self) -> str:
        """Tells whether the thresholds are still those that were tuned, or were edited by hand."""
        return hashlib.sha256(self.thresholds.values.tobytes()).hexdigest()[:16]

    @property
    def key(self) -> str:
        """Changes where the same probabilities may be decided otherwise; where it was tuned doesn't matter."""
        calibration = [[one.method, one.slope, *one.x, *one.y] for one in self.calibration.labels]
        shift = self.label_shift and [shares.tolist() for shares in self.label_shift]
        rule = [str(self.policy), self.thresholds.values.tolist(), calibration, shift]
        return hashlib.sha256(json.dumps(rule).encode()).hexdigest()

    @property
    def calibrated(self) -> bool:
        """Whether calibration changes anything."""
        return any(label.method != "none" for label in self.calibration.labels)

    def to_dict(self, label_set: LabelSet) -> dict[str, Any]:
        """Plain data for JSON, the layout of `decision.json`."""
        # item() of a float32 would show its binary tail (0.30000001192092896); str gives the shortest that reads back
        values = [float(str(value)) for value in self.thresholds.values]
        return {
            "policy": str(self.policy),
            "thresholds": dict(zip(label_set.ids, values, strict=True)),
            "calibration": self.calibration.to_dict(label_set) if self.calibrated else None,
            "mix": self.label_shift  # the key's name is part of the format, in exported files too
            and {
                name: dict(zip(label_set.ids, shares.tolist(), strict=True))
                for name, shares in zip(LabelShift._fields, self.label_shift, strict=True)
            },
            "provenance": dict(self.provenance),
        }

    def write(self, path: StrPath, label_set: LabelSet) -> None:
        """Write as JSON, atomically."""
        write_text(path, json.dumps(self.to_dict(label_set), ensure_ascii=False, indent=1) + "\n")

    @classmethod
    def of(cls, folder: Path, label_set: LabelSet) -> Self:
        """That of a run or blend folder: its file, or the paper's rule where it was removed.

        Raises:
            RunError: as `read`.
        """
        path = folder / DECISION_FILE
        return cls.read(path, label_set) if path.exists() else cls.untuned("fixed:0.5", label_set)

    @classmethod
    def read(cls, path: StrPath, label_set: LabelSet) -> Self:
        """Read what `write` wrote; the file's order doesn't matter, its ids must be those of `label_set`.

        Raises:
            RunError: the file is missing, is no decision, or is about other labels.
        """
        path = Path(path)
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise RunError.expected(
                f"policy and thresholds as JSON in {path}", f"'{error}'", _again(path.name)
            ) from error
        return cls.from_dict(content, label_set, str(path))

    @classmethod
    def from_dict(cls, content: Mapping[str, Any], label_set: LabelSet, source: str) -> Self:
        """Read what `to_dict` made.

        Args:
            content: the layout of `decision.json`.
            label_set: those that it is about.
            source: what errors call it.

        Raises:
            RunError: it is no decision, or is about other labels.
        """
        name = Path(source).name
        try:
            policy = Policy.parse(str(content["policy"]))
            differing = sorted(set(content["thresholds"]) ^ set(label_set.ids))
            if differing:
                raise RunError.expected(
                    f"{source} to have the labels of '{label_set.name}'",
                    f"{', '.join(differing[:3])} in only one of them",
                    _again(name),
                )
            values = _vector(content["thresholds"], label_set)
            thresholds = Thresholds(values, f"{policy}, {name}", policy.top, policy.never_empty)
            maps, shift = content.get("calibration"), content.get("mix")
            calibration = Calibration.from_dict(maps, label_set) if maps else Calibration.none(len(label_set))
            return cls(
                policy,
                thresholds,
                calibration,
                LabelShift(*(_vector(shift[name], label_set) for name in LabelShift._fields)) if shift else None,
                dict(content.get("provenance") or {}),
            )
        except RunError:
            raise
        except ModisteError as error:
            raise RunError(f"{source}: {error}") from error
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise RunError.expected(f"policy and thresholds as JSON in {source}", f"'{error}'", _again(name)) from error


def _again(name: str) -> str:
    return f"the {name} that was written with this model, or removing it and modiste tune"


def _vector(values: Mapping[str, float], label_set: LabelSet) -> np.ndarray:
    return np.array([float(values[label]) for label in label_set.ids])
