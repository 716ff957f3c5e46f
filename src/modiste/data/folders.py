"""Folders of photos -> Table: a folder a class, below a folder a split where there are any."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import polars as pl

from modiste.data.photo_files import left_out_notes, photo_files, unreadable
from modiste.data.table import Table
from modiste.errors import ManifestError

_WORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
_NOUNS = ("set", "data", "dataset", "split", "images", "photos")
SPLITS = _WORDS | {f"{word}{by}{noun}": _WORDS[word] for word, by, noun in product(_WORDS, ("", "_", "-", " "), _NOUNS)}
UNLABELLED = frozenset({"unlabeled", "unlabelled"})  # folders of photos without class

Parts = tuple[str, ...]  # of a path below the folder


@dataclass(frozen=True)
class _Layout:
    """Which part of a photo's path, counted from 0, names its split and its class; None where none does."""

    split: int | None
    label: int
    notes: tuple[str, ...] = ()


def read_folder(root: Path) -> Table:
    """Class folders, or train/val/test folders of class folders -> columns path, split, class.

    A photo that lies in several class folders under one name with the same bytes is one photo of several classes;
    `class` is then a list column. Photos outside class folders have no class, those outside split folders no split.
    A single folder around all others is stepped into. What was guessed and left out stands in the notes.

    Raises:
        ManifestError: there are no photos; or of the folders that hold photos, some are splits and some are not.
    """
    left_out: Counter[str] = Counter()
    files = list(photo_files(root, left_out))
    if not files:
        only = unreadable(left_out)
        got, fix = (f"only {only}", "converting to JPEG") if only else ("no photo", "one folder a class")
        raise ManifestError.expected(f"{root} to hold folders of photos", got, fix)
    paths = [file.relative_to(root).parts for file in files]
    layout = _layout(root, paths)
    named: dict[tuple[str, str], list[Parts]] = defaultdict(list)
    for parts in paths:
        named[_split(parts, layout), parts[-1]].append(parts)
    rows = []
    for (split, _), same_name in named.items():
        for same in _identical(root, same_name):
            classes = {name for parts in same if (name := _class(parts, layout))}
            rows.append(("/".join(same[0]), split, sorted(classes) or None))
    rows.sort(key=lambda row: row[:2])
    frame = pl.DataFrame(
        rows, schema={"path": pl.String, "split": pl.String, "class": pl.List(pl.String)}, orient="row"
    )
    if all(len(classes or ()) <= 1 for _, _, classes in rows):
        frame = frame.with_columns(pl.col("class").list.first().fill_null(""))
    notes = (*layout.notes, *_unused(paths, layout), *left_out_notes(root, left_out))
    frame = frame if layout.split is not None else frame.drop("split")
    return Table(frame, root, np.arange(1, len(frame) + 1), notes=notes)


def _layout(root: Path, paths: list[Parts]) -> _Layout:
    """What the names of folders stand for, stepping into folders around all others.

    Raises:
        ManifestError: some folders are called like splits, others are not.
    """
    paths = [parts for parts in paths if not _unlabelled(parts)]
    at = 0
    while (wrapper := _wrapper(paths, at)) is not None and wrapper.lower() not in SPLITS:
        at += 1
    paths = [parts for parts in paths if len(parts) > at + 1]
    notes = (f"'{'/'.join(paths[0][:at])}' is the only folder of folders of photos: stepped into.",) if at else ()
    tops = _folders(paths, at)
    splits, others = [t for t in tops if t.lower() in SPLITS], [t for t in tops if t.lower() not in SPLITS]
    if splits and others:
        it, one = ("it", "it") if len(others) == 1 else ("them", "each")
        raise ManifestError.expected(
            f"folders of photos in {root} to be all splits or all classes",
            f"{_named(others)} beside {_named(splits)}",
            f"moving {it} out, or naming {one} train, val or test",
        )
    within = _folders(paths, at + 1)
    if not splits:
        if within and _are_splits(within) and _deep(paths, at + 1):
            return _Layout(at + 1, at, (*notes, f"{_named(within)} in the class folders are taken for splits."))
        return _Layout(None, at, notes)
    if within and (len(within) == 1 or _are_splits(within)) and _deep(paths, at + 2):
        return _Layout(at, at + 2, (*notes, f"{_named(within)} in the split folders: stepped into."))
    return _Layout(at, at + 1, notes)


def _folders(paths: Iterable[Parts], at: int) -> list[str]:
    """Names of the folders at one depth that hold photos."""
    return sorted({parts[at] for parts in paths if len(parts) > at + 1})


def _are_splits(names: list[str]) -> bool:
    return all(name.lower() in SPLITS for name in names)


def _unlabelled(parts: Parts) -> bool:
    return any(part.lower() in UNLABELLED for part in parts[:-1])


def _deep(paths: Iterable[Parts], at: int) -> bool:
    """Whether all photos that lie in a folder of the depth above lie in one of this depth too."""
    return all(len(parts) > at + 1 for parts in paths if len(parts) > at)


def _wrapper(paths: list[Parts], at: int) -> str | None:
    """The only folder with photos at this depth, where all of its photos lie in folders inside of it."""
    names = _folders(paths, at)
    return names[0] if len(names) == 1 and _deep(paths, at + 1) else None


def _split(parts: Parts, layout: _Layout) -> str:
    """The name of a photo's split folder; "" for none."""
    k = layout.split
    named = k is not None and len(parts) > k + 1 and parts[k].lower() in SPLITS and not _unlabelled(parts[: k + 1])
    return parts[k] if named and k is not None else ""


def _class(parts: Parts, layout: _Layout) -> str:
    """The name of a photo's class folder; "" for none."""
    k = layout.label
    outside = len(parts) <= k + 1 or _unlabelled(parts) or (layout.split is not None and not _split(parts, layout))
    return "" if outside else parts[k]


def _unused(paths: list[Parts], layout: _Layout) -> Iterator[str]:
    """What is said of photos without split or without class."""
    if layout.split is not None:
        unused = sum(not _split(parts, layout) for parts in paths)
        if unused:
            yield f"{_photos(unused)} outside the split folders: without split and class, so unused."
    without = sum(
        not _class(parts, layout) and (layout.split is None or bool(_split(parts, layout))) for parts in paths
    )
    if without:
        yield f"{_photos(without)} outside class folders: the class is unknown."


def _photos(n: int) -> str:
    return "1 photo lies" if n == 1 else f"{n:,} photos lie"


def _named(names: list[str]) -> str:
    """Names in quotes, the first of many."""
    quoted = [f"'{name}'" for name in names[:5]]
    return ", ".join(quoted) + (f" and {len(names) - 5:,} more" if len(names) > 5 else "")


def _identical(root: Path, files: list[Parts]) -> Iterator[list[Parts]]:
    """Files of one name -> lists of those with identical bytes; hashed only where sizes are equal."""
    by_size: dict[int, list[Parts]] = defaultdict(list)
    for file in files:
        by_size[root.joinpath(*file).stat().st_size if len(files) > 1 else 0].append(file)
    for equal in by_size.values():
        by_bytes: dict[bytes, list[Parts]] = defaultdict(list)
        for file in equal:
            content = root.joinpath(*file).read_bytes() if len(equal) > 1 else b""
            by_bytes[hashlib.sha256(content).digest()].append(file)
        yield from by_bytes.values()
