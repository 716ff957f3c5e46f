"""Folders of photos -> Table: a folder a class, below a folder a split where there are any."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl

from modiste.data.images import PHOTO_SUFFIXES
from modiste.data.table import Table
from modiste.errors import ManifestError

SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}


def read_folder(root: Path) -> Table:
    """Class folders, or train/val/test folders of class folders -> columns path, split, class.

    A photo that lies in several class folders under one name with the same bytes is one photo of several classes;
    `class` is then a list column. Photos outside class folders have no class.

    Raises:
        ManifestError: there are no photos.
    """
    folders = [entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith(".")]
    depth = int(bool(folders) and all(name.lower() in SPLITS for name in folders))
    named: dict[tuple[str, str], list[Path]] = defaultdict(list)
    for file in sorted(root.rglob("*")):
        parts = file.relative_to(root).parts
        if file.suffix.lower() in PHOTO_SUFFIXES and not any(p.startswith(".") for p in parts) and len(parts) > depth:
            named["".join(parts[:depth]), file.name].append(file)
    rows = []
    for (split, _), files in named.items():
        for same in _identical(files):
            classes = {file.relative_to(root).parts[depth] for file in same if file.parent != root / split}
            rows.append((same[0].relative_to(root).as_posix(), split, sorted(classes) or None))
    if not rows:
        raise ManifestError.expected(f"{root} to hold folders of photos", "no photo", "one folder a class")
    rows.sort(key=lambda row: row[:2])
    frame = pl.DataFrame(
        rows, schema={"path": pl.String, "split": pl.String, "class": pl.List(pl.String)}, orient="row"
    )
    if all(len(classes or ()) <= 1 for _, _, classes in rows):
        frame = frame.with_columns(pl.col("class").list.first().fill_null(""))
    return Table(frame if depth else frame.drop("split"), root, np.arange(1, len(frame) + 1))


def _identical(files: list[Path]) -> Iterator[list[Path]]:
    """Files of one name -> lists of those with identical bytes; hashed only where sizes are equal."""
    by_size: dict[int, list[Path]] = defaultdict(list)
    for file in files:
        by_size[file.stat().st_size if len(files) > 1 else 0].append(file)
    for equal in by_size.values():
        by_bytes: dict[bytes, list[Path]] = defaultdict(list)
        for file in equal:
            by_bytes[hashlib.sha256(file.read_bytes()).digest() if len(equal) > 1 else b""].append(file)
        yield from by_bytes.values()
