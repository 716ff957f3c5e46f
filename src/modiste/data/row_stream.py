"""Rows of a table as a stream of words: however long it is, only a few rows are in memory at a time.

CSV, TSV, JSONL and Parquet, the text files of the JD AI Fashion Challenge, and plain lists of URLs.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from modiste.data.jd2018 import SHAPES, shape_of
from modiste.data.tables import is_flat, labels_beside, separator, word
from modiste.errors import ManifestError
from modiste.labels import LabelSet

_CHUNK = 20_000  # rows of a Parquet file read at a time


Read = Callable[[], Iterator[Sequence[str]]]


def estimate(path: Path) -> int:
    """About how many rows a table has: lines of a text file, rows of Parquet."""
    if path.suffix.lower() == ".parquet":
        return int(_scan(path).select(pl.len()).collect().item())
    with path.open("rb") as file:
        return sum(block.count(b"\n") for block in iter(partial(file.read, 1 << 20), b""))


def open_table(path: Path) -> tuple[tuple[str, ...], Read, LabelSet | None]:
    """Columns of a table, what reads its rows as a stream, and the label set beside it.

    Raises:
        ManifestError: it can't be read.
    """
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        try:
            names = {name: dtype for name, dtype in _scan(path).collect_schema().items() if is_flat(dtype)}
        except pl.exceptions.PolarsError as error:
            raise _unreadable(path, error) from error
        return tuple(names), partial(_parquet, path, names), labels_beside(path)
    if suffix in (".jsonl", ".ndjson"):
        columns = tuple(dict.fromkeys(key for record in _json(path) for key in record))
        return columns, partial(_jsonl, path, columns), labels_beside(path)
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        first = next((line.strip() for line in file if line.strip() and not line.startswith("#")), "")
    shape = shape_of(first)
    if shape is not None:
        label_set = LabelSet.read("jd2018")
        pattern = re.compile(SHAPES[shape])
        flags = label_set.ids if "flags" in pattern.groupindex else ()
        columns = (*(name for name in ("id", "url", "fold") if name in pattern.groupindex), *flags)
        return columns, partial(_challenge, path, shape, pattern), label_set if flags else None
    if re.match(r"\w+://\S+$", first):
        return ("url",), partial(_lines, path), None
    header = next(_csv(path), [])
    return tuple(header), partial(_table, path, len(header)), labels_beside(path)


def _csv(path: Path) -> Iterator[list[str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            for fields in csv.reader(file, delimiter=separator(path), strict=True):
                if any(fields):
                    yield [field.strip() for field in fields]
    except (csv.Error, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from error


def _table(path: Path, width: int) -> Iterator[list[str]]:
    for number, fields in enumerate(_csv(path), 1):
        if len(fields) > width:
            raise ManifestError.expected(
                f"row {number} of {path} to have {width} fields like its header",
                len(fields),
                "quotes around fields that hold the separator",
            )
        if number > 1:
            yield fields + [""] * (width - len(fields))


def _lines(path: Path) -> Iterator[list[str]]:
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        for line in file:
            if line.strip() and not line.startswith("#"):
                yield [line.strip()]


def _challenge(path: Path, shape: str, pattern: re.Pattern[str]) -> Iterator[list[str]]:
    for number, (line,) in enumerate(_lines(path), 1):
        found = pattern.match(line)
        if found is None:
            raise ManifestError.expected(f"photo {number} of {path} to be '{shape}'", f"'{line[:60]}'", "correcting it")
        groups = found.groupdict()
        flags = groups.get("flags") or ""
        yield [groups[name] for name in ("id", "url", "fold") if name in groups] + list(flags[1::2])


def _json(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                record = None
            if not isinstance(record, dict):
                raise ManifestError.expected(
                    f"row {number} of {path} to be a JSON object", f"'{line[:40].strip()}'", "correcting it"
                )
            yield record


def _jsonl(path: Path, columns: Sequence[str]) -> Iterator[list[str]]:
    for record in _json(path):
        yield [_spelt(record.get(column)) for column in columns]


def _spelt(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, list):
        return "|".join(map(_spelt, value))
    text = value.strip() if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text.encode(errors="replace").decode()  # half of a surrogate pair can't be written


def _parquet(path: Path, names: dict[str, pl.DataType]) -> Iterator[Sequence[str]]:
    lists = [name for name, dtype in names.items() if isinstance(dtype, pl.List)]
    cells = _scan(path).select(word(name, dtype) for name, dtype in names.items())
    cells = cells.with_columns(pl.col(lists).list.join("|"))
    at = 0
    try:
        while len(chunk := cells.slice(at, _CHUNK).collect()):
            yield from chunk.iter_rows()
            at += _CHUNK
    except pl.exceptions.PolarsError as error:
        raise _unreadable(path, error) from error


def _scan(path: Path) -> pl.LazyFrame:
    return pl.scan_parquet(path, glob=False)  # the name may hold "*" or "["


def _unreadable(path: Path, error: Exception) -> ManifestError:
    reason = str(error).split("\n", maxsplit=1)[0]
    return ManifestError.expected(f"{path} to be a list of URLs", f"'{reason}'", "UTF-8 text with a URL column")
