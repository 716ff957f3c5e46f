"""Photos that a table names, as a stream: by a column of paths, URLs or (Parquet) bytes."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import starmap
from pathlib import Path

import polars as pl

from modiste.data.photo_columns import ROLES
from modiste.data.row_stream import estimate, open_table
from modiste.data.tables import beside, check_file
from modiste.errors import ManifestError, PhotoError
from modiste.inputs.arguments import InputPhoto, LoadPart, PhotoStream, Url, batches

_REMOTE = re.compile(r"https?://", re.IGNORECASE)


def photos_in(path: Path, image_column: str | None, root: str | None) -> PhotoStream:
    """The photos that a table names.

    Args:
        path: the table.
        image_column: of paths, URLs or bytes; None finds it by its name.
        root: folder that relative paths start from; None takes the table's.

    Raises:
        ManifestError: it can't be read, or names no photos.
    """
    check_file(path)
    if path.suffix.lower() == ".parquet":
        column = bytes_column(path, image_column)
        if column is not None:
            return photos_of(path, *column)
    columns, read, _ = open_table(path)
    item = _reader(path, columns, image_column, _root(path, root))

    def parts(size: int) -> Iterator[LoadPart]:
        for chunk in batches(enumerate(read(), 1), size):
            yield partial(starmap, item, chunk)

    return PhotoStream(partial(estimate, path), parts)


def _root(path: Path, root: str | None) -> Path:
    """Where relative paths start from: as asked, as modiste wrote beside the table, or the table's own folder."""
    if root is not None:
        return Path(root)
    own = json.loads(beside(path).read_text(encoding="utf-8")) if beside(path).is_file() else {}
    return path.parent / str(own.get("root", ""))


def _reader(
    path: Path, columns: Sequence[str], image_column: str | None, root: Path
) -> Callable[[int, Sequence[str]], InputPhoto]:
    """What makes an InputPhoto of a row."""
    lower = {name.lower(): k for k, name in reversed(list(enumerate(columns)))}
    names = {"id": ("id",), "path": ROLES["path"], "url": ROLES["url"]}  # a product_id may have several photos
    roles = {role: next((lower[name] for name in names[role] if name in lower), None) for role in names}
    if image_column is not None:
        if image_column not in columns:
            known = ", ".join(f"'{column}'" for column in columns[:20])
            raise ManifestError.expected(f"column '{image_column}' in {path}", f"only {known}", "one of these")
        roles["path"] = columns.index(image_column)
    if all(at is None for at in roles.values()):
        known = ", ".join(f"'{column}'" for column in columns[:20])
        raise ManifestError.expected(f"a column of photo paths or URLs in {path}", f"only {known}", "--image-column")
    # By their ids alone photos are called as in the challenge's lists, or as in Kaggle's fashion set.
    folder = "images" if {"masterCategory", "articleType"} <= set(columns) or (root / "images").is_dir() else ""

    def item(number: int, cells: Sequence[str]) -> InputPhoto:
        id_, place, url = ("" if at is None else cells[at] for at in roles.values())
        if not (id_ or place or url):
            error = PhotoError.expected(f"row {number} of {path} to name a photo", "a blank", "filling it in")
            return InputPhoto(f"row {number}", error)
        if _REMOTE.match(place):
            url, place = place, ""
        file = root / (place or f"{folder}/{id_}.jpg".lstrip("/"))
        remote = url and (not (place or id_) or not os.path.isfile(file))  # noqa: PTH113  Path raises for a name that is too long
        return InputPhoto(id_ or place or url, Url(url) if remote else file)

    return item


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


def photos_of(path: Path, name: str, content: pl.Expr, place: pl.Expr) -> PhotoStream:
    """A Parquet file of photos; a part reads its own rows."""
    rows = pl.scan_parquet(path, glob=False)
    schema = rows.collect_schema()
    named = {one.lower(): one for one, kind in schema.items() if kind == pl.String or kind.is_integer()}
    ids = [named[one] for one in _IDS if one in named]
    id_ = pl.coalesce(pl.col(one).cast(pl.String) for one in ids) if ids else pl.lit(None, pl.String)
    wanted = rows.select(id_.alias("id"), place.alias("path"), content.alias("bytes"))

    def collected(frame: pl.LazyFrame) -> pl.DataFrame:
        try:
            return frame.collect()
        except (OSError, pl.exceptions.PolarsError) as error:
            raise _unreadable(path, error) from error

    def load(start: int, size: int) -> Iterator[InputPhoto]:
        chunk = collected(wanted.slice(start, size))
        for number, (called, where, data) in enumerate(chunk.iter_rows(), start + 1):
            source: bytes | Path | PhotoError = data
            if data is None:
                error = PhotoError.expected(f"row {number} of {path} to hold a photo", "a blank", "filling it in")
                source = path.parent / where if where else error
            yield InputPhoto(called or where or f"{path}, row {number}", source)

    count = int(collected(rows.select(pl.len())).item())

    def parts(size: int) -> Iterator[LoadPart]:
        return (partial(load, start, size) for start in range(0, count, size))

    return PhotoStream(lambda: count, parts)


def _unreadable(path: Path, error: Exception) -> ManifestError:
    reason = str(error).split("\n", maxsplit=1)[0]
    return ManifestError.expected(f"{path} to be a Parquet file", f"'{reason}'", "writing it again")
