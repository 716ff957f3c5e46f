"""One page for a person: what is wrong with the photos and labels, worst first, and what a repair did.

`index.html` holds everything it shows and asks nothing of the network. check.json has the rest.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from modiste.audit.findings import Cluster, Findings
from modiste.audit.label_stats import RARE
from modiste.audit.repair import Repair
from modiste.data.manifest import Manifest
from modiste.files import write_text
from modiste.pages.html import render, thumbnail

CHECK_PAGE = "index.html"
_MOST_CLUSTERS = 24  # of each section
_MOST_PHOTOS = 6  # of one cluster
_MOST_BROKEN = 12  # photos of each kind
_MOST_ROWS = 30  # of a table
_MOST_LABELS = 40  # a side of the heatmap
_MOST_CHIPS = 8  # labels under one photo
_MOST_EXAMPLES = 3  # named in the summary
_LONGEST_EXAMPLE = 24  # letters
_THUMBNAIL = 280  # pixels of the longer side: about 140 on the page, twice that on dense screens


@dataclass(frozen=True)
class Line:
    """One line of the summary: how many, of what, what that means, where the page shows it, and a few of them."""

    count: int
    name: str
    meaning: str
    anchor: str
    examples: tuple[str, ...]


def summary_lines(manifest: Manifest, findings: Findings) -> list[Line]:
    """A line for each kind of finding, in the order of docs/reference/checking.md, also where there is none.

    Where no photo is on disk, findings about what photos show are left out.
    """
    ids = manifest.frame["id"].to_list()

    def line(name: str, meaning: str, anchor: str, found: Sequence[str]) -> Line:
        return Line(len(found), name, meaning, anchor, tuple(_short(one) for one in found[:_MOST_EXAMPLES]))

    def clusters(found: Sequence[Cluster]) -> list[str]:
        return [ids[cluster.photos[0]] for cluster in found]

    across = [cluster for cluster in findings.clusters if cluster.straddles]
    differing = [cluster for cluster in findings.clusters if cluster.conflicts]
    found: list[tuple[str, str, str, Sequence[str]]] = [
        ("missing", "have no file", "broken", [ids[k] for k in findings.missing]),
        ("unreadable", "are no whole photo", "broken", [ids[k] for k in findings.unreadable]),
        ("tiny", "are smaller than a network needs", "broken", [ids[k] for k in findings.tiny]),
        ("blank", "show one colour", "broken", [ids[k] for k in findings.blank]),
        ("odd shape", "are more than three times as long as wide", "broken", [ids[k] for k in findings.odd_shaped]),
        ("named twice", "photos stand in several rows", "repeated", [ids[rows[0]] for rows in findings.repeated]),
        ("exact duplicates", "clusters of photos with the same pixels", "alike", clusters(findings.of_kind("exact"))),
        ("near duplicates", "clusters of nearly the same photos", "alike", clusters(findings.of_kind("near"))),
        ("mirrored copies", "clusters with a mirrored copy", "alike", clusters(findings.of_kind("flip"))),
        ("across splits", "clusters lie in several splits: tested on what was trained on", "alike", clusters(across)),
        ("labels differ", "clusters look alike and are labelled otherwise", "alike", clusters(differing)),
        (
            "torn groups",
            "groups lie in several splits; modiste split mends that",
            "groups",
            list(findings.straddling_groups),
        ),
        (
            "contradictions",
            "times not exactly one label of an exclusive group",
            "contradictions",
            [ids[one.photo] for one in findings.contradictions],
        ),
        (
            "similar labels",
            "pairs of labels may be one; --rename joins them",
            "labels",
            [f"{pair.one} {pair.positives}, {pair.other} {pair.other_positives}" for pair in findings.similar_labels],
        ),
        ("rare labels", "have too few photos to be measured", "labels", [f.id for f in findings.labels if f.rare]),
    ]
    looked_for = found if findings.there else [row for row in found if row[3] or row[2] not in ("broken", "alike")]
    return [line(*row) for row in looked_for]


def _short(name: str) -> str:
    """The end of a long name, which tells photos apart."""
    return name if len(name) <= _LONGEST_EXAMPLE else "…" + name[1 - _LONGEST_EXAMPLE :]


def write_check_page(folder: Path, manifest: Manifest, findings: Findings, fixed: Repair | None = None) -> Path:
    """Write the page into `folder`, and return its path.

    Args:
        folder: made if missing; an earlier page is replaced.
        manifest: whose findings they are.
        findings: from `audit`.
        fixed: what the repair did, if one was asked for.

    Raises:
        StorageError: `folder` can't be written.
    """
    parts = manifest.parts.tolist()
    broken = {
        "Tiny": [(k, f"{w} × {h}") for k, (w, h) in findings.tiny.items()],
        "Blank": [(k, f"colours spread over {spread:.0f} levels of 255") for k, spread in findings.blank.items()],
        "Odd shape": [(k, f"{w} × {h}") for k, (w, h) in findings.odd_shaped.items()],
    }
    page = render(
        "check.html.j2",
        {"number": _number},
        manifest=Path(manifest.source).name,
        findings=findings,
        summary=summary_lines(manifest, findings),
        ids=manifest.frame["id"].to_list(),
        parts=parts,
        part_names=sorted({*parts} - {""}, key=_part_order),
        broken={name: (len(rows), _cards(manifest, rows[:_MOST_BROKEN])) for name, rows in broken.items() if rows},
        clusters=_sections(manifest, findings),
        heatmap=_heatmap(manifest, findings),
        groups=len(manifest.label_set.groups),
        fixed=fixed,
        most_rows=_MOST_ROWS,
        rare=RARE,
    )
    write_text(folder / CHECK_PAGE, page)
    return folder / CHECK_PAGE


def _part_order(part: str) -> tuple[int, str]:
    known = ("train", "val", "test")
    return (known.index(part) if part in known else len(known), part)


def _sections(manifest: Manifest, findings: Findings) -> dict[str, dict[str, Any]]:
    """Clusters by what is wrong with them; each stands where it is worst."""
    across = [cluster for cluster in findings.clusters if cluster.straddles]
    inside = [cluster for cluster in findings.clusters if not cluster.straddles]
    sections = {
        "Across splits": ("The score on one of these photos says how well the network remembers the other.", across),
        "Labelled otherwise": (
            "They look alike, and their labels differ.",
            [cluster for cluster in inside if cluster.conflicts],
        ),
        "Others": (
            "Within one split they count twice in training or in a score.",
            [cluster for cluster in inside if not cluster.conflicts],
        ),
    }
    return {
        name: {"help": words, "total": len(found), "shown": [_shown(manifest, one) for one in found[:_MOST_CLUSTERS]]}
        for name, (words, found) in sections.items()
        if found
    }


def _shown(manifest: Manifest, cluster: Cluster) -> dict[str, Any]:
    """A cluster's first photos, of each split one before more of any."""
    parts, seen = manifest.parts, set()
    first = []
    for k in cluster.photos:
        if parts[k] not in seen:
            seen.add(parts[k])
            first.append(k)
    order = [*first, *(k for k in cluster.photos if k not in first)][:_MOST_PHOTOS]
    cards = _cards(manifest, [(k, "") for k in order], cluster.conflicts)
    return {"cluster": cluster, "cards": cards, "more": len(cluster.photos) - len(order)}


def _cards(
    manifest: Manifest, photos: Sequence[tuple[int, str]], differing: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """What a card shows of each photo: first the labels in which it differs from its look-alikes, then others."""
    ids, names, parts, cards = manifest.label_set.ids, manifest.label_set.names(), manifest.parts, []
    for k, words in photos:
        target = manifest.targets[k]
        listed = [p for p in range(len(ids)) if target[p] == 1 or (target[p] == 0 and ids[p] in differing)]
        listed.sort(key=lambda p: (ids[p] not in differing, target[p] == 0))
        chips = [(target[p] == 1, names[p], ids[p] in differing) for p in listed]
        path = str(manifest.frame["path"][k])
        cards.append(
            {
                "name": manifest.frame["id"][k],
                "short": _short(manifest.frame["id"][k]),
                "thumbnail": thumbnail(manifest.photo(k), _THUMBNAIL) if path else None,
                "part": parts[k],
                "words": words,
                "chips": chips[:_MOST_CHIPS],
                "more": max(0, len(chips) - _MOST_CHIPS),
            }
        )
    return cards


def _heatmap(manifest: Manifest, findings: Findings) -> dict[str, Any]:
    """The most frequent labels in their order: names, and rows of (share, phi) or None."""
    positives = np.array([stats.positives for stats in findings.labels])
    chosen = np.sort(np.argsort(-positives, kind="stable")[:_MOST_LABELS])
    chosen = chosen[positives[chosen] > 0]
    names, found = manifest.label_set.names(), findings.association
    rows = [
        [None if math.isnan(found.conditional[i, j]) else (found.conditional[i, j], found.phi[i, j]) for j in chosen]
        for i in chosen
    ]
    return {"names": [names[k] for k in chosen], "rows": rows, "all": len(chosen) == len(names)}


def _number(value: float, places: int = 3) -> str:
    return "–" if math.isnan(value) else f"{value:.{places}f}"
