"""The folder of what is computed once: where it is, how large it may grow, what goes first.

An entry is a folder with `entry.json` (what it holds) and files of rows. The entry that was used longest ago is removed
first; one that was used in the last minutes may be in use and stays.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from modiste.errors import PhotoError, UsageError
from modiste.files import make_folder, write_text

IN_USE_SECONDS = 600  # what was used within them may be in use, and stays
TOUCH_SECONDS = 60  # how often a process marks entries as in use
_DIGITS = 16  # of the key in an entry's name
FREE_SHARE = 0.5  # of the free disk that the cache may fill, by default


@dataclass(frozen=True)
class Entry:
    """One entry of the cache.

    Attributes:
        folder: where it lies.
        facts: what it holds, as plain data.
        bytes: its size on disk.
        used: seconds since 1970 when it was last used.
    """

    folder: Path
    facts: Mapping[str, Any]
    bytes: int
    used: float

    @property
    def in_use(self) -> bool:
        """Whether it was used in the last minutes."""
        return time.time() - self.used < IN_USE_SECONDS

    @property
    def words(self) -> str:
        """What it holds, in a few words."""
        facts = self.facts
        size = f"{facts.get('size', '?')} px"
        if "backbone" not in facts:
            return f"photos, {size}"
        kind = "augmented" if "augment" in facts else "plain"
        return f"{facts['backbone']}, unlock {facts.get('unlock')}, {size}, {kind} views"

    @property
    def age(self) -> str:
        """How long ago it was used, in words."""
        hours = (time.time() - self.used) / 3600
        return "in the last hour" if hours < 1 else f"{hours:.0f} h ago" if hours < 48 else f"{hours / 24:.0f} days ago"


def cache_folder() -> Path:
    """MODISTE_CACHE, else `modiste` in XDG_CACHE_HOME or ~/.cache."""
    told = os.environ.get("MODISTE_CACHE")
    return Path(told) if told else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "modiste"


def budget() -> int:
    """Bytes that the cache may hold: MODISTE_CACHE_GB, else half of what the disk has free for it.

    Raises:
        UsageError: MODISTE_CACHE_GB is no number.
    """
    told = os.environ.get("MODISTE_CACHE_GB")
    if told is None:
        there = next(folder for folder in (cache_folder(), *cache_folder().absolute().parents) if folder.exists())
        return int((shutil.disk_usage(there).free + sum(entry.bytes for entry in entries())) * FREE_SHARE)
    try:
        return int(max(float(told), 0) * 1e9)
    except (ValueError, OverflowError):
        raise UsageError.expected("MODISTE_CACHE_GB to be a number", f"'{told}'", "MODISTE_CACHE_GB=50") from None


def entry_folder(kind: str, facts: Mapping[str, Any]) -> Path:
    """Where the entry of these facts lies; whatever its content depends on must be among them."""
    key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:_DIGITS]
    return cache_folder() / f"{kind}-{key}"


def create_entry(folder: Path, facts: Mapping[str, Any]) -> None:
    """Make an entry, or note that it is used.

    Raises:
        StorageError: the folder can't be written.
    """
    make_folder(folder)
    if (folder / "entry.json").is_file():
        touch(folder)
    else:
        write_text(folder / "entry.json", json.dumps(facts, indent=1) + "\n")


def touch(folder: Path) -> None:
    """Note that an entry is used, if it is there."""
    with suppress(FileNotFoundError):  # removed by hand; whoever has opened its files still reads them
        os.utime(folder / "entry.json")


class InUse:
    """Entries that somebody works with; no other process removes them while `touch` is called now and then."""

    def __init__(self, folders: Iterable[Path] = ()) -> None:
        self._folders = set(folders)
        self._due = 0.0

    def hold(self, folders: Iterable[Path]) -> None:
        """Work with these entries from now on, and no longer with others."""
        self._folders, self._due = set(folders), 0.0

    def touch(self) -> None:
        """Note that they are used, at most once a minute: so it may be called at each step."""
        if time.monotonic() >= self._due:
            for folder in self._folders:
                touch(folder)
            self._due = time.monotonic() + TOUCH_SECONDS


def entries() -> list[Entry]:
    """All entries, the one that was used last first; a link to a folder elsewhere is none."""
    found = []
    for path in cache_folder().glob("*/entry.json"):
        if path.parent.is_symlink():
            continue
        try:
            facts = dict(json.loads(path.read_text(encoding="utf-8")))
            size = sum(file.lstat().st_size for file in path.parent.iterdir())
            found.append(Entry(path.parent, facts, size, path.stat().st_mtime))
        except (OSError, ValueError, TypeError):  # removed meanwhile, or broken: then it is no entry
            continue
    return sorted(found, key=lambda entry: -entry.used)


def make_room(more: int) -> bool:
    """Whether `more` bytes fit into the budget, once old entries have made room; none goes if they don't."""
    if more <= 0:
        return True
    limit = budget() - more
    if limit < sum(entry.bytes for entry in entries() if entry.in_use):
        return False
    prune(limit)
    return True


class Pruning(NamedTuple):
    """What would make the cache small enough.

    Attributes:
        removed: entries that go, the one used longest ago first.
        kept: entries that stay, the one used last first.
    """

    removed: list[Entry]
    kept: list[Entry]

    @property
    def freed(self) -> int:
        """Bytes of what goes."""
        return sum(entry.bytes for entry in self.removed)


def plan_pruning(limit: int, unused: float = 0.0) -> Pruning:
    """Which entries have to go, the one used longest ago first, until the cache holds at most `limit` bytes.

    Args:
        limit: bytes.
        unused: seconds for which an entry must not have been used; what was used in the last minutes always stays.
    """
    kept = entries()
    removed: list[Entry] = []
    for entry in reversed(kept.copy()):
        if sum(one.bytes for one in kept) <= limit:
            break
        if not entry.in_use and time.time() - entry.used >= unused:
            kept.remove(entry)
            removed.append(entry)
    return Pruning(removed, kept)


def prune(limit: int, unused: float = 0.0) -> Pruning:
    """Remove what `plan_pruning` says has to go, and what a removal that was killed left."""
    found = plan_pruning(limit, unused)
    for entry in found.removed:
        _remove(entry)
    for folder in cache_folder().glob(f"*-{'[0-9a-f]' * _DIGITS}"):
        if folder.is_symlink() or (folder / "entry.json").is_file():
            continue
        if time.time() - folder.stat().st_mtime > IN_USE_SECONDS:
            shutil.rmtree(folder, ignore_errors=True)
    return found


def _remove(entry: Entry) -> None:
    """Remove an entry; its name goes first, so that a half-removed one is none."""
    (entry.folder / "entry.json").unlink(missing_ok=True)
    shutil.rmtree(entry.folder, ignore_errors=True)


def content_keys(photos: Sequence[Path | str], progress: Callable[[int, int], None] | None = None) -> np.ndarray:
    """What photos are known by: (n,) uint64, a hash of each file's content.

    Raises:
        PhotoError: a file can't be read.
    """
    found = np.empty(len(photos), np.uint64)
    with ThreadPoolExecutor(4) as pool:
        for k, key in enumerate(pool.map(_content_key, photos)):
            found[k] = key
            if progress:
                progress(k + 1, len(photos))
    return found


def _content_key(photo: Path | str) -> int:
    try:
        content = Path(photo).read_bytes()
    except OSError as error:
        raise PhotoError.expected(f"'{photo}' to be a readable file", f"'{error.strerror}'", "another path") from error
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")
