"""Whole or not at all: every file appears under its final name only once it is complete."""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from modiste.errors import RunError, StorageError

StrPath = str | os.PathLike[str]  # what the public functions take for a path

WRITING = ".writing-"  # begins the name of what is not complete
_STALE = 86400  # seconds: no folder is being made for so long


@contextmanager
def replacing(path: StrPath, *unwritable: type[Exception]) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` when the block ends without error.

    The temporary file is in the same folder, so that the rename is atomic, and is removed if
    anything goes wrong; what stood under `path` before then stays as it was.

    Args:
        path: a file, or where none is yet.
        unwritable: what the writer raises besides OSError where the disk is full.

    Raises:
        StorageError: the folder can't be written, the disk is full, or `path` is a folder or device.
    """
    path = Path(path)
    if path.exists() and not path.is_file():  # a rename would replace a device such as /dev/stdout
        got = "a folder" if path.is_dir() else "a device"
        raise StorageError.expected(f"{path} to be a file", got, "another path")
    temporary = path.with_name(f"{WRITING}{path.stem[:100]}.{_unique()}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch(exist_ok=False)  # with the mode of any new file: the system itself applies the umask
    except OSError as error:
        raise not_written(path, error) from error
    failures: tuple[type[Exception], ...] = (OSError, *unwritable)
    try:
        yield temporary
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())  # else a power cut may leave an empty file under the final name
        temporary.replace(path)
    except failures as error:
        raise not_written(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: StrPath, text: str) -> None:
    """Write `text` as UTF-8 with "\\n" line ends, atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def make_folder(folder: Path) -> None:
    """Make a folder, if it is missing, and those above it.

    Raises:
        StorageError: it can't be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise StorageError.expected(f"{folder} to be a folder", "a file", "another path") from None
    except OSError as error:
        raise not_written(folder, error) from error


@contextmanager
def new_folder(folder: Path, fix: str) -> Iterator[Path]:
    """Yield a temporary folder beside `folder`; rename it to `folder` when the block ends without error.

    Args:
        folder: where nothing is yet, or an empty folder.
        fix: what a person can try where something is, after "Try".

    Raises:
        RunError: something is there.
        StorageError: it can't be written.
    """
    refuse_existing(folder, fix)
    _remove_stale(folder)
    temporary = folder.with_name(f"{_unfinished(folder)}{_unique()}")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        refuse_existing(folder, fix)  # another process may have made it meanwhile
        if folder.is_dir():
            folder.rmdir()
        temporary.rename(folder)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST) and folder.exists():  # made since the line above
            raise RunError.expected(f"{folder} to be a new folder", "one that exists", fix) from error
        raise StorageError.expected(f"{folder} to be made", f"'{error.strerror}'", "another -o") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _unfinished(folder: Path) -> str:
    """How the name of a folder begins that is not complete."""
    return f".{folder.name}.new-"


def _remove_stale(folder: Path) -> None:
    """Remove what processes that were killed long ago were making; another process's is younger."""
    if not folder.parent.is_dir():
        return
    for old in folder.parent.iterdir():
        if old.name.startswith(_unfinished(folder)):
            with suppress(FileNotFoundError):  # the other process has just finished it
                if time.time() - old.stat().st_mtime > _STALE:
                    shutil.rmtree(old, ignore_errors=True)


def _unique() -> str:
    return os.urandom(6).hex()


@contextmanager
def only_process(lock: Path, work: str, fix: str) -> Iterator[None]:
    """Keep other processes out of a piece of work while the block runs; a process that is killed lets go.

    Args:
        lock: a file to hold, which stays.
        work: what is done, as "Expected {work} by one process".
        fix: what a person can try, after "Try".

    Raises:
        RunError: another process is at it.
        StorageError: the file can't be made.
    """
    from filelock import FileLock, Timeout

    held = FileLock(lock, timeout=0)
    try:
        held.acquire()
    except Timeout:
        raise RunError.expected(f"{work} by one process", "another that is at it", fix) from None
    except OSError as error:
        raise not_written(lock, error) from error
    try:
        yield
    finally:
        held.release()


def refuse_existing(folder: Path, fix: str) -> None:
    """Refuse a folder that is to be made, where it holds something.

    Raises:
        RunError: it does.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RunError.expected(f"{folder} to be a new folder", "one that exists", fix)


def remove_unfinished(folder: Path) -> None:
    """Remove what a killed process was writing into `folder`; only for the one process that writes there."""
    for path in folder.glob(f"{WRITING}*"):
        path.unlink(missing_ok=True)


def not_written(path: Path, error: Exception) -> StorageError:
    """The error that says why `path` could not be written."""
    why = getattr(error, "strerror", None) or str(error)
    return StorageError.expected(f"{path} to be written", f"'{why}'", "freeing space or another folder")
