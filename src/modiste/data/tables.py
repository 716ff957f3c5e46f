"""Files and folders -> Table: rows of photos as words, before anyone asks what the columns mean.

A table is CSV, TSV, Parquet, JSONL or a folder of class folders. Every cell becomes a stripped word,
"" where it is blank, or a list of words; numbers and booleans are spelt out ("1", "0.0", "true").
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from modiste.data.images import PHOTO_SUFFIXES
from modiste.errors import ManifestError
from modiste.files import replacing, write_text
from modiste.labels import LabelSet

SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
_TEXT = (".csv", ".tsv", ".txt")


@dataclass(frozen=True)
class Table:
    """Rows as they stand in a file.

    Attributes:
        frame: columns of str ("" is blank) or list[str].
        path: the file or folder, for messages and for `row`.
        records: (n,) int, place of each row among the file's records; blank lines leave gaps.
        label_set: the label set, where the file itself says what its one-hot columns are.
    """

    frame: pl.DataFrame
    path: Path
    records: np.ndarray
    label_set: LabelSet | None = None

    def row(self, k: int) -> str:
        """Where row `k` stands, as words: the line of a text file (its header is line 1), the row of another."""
        record = int(self.records[k])
        if self.path.is_dir():
            return str(self.frame["path"][k])
        return f"row {_line(self.path, record) if self.path.is_file() else record + 1}"

    def first(self, mask: pl.Series) -> str:
        """Where the first row that `mask` marks stands, as words."""
        return self.row(int(mask.arg_true()[0]))


def read_table(path: Path) -> Table:
    """Read a file by its suffix, or a folder of class folders.

    Raises:
        ManifestError: it is missing, empty, not UTF-8, or its rows don't fit its header.
    """
    if path.is_dir():
        return _read_folder(path)
    check_file(path)
    suffix = path.suffix.lower()
    try:
        if suffix == ".parquet":
            frame = pl.read_parquet(path, glob=False)
        elif suffix in (".jsonl", ".ndjson"):
            with path.open("rb") as file:  # read_ndjson has no glob=False: a path may hold "[" or "*"
                frame = pl.read_ndjson(file, infer_schema_length=None)
        else:
            frame = _read_text(path)
    except (pl.exceptions.PolarsError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from error
    return words_table(frame, path)


def beside(path: Path) -> Path:
    """Where the label set of a manifest that modiste wrote stands."""
    return path.with_name(f"{path.stem}.labels.json")


def labels_beside(path: Path) -> LabelSet | None:
    """The label set that stands beside a manifest, where there is one."""
    return LabelSet.read(beside(path)) if beside(path).is_file() else None


def write_labels_beside(path: Path, label_set: LabelSet, root: str) -> None:
    """Write the label set of a manifest, and the folder that its paths start from, seen from its own, beside it."""
    written = {**label_set.to_dict(), "root": root}
    write_text(beside(path), json.dumps(written, ensure_ascii=False, indent=1) + "\n")


def check_file(path: Path) -> None:
    """Refuse a file that is missing or has no bytes."""
    if not path.exists():
        raise ManifestError.expected(f"manifest {path} to exist", "no such file", "another path")
    if not path.stat().st_size:
        raise empty(path)


def words_table(frame: pl.DataFrame, path: Path, label_set: LabelSet | None = None) -> Table:
    """Spell out every cell and drop nameless columns, nested columns and blank rows."""
    frame = frame.rename({name: name.strip() for name in frame.columns})
    frame = frame.select(word(name, dtype) for name, dtype in frame.schema.items() if name and is_flat(dtype))
    blank = pl.all_horizontal(
        pl.col(name).list.len() == 0 if dtype == pl.List else pl.col(name) == "" for name, dtype in frame.schema.items()
    )
    frame = frame.with_row_index(_RECORD).filter(~blank) if frame.width else frame
    if not len(frame):
        raise empty(path)
    return Table(frame.drop(_RECORD), path, frame[_RECORD].to_numpy(), label_set)


def write_table(frame: pl.DataFrame, path: Path) -> None:
    """Write as CSV, TSV, Parquet or JSONL by the suffix, atomically; null is blank."""
    suffix = table_suffix(path)
    with replacing(path, pl.exceptions.ComputeError) as temporary:
        if suffix == ".parquet":
            frame.write_parquet(temporary)
        elif suffix == ".jsonl":
            frame.write_ndjson(temporary)
        else:
            frame.write_csv(temporary, separator="\t" if suffix == ".tsv" else ",")


def table_suffix(path: Path) -> str:
    """The suffix that says how a table is written, in lower case.

    Raises:
        ManifestError: it says no such thing.
    """
    suffix = path.suffix.lower()
    if suffix not in (".csv", ".tsv", ".parquet", ".jsonl"):
        raise ManifestError.expected(
            "a manifest to be written as .csv, .tsv, .parquet or .jsonl", f"'{path.name}'", "one of these suffixes"
        )
    return suffix


_RECORD = "\0record"


def is_flat(dtype: pl.DataType) -> bool:
    """Whether a column of this type holds words or lists of words."""
    if isinstance(dtype, pl.List):
        return not dtype.inner.is_nested()  # type: ignore[union-attr]
    return not (dtype.is_nested() or dtype in (pl.Binary, pl.Object))


def word(name: str, dtype: pl.DataType) -> pl.Expr:
    """Column `name` as stripped words, "" where it is blank, or as lists of words."""
    column = pl.col(name)
    if isinstance(dtype, pl.List):
        return column.cast(pl.List(pl.String)).fill_null([])
    if dtype.is_float():
        column = column.fill_nan(None)
    word = column.str.strip_chars() if dtype == pl.String else column.cast(pl.String)
    return word.fill_null("")


def _read_text(path: Path) -> pl.DataFrame:
    header = [name.strip() for name in next(_rows(path))[1]]
    named = [name for name in header if name]
    twice = next((name for name in named if named.count(name) > 1), None)
    if twice is not None:
        raise ManifestError.expected(f"columns of {path} to differ", f"'{twice}' twice", "renaming one of them")
    frame = pl.read_csv(
        path,
        separator=separator(path),
        glob=False,
        infer_schema=False,
        # Kaggle's styles.csv has bare commas in its last column, which is no label
        truncate_ragged_lines=named[-1:] == ["productDisplayName"],
    )
    frame.columns = [name or f"\0{k}" for k, name in enumerate(header)]  # polars leaves doubled quotes in names
    return frame.select(named)


def separator(path: Path) -> str:
    """What stands between a file's fields: tab in .tsv, else what its header has most: spreadsheets write ; and tab."""
    if path.suffix.lower() == ".tsv":
        return "\t"
    with path.open(encoding="utf-8-sig") as file:
        header = file.readline()
    return max((",", "\t", ";"), key=header.count)


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Line number and fields of each record of a text file, the header first."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader, line = csv.reader(file, delimiter=separator(path)), 1
        for fields in reader:
            yield line, fields
            line = reader.line_num + 1  # a quoted field may hold line ends


def _line(path: Path, record: int) -> int:
    suffix = path.suffix.lower()
    if suffix in (".jsonl", ".ndjson"):
        with path.open(encoding="utf-8") as file:
            filled = (number for number, text in enumerate(file, 1) if text.strip())
            return next(number for k, number in enumerate(filled) if k == record)
    if suffix == ".parquet":
        return record + 1
    return next((line for k, (line, _) in enumerate(_rows(path)) if k == record + 1), record + 2)


def empty(path: Path) -> ManifestError:
    """The error that says that a file has no rows."""
    return ManifestError.expected(f"{path} to list photos", "no rows", "a manifest with at least one row")


def _unreadable(path: Path, error: Exception) -> ManifestError:
    """Name the row that polars could not read; it only gives a byte offset, or nothing."""
    suffix = path.suffix.lower()
    if isinstance(error, UnicodeDecodeError) or "utf-8" in str(error):
        known = "CSV, TSV, Parquet, JSONL or a folder" if suffix not in _TEXT else "text in UTF-8"
        return ManifestError.expected(f"{path} to be {known}", "bytes of another encoding", "saving it as UTF-8")
    if suffix in (".jsonl", ".ndjson"):
        for number, text in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            if text.strip() and not _is_object(text):
                return ManifestError.expected(f"row {number} of {path} to be a JSON object", text[:40], "correcting it")
    elif suffix != ".parquet":
        rows = _rows(path)
        width = len(next(rows)[1])
        for line, fields in rows:
            if len(fields) > width:
                return ManifestError.expected(
                    f"row {line} of {path} to have {width} fields like its header",
                    len(fields),
                    "quotes around fields that hold the separator",
                )
    reason = str(error).split("\n", maxsplit=1)[0]
    return ManifestError.expected(f"{path} to be readable by its suffix", f"'{reason}'", "correcting the file")


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


def _read_folder(root: Path) -> Table:
    """Class folders, or train/val/test folders of class folders -> columns path, split, class.

    A photo that lies in several class folders under one name with the same bytes is one photo of
    several classes; `class` is then a list column. Photos outside class folders have no class.
    """
    folders = [entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith(".")]
    depth = int(bool(folders) and all(name.lower() in SPLITS for name in folders))
    named: dict[tuple[str, str], list[Path]] = defaultdict(list)
    for file in sorted(root.rglob("*")):
        parts = file.relative_to(root).parts
        if file.suffix.lower() in PHOTO_SUFFIXES and not any(p.startswith(".") for p in parts) and len(parts) > depth:
            named["".join(parts[:depth]), file.name].append(file)
    rows = []
    for (split, _), files in named.items():
        for same in _identical(files):
            classes = {file.relative_to(root).parts[depth] for file in same if file.parent != root / split}
            rows.append((same[0].relative_to(root).as_posix(), split, sorted(classes)))
    if not rows:
        raise ManifestError.expected(f"{root} to hold folders of photos", "no photo", "one folder a class")
    rows.sort()
    frame = pl.DataFrame(
        rows, schema={"path": pl.String, "split": pl.String, "class": pl.List(pl.String)}, orient="row"
    )
    if all(len(classes) <= 1 for _, _, classes in rows):
        frame = frame.with_columns(pl.col("class").list.first().fill_null(""))
    return Table(frame if depth else frame.drop("split"), root, np.arange(len(frame)))


def _identical(files: list[Path]) -> Iterator[list[Path]]:
    """Files of one name -> lists of those with identical bytes; hashed only where sizes are equal."""
    by_size: dict[int, list[Path]] = defaultdict(list)
    for file in files:
        by_size[file.stat().st_size if len(files) > 1 else 0].append(file)
    for equal in by_size.values():
        by_bytes: dict[bytes, list[Path]] = defaultdict(list)
        for file in equal:
            by_bytes[hashlib.sha256(file.read_bytes()).digest() if len(equal) > 1 else b""].append(file)
        yield from by_bytes.values()
