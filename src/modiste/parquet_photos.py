"""Parquet files that hold photos themselves: a column of bytes, or of structs with bytes in them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import polars as pl

from modiste.errors import ManifestError, PhotoError
from modiste.items import Item, Load, Source
from modiste.roles import ROLES

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


def photos_of(path: Path, name: str, content: pl.Expr, place: pl.Expr) -> Source:
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

    def load(start: int, size: int) -> Iterator[Item]:
        chunk = collected(wanted.slice(start, size))
        for number, (called, where, data) in enumerate(chunk.iter_rows(), start + 1):
            source: bytes | Path | PhotoError = data
            if data is None:
                error = PhotoError.expected(f"row {number} of {path} to hold a photo", "a blank", "filling it in")
                source = path.parent / where if where else error
            yield Item(called or where or f"{path}, row {number}", source)

    count = int(collected(rows.select(pl.len())).item())

    def parts(size: int) -> Iterator[Load]:
        return (partial(load, start, size) for start in range(0, count, size))

    return Source(lambda: count, parts)


def _unreadable(path: Path, error: Exception) -> ManifestError:
    reason = str(error).split("\n", maxsplit=1)[0]
    return ManifestError.expected(f"{path} to be a Parquet file", f"'{reason}'", "writing it again")
