"""Columns that look like labels: named where a table has none, and where others are used."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import polars as pl

from modiste.data.cells import FLAGS, LETTERS, MARKS
from modiste.data.formats.products import NO_LABELS
from modiste.data.label_columns import could_be_category
from modiste.data.table import Table
from modiste.errors import ManifestError
from modiste.words import counted

_SAMPLE = 10_000  # rows that show what a column looks like
_YES_OR_NO = sorted(frozenset(FLAGS) - MARKS - LETTERS)


def likely_labels(frame: pl.DataFrame, columns: Iterable[str], *, most: int | None = None) -> dict[str, int]:
    """Columns that look like categories or hold yes and no, and how many values each has.

    A random sample of the rows sorts out most columns, so that long tables with many columns cost little; only what it
    leaves is read whole.

    Args:
        frame: columns of words, or of lists of words.
        columns: those to look at.
        most: columns to count whole; the values of further ones are counted in the sample.
    """
    sample = frame if len(frame) <= _SAMPLE else frame.sample(_SAMPLE, seed=0)
    found: dict[str, int] = {}
    for name in columns:
        values = _values(sample[name])
        if values and len(sample) < len(frame) and (most is None or len(found) < most):
            values = _values(frame[name])
        if values >= 2:
            found[name] = values
    return found


def likely_codes(frame: pl.DataFrame, columns: Iterable[str]) -> dict[str, int]:
    """Columns of whole numbers that may be class numbers, few of them with several photos each."""
    found = {}
    for name in columns:
        cells = frame[name]
        if cells.dtype == pl.String and cells.filter(cells != "").str.contains(r"^\d+(\.0+)?$").all():
            found[name] = could_be_category(pl.select(pl.when(cells != "").then(pl.lit("n") + cells)).to_series())
    return {name: values for name, values in found.items() if values}


def no_labels(table: Table, candidates: Sequence[str]) -> ManifestError:
    """The error that names the columns that look like labels, and an option that takes them."""
    if table.path.is_dir():
        got = f"{counted(len(table.frame), 'photo')} outside of any"
        fix = "moving them into one folder a class, or a table of photos and labels"
        return ManifestError.expected(f"{table.path} to hold a folder for each class", got, fix)
    found = likely_labels(table.frame, candidates) or likely_codes(table.frame, candidates)
    likely = sorted((values, name) for name, values in found.items())
    if not likely:
        known = "only " + ", ".join(f"'{name}'" for name in table.frame.columns)
        fix = "--labels with the names of the label columns" if candidates else "adding a column of labels"
        return ManifestError.expected(f"label columns in {table.path}", known, fix)
    shown = ", ".join(f"'{name}' ({values:,} values)" for values, name in likely)
    fix = f"--labels {','.join(name for _, name in likely[:2])}" + (", or others of these" if len(likely) > 2 else "")
    return ManifestError.expected(f"label columns in {table.path}", f"only columns that look like them: {shown}", fix)


def _values(cells: pl.Series) -> int:
    """How many values a column has; 0 where it looks like no label."""
    if cells.dtype == pl.String and cells.head(100).n_unique() <= len(_YES_OR_NO):
        filled = cells.filter(cells != "")
        if filled.str.to_lowercase().is_in(_YES_OR_NO).all():
            return 0 if cells.name.lower().startswith(NO_LABELS) else filled.n_unique()
    return could_be_category(cells)
