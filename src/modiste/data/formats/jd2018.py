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
from pathlib import Path

import numpy as np
import polars as pl

from modiste.data.table import Table, words_table
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


def read_challenge(path: Path) -> Table | None:
    """Read a file whose first line has one of the challenge's shapes; None where it has not.

    Columns: id, path (the file name in the list, else "ID.jpg"), where given url and fold, and the
    13 labels by the ids of "jd2018", which the test list leaves out.

    Raises:
        ManifestError: a later line has another shape.
    """
    if not path.is_file() or path.suffix.lower() not in (".txt", ".csv", ""):
        return None
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        shape = shape_of(file.readline())
    if shape is None:
        return None
    lines = pl.Series(path.read_text(encoding="utf-8-sig", errors="replace").split("\n")).str.strip_chars()
    filled = (lines != "").arg_true()
    fields = lines.gather(filled).str.extract_groups(SHAPES[shape]).struct.unnest()
    wrong = fields["id"].is_null()
    if wrong.any():
        line = int(filled[int(wrong.arg_true()[0])])
        raise ManifestError.expected(
            f"row {line + 1} of {path} to be '{shape}'", f"'{lines[line][:60]}'", "correcting it"
        )
    label_set = LabelSet.read("jd2018")
    columns = [pl.col(name) for name in ("id", "path", "url", "fold") if name in fields.columns]
    if "path" not in fields.columns:
        columns.append((pl.col("id") + ".jpg").alias("path"))
    if "flags" in fields.columns:  # "_0_1..." or ",0,1...": label k is character 2 k + 1
        columns += [pl.col("flags").str.slice(2 * k + 1, 1).alias(label) for k, label in enumerate(label_set.ids)]
    return words_table(fields.select(columns), path, filled.to_numpy() + 1, label_set)


def challenge_rows(path: Path) -> tuple[tuple[str, ...], Callable[[], Iterator[list[str]]], LabelSet | None] | None:
    """Columns of a file whose first line has one of the shapes, what reads its rows as a stream, and the label set.

    None where it has none.
    """
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        first = next((line.strip() for line in file if line.strip() and not line.startswith("#")), "")
    shape = shape_of(first)
    if shape is None:
        return None
    label_set, pattern = LabelSet.read("jd2018"), re.compile(SHAPES[shape])
    flags = label_set.ids if "flags" in pattern.groupindex else ()
    names = [name for name in ("id", "url", "fold") if name in pattern.groupindex]

    def read() -> Iterator[list[str]]:
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            lines = (line.strip() for line in file if line.strip() and not line.startswith("#"))
            for number, line in enumerate(lines, 1):
                found = pattern.match(line)
                if found is None:
                    want = f"photo {number} of {path} to be '{shape}'"
                    raise ManifestError.expected(want, f"'{line[:60]}'", "correcting it")
                groups = found.groupdict()
                yield [groups[name] for name in names] + list((groups.get("flags") or "")[1::2])

    return (*names, *flags), read, label_set if flags else None


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
