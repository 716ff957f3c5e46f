"""Manifest + thumbnails + near duplicates -> findings, as plain data. Their meaning: docs/reference/checking.md."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from modiste.audit.label_stats import Association, LabelStats, associate, label_stats
from modiste.audit.near_duplicates import BLANK, NearDuplicates
from modiste.audit.thumbnails import Thumbnails
from modiste.data.label_values import similar_names
from modiste.data.manifest import Manifest

if TYPE_CHECKING:
    import polars as pl

MIN_SIDE = 64  # pixels; below, a network of 224 or 299 px sees mostly what resizing made up
MOST_STRETCHED = 3.0  # longer side / shorter side; the network sees a square
_SEVERITY = {"test": 0, "val": 1, "train": 2}  # of splits: what a copy in them spoils

Kind = Literal["exact", "near", "flip"]
_KINDS = {"exact": "exact duplicate", "near": "near duplicate", "flip": "mirrored copy"}


@dataclass(frozen=True)
class Cluster:
    """Photos that look alike.

    Attributes:
        kind: equal to the pixel; nearly the same; or so once some are mirrored.
        photos: positions in the manifest.
        parts: the splits (or folds) that they lie in, each once, test first.
        conflicts: ids of the labels that one of them has and another has not.
    """

    kind: Kind
    photos: tuple[int, ...]
    parts: tuple[str, ...]
    conflicts: tuple[str, ...]

    @property
    def straddles(self) -> bool:
        """Whether it lies in more than one split."""
        return len(self.parts) > 1


@dataclass(frozen=True)
class Contradiction:
    """A photo with several labels of an exclusive group, or known to have none of them.

    Attributes:
        photo: position in the manifest.
        group: name of the exclusive group.
        labels: ids of the labels that it has.
    """

    photo: int
    group: str
    labels: tuple[str, ...]


class SimilarLabels(NamedTuple):
    """Two labels that may be one, and how many photos have each; the more frequent one first."""

    one: str
    other: str
    positives: int
    other_positives: int


@dataclass(frozen=True, eq=False, repr=False)
class Findings:
    """All that a check found; photos are positions in the manifest.

    Attributes:
        photos: how many the manifest names.
        there: how many of them are on disk and can be read.
        missing: not on disk, or without a path.
        unreadable: position -> the sentence that says why.
        tiny: position -> width, height.
        blank: position -> spread of its colours in grey levels.
        odd_shaped: position -> width, height.
        repeated: rows that name one photo, for each such photo.
        clusters: photos that look alike, worst first: across splits, with other labels, then larger ones.
        straddling_groups: group -> photos in each split, where they are several.
        contradictions: in exclusive groups.
        labels: the statistics of each label.
        association: how labels go together.
        crowded: photos in the dense part of the search, which were not compared with all of it.
        ids: what the photos are called.
        reasons: why a missing photo is missing, where the manifest of a fetch names that.
        similar_labels: pairs of labels that may be one: apart by a hyphen, a plural or one letter.
    """

    photos: int
    there: int
    missing: list[int]
    unreadable: dict[int, str]
    tiny: dict[int, tuple[int, int]]
    blank: dict[int, float]
    odd_shaped: dict[int, tuple[int, int]]
    repeated: list[tuple[int, ...]]
    clusters: list[Cluster]
    straddling_groups: dict[str, dict[str, int]]
    contradictions: list[Contradiction]
    labels: list[LabelStats]
    association: Association
    crowded: int
    ids: tuple[str, ...] = ()
    reasons: dict[int, str] = field(default_factory=dict)
    similar_labels: list[SimilarLabels] = field(default_factory=list)

    def __repr__(self) -> str:
        counts = Counter(self.to_frame()["finding"].to_list())
        found = ", ".join(f"{name} {count:,}" for name, count in counts.items())
        return f"Findings({self.photos:,} photos, {self.there:,} on disk; {found or 'nothing found'})"

    def to_frame(self) -> pl.DataFrame:
        """A row for each photo and finding: row (from 0), photo (its id), finding, and detail in words.

        Photos that belong together have the same detail: the rows of one photo, or of photos that look alike.
        """
        import polars as pl

        found = [(k, "missing", self.reasons.get(k, "no file")) for k in self.missing]
        found += [(k, "unreadable", why) for k, why in self.unreadable.items()]
        found += [(k, "tiny", f"{width} x {height}") for k, (width, height) in self.tiny.items()]
        found += [(k, "blank", f"spread {spread:.1f}") for k, spread in self.blank.items()]
        found += [(k, "odd shape", f"{width} x {height}") for k, (width, height) in self.odd_shaped.items()]
        found += [(k, "named twice", f"rows {_listed(rows)}") for rows in self.repeated for k in rows]
        for one in self.clusters:
            found += [(k, _KINDS[one.kind], _described(one)) for k in one.photos]
        for wrong in self.contradictions:
            found.append((wrong.photo, "contradiction", f"{wrong.group}: {', '.join(wrong.labels) or 'no label'}"))
        names = dict(enumerate(self.ids))
        rows = [(k, names.get(k), name, detail) for k, name, detail in found]
        kinds = {"row": pl.Int64, "photo": pl.String, "finding": pl.String, "detail": pl.String}
        return pl.DataFrame(rows, schema=kinds, orient="row")

    def of_kind(self, kind: Kind) -> list[Cluster]:
        """Clusters of one kind, worst first."""
        return [cluster for cluster in self.clusters if cluster.kind == kind]


def audit(
    manifest: Manifest, thumbnails: Thumbnails, duplicates: NearDuplicates, *, min_side: int = MIN_SIDE
) -> Findings:
    """Find what is wrong with the photos and labels of a manifest.

    Args:
        manifest: n photos, read leniently.
        thumbnails: of the n photos.
        duplicates: which of them look alike.
        min_side: pixels; a photo with a shorter side is tiny.
    """
    sizes = [(int(width), int(height)) for width, height in thumbnails.sizes]
    there = np.flatnonzero(thumbnails.there).tolist()
    return Findings(
        photos=len(manifest),
        there=len(there),
        missing=[k for k in range(len(manifest)) if not thumbnails.there[k] and k not in thumbnails.errors],
        unreadable=thumbnails.errors,
        tiny={k: sizes[k] for k in there if min(sizes[k]) < min_side},
        blank={k: float(thumbnails.spreads[k]) for k in there if thumbnails.spreads[k] <= BLANK},
        odd_shaped={k: sizes[k] for k in there if max(sizes[k]) > MOST_STRETCHED * min(sizes[k])},
        repeated=_repeated(manifest),
        clusters=_clusters(manifest, duplicates),
        straddling_groups=_straddling_groups(manifest),
        contradictions=_contradictions(manifest),
        labels=label_stats(manifest),
        association=associate(manifest.targets),
        crowded=duplicates.crowded,
        ids=tuple(manifest.frame["id"]),
        reasons=_reasons(manifest),
        similar_labels=_similar_labels(manifest),
    )


def rank(part: str) -> int:
    """0 for test, 1 for val, 2 for train, then all others: which copy of a photo is to stay."""
    return _SEVERITY.get(part, len(_SEVERITY))


def differing(targets: np.ndarray) -> np.ndarray:
    """Positions of the labels that one photo of targets (n, labels) has and another is known not to have."""
    differ: np.ndarray = np.flatnonzero((targets == 1).any(axis=0) & (targets == 0).any(axis=0))
    return differ


def findings_to_dict(manifest: Manifest, findings: Findings) -> dict[str, Any]:
    """Plain data, the layout of `check.json`; photos are named by their ids."""
    ids, parts = manifest.frame["id"].to_list(), manifest.parts
    association = findings.association
    return {
        "manifest": manifest.source,
        "photos": findings.photos,
        "there": findings.there,
        "missing": [ids[k] for k in findings.missing],
        "missing_reasons": {ids[k]: findings.reasons[k] for k in findings.missing if k in findings.reasons},
        "unreadable": [{"photo": ids[k], "why": why} for k, why in findings.unreadable.items()],
        "tiny": [{"photo": ids[k], "width": w, "height": h} for k, (w, h) in findings.tiny.items()],
        "blank": [{"photo": ids[k], "spread": spread} for k, spread in findings.blank.items()],
        "odd_shaped": [{"photo": ids[k], "width": w, "height": h} for k, (w, h) in findings.odd_shaped.items()],
        "repeated": [{"photo": ids[rows[0]], "rows": [row + 1 for row in rows]} for rows in findings.repeated],
        "alike": [
            {
                "kind": cluster.kind,
                "photos": [{"photo": ids[k], "row": k + 1, "part": str(parts[k])} for k in cluster.photos],
                "straddles": cluster.straddles,
                "conflicts": list(cluster.conflicts),
            }
            for cluster in findings.clusters
        ],
        "straddling_groups": findings.straddling_groups,
        "contradictions": [
            {"photo": ids[found.photo], "group": found.group, "labels": list(found.labels)}
            for found in findings.contradictions
        ],
        "similar_labels": [pair._asdict() for pair in findings.similar_labels],
        "labels": [
            {
                **vars(stats),
                "frequency": _plain(stats.frequency),
                "frequencies": {part: _plain(share) for part, share in stats.frequencies.items()},
                "rare": stats.rare,
            }
            for stats in findings.labels
        ],
        "association": {
            "labels": list(manifest.label_set.ids),
            "conditional": _matrix(association.conditional),
            "phi": _matrix(association.phi),
            "lift": _matrix(association.lift),
        },
        "crowded": findings.crowded,
    }


def _reasons(manifest: Manifest) -> dict[int, str]:
    if "error" not in manifest.frame.columns:
        return {}
    return {k: why for k, why in enumerate(manifest.frame["error"]) if why}


def _similar_labels(manifest: Manifest) -> list[SimilarLabels]:
    positives = dict(zip(manifest.label_set.ids, (manifest.targets == 1).sum(axis=0).tolist(), strict=True))
    found = []
    for group in manifest.label_set.groups:
        for pair in similar_names([label.id for label in group.labels]):
            one, other = sorted(pair, key=lambda name: -positives[name])
            found.append(SimilarLabels(one, other, positives[one], positives[other]))
    return sorted(found, key=lambda pair: -pair.other_positives)


def _described(cluster: Cluster) -> str:
    across = [f"across {' and '.join(cluster.parts)}"] if cluster.straddles else []
    differ = [f"labels differ: {', '.join(cluster.conflicts)}"] if cluster.conflicts else []
    return "; ".join([f"rows {_listed(cluster.photos)}", *across, *differ])


def _listed(rows: Sequence[int]) -> str:
    return ", ".join(map(str, sorted(rows)))


def _plain(value: float) -> float | None:
    return round(value, 6) if math.isfinite(value) else None


def _matrix(values: np.ndarray) -> list[list[float | None]]:
    return [[_plain(float(value)) for value in row] for row in values]


def _repeated(manifest: Manifest) -> list[tuple[int, ...]]:
    names = manifest.frame["path"]
    names = manifest.frame["id"] if (names == "").all() else names
    twice = (names.is_duplicated() & (names != "")).arg_true().to_list()
    rows: dict[str, list[int]] = {}
    for k in twice:
        rows.setdefault(names[k], []).append(k)
    return [tuple(where) for where in rows.values()]


def _clusters(manifest: Manifest, duplicates: NearDuplicates) -> list[Cluster]:
    """A cluster of one kind appears again under the next kind only where that adds photos to it."""
    parts, found = manifest.parts, []
    finer = np.arange(len(manifest))
    kinds: list[tuple[Kind, np.ndarray]] = [
        ("exact", duplicates.exact),
        ("near", duplicates.near),
        ("flip", duplicates.any),
    ]
    for kind, components in kinds:
        order = np.argsort(components, kind="stable")
        for photos in np.split(order, np.flatnonzero(np.diff(components[order])) + 1):
            if len(set(finer[photos].tolist())) > 1:
                found.append(_cluster(manifest, kind, photos, parts))
        finer = components
    return sorted(found, key=_badness)


def _cluster(manifest: Manifest, kind: Kind, photos: np.ndarray, parts: np.ndarray) -> Cluster:
    targets = manifest.targets[photos]
    differ = differing(targets)
    lies_in = sorted({*parts[photos].tolist()} - {""}, key=lambda part: (rank(part), part))
    return Cluster(kind, tuple(photos.tolist()), tuple(lies_in), tuple(manifest.label_set.ids[k] for k in differ))


def _badness(cluster: Cluster) -> tuple:
    first = rank(cluster.parts[0]) if cluster.straddles else 9
    return first, not cluster.conflicts, ("exact", "near", "flip").index(cluster.kind), -len(cluster.photos)


def _straddling_groups(manifest: Manifest) -> dict[str, dict[str, int]]:
    if "group" not in manifest.frame.columns:
        return {}
    counted: dict[str, Counter[str]] = {}
    for group, part in zip(manifest.frame["group"], manifest.parts.tolist(), strict=True):
        if group and part:
            counted.setdefault(group, Counter())[part] += 1
    several = {group: dict(parts) for group, parts in counted.items() if len(parts) > 1}
    return dict(sorted(several.items(), key=lambda item: -sum(item[1].values())))


def _contradictions(manifest: Manifest) -> list[Contradiction]:
    found = []
    for group, where in manifest.label_set.exclusive.items():
        targets = manifest.targets[:, where]
        wrong = ((targets == 1).sum(axis=1) > 1) | (targets == 0).all(axis=1)
        for k in np.flatnonzero(wrong).tolist():
            labels = tuple(manifest.label_set.ids[p] for p in where[targets[k] == 1])
            found.append(Contradiction(k, group, labels))
    return found
