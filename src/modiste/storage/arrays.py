"""Arrays by key, in files that only grow; read through memory maps.

A folder holds, for each writer, `<name>-<writer>.rows` (the numbers) and `<name>-<writer>.keys` (one record an array:
its key, where it begins, its shape). An array counts once its record is written, which happens after its numbers are
on the disk, so that a killed writer loses only the last seconds.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedRandom
from pathlib import Path
from typing import Any

import numpy as np

from modiste.files import make_folder, not_written

_RECORD = np.dtype([("key", "<u8"), ("start", "<u8"), ("shape", "<u4", (3,)), ("file", "<u4")])
_FLUSH_BYTES = 64 * 2**20
_FLUSH_SECONDS = 5.0


@dataclass(frozen=True)
class Arrays:
    """Arrays of one folder and name, found by key.

    Pickled are names and keys, never the numbers: another process maps the files itself, and gets None in place of
    arrays that were removed meanwhile.

    Attributes:
        folder, name: as for `open_arrays`.
        files: one memory map a writer.
        records: where each array asked for lies: `_RECORD`, in the order of the keys.
    """

    folder: Path
    name: str
    files: tuple[np.ndarray, ...]
    records: np.ndarray

    def __reduce__(self) -> tuple[Any, ...]:
        dtype = self.files[0].dtype if self.files else np.dtype(np.uint8)
        return _reopened, (self.folder, self.name, dtype, self.records["key"].copy())

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, k: int) -> np.ndarray:
        """The array of the k-th key, (height, width, depth); of the memory map, so copy it to keep it."""
        record = self.records[k]
        start, shape = int(record["start"]), tuple(map(int, record["shape"]))
        return self.files[int(record["file"])][start : start + math.prod(shape)].reshape(shape)

    def take(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """Copies of several arrays of one size, as (len(rows), size)."""
        first = self[int(rows[0])].reshape(-1)
        out = np.empty((len(rows), first.size), first.dtype)
        for k, row in enumerate(rows):
            out[k] = self[int(row)].reshape(-1)
        return out


def missing(folder: Path, name: str, dtype: np.dtype, keys: np.ndarray) -> np.ndarray:
    """Positions of the keys (n,) uint64 that have no array yet, each key once."""
    at = _find(_all_records(_files(folder, name), dtype), keys)
    _, first = np.unique(keys, return_index=True)
    return np.sort(first[at[first] < 0])


def open_arrays(folder: Path, name: str, dtype: np.dtype, keys: np.ndarray) -> Arrays:
    """The arrays of `keys` (n,) uint64, none of which is missing.

    Raises:
        KeyError: one of them is, or they are removed while they are opened.
    """
    try:
        files = _files(folder, name)  # listed once: a writer may begin another meanwhile
        records = _all_records(files, dtype)
        at = _find(records, keys)
        if (at < 0).any():
            raise KeyError(int(keys[at < 0][0]))
        maps = tuple(np.memmap(path, dtype, "r", shape=(path.stat().st_size // dtype.itemsize,)) for path in files)
    except FileNotFoundError as error:
        raise KeyError(str(folder)) from error
    return Arrays(folder, name, maps, records[at])


def _reopened(folder: Path, name: str, dtype: np.dtype, keys: np.ndarray) -> Arrays | None:
    try:
        return open_arrays(folder, name, dtype, keys)
    except KeyError:
        return None


@dataclass(frozen=True)
class Share:
    """What falls to one of several processes of a machine that fill a folder together.

    It is shared out by key, not by what is missing, which changes as the others go ahead.
    """

    rank: int = 0
    processes: int = 1

    def of(self, keys: np.ndarray) -> np.ndarray:
        """Which of the keys (n,) uint64 fall to this process, (n,) bool."""
        mine: np.ndarray = keys % np.uint64(self.processes) == self.rank
        return mine


@contextmanager
def writing(folder: Path, name: str, writer: int, dtype: np.dtype) -> Iterator[ArrayWriter]:
    """Append arrays to a writer's own file; who else wants to waits.

    Raises:
        StorageError: the folder can't be written, or the disk is full; what was flushed before stays.
    """
    from filelock import FileLock  # comes with torch; not needed to read

    make_folder(folder)
    stem = folder / f"{name}-{writer}"
    try:
        with FileLock(f"{stem}.lock"):
            appending = ArrayWriter(stem, dtype)
            try:
                yield appending
                appending.flush()
            finally:
                appending.close()
    except OSError as error:
        raise not_written(folder, error) from error


class ArrayWriter:
    """Appends arrays; made by `writing`."""

    def __init__(self, stem: Path, dtype: np.dtype) -> None:
        self._dtype = dtype
        records = _records(stem.with_name(f"{stem.name}.rows"), dtype)
        self._end = int((records["start"] + records["shape"].prod(axis=1, dtype=np.uint64)).max(initial=0))
        self._rows = _opened(stem.with_name(f"{stem.name}.rows"), self._end * dtype.itemsize)
        self._keys = _opened(stem.with_name(f"{stem.name}.keys"), records.nbytes)
        self._waiting: list[tuple[int, int, tuple[int, int, int], int]] = []
        self._flushed_end, self._flushed = self._end, time.monotonic()

    def add(self, key: int, array: np.ndarray) -> None:
        """Append an array of at most three axes."""
        shape = (1, 1, 1, *array.shape)[-3:]
        self._rows.write(np.ascontiguousarray(array, self._dtype).tobytes())
        self._waiting.append((key, self._end, shape, 0))
        self._end += array.size
        waited = time.monotonic() - self._flushed
        if (self._end - self._flushed_end) * self._dtype.itemsize > _FLUSH_BYTES or waited > _FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write down what was added: first the numbers, then the records."""
        self._rows.flush()
        os.fsync(self._rows.fileno())
        self._keys.write(np.array(self._waiting, _RECORD).tobytes())
        self._keys.flush()
        self._waiting.clear()
        self._flushed_end, self._flushed = self._end, time.monotonic()

    def close(self) -> None:
        """Close the files; what was not flushed does not count."""
        for file in (self._rows, self._keys):
            file.close()


def _opened(path: Path, size: int) -> BufferedRandom:
    path.touch()
    file = path.open("r+b")
    file.truncate(size)  # what a killed writer left behind its last record
    file.seek(size)
    return file


def _files(folder: Path, name: str) -> list[Path]:
    return [path for path in sorted(folder.glob(f"{name}-*.rows")) if path.stat().st_size]


def _all_records(files: Sequence[Path], dtype: np.dtype) -> np.ndarray:
    """Records of all writers, sorted by key; "file" is the place in `files`."""
    parts = [np.empty(0, _RECORD)]
    for k, path in enumerate(files):
        records = _records(path, dtype)
        records["file"] = k
        parts.append(records)
    whole: np.ndarray = np.concatenate(parts)
    return whole[np.argsort(whole["key"], kind="stable")]


def _records(rows: Path, dtype: np.dtype) -> np.ndarray:
    """Whole records of one writer whose numbers are all there."""
    keys = rows.with_suffix(".keys")
    if not keys.is_file() or not rows.is_file():
        return np.empty(0, _RECORD)
    content = keys.read_bytes()
    records: np.ndarray = np.frombuffer(content[: len(content) // _RECORD.itemsize * _RECORD.itemsize], _RECORD).copy()
    ends = records["start"] + records["shape"].prod(axis=1, dtype=np.uint64)
    whole: np.ndarray = records[ends <= rows.stat().st_size // dtype.itemsize]
    return whole


def _find(records: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Places of `keys` among `records`, -1 where there is none."""
    at: np.ndarray = np.searchsorted(records["key"], keys)
    inside = np.minimum(at, max(len(records) - 1, 0))
    found: np.ndarray = records["key"][inside] == keys if len(records) else np.zeros(len(keys), bool)
    places: np.ndarray = np.where(found, inside, -1)
    return places
