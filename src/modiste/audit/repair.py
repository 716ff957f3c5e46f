"""Findings -> a cleaned manifest, and what was done to get there. No photo is touched.

What is left out and why: docs/reference/checking.md.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from modiste.audit.findings import Findings, differing, rank
from modiste.data.manifest import Manifest
from modiste.errors import ManifestError
from modiste.labels import UNKNOWN


@dataclass(frozen=True)
class LeftOut:
    """A row that the cleaned manifest lacks.

    Attributes:
        photo: position in the old manifest.
        reason: in a few words.
        kept: position of the copy that stays instead, if there is one.
    """

    photo: int
    reason: str
    kept: int | None = None


@dataclass(frozen=True)
class MadeUnknown:
    """Labels of a photo that the cleaned manifest doesn't know any more: photo by position, labels by id."""

    photo: int
    reason: str
    labels: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Repair:
    """A cleaned manifest, and what it lacks of the old one."""

    manifest: Manifest
    left_out: list[LeftOut]
    made_unknown: list[MadeUnknown]

    def counts(self) -> dict[str, int]:
        """Photos by what was done to them, in words."""
        done = [f"left out: {row.reason}" for row in self.left_out]
        return dict(Counter(done + [f"labels made unknown: {row.reason}" for row in self.made_unknown]))


def repair(manifest: Manifest, findings: Findings) -> Repair:
    """Leave out what no one can learn from or what would leak into test, and forget labels that contradict.

    Raises:
        ManifestError: nothing would be left.
    """
    out = _broken(findings)
    targets, unknown = manifest.targets.copy(), []
    parts: list[str] = manifest.parts.tolist()
    same = [("the photo of another row", rows) for rows in findings.repeated]
    same += [("exact duplicate", cluster.photos) for cluster in findings.of_kind("exact")]
    for reason, photos in same:
        here = sorted((k for k in photos if k not in out), key=lambda k: (rank(parts[k]), k))
        differ = differing(targets[here])
        if len(differ):
            targets[here[0], differ] = UNKNOWN
            labels = tuple(manifest.label_set.ids[p] for p in differ)
            unknown.append(MadeUnknown(here[0], f"{reason} says otherwise", labels))
        out |= {k: LeftOut(k, reason, here[0]) for k in here[1:]}
    for cluster in [*findings.of_kind("near"), *findings.of_kind("flip")]:
        out |= _across_splits([k for k in cluster.photos if k not in out], parts)
    for found in findings.contradictions:
        where = manifest.label_set.exclusive[found.group]
        if found.photo not in out:
            targets[found.photo, where] = UNKNOWN
            labels = tuple(manifest.label_set.ids[p] for p in where)
            unknown.append(MadeUnknown(found.photo, "contradiction in an exclusive group", labels))
    keep = np.array([k not in out for k in range(len(manifest))])
    if not keep.any():
        raise ManifestError.expected("photos to be left in the cleaned manifest", "none", "a smaller --min-side")
    return Repair(replace(manifest, targets=targets).select(keep), [out[k] for k in sorted(out)], unknown)


def repair_to_dict(manifest: Manifest, fixed: Repair) -> dict[str, Any]:
    """Plain data, the part `fix` of `check.json`; photos are named by the ids of the old `manifest`."""
    ids = manifest.frame["id"].to_list()
    return {
        "photos": len(fixed.manifest),
        "left_out": [
            {
                "photo": ids[row.photo],
                "row": row.photo + 1,
                "reason": row.reason,
                "kept": None if row.kept is None else ids[row.kept],
            }
            for row in fixed.left_out
        ],
        "made_unknown": [
            {"photo": ids[row.photo], "reason": row.reason, "labels": list(row.labels)} for row in fixed.made_unknown
        ],
    }


def _broken(findings: Findings) -> dict[int, LeftOut]:
    """Photos that show nothing. Where no photo is on disk at all, none is called missing: labels alone are cleaned."""
    reasons: dict[str, Collection[int]] = {
        "blank": findings.blank,
        "tiny": findings.tiny,
        "unreadable": findings.unreadable,
        "missing": findings.missing if findings.there else [],
    }
    return {k: LeftOut(k, reason) for reason, photos in reasons.items() for k in photos}


def _across_splits(photos: list[int], parts: list[str]) -> dict[int, LeftOut]:
    """Of photos that look alike, those outside the test split, else outside val, so that it stays whole."""
    placed = sorted((k for k in photos if rank(parts[k]) < rank("")), key=lambda k: (rank(parts[k]), k))
    return {
        k: LeftOut(k, f"near duplicate in {parts[placed[0]]}", placed[0])
        for k in placed
        if parts[k] != parts[placed[0]]
    }
