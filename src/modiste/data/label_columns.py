"""Which columns are labels, and how each is written: Table -> LabelColumn.

The rules stand in docs/reference/manifest.md. Blank is unknown and never counts as 0.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import polars as pl

from modiste.config import DataConfig
from modiste.data.cells import FLAGS, MISSING, are_vectors, braced_list, is_bracketed, spelt_list
from modiste.data.label_flags import (
    FLAG_WORDS,
    are_flags,
    count_filled,
    marked,
    mostly_flags,
    named_columns,
    read_flags,
)
from modiste.data.table import Table
from modiste.errors import ManifestError
from modiste.labels import LabelSet

Kind = Literal["one-hot", "category", "list"]

_LISTS = frozenset({"labels", "tags", "attributes", "styles"})
_WORDS = _LISTS | {"label", "tag", "class", "category", "style"}  # columns that hold labels by their name alone
_MOST_FLAGS = 60  # spellings of yes and no in one column
_MANY_VALUES = 50  # of a category; more must be rarer than every other photo, or they are ids
_MOST_VALUES = 5000  # of a column, whatever their photos


@dataclass(frozen=True)
class LabelColumn:
    """A column that holds labels.

    Attributes:
        name: of the column.
        kind: one label a column ("one-hot"), one of several labels a cell ("category"), or any of them ("list").
        cells: one-hot: int, 1, 0 or UNKNOWN; category: str, "" is unknown; list: list[str], null is unknown.
    """

    name: str
    kind: Kind
    cells: pl.Series


def label_columns(
    table: Table, candidates: Sequence[str], config: DataConfig, label_set: LabelSet | None
) -> tuple[list[LabelColumn], list[str]]:
    """Find the label columns among `candidates`, in column order, and what was guessed.

    Raises:
        ManifestError: a named column is missing, or a cell of a label column can't be read.
    """
    reader = _Reader(table, config, label_set)
    if config.label_columns is not None:
        for column in config.label_columns:
            require_column(table, column, "--labels")
        for column in config.label_columns:
            reader.add(column, named=True)
    elif table.label_set is not None:
        for column in table.label_set.ids:
            if column in candidates:
                reader.add_one_hot(column)
    else:
        known = {} if label_set is None else lookup(label_set)
        for column in candidates:
            reader.add(column, named=column in known)
    return reader.columns(), reader.notes()


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


def could_be_category(cells: pl.Series) -> int:
    """How many values a column has where it looks like a category: few words, many photos each; else 0."""
    if cells.dtype != pl.String:
        return 0
    filled = cells.filter((cells != "") & ~cells.str.to_lowercase().is_in(list(MISSING)))
    head = filled.head(100)
    if len(filled) < len(cells) / 2 or not len(filled) or _numeric(head) or head.str.contains("://").any():
        return 0
    values = filled.n_unique()
    lengths = filled.str.len_chars().max()
    return values if 2 <= values <= min(500, len(filled) // 3) and lengths <= 60 else 0  # type: ignore[operator]


class _Reader:
    """Reads label columns one after the other; what -1 means shows once all are known."""

    def __init__(self, table: Table, config: DataConfig, label_set: LabelSet | None) -> None:
        self._table, self._config = table, config
        self._given = label_set is not None
        self._known = {} if label_set is None else lookup(label_set)
        self._kept = {word.casefold() for word in config.keep_as_label}
        self._found: dict[str, tuple[Kind, pl.Series]] = {}
        self._missing: dict[str, tuple[int, list[str]]] = {}
        self._notes: list[str] = []

    def add(self, column: str, *, named: bool) -> None:
        """Look at one column; `named`: in the options or the label set."""
        cells, by_name = self._table.frame[column], column.lower() in _WORDS
        if not (named or by_name) and (cells.dtype == pl.List or _few_words(cells) is None):
            return  # text, numbers or lists that nothing calls labels
        raw, gone = cells, dict[str, int]()
        if cells.dtype == pl.String:
            cells, gone = self._without_missing(cells)
            if named or by_name:
                cells = self._unspelt(column, cells)
        if cells.dtype == pl.List:
            self._refuse_vectors(column, cells)
            cells, inside = self._without_missing(cells)
            gone = gone | inside
        kind = self._kind(column, cells, named=named, by_name=by_name)
        if kind == "one-hot":
            self._keep(column, kind, marked(raw, gone), gone)
        elif kind is not None:
            self._keep(column, kind, cells, gone)
            filled = cells.list.len().fill_null(0) > 0 if cells.dtype == pl.List else cells != ""
            if not filled.any():
                self._notes.append(f"'{column}' is blank in every row, so it is left out.")

    def add_one_hot(self, column: str) -> None:
        """A column that the table's label set names."""
        raw = self._table.frame[column]
        cells, gone = self._without_missing(raw)
        self._refuse_others(column, cells)
        self._keep(column, "one-hot", marked(raw, gone), gone)

    def _keep(self, column: str, kind: Kind, cells: pl.Series, gone: Mapping[str, int]) -> None:
        """Keep a label column, and which of its words mean unknown."""
        self._found[column] = (kind, cells)
        if gone:
            self._missing[column] = (sum(gone.values()), list(gone))

    def columns(self) -> list[LabelColumn]:
        """The label columns."""
        flags = {name: cells for name, (kind, cells) in self._found.items() if kind == "one-hot"}
        codes, told = read_flags(flags)
        self._notes += told
        found = []
        for name, (kind, cells) in self._found.items():
            if kind != "one-hot":
                self._refuse_ids(name, cells)
            split = kind == "list" and cells.dtype != pl.List
            found.append(LabelColumn(name, kind, self._split(cells) if split else codes.get(name, cells)))
        return found

    def notes(self) -> list[str]:
        """What was guessed."""
        notes = list(self._notes)
        if self._missing:
            count = sum(count for count, _ in self._missing.values())
            words = dict.fromkeys(word for _, found in self._missing.values() for word in found)
            shown = ", ".join(f"'{word}'" for word in words)
            holding = "1 cell holds" if count == 1 else f"{count:,} cells hold"
            wordy = [name for name in self._missing if self._found[name][0] != "one-hot"]
            keep = f"; --keep-as-label {self._missing[wordy[0]][1][0]} takes it for a label" if wordy else ""
            notes.append(f"{holding} {shown} in {named_columns(self._missing)}: unknown{keep}.")
        return notes

    def _without_missing(self, cells: pl.Series) -> tuple[pl.Series, dict[str, int]]:
        """The cells, blank where a word means that nothing is known, and these words with their counts."""
        if cells.dtype == pl.List:
            missing = self._missing_in(cells.explode().drop_nulls())
            return (_without(cells, missing), missing) if missing else (cells, {})
        missing = self._missing_in(cells)
        if missing:
            cells = cells.replace(dict.fromkeys(missing, ""))
        return cells, missing

    def _missing_in(self, words: pl.Series) -> dict[str, int]:
        """Words that mean that nothing is known, and how often they occur, the most frequent first."""
        there = words.unique()
        found = there.filter(there.str.to_lowercase().is_in(list(MISSING - self._kept)))
        if not len(found):
            return {}
        counts = words.filter(words.is_in(found.to_list())).value_counts(name="count").iter_rows()
        return dict(sorted(counts, key=lambda row: (-row[1], row[0])))

    def _unspelt(self, column: str, cells: pl.Series) -> pl.Series:
        """The cells as lists, where they spell lists."""
        values = cells.unique(maintain_order=True).to_list()
        bracketed = [value for value in values if is_bracketed(value)]
        if not bracketed:
            return cells
        lists = {value: spelt_list(value) for value in bracketed}
        if not any(found is not None for found in lists.values()):
            if not all(value == "" or value[:1] + value[-1:] == "{}" for value in values):
                return cells
            lists = {value: braced_list(value) for value in bracketed}
        wrong = next((value for value, found in lists.items() if found is None and value[0] != "("), None)
        if wrong is not None:
            where = f"'{column}' in {self._table.first(cells == wrong)} of {self._table.path}"
            raise ManifestError.expected(f"{where} to be a list of labels", f"'{wrong[:60]}'", "correcting it")
        words = {value: lists.get(value) for value in values if value}
        plain = {value: _parted(value, self._config.delimiter) for value, found in words.items() if found is None}
        spelt = [(words[cell] if words[cell] is not None else plain[cell]) if cell else None for cell in cells]
        self._notes.append(f"'{column}' holds lists such as {bracketed[0][:60]}: read as the labels inside.")
        return pl.Series(cells.name, spelt, pl.List(pl.String))

    def _refuse_vectors(self, column: str, cells: pl.Series) -> None:
        """Refuse lists that are rows of ones and zeros."""
        filled = cells.list.len().fill_null(0) > 0
        lists = cells.filter(filled).unique(maintain_order=True).to_list()
        if are_vectors(lists):
            where = f"'{column}' in {self._table.first(filled)} of {self._table.path}"
            got = f"the row of numbers [{', '.join(lists[0])}]"
            fix = "a column of 1 and 0 for each label"
            raise ManifestError.expected(f"{where} to be a list of labels", got[:80], fix)

    def _kind(self, column: str, cells: pl.Series, *, named: bool, by_name: bool) -> Kind | None:
        """How a column is written; None where it holds no labels."""
        low = column.lower()
        if cells.dtype == pl.List:
            return "list" if named or by_name else None
        plural = low in _LISTS or (low.endswith("s") and not low.endswith("ss"))
        delimiter = self._config.delimiter
        wordy: Kind = "list" if plural or (delimiter and _holds(cells, delimiter)) else "category"
        in_set = self._given and column in self._known
        if by_name and self._given and not in_set:
            return wordy  # values of the set, even where they are class numbers
        words = _few_words(cells)
        if words is not None and not words:
            return "one-hot" if in_set else wordy if named or by_name else None
        likely = FLAG_WORDS if by_name else frozenset(FLAGS)  # "x" in a column of categories is one
        if words is not None and words <= likely and are_flags(words, named=named):
            return "one-hot"
        mostly = (words is None or bool(words & FLAG_WORDS)) and mostly_flags(cells)
        if named and not by_name and not mostly and _numeric(cells):
            if not cells.filter(cells != "").str.contains(r"^-?\d+(\.0+)?$").all():
                self._refuse_others(column, cells)  # shares, which are no labels
            return wordy  # codes
        if mostly:
            filled, flags = (
                count_filled(cells),
                count_filled(cells.filter(cells.str.to_lowercase().is_in(list(FLAG_WORDS)))),
            )
            few = filled - flags <= (filled // 10 if by_name else max(1, filled // 10))
            if few:
                self._refuse_others(column, cells)
            if not (named or by_name):
                other = cells.filter((cells != "") & ~cells.str.to_lowercase().is_in(list(FLAG_WORDS)))
                self._notes.append(
                    f"'{column}' isn't taken for a label: {filled - flags:,} of its {filled:,} cells are neither 1 nor "
                    f"0, such as '{other[0]}'; --labels with its name takes it."
                )
        return wordy if named or by_name else None

    def _refuse_others(self, column: str, cells: pl.Series) -> None:
        """Refuse anything but yes, no and blank."""
        is_word = cells.dtype == pl.String
        wrong = ~cells.str.to_lowercase().is_in([*FLAGS, ""]) if is_word else pl.Series([True])
        if wrong.any():
            raise ManifestError.expected(
                f"'{column}' in {self._table.first(wrong)} of {self._table.path} to be 1, 0 or blank",
                f"'{cells.filter(wrong)[0]}'" if is_word else "a list",
                "correcting it, or --labels with the label columns alone",
            )

    def _refuse_ids(self, column: str, cells: pl.Series) -> None:
        words = cells.explode().drop_nulls() if cells.dtype == pl.List else cells
        values, filled = words.n_unique(), count_filled(words)
        if values > _MOST_VALUES or (values > _MANY_VALUES and 2 * values > filled):
            raise ManifestError.expected(
                f"'{column}' of {self._table.path} to be a category, with several photos a value",
                f"{values:,} values on {filled:,} photos",
                "--labels without it",
            )

    def _split(self, cells: pl.Series) -> pl.Series:
        """The words of each cell; null where it is blank."""
        delimiter: str = self._config.delimiter or next((d for d in ("|", ";", ",") if _holds(cells, d)), " ")
        if delimiter == " " and self._config.delimiter is None and _holds(cells, " "):
            whole = cells.filter(cells.str.contains(" ", literal=True))[0]
            note = f"'{cells.name}' is parted at blanks, such as '{whole}'; --delimiter '|' keeps them whole."
            self._notes.append(note)
        words = cells.str.split(delimiter).list.eval(pl.element().str.strip_chars())
        words = words.list.eval(pl.element().filter(pl.element() != ""))
        missing = self._missing_in(words.explode().drop_nulls())
        if missing:
            words = _without(words, missing)
            self._missing[cells.name] = (sum(missing.values()), list(missing))
        return pl.select(pl.when(words.list.len() > 0).then(words)).to_series().alias(cells.name)


def _without(cells: pl.Series, words: Iterable[str]) -> pl.Series:
    """Lists without some words; null where nothing else stood there."""
    left = cells.list.eval(pl.element().filter(~pl.element().is_in(list(words))))
    emptied = (left.list.len() == 0) & (cells.list.len() > 0)
    return pl.select(pl.when(~emptied).then(left)).to_series().alias(cells.name)


def _parted(cell: str, delimiter: str | None) -> list[str]:
    """The words of a cell that spells no list, beside others that do."""
    parts = cell.split(delimiter) if delimiter else re.split(r"[|;,]", cell)
    return [part.strip() for part in parts if part.strip()]


def _few_words(cells: pl.Series) -> set[str] | None:
    """The words of a column in lower case, without the blank; None where there are many."""
    if cells.head(2000).n_unique() > _MOST_FLAGS:
        return None
    words = cells.unique()
    return None if len(words) > _MOST_FLAGS else set(words.str.to_lowercase().to_list()) - {""}


def _numeric(cells: pl.Series) -> bool:
    return bool(cells.filter(cells != "").cast(pl.Float64, strict=False).is_not_null().all())


def _holds(cells: pl.Series, delimiter: str) -> bool:
    return bool(cells.str.contains(delimiter, literal=True).any())
