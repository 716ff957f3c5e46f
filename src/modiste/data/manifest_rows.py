"""Table -> the rows of a manifest: photos, their labels, and everything that had to be guessed."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from modiste.config import DataConfig
from modiste.data.label_columns import LabelColumn, label_columns, lookup
from modiste.data.label_values import has_labels, read_labels, refuse_unused, resolve_renames, unused_words
from modiste.data.likely_labels import no_labels
from modiste.data.long_tables import as_list, join_rows, photo_numbers
from modiste.data.photo_frame import find_roles, photo_frame, unfetched
from modiste.data.table import Table
from modiste.errors import ManifestError
from modiste.labels import LabelSet
from modiste.words import counted


@dataclass(frozen=True)
class ManifestRows:
    """Rows of photos.

    Attributes:
        frame: as of a Manifest.
        label_set: the order of the label axis.
        targets: (n, labels) int8.
        notes: what was guessed, a sentence each.
    """

    frame: pl.DataFrame
    label_set: LabelSet
    targets: np.ndarray
    notes: tuple[str, ...]


def read_rows(
    table: Table,
    config: DataConfig,
    label_set: LabelSet | None,
    *,
    own: bool,
    strict: bool,
    left_out: Collection[str] = (),
    asked: DataConfig,
) -> ManifestRows:
    """Find out what the columns of a table are, and read them.

    Args:
        table: rows as words.
        config: what is known of the columns.
        label_set: to map labels into; None makes one.
        own: the table was written by modiste, so that nothing has to be guessed.
        strict: as of `Manifest.read`.
        left_out, asked: as of `Manifest.read`.

    Raises:
        ManifestError, LabelError, UsageError: as `Manifest.read`.
    """
    roles, notes = find_roles(table, config, () if label_set is None else tuple(lookup(label_set)), own)
    candidates = [name for name in table.frame.columns if name not in roles.values() and name not in table.facts]
    columns, told = label_columns(table, candidates, config, label_set)
    taken = {column.name for column in columns} | set(() if label_set is None else label_set.ids)
    others = [name for name in (*candidates, *table.facts) if name not in taken]
    frame, frame_notes = photo_frame(table, roles, others, own=own)
    numbers = photo_numbers(frame)
    long_notes: list[str] = []
    if numbers is not None:
        columns, long_notes = as_list(columns, numbers)
    if label_set is None and table.label_set is None and not has_labels(columns):
        raise no_labels(table, others)
    renames = resolve_renames(config.rename)
    refuse_unused(table, columns, asked.rename, table.label_set.ids if own and table.label_set else ())
    told += unused_words(table, columns, asked.keep_as_label)
    label_set, targets, labels_notes = read_labels(table, columns, label_set, renames, left_out)
    frame = frame.drop([name for name in others if name in label_set.ids], strict=False)
    joined_notes: list[str] = []
    lines = table.lines
    if numbers is not None:
        flags = _flags(columns, label_set, renames, left_out)
        frame, targets, lines, joined_notes = join_rows(
            table, frame, targets, numbers=numbers, label_set=label_set, flags=flags, strict=strict
        )
    if strict:
        gone = unfetched(frame)
        if gone.all():
            fix = "modiste fetch again with --retry-failed"
            raise ManifestError.expected(f"photos of {table.path} to be fetched", "none of them", fix)
        if gone.any():
            joined_notes = [*joined_notes, f"{counted(int(gone.sum()), 'photo')} left out, as fetch couldn't get it."]
            frame, targets, lines = frame.filter(~gone), targets[~gone.to_numpy()], lines[~gone.to_numpy()]
        _check_exclusive(table, label_set, targets, lines)
    every = (*table.notes, *notes, *frame_notes, *told, *labels_notes, *long_notes, *joined_notes)
    return ManifestRows(frame, label_set, targets, every)


def _flags(
    columns: Sequence[LabelColumn], label_set: LabelSet, renames: dict[str, str], left_out: Collection[str]
) -> list[int]:
    """Positions of labels that have a column of 1 and 0."""
    known = lookup(label_set)
    names = [renames.get(column.name, column.name) for column in columns if column.kind == "one-hot"]
    return [known[name] for name in names if name not in left_out]


def _check_exclusive(table: Table, label_set: LabelSet, targets: np.ndarray, lines: np.ndarray) -> None:
    for name, where in label_set.exclusive.items():
        inside = targets[:, where[0] : where[-1] + 1]  # a group's labels stand side by side
        several = np.count_nonzero(inside == 1, axis=1) > 1
        if several.any():
            k = int(np.argmax(several))
            got = ", ".join(f"'{label_set.ids[p]}'" for p in where[targets[k, where] == 1])
            at = table.row(int(np.flatnonzero(table.lines == lines[k])[0]))
            raise ManifestError.expected(
                f"{at} of {table.path} to have one label of '{name}'", got, "a free group in the label set"
            )
