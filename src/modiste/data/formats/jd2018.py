"""The text files of the JD AI Fashion Challenge (2018), which have no header.

    training list        ID,URL,l1,...,l13
    test list            ID,URL
    five official folds  fold,ID_l1_..._l13.jpg     folds are numbered from 1
    submission           ID,l1,...,l13              "\\n" ends each line

l1..l13 are 0 or 1 in the order of the label set "jd2018".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl

from modiste.data.table import Row, Table, words_table
from modiste.errors import ManifestError
from modiste.files import write_text
from modiste.labels import LabelSet

LABELS = 13
# Tried in this order: what stands first is the narrower shape.
SHAPES = {
    "fold,ID_l1_..._l13.jpg": r"^(?P<fold>\d+),(?P<path>(?P<id>[^,]+?)(?P<flags>(?:_[01]){13})\.\w+)$",
    "ID,URL,l1,...,l13": r"^(?P<id>[^,]+),(?P<url>\w+://.*?)(?P<flags>(?:,[01]){13})$",
    "ID,l1,...,l13": r"^(?P<id>[^,]+)(?P<flags>(?:,[01]){13})$",
    "ID,URL": r"^(?P<id>[^,]+),(?P<url>\w+://\S+)$",
}


def shape_of(line: str) -> str | None:
    """The key of SHAPES whose pattern a first line has, without the blanks around it; None where it has none."""
    return next((shape for shape, pattern in SHAPES.items() if re.match(pattern, line.strip())), None)


@dataclass(frozen=True)
class ChallengeRows:
    """Rows of a list.

    Attributes:
        columns: id, where given path (the file name in the list), url and fold, and the labels by the ids of "jd2018",
            which the test list leaves out.
        read: gives the rows from the first one on, each time it is called.
        label_set: "jd2018".
    """

    columns: tuple[str, ...]
    read: Callable[[], Iterator[Row]]
    label_set: LabelSet


def challenge_rows(path: Path) -> ChallengeRows | None:
    """Look at a file, in which lines that begin with # are remarks; None where it has none of the shapes."""
    first = next(_lines(path), None)
    shape = None if first is None else shape_of(first[1])
    if shape is None:
        return None
    label_set, groups = LabelSet.read("jd2018"), re.compile(SHAPES[shape]).groupindex
    names = [name for name in ("id", "path", "url", "fold") if name in groups]
    labels = label_set.ids if "flags" in groups else ()
    return ChallengeRows((*names, *labels), partial(_rows, path, shape, names), label_set)


def read_challenge(path: Path) -> Table | None:
    """Read a whole list; where it gives no path, the photo is called "ID.jpg". None where it has none of the shapes.

    Raises:
        ManifestError: a later line has another shape.
    """
    if not path.is_file() or path.suffix.lower() not in (".txt", ".csv", ""):
        return None
    rows = challenge_rows(path)
    if rows is None:
        return None
    lines, cells = zip(*rows.read(), strict=True)
    frame = pl.DataFrame(cells, schema=dict.fromkeys(rows.columns, pl.String), orient="row")
    if "path" not in frame.columns:
        frame = frame.with_columns((pl.col("id") + ".jpg").alias("path"))
    return words_table(frame, path, np.array(lines), rows.label_set)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Lines that hold anything, with their numbers."""
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        for number, line in enumerate(file, 1):
            if line.strip() and not line.startswith("#"):
                yield number, line.strip()


def _rows(path: Path, shape: str, names: Sequence[str]) -> Iterator[Row]:
    pattern = re.compile(SHAPES[shape])
    for number, line in _lines(path):
        found = pattern.match(line)
        if found is None:
            raise ManifestError.expected(f"row {number} of {path} to be '{shape}'", f"'{line[:60]}'", "correcting it")
        groups = found.groupdict()  # flags are "_0_1..." or ",0,1..."
        yield Row(number, [groups[name] for name in names] + list((groups.get("flags") or "")[1::2]))


def write_submission(path: Path | str, ids: Sequence[str], decisions: np.ndarray) -> None:
    """Write `format_submission` to a file, atomically."""
    write_text(path, format_submission(ids, decisions))


def format_submission(ids: Sequence[str], decisions: np.ndarray) -> str:
    """One line "ID,l1,...,l13" a photo, each ended by "\\n".

    Args:
        ids: n photo ids, in the order of the lines.
        decisions: (n, 13) 0 or 1, labels in the order of "jd2018".

    Raises:
        ManifestError: another shape, other values, an id that stands twice or holds a comma or a space.
    """
    decisions = np.asarray(decisions)
    if decisions.shape != (len(ids), LABELS) or not np.isin(decisions, (0, 1)).all():
        got = f"shape {decisions.shape} with values from {decisions.min(initial=0)} to {decisions.max(initial=0)}"
        raise ManifestError.expected(f"decisions to be ({len(ids)}, {LABELS}) of 0 and 1", got, "thresholded scores")
    column = pl.Series("id", ids, dtype=pl.String)
    wrong = column.is_duplicated() | column.str.contains(r"[,\s]|^$")
    if wrong.any():
        got = f"'{column.filter(wrong)[0]}'"
        raise ManifestError.expected("ids to differ and to hold no comma or space", got, "the challenge's own ids")
    frame = pl.DataFrame(decisions.astype(np.int8), schema=[f"l{k + 1}" for k in range(LABELS)])
    return frame.insert_column(0, column).write_csv(include_header=False, quote_style="never")
