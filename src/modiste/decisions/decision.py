"""Decision: from a network's probabilities to the labels of a photo, as one value and one file.

calibration -> correction for label shift -> thresholds; of several photos of one product, the pooled probabilities
meet thresholds of their own. What was tuned together travels together, and whoever tags, evaluates or exports applies
the same value.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

from modiste.decisions.calibration import Calibration
from modiste.decisions.label_shift import adjust
from modiste.decisions.policies import Policy
from modiste.decisions.pooling import POOLINGS, Pooling, pool
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


class ProductRule(NamedTuple):
    """How several photos of one product are decided together: pooled, then by thresholds of products."""

    pooling: Pooling
    thresholds: Thresholds


@dataclass(frozen=True, eq=False, repr=False)
class Decision:
    """How probabilities become decisions.

    Attributes:
        policy: what the thresholds are to reach.
        thresholds: on probabilities that are calibrated and corrected.
        calibration: of the network's probabilities.
        label_shift: corrects calibrated probabilities for a catalogue with other label frequencies; None does not.
        provenance: what it was tuned on, when, and what to expect of it; plain data, empty where nothing was tuned.
        products: how products are decided; None takes the mean of logits and the thresholds of photos.
    """

    policy: Policy
    thresholds: Thresholds
    calibration: Calibration
    label_shift: LabelShift | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)
    products: ProductRule | None = None

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
            probs = self.calibration.apply(raw, label_set)
        if self.label_shift is not None:
            probs = adjust(probs, self.label_shift.tuned, self.label_shift.here, label_set)
        return Decided(probs, self.thresholds.apply(probs, label_set))

    @property
    def product_rule(self) -> ProductRule:
        """How products are decided."""
        return self.products or ProductRule("mean", self.thresholds)

    def apply_products(self, probs: np.ndarray, products: np.ndarray, label_set: LabelSet) -> Decided:
        """Decide products of several photos.

        Args:
            probs: (n, labels), of the photos as `apply` gives them.
            products: (n,) int, the product of each photo: every number from 0 to products - 1.
            label_set: names the label axis.

        Returns:
            probs and decisions (products, labels).

        Raises:
            UsageError: shapes differ.
        """
        pooled = pool(probs, products, label_set, self.product_rule.pooling)
        return Decided(pooled, self.product_rule.thresholds.apply(pooled, label_set))

    def without_groups(self, label_set: LabelSet) -> Self:
        """The same, but of an exclusive group the most probable label is always chosen."""
        return replace(self, thresholds=self.thresholds.with_groups({}, label_set))

    def unsure(self, decided: Decided, label_set: LabelSet) -> list[tuple[str, ...]]:
        """What a person should look at, of each photo or product.

        Names of the exclusive groups of which no label is chosen; and, where the policy tunes thresholds, ids of the
        free labels that are chosen though they are rather not so (a probability below one half), or not chosen though
        they are rather so (above). Under "fixed" and "top" it was asked for that free labels are chosen as they are.

        Args:
            decided: what `apply` or `apply_products` gave.
            label_set: names the label axis.
        """
        probs, chosen = decided.probs, decided.decisions == 1
        names = [*label_set.exclusive]
        columns = [~chosen[:, where].any(axis=1) for where in label_set.exclusive.values()]
        if self.policy.tuned:
            free = label_set.free_labels
            names += [label_set.ids[k] for k in free]
            columns += [*np.where(chosen[:, free], probs[:, free] < 0.5, probs[:, free] > 0.5).T]
        table = np.stack(columns, axis=1) if columns else np.zeros((len(probs), 0), bool)
        return [tuple(names[k] for k in np.flatnonzero(row)) for row in table]

    @property
    def thresholds_key(self) -> str:
        """Tells whether the thresholds are still those that were tuned, or were edited by hand."""
        values = self.thresholds.values.tobytes()
        if self.products is not None:
            values += self.products.thresholds.values.tobytes() + self.products.pooling.encode()
        if self._group_thresholds:  # a decision without them keeps its key
            values += json.dumps(self._group_thresholds).encode()
        return hashlib.sha256(values).hexdigest()[:16]

    @property
    def key(self) -> str:
        """Changes where the same probabilities may be decided otherwise; where it was tuned doesn't matter."""
        calibration = [[one.method, one.slope, *one.x, *one.y] for one in self.calibration.labels]
        shift = self.label_shift and [shares.tolist() for shares in self.label_shift]
        rule = [str(self.policy), self.thresholds.values.tolist(), calibration, shift]
        if self.products is not None:  # a decision of an earlier modiste keeps its key
            rule += [self.products.pooling, self.products.thresholds.values.tolist()]
        if self._group_thresholds:
            rule.append(self._group_thresholds)
        return hashlib.sha256(json.dumps(rule).encode()).hexdigest()

    @property
    def _group_thresholds(self) -> list[dict[str, float]]:
        """Of photos and of products, in one order; empty where no group may abstain."""
        rules = [self.thresholds, *([self.products.thresholds] if self.products is not None else [])]
        return [dict(sorted(one.groups.items())) for one in rules] if any(one.groups for one in rules) else []

    @property
    def calibrated(self) -> bool:
        """Whether calibration changes anything."""
        return any(label.method != "none" for label in self.calibration.labels)

    def to_dict(self, label_set: LabelSet) -> dict[str, Any]:
        """Plain data for JSON, the layout of `decision.json`."""
        return {
            "policy": str(self.policy),
            "thresholds": _by_label(self.thresholds, label_set),
            "groups": _by_group(self.thresholds),
            "calibration": self.calibration.to_dict(label_set) if self.calibrated else None,
            "mix": self.label_shift  # the key's name is part of the format, in exported files too
            and {
                name: dict(zip(label_set.ids, shares.tolist(), strict=True))
                for name, shares in zip(LabelShift._fields, self.label_shift, strict=True)
            },
            "products": self.products
            and {
                "pooling": self.products.pooling,
                "thresholds": _by_label(self.products.thresholds, label_set),
                "groups": _by_group(self.products.thresholds),
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
            rule = content.get("products")
            for part in (content, rule) if rule else (content,):
                differing = sorted(set(part["thresholds"]) ^ set(label_set.ids))
                if differing:
                    raise RunError.expected(
                        f"{source} to have the labels of '{label_set.name}'",
                        f"{', '.join(differing[:3])} in only one of them",
                        _again(name),
                    )

            def read(part: Mapping[str, Any]) -> Thresholds:
                values = _vector(part["thresholds"], label_set)
                every = Thresholds(values, f"{policy}, {name}", policy.top, policy.never_empty)
                return every.with_groups(dict(part.get("groups") or {}), label_set)

            maps, shift = content.get("calibration"), content.get("mix")
            calibration = Calibration.from_dict(maps, label_set) if maps else Calibration.none(len(label_set))
            return cls(
                policy,
                read(content),
                calibration,
                LabelShift(*(_vector(shift[name], label_set) for name in LabelShift._fields)) if shift else None,
                dict(content.get("provenance") or {}),
                ProductRule(_pooling(rule["pooling"]), read(rule)) if rule else None,
            )
        except RunError:
            raise
        except ModisteError as error:
            raise RunError(f"{source}: {error}") from error
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise RunError.expected(f"policy and thresholds as JSON in {source}", f"'{error}'", _again(name)) from error


def _again(name: str) -> str:
    return f"the {name} that was written with this model, or removing it and modiste tune"


def _pooling(word: str) -> Pooling:
    found: Pooling | None = next((one for one in POOLINGS if one == word), None)
    if found is None:
        raise RunError.expected(f"the pooling of products to be one of {', '.join(POOLINGS)}", f"'{word}'", "mean")
    return found


def _by_label(thresholds: Thresholds, label_set: LabelSet) -> dict[str, float]:
    # item() of a float32 would show its binary tail (0.30000001192092896); str gives the shortest that reads back
    return dict(zip(label_set.ids, (float(str(value)) for value in thresholds.values), strict=True))


def _by_group(thresholds: Thresholds) -> dict[str, float] | None:
    return {name: float(str(np.float32(value))) for name, value in thresholds.groups.items()} or None


def _vector(values: Mapping[str, float], label_set: LabelSet) -> np.ndarray:
    return np.array([float(values[label]) for label in label_set.ids])
