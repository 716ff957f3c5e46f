"""Which columns are labels, and what they say: Table -> LabelSet and targets.

The rules stand in docs/reference/manifest.md. Blank is unknown and never counts as 0.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import numpy as np
import polars as pl

from modiste.config import DataConfig
from modiste.data.tables import Table
from modiste.errors import LabelError, ManifestError
from modiste.labels import UNKNOWN, Group, Label, LabelSet

Kind = Literal["one-hot", "category", "list"]

_BINARY = {"1": 1, "0": 0, "1.0": 1, "0.0": 0} | {w: int(w.lower() == "true") for w in ("true", "True", "TRUE")}
_BINARY |= dict.fromkeys(("false", "False", "FALSE"), 0)
_LISTS = frozenset({"labels", "tags", "attributes", "styles"})
_WORDS = _LISTS | {"label", "tag", "class", "category", "style"}  # columns that hold labels by their name alone


def label_columns(
    table: Table, candidates: Sequence[str], config: DataConfig, label_set: LabelSet | None
) -> dict[str, Kind]:
    """Find the label columns among `candidates` and how each is written, in column order.

    Raises:
        ManifestError: a named column is missing, or a column of 1, 0 and blank holds something else.
    """
    if config.label_columns is not None:
        for column in config.label_columns:
            require_column(table, column, "--labels")
        return {c: _kind(table, c, config, label_set, named=True) or "category" for c in config.label_columns}
    if table.label_set is not None:
        return {c: _one_hot(table, c) for c in table.label_set.ids if c in candidates}
    known = {} if label_set is None else lookup(label_set)
    kinds = {c: _kind(table, c, config, label_set, named=c in known) for c in candidates}
    return {c: kind for c, kind in kinds.items() if kind}


def read_labels(
    table: Table, kinds: Mapping[str, Kind], config: DataConfig, label_set: LabelSet | None, *, strict: bool = True
) -> tuple[LabelSet, np.ndarray]:
    """Map the label columns into `label_set`, or into a set made from them where it is None.

    Returns:
        The label set and the targets (n, labels) int8: 1, 0, UNKNOWN.

    Raises:
        LabelError: a column or a value is not in the given set.
        ManifestError: there is nothing to make a set from, or, if `strict`, two labels of an exclusive group
            hold for one photo.
    """
    words = {c: _words(table.frame[c], kind, config.delimiter) for c, kind in kinds.items() if kind != "one-hot"}
    flags = [c for c, kind in kinds.items() if kind == "one-hot"]
    label_set = label_set or table.label_set or _made(table, flags, kinds, words)
    known = lookup(label_set)
    targets = np.full((len(table.frame), len(label_set)), UNKNOWN, np.int8)
    open_labels = np.ones(len(label_set), bool)  # not the business of a one-hot column
    for column in flags:
        if column not in known:
            raise _not_a_label(label_set, column, f"a column of {table.path}")
        position = known[column]
        codes = table.frame[column].replace_strict(_BINARY | {"": UNKNOWN}, return_dtype=pl.Int8)
        targets[:, position] = codes.to_numpy()
        open_labels[position] = False
    for column, cells in words.items():
        positions = _positions(table, label_set, known, column, cells)
        rows = cells["row"].to_numpy()
        for where, exclusive in _group_positions(label_set):
            hit = np.isin(positions, where)
            if not hit.any():
                continue  # a column speaks for the groups that its values belong to
            speaks = rows[hit] if exclusive or kinds[column] == "category" else rows
            block = np.ix_(np.unique(speaks), where[open_labels[where]])
            targets[block] = np.maximum(targets[block], 0)
        targets[rows, positions] = 1
    if strict:
        _check_exclusive(table, label_set, targets)
    return label_set, targets


def require_column(table: Table, column: str, option: str) -> None:
    """Refuse a column that `option` names and the table has not."""
    if column not in table.frame.columns:
        known = ", ".join(f"'{name}'" for name in table.frame.columns)
        raise ManifestError.expected(
            f"column '{column}' in {table.path}", f"only {known}", f"{option} with one of these"
        )


def lookup(label_set: LabelSet) -> dict[str, int]:
    """Ids and display names in every language -> position; an id wins over another label's name."""
    known = {label.id: k for k, label in enumerate(label_set)}
    for k, label in enumerate(label_set):
        for name in label.names.values():
            known.setdefault(name, k)
    return known


def _kind(table: Table, column: str, config: DataConfig, label_set: LabelSet | None, named: bool) -> Kind | None:
    """How a column is written; None where it holds no labels. `named`: in the options or the label set."""
    cells, low = table.frame[column], column.lower()
    by_name = low in _WORDS
    plural = low in _LISTS or (low.endswith("s") and not low.endswith("ss"))
    if cells.dtype == pl.List:
        return "list" if named or by_name else None
    wordy: Kind = "list" if plural or (config.delimiter and _holds(cells, config.delimiter)) else "category"
    in_set = label_set is not None and column in lookup(label_set)
    if by_name and label_set is not None and not in_set:
        return wordy  # values of the set, even where they are class numbers
    filled = int((cells != "").sum())
    binary = int(cells.is_in(list(_BINARY)).sum())
    if not filled:
        return "one-hot" if in_set else wordy if named or by_name else None
    if binary == filled:
        return "one-hot"
    few = filled - binary <= (filled // 10 if by_name else max(1, filled // 10))
    if (few and 2 * binary > filled) or (named and not by_name and (2 * binary > filled or _numeric(cells))):
        return _one_hot(table, column)
    return wordy if named or by_name else None


def _one_hot(table: Table, column: str) -> Kind:
    """Refuse anything but 1, 0 and blank."""
    cells = table.frame[column]
    wrong = ~cells.is_in([*_BINARY, ""]) if cells.dtype == pl.String else pl.Series([True])
    if wrong.any():
        raise ManifestError.expected(
            f"'{column}' in {table.first(wrong)} of {table.path} to be 1, 0 or blank",
            f"'{cells.filter(wrong)[0]}'" if cells.dtype == pl.String else "a list",
            "correcting it, or --labels with the label columns alone",
        )
    return "one-hot"


def _numeric(cells: pl.Series) -> bool:
    return bool(cells.filter(cells != "").cast(pl.Float64, strict=False).is_not_null().all())


def _holds(cells: pl.Series, delimiter: str) -> bool:
    return bool(cells.str.contains(delimiter, literal=True).any())


def _words(cells: pl.Series, kind: Kind, delimiter: str | None) -> pl.DataFrame:
    """Columns row and word: every value of a category or list column; blank gives none."""
    frame = pl.DataFrame({"row": np.arange(len(cells)), "word": cells})
    if kind == "list" and cells.dtype != pl.List:
        delimiter = delimiter or next((d for d in "|;," if _holds(cells, d)), " ")
        frame = frame.with_columns(pl.col("word").str.split(delimiter))
    if kind == "list":
        frame = frame.explode("word").with_columns(pl.col("word").str.strip_chars())
    return frame.filter(pl.col("word") != "")


def _made(table: Table, flags: Sequence[str], kinds: Mapping[str, Kind], words: Mapping[str, pl.DataFrame]) -> LabelSet:
    """One free group of the one-hot columns, and one group a category or list column."""
    groups: dict[str, tuple[list[str], bool]] = {"labels": (list(flags), False)}
    for column, cells in words.items():
        values = sorted(cells["word"].unique().to_list())
        ids = [f"{column}={value}" for value in values] if len(words) > 1 else values
        before = groups.get(column, ([], False))[0]  # a list column may itself be called "labels"
        groups[column] = (before + ids, kinds[column] == "category")
    if not any(ids for ids, _ in groups.values()):
        raise ManifestError.expected(
            f"label columns in {table.path}",
            "only " + ", ".join(f"'{name}'" for name in table.frame.columns),
            "--labels with the names of the label columns",
        )
    made = tuple(Group(name, tuple(map(Label, ids)), exclusive) for name, (ids, exclusive) in groups.items() if ids)
    return LabelSet(table.path.stem, made)


def _positions(
    table: Table, label_set: LabelSet, known: Mapping[str, int], column: str, cells: pl.DataFrame
) -> np.ndarray:
    """(cells,) int positions of the words; sets made from several columns say "column=word"."""
    place = {word: known.get(f"{column}={word}", known.get(word, -1)) for word in cells["word"].unique()}
    positions = cells["word"].replace_strict(place, return_dtype=pl.Int64).to_numpy()
    if (positions < 0).any():
        first = int(np.argmax(positions < 0))
        where = table.row(int(cells["row"][first]))
        raise _not_a_label(label_set, cells["word"][first], f"'{column}' in {where} of {table.path}")
    return positions


def _group_positions(label_set: LabelSet) -> Iterator[tuple[np.ndarray, bool]]:
    start = 0
    for group in label_set.groups:
        yield np.arange(start, start + len(group.labels)), group.exclusive
        start += len(group.labels)


def _check_exclusive(table: Table, label_set: LabelSet, targets: np.ndarray) -> None:
    for name, where in label_set.exclusive.items():
        several = (targets[:, where] == 1).sum(axis=1) > 1
        if several.any():
            k = int(np.argmax(several))
            got = ", ".join(f"'{label_set.ids[p]}'" for p in where[targets[k, where] == 1])
            raise ManifestError.expected(
                f"{table.row(k)} of {table.path} to have one label of '{name}'", got, "a free group in the label set"
            )


def _not_a_label(label_set: LabelSet, got: str, where: str) -> LabelError:
    close = difflib.get_close_matches(got, label_set.ids, n=3) or label_set.ids[:3]
    fix = "one of " + ", ".join(f"'{c}'" for c in close) + ", or --labels with the label columns alone"
    return LabelError.expected(f"{where} to be a label of '{label_set.name}'", f"'{got}'", fix)
