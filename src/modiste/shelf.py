"""Where fetched photos lie: as files, or many together in tar files (WebDataset) or Parquet files.

Whole or not at all: a file gets its name when it is complete. A photo counts as kept once its file has its name.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import polars as pl

from modiste import images
from modiste.errors import StorageError
from modiste.ledger import Outcome
from modiste.storage import replacing

_SUFFIXES = {"JPEG": "jpg", "PNG": "png", "WebP": "webp", "AVIF": "avif", "GIF": "gif", "TIFF": "tif", "BMP": "bmp"}
_ENOUGH = 32  # pixels a side that suffice to see that every byte of a photo is there
_WRITING = ".writing-"


@dataclass(frozen=True, slots=True)
class Photo:
    """A photo that has been decoded once: the bytes to keep, their kind's suffix, and its sides in pixels."""

    data: bytes
    suffix: str
    width: int
    height: int

    def facts(self) -> dict[str, Any]:
        """What the manifest says of the stored file."""
        digest = hashlib.sha256(self.data).hexdigest()
        return {"sha256": digest, "width": self.width, "height": self.height, "bytes": len(self.data)}


class Shelf(Protocol):
    """Takes photos, from several threads; gives back, with their place, the outcomes whose photos now lie safe."""

    def put(self, outcome: Outcome, photo: Photo) -> list[Outcome]:
        """Keep a photo."""

    def close(self) -> list[Outcome]:
        """Finish what is open."""


def examine(data: bytes, name: str, size: int | None) -> Photo:
    """Decode a photo, and shrink it where `size` is given and its shorter side is longer.

    Raises:
        PhotoError: `data` is no whole photo.
    """
    photo, header = images.decode_with_header(data, name=name, target=size or _ENOUGH)
    if size is None or min(header.width, header.height) <= size:
        return Photo(data, _SUFFIXES[header.kind], header.width, header.height)
    small, (width, height) = images.shrink(photo, size)
    return Photo(small, "jpg", width, height)


class Files:
    """Every photo in a file of its own: photos/<name>.<suffix>."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            (folder / "photos").mkdir(parents=True, exist_ok=True)
            for left in (folder / "photos").glob(f"{_WRITING}*"):  # by a fetch that was killed
                left.unlink()
        except OSError as error:
            raise _not_written(folder / "photos", error) from error

    def put(self, outcome: Outcome, photo: Photo) -> list[Outcome]:
        """Write the photo under another name, then rename it."""
        place = f"photos/{outcome.name}.{photo.suffix}"
        final = self._folder / place
        temporary = final.with_name(f"{_WRITING}{final.name}")
        try:
            # Not `storage.replacing`: waiting for the disk at every photo would halve the speed. After a power cut
            # a file may be empty; the ledger knows its length, and it is fetched again.
            temporary.write_bytes(photo.data)
            temporary.replace(final)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise _not_written(final, error) from error
        return [replace(outcome, place=place)]

    def close(self) -> list[Outcome]:
        """Nothing is open."""
        return []


class Shards:
    """Many photos in one file: collected in memory, written at once.

    Args:
        folder: of the fetch.
        size: photos a file.
        first: number of the next file.
        kind: "webdataset" or "parquet".
    """

    def __init__(self, folder: Path, size: int, first: int, kind: str) -> None:
        self._folder, self._size, self._number = folder, size, first
        self._write, self._suffix = _WRITERS[kind]
        self._open: list[tuple[Outcome, Photo]] = []
        self._lock = threading.Lock()

    def put(self, outcome: Outcome, photo: Photo) -> list[Outcome]:
        """Add the photo; gives all outcomes of its file once that is full."""
        with self._lock:
            self._open.append((outcome, photo))
            return self._finish() if len(self._open) == self._size else []

    def close(self) -> list[Outcome]:
        """Write the photos that don't fill a file."""
        with self._lock:
            return self._finish() if self._open else []

    def _finish(self) -> list[Outcome]:
        place = f"photos-{self._number:06}.{self._suffix}"
        with replacing(self._folder / place, pl.exceptions.ComputeError) as temporary:
            self._write(temporary, self._open)
        placed = [replace(outcome, place=place) for outcome, _ in self._open]
        self._number, self._open = self._number + 1, []
        return placed


def _write_webdataset(path: Path, photos: list[tuple[Outcome, Photo]]) -> None:
    """A tar file with <name>.<suffix> and <name>.json for each photo, as WebDataset reads it."""
    with tarfile.open(path, "w") as tar:
        for outcome, photo in photos:
            facts = {"url": outcome.url, **photo.facts()}
            for suffix, content in ((photo.suffix, photo.data), ("json", json.dumps(facts).encode())):
                entry = tarfile.TarInfo(f"{outcome.name}.{suffix}")
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))


def _write_parquet(path: Path, photos: list[tuple[Outcome, Photo]]) -> None:
    """A row a photo: name, url, suffix, image (the file's bytes), sha256, width, height, bytes."""
    rows = [
        {"name": outcome.name, "url": outcome.url, "suffix": photo.suffix, "image": photo.data, **photo.facts()}
        for outcome, photo in photos
    ]
    pl.DataFrame(rows).write_parquet(path, compression="uncompressed")  # photos are compressed already


_WRITERS: dict[str, tuple[Callable[[Path, list[tuple[Outcome, Photo]]], None], str]] = {
    "webdataset": (_write_webdataset, "tar"),
    "parquet": (_write_parquet, "parquet"),
}


def _not_written(path: Path, error: OSError) -> StorageError:
    return StorageError.expected(f"{path} to be written", f"'{error.strerror}'", "freeing space or another folder")
