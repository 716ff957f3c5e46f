"""A list of URLs, read as a stream: however long it is, only a few rows are in memory at a time.

CSV, TSV, JSONL and Parquet with a URL column, the JD challenge's text files, and plain lists of URLs.
"""

from __future__ import annotations

import csv
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

import polars as pl

from modiste.challenge import SHAPES, shape_of
from modiste.errors import ManifestError
from modiste.labels import LabelSet
from modiste.roles import ROLES
from modiste.tables import check_file, flat, labels_beside, separator, word

_STEM = 120  # bytes of a file's name before its suffix; file systems allow 255 in all
_CHUNK = 20_000  # rows of a Parquet file read at a time

Read = Callable[[], Iterator[Sequence[str]]]


@dataclass(frozen=True)
class Row:
    """One photo to fetch: its file's name without suffix, its URL ("" is none), and the cells of its row."""

    name: str
    url: str
    cells: Sequence[str]


@dataclass(frozen=True)
class Listing:
    """Rows of a file that name a URL each.

    Attributes:
        path: the file.
        columns: names of the cells of each row.
        roles: positions in `columns` of "url" and, where there are any, of "id" and "path".
        read: gives the rows' cells from the first one on, each time it is called.
        labels: the label set, where the file says what its label columns are.
    """

    path: Path
    columns: tuple[str, ...]
    roles: dict[str, int]
    read: Read
    labels: LabelSet | None = None

    @classmethod
    def open(cls, path: Path | str, *, url_column: str | None = None, id_column: str | None = None) -> Self:
        """Look at the file's beginning.

        Raises:
            ManifestError: it is missing or empty, or names no URLs.
        """
        path = Path(path)
        check_file(path)
        if path.is_dir():
            raise ManifestError.expected(f"{path} to be a list of URLs", "a folder", "a table with a URL column")
        columns, read, labels = open_table(path)
        asked = {"url": url_column, "id": id_column}
        roles: dict[str, int] = {}
        lower = {name.lower(): k for k, name in reversed(list(enumerate(columns)))}
        for role in ("url", "id", "path"):
            names = ("id",) if role == "id" else ROLES[role]  # a product_id may have several photos
            free = (name for name in names if name in lower and lower[name] not in roles.values())
            name = asked.get(role) or next(free, None)
            if name is not None and name.lower() in lower:
                roles[role] = columns.index(name) if name in columns else lower[name.lower()]
            elif role == "url" or asked.get(role):
                known = ", ".join(f"'{column}'" for column in columns[:20])
                fix = "--id-column" if role == "id" else "--url-column with one of these"
                raise ManifestError.expected(f"a column of {role}s in {path}", f"only {known}", fix)
        return cls(path, columns, roles, read, labels)

    def rows(self) -> Iterator[Row]:
        """Every row, in order.

        Raises:
            ManifestError: a row can't be read.
        """
        url, id_, place = (self.roles.get(role) for role in ("url", "id", "path"))
        for cells in self.read():
            named = cells[id_] if id_ is not None else ""
            if not named and place is not None:
                named = cells[place].removesuffix(".jpg")
            address = cells[url].strip()  # type: ignore[index]
            yield Row(file_stem(named) if named else _digest(address), address, cells)

    def estimate(self) -> int:
        """About how many rows there are."""
        return estimate(self.path)


def estimate(path: Path) -> int:
    """About how many rows a table has: lines of a text file, rows of Parquet."""
    if path.suffix.lower() == ".parquet":
        return int(_scan(path).select(pl.len()).collect().item())
    with path.open("rb") as file:
        return sum(block.count(b"\n") for block in iter(partial(file.read, 1 << 20), b""))


def file_stem(id_: str) -> str:
    """A file name for an id, without suffix: letters, digits, "_" and "-", so that no id leaves its folder.

    An id that has anything else in it, or is long, gets a digest behind it, so that two ids never share a name.
    """
    plain = re.sub(r"[^\w-]+", "_", id_)
    short = plain.encode()[:_STEM].decode(errors="ignore")
    return id_ if short == id_ else f"{short.strip('_')}-{_digest(id_)[:12]}".lstrip("-")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:20]


def open_table(path: Path) -> tuple[tuple[str, ...], Read, LabelSet | None]:
    """Columns of a table, what reads its rows as a stream, and the label set beside it.

    Raises:
        ManifestError: it can't be read.
    """
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        try:
            names = {name: dtype for name, dtype in pl.read_parquet_schema(path).items() if flat(dtype)}
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
        labels = LabelSet.read("jd2018")
        pattern = re.compile(SHAPES[shape])
        flags = labels.ids if "flags" in pattern.groupindex else ()
        columns = (*(name for name in ("id", "url", "fold") if name in pattern.groupindex), *flags)
        return columns, partial(_challenge, path, shape, pattern), labels if flags else None
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
