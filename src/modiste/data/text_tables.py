"""Delimited text -> rows of cells: CSV, TSV and what spreadsheets save, read for certain or refused by row.

A file whose quotes all stand where RFC 4180 puts them is read by Polars. In any other, each line is read by itself:
a quote inside a cell that isn't doubled is taken as it stands where the line parts into as many cells as the header
has, and refused where it doesn't, so that no quote ever swallows the rows after it.
"""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import polars as pl

from modiste.data.encodings import find_encoding
from modiste.errors import ManifestError

SEPARATORS = (",", "\t", ";", "|")
_SAMPLE = 20  # data lines that choose between separators
# Free text, so that what stands behind it in its row belongs to it: Kaggle's styles.csv has bare commas there.
_FREE_TEXT = "productDisplayName"


@dataclass(frozen=True)
class TextTable:
    """A table of delimited text, as its first lines show it.

    Attributes:
        path: the file.
        encoding: of its bytes.
        separator: between cells.
        header: the line of the header, from 1.
        names: cells of the header without the blanks around them; "" has no name.
        notes: what was guessed.
    """

    path: Path
    encoding: str
    separator: str
    header: int
    names: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @classmethod
    def open(cls, path: Path, encoding: str | None = None) -> TextTable:
        """Look at a file's encoding, separator and header.

        Args:
            path: the file.
            encoding: of its bytes; None finds it.

        Raises:
            ManifestError: it is no text, or two columns have one name.
        """
        found = find_encoding(path, encoding)
        try:
            with _opened(path, found.name) as file:
                lines = list(islice(enumerate(file, 1), 2 * _SAMPLE + 10))
        except UnicodeDecodeError as error:
            raise _not_text(path, found.name, error) from error
        asked = lines[0][1].strip().lower() if lines else ""
        told = asked[4:] or "\t" if asked.startswith("sep=") and len(asked) <= 5 else None  # Excel's own first line
        filled = [(k, line) for k, line in lines[told is not None :] if line.strip(" \t,;|\r\n\"'")]
        if not filled:
            raise ManifestError.expected(f"{path} to list photos", "no rows", "a manifest with at least one row")
        sample = [line for _, line in filled[: _SAMPLE + 1]]
        separator = told or ("\t" if path.suffix.lower() == ".tsv" and "\t" in sample[0] else _separator(sample))
        reader = _Reader(path, iter([line for k, line in lines if k >= filled[0][0]]), separator, filled[0][0])
        names = tuple(name.strip() for name in reader.header())
        twice = next((name for name in names if name and names.count(name) > 1), None)
        if twice is not None:
            raise ManifestError.expected(f"columns of {path} to differ", f"'{twice}' twice", "renaming one of them")
        notes = (found.note,) if found.note else ()
        return cls(path, found.name, separator, filled[0][0], names, notes)

    def rows(self, notes: list[str]) -> Iterator[tuple[int, list[str]]]:
        """Line number and cells of each row that isn't blank, as wide as the header; `notes` gets what was mended.

        Raises:
            ManifestError: a row can't be read for certain.
        """
        with _opened(self.path, self.encoding) as file:
            reader = _Reader(self.path, islice(file, self.header - 1, None), self.separator, self.header)
            reader.header()
            try:
                yield from reader.rows(joined=self.names[-1] == _FREE_TEXT)
            except UnicodeDecodeError as error:
                raise _not_text(self.path, self.encoding, error) from error
        notes += reader.notes()

    def frame(self) -> tuple[pl.DataFrame, np.ndarray, list[str]]:
        """All rows that aren't blank, as str; the line number of each, (n,) int; what was mended.

        Raises:
            ManifestError: a row can't be read for certain.
        """
        content = self.path.read_bytes()
        if self.encoding not in ("utf-8", "utf-8-sig"):
            content = _decoded(self.path, content, self.encoding).encode()
        simple = self.header == 1 and _well_quoted(content, self.separator)
        frame = _read_quickly(content, self) if simple else None
        if frame is None:
            return self._read_carefully()
        blank = pl.all_horizontal(pl.exclude("\0line").fill_null("").str.strip_chars() == "")
        filled = frame.with_row_index("\0line", 2).filter(~blank)
        return filled.drop("\0line"), filled["\0line"].to_numpy().astype(np.int64), []

    def _read_carefully(self) -> tuple[pl.DataFrame, np.ndarray, list[str]]:
        notes: list[str] = []
        numbered = list(self.rows(notes))
        lines = np.array([line for line, _ in numbered], np.int64)
        schema = {name or f"\0{k}": pl.String for k, name in enumerate(self.names)}
        columns = list(zip(*(cells for _, cells in numbered), strict=True)) or [()] * len(schema)
        frame = pl.DataFrame(
            {name: pl.Series(name, cells, pl.String) for name, cells in zip(schema, columns, strict=True)}
        )
        return frame, lines, notes


def _decoded(path: Path, content: bytes, encoding: str) -> str:
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        raise _not_text(path, encoding, error) from error


def _not_text(path: Path, encoding: str, error: UnicodeDecodeError) -> ManifestError:
    got = f"the byte 0x{error.object[error.start]:02x}"
    spelt = "utf-8" if encoding == "utf-8-sig" else encoding  # which reads the mark at a file's beginning as well
    return ManifestError.expected(f"{path} to be text in {spelt}", got, "--encoding with another one")


def _opened(path: Path, encoding: str) -> io.TextIOWrapper:
    return path.open(encoding=encoding)


def _separator(lines: Sequence[str]) -> str:
    """What parts most lines into as many cells as the header, and then what the header has most."""
    header, rest = lines[0], lines[1:]

    def fit(separator: str) -> tuple[float, int]:
        width = _width(header, separator)
        alike = sum(_width(line, separator) == width for line in rest) / len(rest) if rest and width > 1 else 0.0
        return alike, width

    return max(SEPARATORS, key=fit)


def _width(line: str, separator: str) -> int:
    try:
        return len(next(csv.reader([line], delimiter=separator, skipinitialspace=True)))
    except (csv.Error, StopIteration):
        return 0


def _well_quoted(content: bytes, separator: str) -> bool:
    """Whether quotes only open, close and are doubled, as RFC 4180 has them, and no cell holds a line end.

    Then all readers agree, as they do where there are no quotes and no lone carriage returns.
    """
    if b"\0" in content or content.count(b"\r") != content.count(b"\r\n"):
        return False
    if b'"' not in content:
        return True
    data = np.frombuffer(content, np.uint8)
    quotes = np.flatnonzero(data == ord('"'))
    if len(quotes) % 2:
        return False
    bounds = np.array([ord(separator), *b"\r\n"], np.uint8)
    start = 3 if content.startswith(codecs.BOM_UTF8) else 0
    opening, closing = quotes[0::2], quotes[1::2]
    before = (opening == start) | np.isin(data[np.maximum(opening - 1, 0)], bounds)
    before[1:] |= opening[1:] == closing[:-1] + 1
    after = (closing == len(data) - 1) | np.isin(data[np.minimum(closing + 1, len(data) - 1)], bounds)
    after[:-1] |= opening[1:] == closing[:-1] + 1
    if not (before.all() and after.all()):
        return False
    ends = np.flatnonzero(data == ord("\n"))
    return not (np.searchsorted(quotes, ends) % 2).any() and _is_even(data, quotes, ends, separator)


def _is_even(data: np.ndarray, quotes: np.ndarray, ends: np.ndarray, separator: str) -> bool:
    """Whether each line that isn't blank has as many cells as the first: a shorter one may hide cells in its quotes."""
    between = np.flatnonzero(data == ord(separator))
    between = between[np.searchsorted(quotes, between) % 2 == 0]
    ends = ends if len(ends) and ends[-1] == len(data) - 1 else np.append(ends, len(data))
    counts = np.diff(np.searchsorted(between, ends), prepend=0)
    lengths = np.diff(ends, prepend=-1) - 1
    return bool(((counts == counts[0]) | (lengths <= 1)).all())


def _read_quickly(content: bytes, table: TextTable) -> pl.DataFrame | None:
    try:
        frame = pl.read_csv(
            content, separator=table.separator, infer_schema=False, truncate_ragged_lines=False, encoding="utf8"
        )
    except pl.exceptions.PolarsError:  # a row is wider than the header, perhaps by blanks alone
        return None
    if frame.width != len(table.names):
        return None
    frame.columns = [name or f"\0{k}" for k, name in enumerate(table.names)]
    return frame


class _Reader:
    """Reads lines one by one, and takes back those that a quote swallowed."""

    def __init__(self, path: Path, lines: Iterable[str], separator: str, first: int) -> None:
        self._path, self._separator = path, separator
        self._lines, self._back = iter(lines), []  # type: tuple[Iterator[str], list[str]]
        self._next = first  # number of the line that is read next
        self._number = first  # of the row that is being read
        self._width = 0
        self._mended: list[int] = []
        self._many = 0

    def header(self) -> list[str]:
        """The cells of the first line."""
        self._number = self._next
        line = self._line() or ""
        cells = self._quoted(line) or line.rstrip("\r\n").split(self._separator)
        self._width = len(cells)
        return cells

    def rows(self, *, joined: bool) -> Iterator[tuple[int, list[str]]]:
        """Line number and cells of each row that isn't blank; `joined`: what is too much belongs to the last cell."""
        separator, width = self._separator, self._width
        while (line := self._line()) is not None:
            self._number = self._next - 1
            if "\0" in line:
                want = f"row {self._number} of {self._path} to be text"
                raise ManifestError.expected(want, "a NUL character", "saving the file anew")
            cells = self._row(line) if '"' in line else line.rstrip("\r\n").split(separator)
            if len(cells) != width:
                if not any(map(str.strip, cells)):
                    continue
                cells = self._fitted(cells, joined=joined)
            elif not any(map(str.strip, cells)):
                continue
            yield self._number, cells

    def notes(self) -> list[str]:
        """What was mended."""
        if not self._many:
            return []
        first = ", ".join(map(str, self._mended))
        more = f" and {self._many - len(self._mended):,} more" if self._many > len(self._mended) else ""
        return [f"Quotes that aren't doubled are read as they stand: row {first}{more} of {self._path.name}."]

    def _line(self) -> str | None:
        line = self._back.pop() if self._back else next(self._lines, None)
        self._next += line is not None
        return line

    def _fitted(self, cells: list[str], *, joined: bool) -> list[str]:
        width = self._width
        if len(cells) < width:
            return cells + [""] * (width - len(cells))
        if not any(map(str.strip, cells[width:])):
            return cells[:width]
        if joined:
            return [*cells[: width - 1], self._separator.join(cells[width - 1 :])]
        raise ManifestError.expected(
            f"row {self._number} of {self._path} to have {width} fields like its header",
            len(cells),
            "quotes around fields that hold the separator",
        )

    def _quoted(self, line: str) -> list[str] | None:
        """The cells of a row that begins with `line`, by RFC 4180; None where its quotes are malformed."""
        self._taken = [line]

        def feed() -> Iterator[str]:
            yield line
            while (more := self._line()) is not None:
                self._taken.append(more)
                yield more

        try:
            return next(csv.reader(feed(), delimiter=self._separator, strict=True, skipinitialspace=True))
        except (csv.Error, StopIteration):
            return None

    def _row(self, line: str) -> list[str]:
        cells = self._quoted(line)
        swallowed = self._taken[1:]
        if cells is not None and not swallowed and len(cells) < self._width == line.count(self._separator) + 1:
            raise self._unclear(line)  # its quotes may hide cells
        if cells is not None and not swallowed and len(cells) == self._width:
            return cells
        alone = self._as_it_stands(line)
        if cells is not None and (alone is None or len(cells) == self._width):
            if swallowed and all(one.count(self._separator) + 1 == self._width for one in self._taken):
                raise self._unclear(line)  # one row of several lines, or several rows
            return cells
        if alone is None:
            raise self._unclear(line)
        self._next -= len(swallowed)
        self._back += reversed(swallowed)
        self._many += 1
        if len(self._mended) < 3:
            self._mended.append(self._number)
        return alone

    def _as_it_stands(self, line: str) -> list[str] | None:
        """The cells of a line where no separator stands in quotes; None where that doesn't give whole cells."""
        cells = [cell.strip() for cell in line.rstrip("\r\n").split(self._separator)]
        if len(cells) != self._width:
            return None
        for k, cell in enumerate(cells):
            if cell.startswith('"'):
                if len(cell) > 1 and cell.endswith('"'):
                    cells[k] = cell[1:-1].replace('\\"', '"').replace('""', '"')
                elif '"' not in cell[1:]:
                    return None  # opened, and closed in another cell
        return cells

    def _unclear(self, line: str) -> ManifestError:
        return ManifestError.expected(
            f"row {self._number} of {self._path} to close the quotes that it opens",
            f"'{line.strip()[:60]}'",
            "doubling each quote inside a quoted cell",
        )
