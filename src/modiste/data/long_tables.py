"""Tables with a row for each photo and label -> a row a photo; rows that contradict each other are refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import polars as pl

from modiste.data.label_columns import LabelColumn
from modiste.data.photo_frame import photo_key
from modiste.data.table import Table
from modiste.errors import ManifestError
from modiste.labels import LabelSet

_MANY = 0.1  # of the photos have several values of one column where a table has a row for each


class Joined(NamedTuple):
    """Rows of photos, joined.

    Attributes:
        frame: a row a photo.
        targets: (photos, labels) int8.
        lines: (photos,) int, the first line of each.
        notes: what was joined.
    """

    frame: pl.DataFrame
    targets: np.ndarray
    lines: np.ndarray
    notes: list[str]


def photo_numbers(frame: pl.DataFrame) -> np.ndarray | None:
    """(rows,) int64, equal where rows name one photo and rising from 0 by first row; None where all differ."""
    names = frame[photo_key(frame)]
    if not (names.is_duplicated() & (names != "")).any():
        return None
    alone = pl.when(names == "").then(pl.int_range(len(names)).cast(pl.String) + "\0").otherwise(names)
    named = pl.select(alone.alias("name")).to_series()
    first = named.unique(maintain_order=True)
    place = pl.DataFrame({"name": first, "number": np.arange(len(first))})
    return pl.DataFrame({"name": named}).join(place, on="name", how="left", maintain_order="left")["number"].to_numpy()


def as_list(columns: Sequence[LabelColumn], numbers: np.ndarray) -> tuple[list[LabelColumn], list[str]]:
    """The only category column as a list, where photos have several of its values; and that this was guessed."""
    texts = [column for column in columns if column.kind != "one-hot"]
    if len(texts) != 1 or texts[0].kind != "category":
        return list(columns), []
    (column,) = texts
    filled = pl.DataFrame({"photo": numbers, "word": column.cells}).filter(pl.col("word") != "").unique()
    several = filled["photo"].filter(filled["photo"].is_duplicated()).n_unique()
    if several < _MANY * filled["photo"].n_unique() or not several:
        return list(columns), []  # a few photos with two values contradict themselves
    lists = pl.select(pl.when(column.cells != "").then(pl.concat_list(column.cells))).to_series().alias(column.name)
    note = f"'{column.name}' has several values a photo, a row each: taken for a list of labels."
    return [replace(one, kind="list", cells=lists) if one is column else one for one in columns], [note]


def join_rows(
    table: Table,
    frame: pl.DataFrame,
    targets: np.ndarray,
    *,
    numbers: np.ndarray,
    label_set: LabelSet,
    flags: Sequence[int],
    strict: bool,
) -> Joined:
    """Join the rows of each photo: a label holds where one of them says so.

    Args:
        table: where they stand.
        frame: a row of it each.
        targets: (rows, labels) int8, likewise.
        numbers: (rows,) as `photo_numbers`.
        label_set: of the targets.
        flags: positions of labels that have a column of 1 and 0.
        strict: refuse rows that contradict each other; else these stay as they are.

    Raises:
        ManifestError: two rows of a photo contradict each other.
    """
    order = np.argsort(numbers, kind="stable")
    starts = np.flatnonzero(np.diff(numbers[order], prepend=-1))
    joined = np.maximum.reduceat(targets[order], starts, axis=0)
    unsure = np.zeros(len(starts), bool)
    if len(flags):
        codes = targets[order][:, flags]
        no = np.logical_or.reduceat(codes == 0, starts, axis=0)
        unsure |= (no & (joined[:, flags] == 1)).any(axis=1)
    for where in label_set.exclusive.values():
        unsure |= (joined[:, where] == 1).sum(axis=1) > 1
    for role in ("split", "group", "fold"):
        if role in frame.columns:
            cells = pl.DataFrame({"photo": numbers, "cell": frame[role]}).unique()
            unsure[cells.filter(pl.col("photo").is_duplicated())["photo"].to_numpy()] = True
    unsure &= np.bincount(numbers) > 1
    if strict and unsure.any():
        first, second = np.flatnonzero(numbers == int(np.flatnonzero(unsure)[0]))[:2]
        name = frame[photo_key(frame)][int(first)]
        raise ManifestError.expected(
            f"rows of one photo of {table.path} to agree",
            f"'{name}' in {table.row(int(first))} and {table.row(int(second))}, which don't",
            "one row a photo, or modiste check, which lists them all",
        )
    kept = np.where(unsure[numbers], np.arange(len(numbers)), order[starts][numbers])
    rows = np.unique(kept)
    whole = ~unsure[numbers[rows]]
    merged = targets[rows]
    merged[whole] = joined[numbers[rows[whole]]]
    gone = len(numbers) - len(rows)
    rows_are = "1 further row of a photo is" if gone == 1 else f"{gone:,} further rows of photos are"
    notes = [f"{rows_are} joined with the first: {len(rows):,} photos."] if gone else []
    return Joined(frame[rows], merged, table.lines[rows], notes)
