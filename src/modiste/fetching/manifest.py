"""The manifest of a fetch: the rows of its list, and what became of each."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from modiste.data.tables import write_labels_beside
from modiste.fetching.ledger import FetchRecord, Ledger
from modiste.fetching.listing import ListedPhoto, Listing
from modiste.files import replacing

DUPLICATE = "duplicate id"  # two rows of one name with different URLs: the first one counts
WAITING = "not tried"
MANIFEST = "manifest.csv"
_FACTS = ("status", "failure", "error", "http", "final_url", "sha256", "width", "height", "bytes")
_CHUNK = 500


@dataclass
class Summary:
    """What the manifest of a fetch says, by count.

    Attributes:
        manifest: its path.
        rows: of the list.
        fetched: rows whose photo is there.
        bytes: of their files; a photo that several rows share counts once for each.
        failures: rows by kind of failure.
        examples: kind of failure -> the sentence of its first row.
    """

    manifest: Path
    rows: int = 0
    fetched: int = 0
    bytes: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "manifest": str(self.manifest),
            "rows": self.rows,
            "fetched": self.fetched,
            "bytes": self.bytes,
            "failures": dict(self.failures.most_common()),
            "examples": self.examples,
        }


def write_fetched(listing: Listing, ledger: Ledger, folder: Path) -> Summary:
    """Write `manifest.csv`: the columns of the list, the path of each photo, and what became of it.

    The path takes the place of the list's own column of paths, if there is one; it is blank where there is no photo.
    A column of the list that is called like one of those added here gets "list_" before its name.

    Raises:
        ManifestError: a row of the list can't be read.
        StorageError: the folder can't be written.
    """
    path = folder / MANIFEST
    at = listing.roles.get("path")
    columns = list(listing.columns) if at is not None else [*listing.columns, "path"]
    at = len(listing.columns) if at is None else at
    again = set(_FACTS) <= {*columns}  # a list that is an earlier fetch's manifest
    kept = [k for k, name in enumerate(columns) if not (again and name in _FACTS)]
    summary = Summary(path)
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow([f"list_{columns[k]}" if columns[k] in _FACTS else columns[k] for k in kept] + list(_FACTS))
        for row, outcome in _outcomes(listing, ledger):
            cells = [*row.cells, ""]
            cells[at] = outcome.place
            rows.writerow([cells[k] for k in kept] + _facts(outcome))
            _count(summary, outcome)
    if listing.label_set is not None:
        write_labels_beside(path, listing.label_set, "")
    return summary


def _outcomes(listing: Listing, ledger: Ledger) -> Iterator[tuple[ListedPhoto, FetchRecord]]:
    rows = listing.rows()
    while chunk := list(islice(rows, _CHUNK)):
        found = ledger.find([row.name for row in chunk])
        for row in chunk:
            outcome, seen = found.get(row.name, (None, False))
            if outcome is None or (outcome.url != row.url and not seen):
                outcome = _not_tried(row)
            yield row, outcome if outcome.url == row.url else _duplicate(row, outcome)


def _not_tried(row: ListedPhoto) -> FetchRecord:
    error = f"Expected {row.url} to be fetched, but got no turn yet. Try the same command without --retry-failed."
    return FetchRecord(row.name, row.url, WAITING, error)


def _duplicate(row: ListedPhoto, other: FetchRecord) -> FetchRecord:
    error = f"Expected ids to differ, but got '{row.name}' for {row.url} and {other.url}. Try --id-column."
    return FetchRecord(row.name, row.url, DUPLICATE, error)


def _facts(outcome: FetchRecord) -> list[Any]:
    status = {"": "fetched", WAITING: "waiting"}.get(outcome.failure, "failed")
    sizes = ["", "", "", ""] if outcome.failure else [outcome.sha256, outcome.width, outcome.height, outcome.bytes]
    return [status, outcome.failure, outcome.error, outcome.http or "", outcome.final_url, *sizes]


def _count(summary: Summary, outcome: FetchRecord) -> None:
    summary.rows += 1
    summary.fetched += not outcome.failure
    summary.bytes += outcome.bytes
    if outcome.failure:
        summary.failures[outcome.failure] += 1
        summary.examples.setdefault(outcome.failure, outcome.error)
