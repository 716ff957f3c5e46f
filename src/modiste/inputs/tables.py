"""Photos that a table names, as a stream: by a column of paths, URLs or (Parquet) bytes."""

from __future__ import annotations

import os
from array import array
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from modiste.data.cells import REMOTE
from modiste.data.photo_columns import FETCHED, ROLES, find_path_and_url, local_path
from modiste.data.table import column_key, empty, word
from modiste.data.tables import RowStream, check_file, open_rows, root_beside
from modiste.errors import ManifestError, PhotoError
from modiste.inputs.arguments import InputPhoto, LoadPart, PhotoStream, TableOptions, Url, batches

_SHOWING = 1000  # rows that show what ids name


def photos_in(paths: Sequence[Path], options: TableOptions) -> list[PhotoStream]:
    """The photos that tables name; each table is read through at once, and later again.

    Of rows that name the same photo by the same id, for the same product, the first counts.

    Raises:
        ManifestError: one can't be read, names no photos, or lacks a column that was asked for; or all have no rows.
    """
    streams = [_photos_in(path, options) for path in paths]
    if not any(stream.size() for stream in streams):
        raise empty(paths[0])
    return streams


def _photos_in(path: Path, options: TableOptions) -> PhotoStream:
    check_file(path)
    if path.suffix.lower() == ".parquet":
        column = bytes_column(path, options.image_column)
        if column is not None:
            return photos_of(path, *column, product_column=options.product_column)
    stream = open_rows(path, encoding=options.encoding, sheet=options.sheet)
    if not stream.columns:
        raise empty(path)
    reader = _Reader.of(stream, options)
    count, repeated = _find_repeats(map(reader.key, reader.rows()))

    def parts(size: int) -> Iterator[LoadPart]:
        for chunk in batches(enumerate(reader.rows()), size):  # ranges of rows, whichever are left out
            yield partial(map, reader.photo, [row for k, row in chunk if repeated is None or not repeated[k]])

    gone = 0 if repeated is None else int(repeated.sum())
    notes = [] if count else [f"{path} has no rows."]
    if gone:
        one = f"1 row of {path} names a photo that an earlier row names: it is tagged once."
        several = f"{gone:,} rows of {path} name photos that earlier rows name: each photo is tagged once."
        notes = [one if gone == 1 else several]
    return PhotoStream(lambda: count - gone, parts, lambda: notes)


def _find_repeats(keys: Iterable[Hashable]) -> tuple[int, np.ndarray | None]:
    """How many there are, and (rows,) bool, which have occurred before; None where all differ.

    Compared by 64 bits of each: a row takes 8 bytes of memory, and two of 10 million are taken for one with
    probability 0.000003.
    """
    hashes = np.frombuffer(array("q", map(hash, keys)), np.int64)
    first = np.unique(hashes, return_index=True)[1]
    if len(first) == len(hashes):
        return len(hashes), None
    repeated = np.ones(len(hashes), bool)
    repeated[first] = False
    return len(hashes), repeated


def _root(path: Path, root: str | None) -> Path:
    """Where relative paths start from: as asked, as modiste wrote beside the table, or the table's own folder."""
    if root is not None:
        return Path(root)
    return path.parent / (root_beside(path) or "")


def _require(column: str, allowed: Sequence[str], shown: Sequence[str], path: Path) -> None:
    """Refuse a column that a table lacks."""
    if column not in allowed:
        raise ManifestError.expected(f"column '{column}' in {path}", f"only {_listed(shown)}", "one of these")


def _listed(columns: Sequence[str]) -> str:
    return ", ".join(f"'{column}'" for column in columns[:20])


class _Row(NamedTuple):
    """A row that names a photo: where it stands, what names the photo, what it shows, and why fetch has none of it."""

    number: int
    id: str
    place: str
    url: str
    product: str
    failure: str


@dataclass(frozen=True)
class _Reader:
    """What makes photos of the rows of a table.

    Attributes:
        stream: the rows.
        columns: positions of id, path, url, product and error; None where there is no such column.
        root: folder that relative paths start from.
    """

    stream: RowStream
    columns: tuple[int | None, ...]
    root: Path

    @classmethod
    def of(cls, stream: RowStream, options: TableOptions) -> _Reader:
        """Find out which columns name photos.

        Raises:
            ManifestError: none does, or one that was asked for isn't there.
        """
        path, columns, own = stream.path, stream.columns, stream.own_columns()
        roles, _ = find_path_and_url(columns, stream.sample())
        roles |= {role: name for role, name in stream.roles.items() if role == "url"}
        named = {column_key(name): name for name in reversed(columns)}
        if options.image_column is not None:
            _require(options.image_column, own, own, path)
            roles["path"] = options.image_column
        if "id" in named and _names_photos(stream, named["id"], roles):
            roles["id"] = named["id"]
        if not roles:
            want = f"a column of photo paths or URLs in {path}"
            raise ManifestError.expected(want, f"only {_listed(own)}", "--image-column")
        if options.product_column is not None:
            _require(options.product_column, [*own, stream.roles.get("group", "")], own, path)
            roles["product"] = options.product_column
        if set(columns) >= FETCHED:
            roles["error"] = "error"
        at = (roles.get(role) for role in ("id", "path", "url", "product", "error"))
        return cls(
            stream, tuple(None if name is None else columns.index(name) for name in at), _root(path, options.root)
        )

    def rows(self) -> Iterator[_Row]:
        """The rows; photos of one row of the file show what its first one does, as their ids are numbered."""
        number, product = -1, ""
        for row in self.stream.read():
            id_, place, url, shown, failure = ("" if k is None else row.cells[k] for k in self.columns)
            if row.number != number:
                number, product = row.number, shown
            if REMOTE.match(place):
                url, place = place, ""
            yield _Row(number, id_, place, url, product, failure)

    def key(self, row: _Row) -> Hashable:
        """Equal for rows of one photo; a row that names none is like no other."""
        return row.number if not (row.place or row.url or self._by_id(row)) else row[1:5]

    def photo(self, row: _Row) -> InputPhoto:
        """What a row names."""
        name = row.id or row.place or row.url or f"row {row.number}"
        file = _file(self.root, row.place or f"{self._folder}/{row.id}.jpg".lstrip("/"))
        sure = row.place or self._by_id(row)
        if (sure and not row.url) or ((sure or row.id) and os.path.isfile(file)):  # noqa: PTH113  Path raises for a name that is too long
            return InputPhoto(name, file, row.product)
        if row.url:
            return InputPhoto(name, Url(row.url), row.product)
        where = f"row {row.number} of {self.stream.path}"
        error = PhotoError.expected(f"{where} to name a photo", "a blank", "filling it in")
        return InputPhoto(name, PhotoError(row.failure) if row.failure else error, row.product)

    def _by_id(self, row: _Row) -> bool:
        """Whether a photo is called by its id, for want of a column of paths or URLs."""
        return bool(row.id) and self.columns[1] is None and self.columns[2] is None

    @cached_property
    def _folder(self) -> str:
        """Where photos lie that are called by their ids: as in the challenge's lists, or as in Kaggle's fashion set."""
        styles = {"masterCategory", "articleType"} <= set(self.stream.columns)
        return "images" if styles or (self.root / "images").is_dir() else ""


def _names_photos(stream: RowStream, column: str, roles: Mapping[str, str]) -> bool:
    """Whether ids name photos; that of a product, which several photos have, names none of them."""
    at = [stream.columns.index(roles[role]) for role in ("path", "url") if role in roles]
    id_ = stream.columns.index(column)
    head = [row.cells for row in islice(stream.read(), _SHOWING)]
    photos = {(cells[id_], *(cells[k] for k in at)) for cells in head if cells[id_]}
    return len(photos) == len({cells[id_] for cells in head if cells[id_]})


def _file(root: Path, place: str) -> Path:
    """Where a photo lies; "\\" parts folders where no file is called so, as in lists that Windows wrote."""
    file = root / local_path(place)
    if "\\" in place and not os.path.exists(file):  # noqa: PTH110  Path raises for a name that is too long
        return root / place.replace("\\", "/")
    return file


_BYTES = ("bytes", "jpg", "jpeg", "png", "webp")  # names of columns that hold files, beside those of ROLES["path"]


_IDS = ("id", "name", "url")  # columns that say what a photo is called, the best first; modiste fetch writes a name


def bytes_column(path: Path, asked: str | None) -> tuple[str, pl.Expr, pl.Expr] | None:
    """The column of files, what gives their bytes, and what gives the path that stands beside them."""
    try:
        with path.open("rb") as file:  # a path may hold "[" or "*", which stand for others
            schema = pl.read_parquet_schema(file)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise _unreadable(path, error) from error
    names = [asked] if asked else [name for name in schema if name.lower() in (*_BYTES, *ROLES["path"])]
    nothing = pl.lit(None, pl.String)
    for name in names:
        kind = schema.get(name)
        if kind == pl.Binary:
            return name, pl.col(name), nothing
        if isinstance(kind, pl.Struct) and any(f.name == "bytes" and f.dtype == pl.Binary for f in kind.fields):
            inside = pl.col(name).struct
            paths = any(field.name == "path" and field.dtype == pl.String for field in kind.fields)
            return name, inside.field("bytes"), inside.field("path") if paths else nothing
    return None


def photos_of(
    path: Path, name: str, content: pl.Expr, place: pl.Expr, *, product_column: str | None = None
) -> PhotoStream:
    """A Parquet file of photos; a part reads its own rows."""
    rows = pl.scan_parquet(path, glob=False)
    schema = rows.collect_schema()
    named = {one.lower(): one for one, kind in schema.items() if kind == pl.String or kind.is_integer()}
    ids = [named[one] for one in _IDS if one in named]
    id_ = pl.coalesce(pl.col(one).cast(pl.String) for one in ids) if ids else pl.lit(None, pl.String)
    product = pl.lit("")
    if product_column is not None:
        flat = [one for one, kind in schema.items() if not (kind.is_nested() or kind == pl.Binary)]
        _require(product_column, flat, flat, path)
        product = word(product_column, schema[product_column])
    wanted = rows.select(id_.alias("id"), place.alias("path"), content.alias("bytes"), product.alias("product"))

    def collected(frame: pl.LazyFrame) -> pl.DataFrame:
        try:
            return frame.collect()
        except (OSError, pl.exceptions.PolarsError) as error:
            raise _unreadable(path, error) from error

    def load(start: int, size: int) -> Iterator[InputPhoto]:
        chunk = collected(wanted.slice(start, size))
        for number, (called, where, data, shown) in enumerate(chunk.iter_rows(), start + 1):
            source: bytes | Path | PhotoError = data
            if data is None:
                error = PhotoError.expected(f"row {number} of {path} to hold a photo", "a blank", "filling it in")
                source = path.parent / where if where else error
            yield InputPhoto(called or where or f"{path}, row {number}", source, shown)

    count = int(collected(rows.select(pl.len())).item())
    notes = [] if count else [f"{path} has no rows."]

    def parts(size: int) -> Iterator[LoadPart]:
        return (partial(load, start, size) for start in range(0, count, size))

    return PhotoStream(lambda: count, parts, lambda: notes, load)


def _unreadable(path: Path, error: Exception) -> ManifestError:
    reason = str(error).split("\n", maxsplit=1)[0]
    return ManifestError.expected(f"{path} to be a Parquet file", f"'{reason}'", "writing it again")
