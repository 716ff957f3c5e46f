"""Files and folders -> tables: one reader for training, checking, fetching and tagging.

`read_table` gives all rows at once, `open_rows` a stream of them; both read the same cells.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice, starmap
from pathlib import Path

import numpy as np
import polars as pl

from modiste.data.folders import read_folder
from modiste.data.formats.deepfashion import read_deepfashion
from modiste.data.formats.excel import SUFFIXES as SHEETS
from modiste.data.formats.excel import read_sheet
from modiste.data.formats.jd2018 import challenge_rows, read_challenge
from modiste.data.formats.products import SEVERAL, PhotoRows, photo_rows, split_urls
from modiste.data.json_tables import LINES, read_document, read_lines, records, spelt
from modiste.data.photo_columns import find_path_and_url
from modiste.data.table import Row, Table, empty, is_flat, nested_note, word, words_table
from modiste.data.table_options import refuse_options
from modiste.data.text_tables import TextTable
from modiste.errors import ManifestError
from modiste.files import replacing, write_text
from modiste.labels import LabelSet

WRITTEN = (".csv", ".tsv", ".parquet", ".jsonl")
_SHOWING = 1000  # rows that show what columns hold
_ROWS = 20_000  # of a Parquet file that are read at a time
_URL_LINE = re.compile(r"\w+://\S+$")


@dataclass(frozen=True)
class RowStream:
    """Rows of a table as words, however long it is: only a few are in memory at a time.

    Attributes:
        path: the file.
        columns: names of a row's cells.
        read: gives the rows from the first one on, each time it is called; the items of a list are parted by "|".
        label_set: the label set, where the file says what its label columns are.
        roles: roles of columns that the file's format settles.
        notes: what was guessed, and once all rows are read, what was mended or left out.
        added: columns that the file doesn't have.
    """

    path: Path
    columns: tuple[str, ...]
    read: Callable[[], Iterator[Row]]
    label_set: LabelSet | None = None
    roles: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    added: tuple[str, ...] = ()

    def own_columns(self) -> list[str]:
        """Names of the columns that the file has."""
        return [name for name in self.columns if name not in self.added]

    def sample(self) -> dict[str, list[str]]:
        """Filled cells from the beginning of each column."""
        rows = [row.cells for row in islice(self.read(), _SHOWING)]
        return {name: [cells[k] for cells in rows if cells[k]] for k, name in enumerate(self.columns)}


def read_table(path: Path, *, encoding: str | None = None, sheet: str | None = None) -> Table:
    """Read all rows of a file, or of a folder of class folders; a row a photo.

    Args:
        path: the file or folder.
        encoding: of a text file; None finds it.
        sheet: of a spreadsheet; None takes the only one.

    Raises:
        ManifestError: it is missing, empty, of no known format, or a row can't be read for certain.
        UsageError: `encoding` or `sheet` can have no effect on it.
    """
    refuse_options(path, encoding, sheet)
    if path.is_dir():
        return read_folder(path)
    check_file(path)
    suffix = path.suffix.lower()
    try:
        if suffix == ".parquet":
            table = words_table(pl.read_parquet(path, glob=False), path)
        elif suffix in LINES:
            table = read_lines(path)
        elif suffix == ".json":
            table = read_document(path)
        elif suffix in SHEETS:
            frame = read_sheet(path, sheet)
            table = words_table(frame, path, np.arange(2, len(frame) + 2))
        else:
            table = _read_text(path, encoding)
    except pl.exceptions.PolarsError as error:
        reason = str(error).split("\n", maxsplit=1)[0]
        raise ManifestError.expected(f"{path} to be readable by its suffix", f"'{reason}'", "correcting it") from error
    return _by_photo(table)


def open_rows(path: Path, *, encoding: str | None = None, sheet: str | None = None) -> RowStream:
    """Look at a file's columns, and make what reads its rows as a stream; arguments and errors as of `read_table`."""
    refuse_options(path, encoding, sheet)
    check_file(path)
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        stream = _parquet_stream(path)
    elif suffix in LINES:
        columns = tuple(dict.fromkeys(key for _, record in records(path) for key in record))
        stream = RowStream(path, columns, partial(_spelt_rows, path, columns), labels_beside(path))
    elif suffix == ".json" or suffix in SHEETS:
        return _whole_stream(read_table(path, sheet=sheet))
    elif (table := read_deepfashion(path)) is not None:
        return _whole_stream(table)
    else:
        stream = _text_stream(path, encoding)
    return _stream_by_photo(stream)


def estimate(path: Path) -> int:
    """About how many rows a table has: lines of a text file, rows of Parquet."""
    if path.suffix.lower() == ".parquet":
        return int(_scan(path).select(pl.len()).collect().item())
    with path.open("rb") as file:
        return sum(block.count(b"\n") for block in iter(partial(file.read, 1 << 20), b""))


def beside(path: Path) -> Path:
    """Where the label set of a manifest that modiste wrote stands."""
    return path.with_name(f"{path.stem}.labels.json")


def labels_beside(path: Path) -> LabelSet | None:
    """The label set that stands beside a manifest, where there is one for this very file."""
    return LabelSet.read(beside(path)) if root_beside(path) is not None else None


def root_beside(path: Path) -> str | None:
    """The folder that the paths of a manifest start from, seen from its own; None where modiste did not write it.

    Tables that differ in their suffix alone share the file beside them, which names the one that it is of.
    """
    if not beside(path).is_file():
        return None
    try:
        written = json.loads(beside(path).read_text(encoding="utf-8"))
    except ValueError:
        return ""  # what reads the label set names what is wrong
    if not isinstance(written, dict) or written.get("table", path.name) != path.name:
        return None
    return str(written.get("root", ""))


def write_labels_beside(path: Path, label_set: LabelSet, root: str) -> None:
    """Write the label set of a manifest, and the folder that its paths start from, seen from its own, beside it."""
    written = {**label_set.to_dict(), "root": root, "table": path.name}
    write_text(beside(path), json.dumps(written, ensure_ascii=False, indent=1) + "\n")


def check_file(path: Path) -> None:
    """Refuse a file that is missing, has no bytes or is compressed."""
    if not path.exists():
        raise ManifestError.expected(f"manifest {path} to exist", "no such file", "another path")
    if path.is_dir():
        return
    if not path.stat().st_size:
        raise empty(path)
    with path.open("rb") as file:
        head = file.read(4)
    if head[:2] == b"\x1f\x8b":
        raise ManifestError.expected(f"{path} to be a table", "a gzip file", "gunzip first")
    if head == b"PK\3\4" and path.suffix.lower() not in SHEETS:
        raise ManifestError.expected(
            f"{path} to be a table", "a ZIP file", "unpacking it, or .xlsx if it is a spreadsheet"
        )


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
    """The suffix that names how a table is written, in lower case.

    Raises:
        ManifestError: it is none of them.
    """
    suffix = path.suffix.lower()
    if suffix not in WRITTEN:
        raise ManifestError.expected(
            "a manifest to be written as .csv, .tsv, .parquet or .jsonl", f"'{path.name}'", "one of these suffixes"
        )
    return suffix


def _read_text(path: Path, encoding: str | None) -> Table:
    known = read_deepfashion(path) or read_challenge(path)
    if known is not None:
        return known
    if _lists_urls(path):
        rows = list(_url_lines(path))
        urls = pl.DataFrame({"url": [row.cells[0] for row in rows]})
        return words_table(urls, path, np.array([row.number for row in rows]))
    text = TextTable.open(path, encoding)
    frame, lines, notes = text.frame()
    return words_table(frame, path, lines, notes=(*text.notes, *notes))


def _text_stream(path: Path, encoding: str | None) -> RowStream:
    known = challenge_rows(path)
    if known is not None:
        return RowStream(path, known.columns, known.read, known.label_set)
    if _lists_urls(path):
        return RowStream(path, ("url",), partial(_url_lines, path))
    text = TextTable.open(path, encoding)
    named = [k for k, name in enumerate(text.names) if name]
    notes = list(text.notes)

    def read() -> Iterator[Row]:
        told: list[str] = []
        for line, cells in text.rows(told):
            yield Row(line, [cells[k].strip() for k in named])
        notes.extend(note for note in told if note not in notes)

    return RowStream(path, tuple(text.names[k] for k in named), read, labels_beside(path), notes=notes)


def _lists_urls(path: Path) -> bool:
    """Whether a file is a plain list of URLs, one a line; lines that begin with # are remarks."""
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        first = next((line.strip() for line in islice(file, 1000) if line.strip() and not line.startswith("#")), "")
    return bool(_URL_LINE.match(first))


def _url_lines(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        for number, line in enumerate(file, 1):
            if line.strip() and not line.startswith("#"):
                yield Row(number, [line.strip()])


def _spelt_rows(path: Path, columns: Sequence[str]) -> Iterator[Row]:
    for number, record in records(path):
        yield Row(number, [spelt(record.get(column)) for column in columns])


def _parquet_stream(path: Path) -> RowStream:
    try:
        schema = _scan(path).collect_schema()
    except pl.exceptions.PolarsError as error:
        raise _not_parquet(path, error) from error
    names = {name: dtype for name, dtype in schema.items() if is_flat(dtype)}
    notes = nested_note([name for name in schema if name not in names])

    def read() -> Iterator[Row]:
        lists = [name for name, dtype in names.items() if isinstance(dtype, pl.List)]
        cells = _scan(path).select(word(name, dtype) for name, dtype in names.items())
        cells = cells.with_columns(pl.col(lists).list.join("|").fill_null(""))
        at = 0
        try:
            while len(chunk := cells.slice(at, _ROWS).collect()):
                yield from starmap(Row, enumerate(chunk.iter_rows(), at + 1))
                at += _ROWS
        except pl.exceptions.PolarsError as error:
            raise _not_parquet(path, error) from error

    return RowStream(path, tuple(names), read, labels_beside(path), notes=notes)


def _scan(path: Path) -> pl.LazyFrame:
    return pl.scan_parquet(path, glob=False)  # the name may hold "*" or "["


def _not_parquet(path: Path, error: Exception) -> ManifestError:
    reason = str(error).split("\n", maxsplit=1)[0]
    return ManifestError.expected(f"{path} to be a Parquet file", f"'{reason}'", "writing it again")


def _whole_stream(table: Table) -> RowStream:
    """A table that is read as a whole, as a stream."""
    columns, read = tuple(table.frame.columns), partial(_rows_of, table)
    roles, notes = dict(table.roles), list(table.notes)
    return RowStream(table.path, columns, read, table.label_set, roles, notes, added=table.added)


def _rows_of(table: Table) -> Iterator[Row]:
    yield from map(Row, table.lines.tolist(), _joined(table.frame).iter_rows())


def _joined(frame: pl.DataFrame) -> pl.DataFrame:
    """Lists as words, their items parted by "|"."""
    lists = [name for name, dtype in frame.schema.items() if isinstance(dtype, pl.List)]
    return frame.with_columns(pl.col(lists).list.join("|").fill_null(""))


def _by_photo(table: Table) -> Table:
    """A table whose rows are products, with a row for each photo."""

    def holds_several(column: str) -> bool:
        cells = table.frame[column]
        if cells.dtype == pl.List:
            return bool((cells.list.len() > 1).any())
        return bool(cells.str.contains(SEVERAL).any())

    columns = table.frame.columns
    sample = {
        name: list(filter(None, cells))
        for name, cells in _joined(table.frame.head(_SHOWING)).to_dict(as_series=False).items()
    }
    made = None if table.path.is_dir() else photo_rows(columns, holds_several, _urls_in(columns, sample))
    if made is None:
        return table
    notes: list[str] = []
    rows = ((*row, line) for row, line in zip(table.frame.iter_rows(), table.lines.tolist(), strict=True))
    expanded = list(made.expand(rows, notes))
    if not expanded:
        raise empty(table.path)
    *cells, lines = zip(*expanded, strict=True)
    schema = {name: table.frame.schema.get(name, pl.String) for name in made.columns}
    schema[made.roles["url"]] = pl.String()
    frame = pl.DataFrame([pl.Series(n, c, t) for (n, t), c in zip(schema.items(), cells, strict=True)])
    notes = [*table.notes, *_product_notes(made, columns), *notes]
    table = replace(table, roles=made.roles, facts=made.facts, added=_added(made, columns))
    return replace(table, frame=frame, lines=np.array(lines), notes=tuple(notes))


def _stream_by_photo(stream: RowStream) -> RowStream:
    several = re.compile(SEVERAL)

    def holds_several(column: str) -> bool:
        at = stream.columns.index(column)
        return any(several.match(row.cells[at]) for row in stream.read())

    made = photo_rows(stream.columns, holds_several, _urls_in(stream.columns, stream.sample()))
    if made is None:
        return stream
    stream.notes.extend(_product_notes(made, stream.columns))

    def read() -> Iterator[Row]:
        told: list[str] = []
        for *cells, number in made.expand(([*row.cells, row.number] for row in stream.read()), told):
            yield Row(number, cells)
        stream.notes.extend(note for note in told if note not in stream.notes)

    return replace(stream, columns=made.columns, read=read, roles=made.roles, added=_added(made, stream.columns))


def _urls_in(columns: Sequence[str], sample: Mapping[str, Sequence[str]]) -> str | None:
    """The column of photos' URLs; of a list spelt out, its first item shows what it holds."""
    shown = {name: [split_urls(cell)[0] for cell in cells] for name, cells in sample.items()}
    return find_path_and_url(columns, shown)[0].get("url")


def _added(made: PhotoRows, columns: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for name in made.columns if name not in columns)


def _product_notes(made: PhotoRows, columns: Sequence[str]) -> list[str]:
    group = made.roles.get("group")
    if group is None:
        return []
    if group not in columns:
        return [f"The photos of a row are one product, grouped as '{group}': they stay in one split."]
    return [f"Photos with one '{group}' are one product: they stay in one split."]
