"""Table: rows of photos as words, before anyone asks what the columns mean.

Every cell is a stripped word, "" where it is blank, or a list of words; numbers and booleans are spelt out ("1",
"0.0", "true").
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from modiste.errors import ManifestError
from modiste.labels import LabelSet

_RECORD = "\0record"
_SHOWN = 6  # columns in a sentence


class Row(NamedTuple):
    """A row of a table as a stream reads it.

    Attributes:
        number: where it stands in the file, as of `Table.lines`.
        cells: a word a column.
    """

    number: int
    cells: Sequence[str]


@dataclass(frozen=True)
class Table:
    """Rows as they stand in a file.

    Attributes:
        frame: columns of str ("" is blank) or list[str] (null is blank, an empty list is none of the labels).
        path: the file or folder, for messages.
        lines: (n,) int, where each row stands in the file: its line where it is text, else its number from 1.
        label_set: the label set, where the file itself says what its one-hot columns are.
        roles: roles of columns that the file's format settles, such as "url": "Image Src".
        notes: what was guessed, mended or left out, a sentence each.
        facts: columns that the file's format settles to be no labels.
        added: columns that the file doesn't have.
    """

    frame: pl.DataFrame
    path: Path
    lines: np.ndarray
    label_set: LabelSet | None = None
    roles: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    facts: tuple[str, ...] = ()
    added: tuple[str, ...] = ()

    def row(self, k: int) -> str:
        """Where row `k` stands, as words: the line of a text file (its header is line 1), the row of another."""
        return str(self.frame["path"][k]) if self.path.is_dir() else f"row {int(self.lines[k])}"

    def first(self, mask: pl.Series) -> str:
        """Where the first row that `mask` marks stands, as words."""
        return self.row(int(mask.arg_true()[0]))


def words_table(
    frame: pl.DataFrame,
    path: Path,
    lines: np.ndarray | None = None,
    label_set: LabelSet | None = None,
    *,
    roles: Mapping[str, str] | None = None,
    notes: tuple[str, ...] = (),
) -> Table:
    """Spell out every cell; drop nameless columns, nested columns, which a note names, and blank rows.

    Raises:
        ManifestError: no row is left, or two columns have one name.
    """
    lines = np.arange(1, len(frame) + 1) if lines is None else lines
    frame = frame.with_columns(
        pl.col(n).arr.to_list() for n, kind in frame.schema.items() if isinstance(kind, pl.Array)
    )
    named = [name.strip() for name in frame.columns]
    twice = next((name for name in named if name and named.count(name) > 1), None)
    if twice is not None:
        raise ManifestError.expected(f"columns of {path} to differ", f"'{twice}' twice", "renaming one of them")
    frame = frame.rename(dict(zip(frame.columns, named, strict=True))) if named != frame.columns else frame
    known = {name: dtype for name, dtype in frame.schema.items() if name and not name.startswith("\0")}
    notes = (*notes, *nested_note([name for name, dtype in known.items() if not is_flat(dtype)]))
    frame = frame.select(word(name, dtype) for name, dtype in known.items() if is_flat(dtype))
    blank = pl.all_horizontal(
        pl.col(name).list.len().fill_null(0) == 0 if dtype == pl.List else pl.col(name) == ""
        for name, dtype in frame.schema.items()
    )
    frame = frame.with_row_index(_RECORD).filter(~blank) if frame.width else frame
    if not len(frame):
        raise empty(path)
    return Table(frame.drop(_RECORD), path, lines[frame[_RECORD].to_numpy()], label_set, roles or {}, notes)


def column_key(name: str) -> str:
    """A column's name in lower case, with "_" for blanks, without the "g:" of feeds."""
    return re.sub(r"^g:|^\ufeff", "", re.sub(r"[\s_]+", "_", name.strip().lower()))


def is_flat(dtype: pl.DataType) -> bool:
    """Whether a column of this type holds words or lists of words."""
    if isinstance(dtype, pl.List):
        return not dtype.inner.is_nested()  # type: ignore[union-attr]
    return not (dtype.is_nested() or dtype in (pl.Binary, pl.Object))


def nested_note(names: Sequence[str]) -> list[str]:
    """The sentence that names columns whose cells hold objects or bytes, which nobody reads."""
    if not names:
        return []
    shown = ", ".join(f"'{name}'" for name in names[:_SHOWN]) + (
        f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    )
    return [f"{shown}: left out, as the cells hold objects or bytes, not words."]


def word(name: str, dtype: pl.DataType) -> pl.Expr:
    """Column `name` as stripped words, "" where it is blank, or as lists of words."""
    column = pl.col(name)
    if isinstance(dtype, pl.List):
        return column.cast(pl.List(pl.String))
    if dtype.is_float():
        column = column.fill_nan(None)
    spelt = column.str.strip_chars() if dtype == pl.String else column.cast(pl.String)
    return spelt.fill_null("")


def empty(path: Path) -> ManifestError:
    """The error that says that a file has no rows."""
    return ManifestError.expected(f"{path} to list photos", "no rows", "a manifest with at least one row")
