"""How frequent each label of a manifest is, how precisely a score on it can be measured, which occur together."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

import numpy as np

from modiste.data.manifest import Manifest
from modiste.labels import UNKNOWN

RARE = 0.4  # a 95 % interval this wide says little: 0.5 could as well be 0.3 or 0.7
_Z = 1.959964  # of a normal distribution, 95 % lie within this many standard deviations


@dataclass(frozen=True)
class LabelStats:
    """One label.

    Attributes:
        id: the label.
        group: its group.
        positives: photos that have it.
        known: photos of which it is known whether they have it.
        parts: photos that have it in each split (or fold).
        frequencies: positives / known in each of these; nan where nothing is known.
        measured_on: the part that a score would be measured on: test, else val, else "all".
        measured: photos that have it there.
        width: of the 95 % interval that a recall on them would have.
    """

    id: str
    group: str
    positives: int
    known: int
    parts: dict[str, int]
    frequencies: dict[str, float]
    measured_on: str
    measured: int
    width: float

    @property
    def frequency(self) -> float:
        """Positives / known; nan where nothing is known."""
        return self.positives / self.known if self.known else math.nan

    @property
    def rare(self) -> bool:
        """Too rare to be measured."""
        return self.width > RARE


@dataclass(frozen=True, eq=False)
class Association:
    """Which labels occur together, each entry over the photos where both are known.

    Attributes:
        conditional: (labels, labels) float64, frequency of the column among photos that have the row's label.
        phi: (labels, labels) float64, correlation of the two, from -1 to 1.
        lift: (labels, labels) float64, how many times as often both hold as if they were independent.
        In all three, nan where nothing can be told.
    """

    conditional: np.ndarray
    phi: np.ndarray
    lift: np.ndarray


def label_stats(manifest: Manifest) -> list[LabelStats]:
    """Count each label, in the order of the label axis."""
    parts, targets = manifest.parts, manifest.targets
    named = sorted({*parts.tolist()} - {""})
    measured_on = next((part for part in ("test", "val") if part in named), "all")
    inside = parts == measured_on if measured_on != "all" else np.ones(len(parts), bool)
    groups = [group.name for group in manifest.label_set.groups for _ in group.labels]
    stats = []
    for k, (label, group) in enumerate(zip(manifest.label_set.ids, groups, strict=True)):
        has = targets[:, k] == 1
        known = targets[:, k] != UNKNOWN
        counted, asked = Counter(parts[has].tolist()), Counter(parts[known].tolist())
        measured = int(has[inside].sum())
        stats.append(
            LabelStats(
                id=label,
                group=group,
                positives=int(has.sum()),
                known=int(known.sum()),
                parts={part: counted[part] for part in named},
                frequencies={part: counted[part] / asked[part] if asked[part] else math.nan for part in named},
                measured_on=measured_on,
                measured=measured,
                width=interval_width(measured),
            )
        )
    return stats


def interval_width(n: int) -> float:
    """Width of the 95 % interval of a share of one half over n photos, where it is widest.

    Source: Wilson 1927, "Probable Inference, the Law of Succession, and Statistical Inference"; at one half his
    interval is z / sqrt(n + z^2) wide.
    """
    return _Z / math.sqrt(n + _Z**2)


def associate(targets: np.ndarray) -> Association:
    """Association of all pairs of labels of targets (n, labels) int8: 1, 0, UNKNOWN."""
    has, known = (targets == 1).astype(np.float64), (targets != UNKNOWN).astype(np.float64)
    both_known, both = known.T @ known, has.T @ has
    rows = has.T @ known  # photos that have the row's label and of which the column's is known
    columns = rows.T
    spread = rows * (both_known - rows) * columns * (both_known - columns)
    phi = _share(both_known * both - rows * columns, np.sqrt(spread))
    return Association(_share(both, rows), phi, _share(both_known * both, rows * columns))


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    shares: np.ndarray = np.full_like(part, np.nan)
    np.divide(part, whole, out=shares, where=whole > 0)
    return shares
