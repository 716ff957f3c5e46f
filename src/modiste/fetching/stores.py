"""Where fetched photos lie: as files, or many together in tar files (WebDataset) or Parquet files.

Whole or not at all: a file gets its name when it is complete. A photo counts as kept once its file has its name.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import polars as pl

from modiste.data import images
from modiste.fetching.ledger import FetchRecord
from modiste.files import WRITING, make_folder, not_written, remove_unfinished, replacing

_SUFFIXES = {"JPEG": "jpg", "PNG": "png", "WebP": "webp", "AVIF": "avif", "GIF": "gif", "TIFF": "tif", "BMP": "bmp"}


@dataclass(frozen=True, slots=True)
class FetchedPhoto:
    """A photo that has been decoded once: the bytes to keep, their kind's suffix, and its sides in pixels."""

    data: bytes
    suffix: str
    width: int
    height: int

    def facts(self) -> dict[str, Any]:
        """What the manifest says of the stored file."""
        digest = hashlib.sha256(self.data).hexdigest()
        return {"sha256": digest, "width": self.width, "height": self.height, "bytes": len(self.data)}


class PhotoStore(Protocol):
    """Takes photos, from several threads."""

    def put(self, outcome: FetchRecord, photo: FetchedPhoto) -> None:
        """Keep a photo."""

    def close(self) -> None:
        """Write what is not written yet."""

    def placed(self) -> list[FetchRecord]:
        """Each outcome whose photo lies safe by now, with its place; each is given once."""


def examine(data: bytes, name: str, size: int | None) -> FetchedPhoto:
    """Decode a photo, and shrink it where `size` is given and its shorter side is longer.

    Raises:
        PhotoError: `data` is no whole photo.
    """
    if size is None:
        header = images.verify(data, name=name)
    else:
        data, header = images.shrink(data, size, name=name)
    return FetchedPhoto(data, _SUFFIXES[header.kind], header.width, header.height)


class _Placed:
    """Outcomes that wait to be recorded, wherever the thread that placed their photos has been stopped."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._placed: list[FetchRecord] = []

    def placed(self) -> list[FetchRecord]:
        """Give what has been placed, once."""
        with self._lock:
            placed, self._placed = self._placed, []
        return placed


class Files(_Placed):
    """Every photo in a file of its own: photos/<name>.<suffix>."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder
        make_folder(folder / "photos")
        remove_unfinished(folder / "photos")

    def put(self, outcome: FetchRecord, photo: FetchedPhoto) -> None:
        """Write the photo under another name, then rename it."""
        place = f"photos/{outcome.name}.{photo.suffix}"
        final = self._folder / place
        temporary = final.with_name(f"{WRITING}{final.name}")
        try:
            # Not `storage.replacing`: waiting for the disk at every photo would halve the speed. After a power cut
            # a file may be empty; the ledger knows its length, and it is fetched again.
            temporary.write_bytes(photo.data)
            temporary.replace(final)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise not_written(final, error) from error
        with self._lock:
            self._placed.append(replace(outcome, place=place))

    def close(self) -> None:
        """Nothing is open."""


class Shards(_Placed):
    """Many photos in one file: collected in memory, written at once.

    Args:
        folder: of the fetch.
        size: photos a file.
        last: the last file that the ledger knows, "" where there is none. What lies behind it was not recorded
            any more, and is overwritten.
        kind: "webdataset" or "parquet".
    """

    def __init__(self, folder: Path, size: int, last: str, kind: str) -> None:
        super().__init__()
        self._folder, self._size = folder, size
        self._number = 1 + int(re.sub(r"\D", "", last)) if last else 0
        self._write, self._suffix = _WRITERS[kind]
        self._open: list[tuple[FetchRecord, FetchedPhoto]] = []

    def put(self, outcome: FetchRecord, photo: FetchedPhoto) -> None:
        """Add the photo, and write the file once it is full."""
        with self._lock:
            self._open.append((outcome, photo))
            if len(self._open) == self._size:
                self._finish()

    def close(self) -> None:
        """Write the photos that don't fill a file."""
        with self._lock:
            if self._open:
                self._finish()

    def _finish(self) -> None:
        place = f"photos-{self._number:06}.{self._suffix}"
        with replacing(self._folder / place, pl.exceptions.ComputeError) as temporary:
            self._write(temporary, self._open)
        self._placed += [replace(outcome, place=place) for outcome, _ in self._open]
        self._number, self._open = self._number + 1, []


def _write_webdataset(path: Path, photos: list[tuple[FetchRecord, FetchedPhoto]]) -> None:
    """A tar file with <name>.<suffix> and <name>.json for each photo, as WebDataset reads it."""
    with tarfile.open(path, "w") as tar:
        for outcome, photo in photos:
            facts = {"url": outcome.url, **_facts(outcome)}
            for suffix, content in ((photo.suffix, photo.data), ("json", json.dumps(facts).encode())):
                entry = tarfile.TarInfo(f"{outcome.name}.{suffix}")
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))


def _write_parquet(path: Path, photos: list[tuple[FetchRecord, FetchedPhoto]]) -> None:
    """A row a photo: name, url, suffix, image (the file's bytes), sha256, width, height, bytes."""
    rows = [
        {"name": outcome.name, "url": outcome.url, "suffix": photo.suffix, "image": photo.data, **_facts(outcome)}
        for outcome, photo in photos
    ]
    pl.DataFrame(rows).write_parquet(path, compression="uncompressed")  # photos are compressed already


def _facts(outcome: FetchRecord) -> dict[str, Any]:
    """What a shard says of a stored file beside its bytes."""
    return {key: getattr(outcome, key) for key in ("sha256", "width", "height", "bytes")}


_WRITERS: dict[str, tuple[Callable[[Path, list[tuple[FetchRecord, FetchedPhoto]]], None], str]] = {
    "webdataset": (_write_webdataset, "tar"),
    "parquet": (_write_parquet, "parquet"),
}
