"""Parts of a bulk job: Parquet files of tags that say themselves which photos they are about.

Beside its rows, a part's metadata holds what each photo was when it was tagged, so that rows and knowledge appear
together, whole or not at all.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import time
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from modiste.errors import PhotoError, RunError
from modiste.files import replacing
from modiste.inputs.arguments import InputPhoto, Url, printable

_METADATA = "modiste"
_NAME = re.compile(r"part-(\d{6,})\.parquet")
_RACY = 2_000_000_000  # nanoseconds: a file may change again without another time, where clocks are coarse
SEEN = pl.Schema({"identity": pl.String(), "size": pl.Int64(), "mtime": pl.Int64(), "key": pl.String()})


class Seen(NamedTuple):
    """What a photo was when it was looked at.

    Attributes:
        identity: what makes it the same photo next time: its absolute path, or its id in a table.
        size, mtime: of its file, bytes and nanoseconds; None where there is none, or its time proves nothing.
        key: a hash of its content, or its URL; None where that is not known, so that it is tagged again.
    """

    identity: str
    size: int | None = None
    mtime: int | None = None
    key: str | None = None


def look(photo: InputPhoto, *, by_path: bool) -> Seen:
    """What a photo is before it is tagged; of a file, not yet its content."""
    id_, source = photo.id, photo.source
    if isinstance(source, Path):
        size, mtime = file_state(source)
        return Seen(printable(str(source.absolute())) if by_path else id_, size, mtime)
    if isinstance(source, Url):
        return Seen(id_, key=source.address)
    return Seen(id_, key=str(source) if isinstance(source, PhotoError) else hashlib.sha256(source).hexdigest()[:32])


def settle(seen: Seen, photo: InputPhoto, *, failed: bool) -> Seen:
    """What it was, once it has been tagged: with the content's hash, if the file stayed what it was meanwhile."""
    if isinstance(photo.source, Url):
        return seen._replace(key=None) if failed else seen
    if not isinstance(photo.source, Path):
        return seen
    key = content_key(photo.source)
    if file_state(photo.source) != (seen.size, seen.mtime):
        key = None
    mtime = seen.mtime if seen.mtime is not None and seen.mtime < newest_proof() else None
    return seen._replace(key=key, mtime=mtime)


def file_state(path: Path) -> tuple[int | None, int | None]:
    """Size in bytes and time of change in nanoseconds of a file; None where there is none."""
    try:
        state = os.stat(path)  # noqa: PTH116  Path raises for a name that is too long
    except (OSError, ValueError):
        return None, None
    return state.st_size, state.st_mtime_ns


def content_key(path: Path) -> str | None:
    """A hash of a file's content; None where it can't be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:32]
    except (OSError, ValueError):
        return None


def newest_proof() -> int:
    """A time in nanoseconds: a file that was changed before it and changes again will have another time."""
    return time.time_ns() - _RACY


def part_path(folder: Path, number: int) -> Path:
    """Where a part lies."""
    return folder / f"part-{number:06d}.parquet"


def part_numbers(folder: Path) -> list[int]:
    """The parts that there are."""
    return sorted(int(found[1]) for path in folder.iterdir() if (found := _NAME.fullmatch(path.name)))


def write_part(path: Path, frame: pl.DataFrame, seen: pl.DataFrame, round_: int) -> None:
    """Write a part, whole or not at all.

    Args:
        path: where.
        frame: its tags, as `as_frame` has them.
        seen: columns SEEN, a row for each of `frame`.
        round_: the round of the job that it belongs to.
    """
    packed = zlib.compress(json.dumps(seen.select(SEEN.names()).to_dict(as_series=False)).encode())
    said = json.dumps({"round": round_, "seen": base64.b85encode(packed).decode()})
    with replacing(path, pl.exceptions.ComputeError) as temporary:
        frame.write_parquet(temporary, metadata={_METADATA: said})


def rewrite_part(path: Path, frame: pl.DataFrame) -> None:
    """Write the same rows with other columns; the round, and what the photos were, stay."""
    said = _metadata(path)
    with replacing(path, pl.exceptions.ComputeError) as temporary:
        frame.write_parquet(temporary, metadata={_METADATA: json.dumps(said)} if said else None)


def part_columns(path: Path) -> list[str]:
    """Names of the columns of a part.

    Raises:
        RunError: it is none.
    """
    try:
        with path.open("rb") as file:  # a path may look like a pattern
            return list(pl.read_parquet_schema(file))
    except (OSError, pl.exceptions.PolarsError) as error:
        raise _no_part(path, error) from error


def part_round(path: Path) -> int:
    """The round that a part was written in; 0 by a version that knew none."""
    return int(_metadata(path).get("round", 0))


def read_seen(path: Path) -> pl.DataFrame | None:
    """What the photos of a part were, columns SEEN; None where a version wrote it that didn't keep that."""
    said = _metadata(path)
    if "seen" not in said:
        return None
    return pl.DataFrame(json.loads(zlib.decompress(base64.b85decode(said["seen"]))), schema=SEEN)


def read_part(path: Path, columns: list[str] | None = None) -> pl.DataFrame:
    """The rows of a part.

    Raises:
        RunError: it is none.
    """
    try:
        return pl.read_parquet(path, columns=columns, glob=False)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise _no_part(path, error) from error


def _metadata(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            said: dict[str, Any] = json.loads(pl.read_parquet_metadata(file).get(_METADATA, "{}"))
            return said
    except (OSError, ValueError, pl.exceptions.PolarsError) as error:
        raise _no_part(path, error) from error


def _no_part(path: Path, error: Exception) -> RunError:
    reason = str(error).split("\n", maxsplit=1)[0]
    return RunError.expected(f"{path} to be a part that this job wrote", f"'{reason}'", "removing it")
