"""Photos -> their size, the spread of their colours and a thumbnail of each, decoded once and kept.

What is kept lies in one SQLite file of the report folder. Its journal makes each batch whole or not at all,
so that a killed check resumes with what it had, and a second one decodes only what has changed.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image

from modiste.data import images
from modiste.errors import PhotoError, StorageError
from modiste.progress import Progress

SIDE = 32  # pixels a side of a thumbnail
THUMBNAILS_FILE = "fingerprints.sqlite"  # as report folders have called it from the first format on
_TARGET = 2 * SIDE  # pixels a side that the decoder leaves at least
_BATCH = 256  # photos between two commits: a fraction of a second of work
_LAYOUT = 1  # of the file; raise it when a row means something else
_TABLE = (
    "CREATE TABLE IF NOT EXISTS photos (path TEXT PRIMARY KEY, size INTEGER, mtime INTEGER, width INTEGER, "
    "height INTEGER, spread REAL, thumbnail BLOB, pixels BLOB)"
)
_INSERT = "INSERT OR REPLACE INTO photos VALUES (?, ?, ?, ?, ?, ?, ?, NULL)"
_UPDATE = "UPDATE photos SET pixels = ? WHERE path = ?"

_T = TypeVar("_T")


@dataclass(frozen=True, eq=False)
class Thumbnails:
    """Thumbnails and sizes of n photos; zeros where `there` is False.

    Attributes:
        there: (n,) bool, the photo is on disk and can be read.
        sizes: (n, 2) int64 width and height in pixels, upright.
        spreads: (n,) float64, distance in grey levels between the 0.1 and the 99.9 percentile of the
            channel in which it is largest; a photo of one colour has nearly none.
        pixels: (n, SIDE, SIDE, 3) uint8 RGB, the whole photo stretched to a square.
        errors: position of each photo that is on disk but can't be read -> the sentence that says why.
    """

    there: np.ndarray
    sizes: np.ndarray
    spreads: np.ndarray
    pixels: np.ndarray
    errors: dict[int, str]


def make_thumbnails(
    paths: Sequence[Path | None], folder: Path, *, workers: int, progress: Progress | None = None
) -> Thumbnails:
    """Make thumbnails in threads (Pillow decodes outside the interpreter's lock); those kept in `folder` are reused.

    Args:
        paths: n photos; None where there is no path.
        folder: where thumbnails are kept; made if missing.
        workers: threads that decode.
        progress: told (done, total) of the photos that have to be decoded.

    Raises:
        StorageError: `folder` can't be written, or what it keeps is damaged.
    """
    n = len(paths)
    made = Thumbnails(
        np.zeros(n, bool), np.zeros((n, 2), np.int64), np.zeros(n), np.zeros((n, SIDE, SIDE, 3), np.uint8), {}
    )
    stamps = [None if path is None else _stamp(path) for path in paths]
    with _kept(folder) as kept:
        _recall(made, kept, paths, stamps)
        todo = [k for k in range(n) if stamps[k] is not None and not made.there[k]]
        if progress is not None:
            progress(0, len(todo))

        def take(k: int, facts: tuple[int, int, float, bytes] | str) -> tuple | None:
            if isinstance(facts, str):
                made.errors[k] = facts
                return None
            _fill(made, k, facts)
            return str(paths[k]), *(stamps[k] or ()), *facts

        work = _each(todo, lambda k: _facts(Path(str(paths[k]))), workers)
        _keep_each(kept, _INSERT, (take(k, facts) for k, facts in work), len(todo), progress)
    return made


def hash_pixels(paths: Sequence[Path], folder: Path, *, workers: int, progress: Progress | None = None) -> list[bytes]:
    """A hash of the pixels of each photo, decoded whole; photos are the same to the pixel where it is equal.

    `make_thumbnails` has been there with the same `folder`, which keeps these hashes too. A photo that can't be
    read any more gets its path instead, and so equals no other.

    Args:
        paths: n photos.
        folder, workers, progress: as in `make_thumbnails`.

    Raises:
        StorageError: as `make_thumbnails`.
    """
    names = [str(path) for path in paths]
    with _kept(folder) as kept:
        known = dict(kept.execute("SELECT path, pixels FROM photos WHERE pixels IS NOT NULL"))
        todo = [k for k, name in enumerate(names) if name not in known]

        def take(k: int, key: bytes | None) -> tuple | None:
            if key is None:
                return None
            known[names[k]] = key
            return key, names[k]

        work = _each(todo, lambda k: _pixel_key(Path(names[k])), workers)
        _keep_each(kept, _UPDATE, (take(k, key) for k, key in work), len(todo), progress)
    return [known.get(name, name.encode()) for name in names]


@contextmanager
def _kept(folder: Path) -> Iterator[sqlite3.Connection]:
    path = Path(folder) / THUMBNAILS_FILE
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path)
        try:
            if connection.execute("PRAGMA user_version").fetchone()[0] != _LAYOUT:
                connection.execute("DROP TABLE IF EXISTS photos")
                connection.execute(f"PRAGMA user_version = {_LAYOUT}")
            connection.execute(_TABLE)
            yield connection
        finally:
            connection.close()
    except sqlite3.Error as error:
        fix = "freeing space, another folder with -o, or removing that file"
        raise StorageError.expected(f"{path} to be a writable file of thumbnails", f"'{error}'", fix) from error
    except OSError as error:
        fix = "another folder with -o"
        raise StorageError.expected(f"{path.parent} to be a folder", f"'{error.strerror}'", fix) from error


def _recall(
    made: Thumbnails,
    kept: sqlite3.Connection,
    paths: Sequence[Path | None],
    stamps: Sequence[tuple[int, int] | None],
) -> None:
    """Fill in the photos whose size and time of change are those that are kept."""
    wanted: dict[str, list[int]] = {}
    for k, path in enumerate(paths):
        wanted.setdefault(str(path), []).append(k)
    for path, size, mtime, *facts in kept.execute(
        "SELECT path, size, mtime, width, height, spread, thumbnail FROM photos"
    ):
        for k in wanted.get(path, ()):
            if stamps[k] == (size, mtime):
                _fill(made, k, facts)


def _fill(made: Thumbnails, k: int, facts: Sequence) -> None:
    width, height, spread, thumbnail = facts
    made.there[k], made.sizes[k], made.spreads[k] = True, (width, height), spread
    made.pixels[k] = np.frombuffer(thumbnail, np.uint8).reshape(SIDE, SIDE, 3)


def _keep_each(
    kept: sqlite3.Connection, statement: str, rows: Iterator[tuple | None], total: int, progress: Progress | None
) -> None:
    """Keep rows in batches as they come, also what came before an interruption; None is a photo without a row."""
    batch: list[tuple] = []
    try:
        for done, row in enumerate(rows, 1):
            if row is not None:
                batch.append(row)
            if len(batch) == _BATCH:
                _keep(kept, statement, batch)
            if progress is not None:
                progress(done, total)
    finally:
        _keep(kept, statement, batch)


def _keep(kept: sqlite3.Connection, statement: str, rows: list[tuple]) -> None:
    with kept:
        kept.executemany(statement, rows)
    rows.clear()


def _stamp(path: Path) -> tuple[int, int] | None:
    """Size in bytes and time of change in nanoseconds; None where there is no such file."""
    try:
        status = path.stat()
    except (OSError, ValueError):  # ValueError: a null byte in the path
        return None
    return status.st_size, status.st_mtime_ns


def _facts(path: Path) -> tuple[int, int, float, bytes] | str:
    """Width, height, spread and thumbnail; or why the photo can't be read."""
    try:
        photo, header = images.read_with_header(path, target=_TARGET)
    except PhotoError as error:
        return str(error)
    picture = Image.fromarray(photo)
    picture = picture.reduce(max(1, min(picture.size) // _TARGET))
    low, high = np.percentile(np.asarray(picture), (0.1, 99.9), axis=(0, 1))
    thumbnail = picture.resize((SIDE, SIDE), Image.Resampling.BOX)
    return header.width, header.height, float((high - low).max()), thumbnail.tobytes()


def _pixel_key(path: Path) -> bytes | None:
    try:
        photo = images.read_photo(path)
    except PhotoError:  # removed or damaged since its thumbnail was made
        return None
    return hashlib.blake2b(str(photo.shape).encode() + photo.tobytes(), digest_size=16).digest()


def _each(items: Iterable[int], work: Callable[[int], _T], workers: int) -> Iterator[tuple[int, _T]]:
    """(item, result) in the order of the items; what has not begun is dropped when the caller stops early."""
    items = list(items)
    pool = ThreadPoolExecutor(workers)
    try:
        yield from zip(items, pool.map(work, items), strict=True)
    finally:
        pool.shutdown(cancel_futures=True)
