"""Photos that a table names, as a stream: by a column of paths, URLs or (Parquet) bytes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import starmap
from pathlib import Path

import polars as pl

from modiste.data.cells import REMOTE
from modiste.data.photo_columns import FETCHED, ROLES, find_path_and_url, local_path
from modiste.data.table import column_key, word
from modiste.data.tables import RowStream, check_file, estimate, open_rows, root_beside
from modiste.errors import ManifestError, PhotoError
from modiste.inputs.arguments import InputPhoto, LoadPart, PhotoStream, TableOptions, Url, batches


def photos_in(path: Path, options: TableOptions, product_column: str | None = None) -> PhotoStream:
    """The photos that a table names.

    Args:
        path: the table.
        options: how it is to be read.
        product_column: what names the product of each photo; None leaves it open.

    Raises:
        ManifestError: it can't be read, names no photos, or lacks a column that was asked for.
    """
    check_file(path)
    if path.suffix.lower() == ".parquet":
        column = bytes_column(path, options.image_column)
        if column is not None:
            return photos_of(path, *column, product_column=product_column)
    stream = open_rows(path, encoding=options.encoding, sheet=options.sheet)
    item = _reader(stream, options.image_column, _root(path, options.root), product_column)

    def parts(size: int) -> Iterator[LoadPart]:
        for chunk in batches(stream.read(), size):
            yield partial(starmap, item, chunk)

    return PhotoStream(partial(estimate, path), parts)


def _root(path: Path, root: str | None) -> Path:
    """Where relative paths start from: as asked, as modiste wrote beside the table, or the table's own folder."""
    if root is not None:
        return Path(root)
    return path.parent / (root_beside(path) or "")


def _require(column: str, columns: Sequence[str], path: Path) -> None:
    """Refuse a column that a table lacks."""
    if column not in columns:
        known = ", ".join(f"'{one}'" for one in columns[:20])
        raise ManifestError.expected(f"column '{column}' in {path}", f"only {known}", "one of these")


def _reader(
    stream: RowStream, image_column: str | None, root: Path, product_column: str | None
) -> Callable[[int, Sequence[str]], InputPhoto]:
    """What makes an InputPhoto of a row."""
    path, columns = stream.path, stream.columns
    sample = stream.sample()
    roles, _ = find_path_and_url(columns, sample)
    roles |= {role: name for role, name in stream.roles.items() if role == "url"}
    named = {column_key(name): name for name in reversed(columns)}
    if image_column is not None:
        _require(image_column, columns, path)
        roles["path"] = image_column
    places = [sample[roles[role]] for role in ("path", "url") if role in roles]
    if "id" in named and not (places and len(set(sample[named["id"]])) < len(sample[named["id"]])):
        roles["id"] = named["id"]  # that of a product, which several photos have, names none of them
    if not roles:
        known = ", ".join(f"'{column}'" for column in columns[:20])
        raise ManifestError.expected(f"a column of photo paths or URLs in {path}", f"only {known}", "--image-column")
    if product_column is not None:
        _require(product_column, columns, path)
    at = {role: None if role not in roles else columns.index(roles[role]) for role in ("id", "path", "url")}
    shows = None if product_column is None else columns.index(product_column)
    reason = columns.index("error") if set(columns) >= FETCHED else None
    # By their ids alone photos are called as in the challenge's lists, or as in Kaggle's fashion set.
    folder = "images" if {"masterCategory", "articleType"} <= set(columns) or (root / "images").is_dir() else ""

    def item(number: int, cells: Sequence[str]) -> InputPhoto:
        id_, place, url = ("" if k is None else cells[k] for k in at.values())
        product = "" if shows is None else cells[shows]
        if not (id_ or place or url):
            error = PhotoError.expected(f"row {number} of {path} to name a photo", "a blank", "filling it in")
            told = "" if reason is None else cells[reason]  # by fetch
            return InputPhoto(f"row {number}", PhotoError(told) if told else error, product)
        if REMOTE.match(place):
            url, place = place, ""
        file = _file(root, place or f"{folder}/{id_}.jpg".lstrip("/"))
        remote = url and (not (place or id_) or not os.path.isfile(file))  # noqa: PTH113  Path raises for a name that is too long
        return InputPhoto(id_ or place or url, Url(url) if remote else file, product)

    return item


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
        _require(product_column, flat, path)
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

    def parts(size: int) -> Iterator[LoadPart]:
        return (partial(load, start, size) for start in range(0, count, size))

    return PhotoStream(lambda: count, parts, rows=load)


def _unreadable(path: Path, error: Exception) -> ManifestError:
    reason = str(error).split("\n", maxsplit=1)[0]
    return ManifestError.expected(f"{path} to be a Parquet file", f"'{reason}'", "writing it again")
