"""Paths of photos as another system wrote them -> paths that are there: drives, other folders, upper and lower case."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import polars as pl

_TRIED = 20  # paths that show how all are to be read


def found_places(paths: pl.Series, root: Path) -> tuple[pl.Series, list[str]]:
    """The paths, as they lie below `root` where the first of them aren't there as written; and what was guessed.

    Paths that begin with another system's folders lose these where what is left is there; suffixes and names may
    differ in upper and lower case.
    """
    tried = paths.filter(paths != "").head(_TRIED).to_list()
    if not tried or any(_is_file(root / path) for path in tried):
        return paths, []
    gone = next((k for path in tried if (k := _foreign_parts(path, root)) is not None), None)
    if gone is not None:
        example = next(path for path in tried if _foreign_parts(path, root) is not None)
        lost = "/".join(PurePosixPath(example).parts[:gone]).replace("//", "/")
        kept = paths.map_elements(lambda path: "/".join(PurePosixPath(path).parts[gone:]) or path, pl.String)
        return kept, [f"'{lost}' isn't here: photos are looked for in {root} by the rest of their paths."]
    known: dict[Path, dict[str, str]] = {}
    if any(_other_case(path, root, known) is not None for path in tried):
        found = paths.map_elements(lambda path: _other_case(path, root, known) or path, pl.String)
        return found, [f"Photos in {root} are called as in the table but for upper and lower case."]
    return paths, []


def _foreign_parts(path: str, root: Path) -> int | None:
    """How many of its first folders an absolute path has to lose to be found below `root`."""
    parts = PurePosixPath(path).parts
    absolute = path.startswith("/") or (len(path) > 2 and path[1] == ":")
    if not absolute:
        return None
    return next((k for k in range(1, len(parts)) if _is_file(root.joinpath(*parts[k:]))), None)


def _other_case(path: str, root: Path, known: dict[Path, dict[str, str]]) -> str | None:
    """The path of the file that differs from `path` in upper and lower case alone."""
    folder, name = (root / path).parent, PurePosixPath(path).name
    if folder not in known:
        known[folder] = {one.casefold(): one for one in _names(folder)}
    there = known[folder].get(name.casefold())
    return None if there is None else str(PurePosixPath(path).with_name(there))


def _names(folder: Path) -> Sequence[str]:
    try:
        return os.listdir(folder)  # noqa: PTH208  names alone, however many
    except OSError:
        return []


def _is_file(path: Path) -> bool:
    return os.path.isfile(path)  # noqa: PTH113  Path raises for a name that is too long
