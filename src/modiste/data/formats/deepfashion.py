"""The list files of DeepFashion (Liu et al. 2016): a count, a header, then a photo and its numbers a line.

    list_attr_img.txt        photo, then 1 (yes), -1 (no) or 0 (unknown) for each attribute
    list_category_img.txt    photo, then the number of its category, from 1

Names come from list_attr_cloth.txt and list_category_cloth.txt, splits from list_eval_partition.txt, where they
stand beside the list or in the folder Eval next to its own.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from modiste.data.table import Table
from modiste.errors import ManifestError

_KINDS = {"attribute_labels": "attribute", "category_label": "category"}
_NAMES = {"attribute": "list_attr_cloth.txt", "category": "list_category_cloth.txt"}
_SPLITS = "list_eval_partition.txt"
_FIRST = 3  # the line of the first photo


def read_deepfashion(path: Path) -> Table | None:
    """Read a list file; None where it is none.

    Raises:
        ManifestError: a line has other numbers than the first.
    """
    if path.suffix.lower() != ".txt":
        return None
    with path.open(encoding="utf-8", errors="replace") as file:
        count, header = file.readline().strip(), file.readline().split()
    if not count.isdecimal() or header[:1] != ["image_name"] or len(header) != 2:
        return None
    if header[1] == "evaluation_status":
        fix = "list_attr_img.txt or list_category_img.txt, beside which it is read"
        raise ManifestError.expected(f"{path} to hold labels", "splits alone", fix)
    kind = _KINDS.get(header[1])
    if kind is None:
        known = " or ".join(f"'{name}'" for name in _KINDS)
        raise ManifestError.expected(f"{path} to hold {known}", f"'{header[1]}'", "list_attr_img.txt")
    photos, numbers = _numbers(path)
    names, notes = _names(path, kind, numbers)
    frame = pl.DataFrame({"path": photos})
    if kind == "category":
        words = np.array(["", *names])
        if numbers.min() < 0 or numbers.max() >= len(words):
            raise ManifestError.expected(f"categories of {path} to be 1 to {len(names)}", numbers.max(), _NAMES[kind])
        frame = frame.with_columns(pl.Series("category", words[numbers[:, 0]].tolist()))
    else:
        signed = bool((numbers == -1).any())
        spelt = np.array(["0", "", "1"] if signed else ["", "0", "1"])[numbers + 1]
        frame = frame.with_columns(pl.Series(name, spelt[:, k].tolist()) for k, name in enumerate(names))
        notes += ["In list_attr_img.txt, 1 is yes, -1 is no and 0 is unknown."] if signed else []
    splits = _beside(path, _SPLITS)
    if splits is not None:
        rows = dict(line.split() for line in splits.read_text(encoding="utf-8").splitlines()[2:] if line.strip())
        frame = frame.with_columns(split=pl.col("path").replace_strict(rows, default=""))
        notes.append(f"Splits are those of {splits}.")
    return Table(frame, path, np.arange(len(frame)) + _FIRST, notes=tuple(notes))


def _numbers(path: Path) -> tuple[list[str], np.ndarray]:
    photos, rows, width = [], [], 0
    with path.open(encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, 1):
            fields = line.split()
            if number < _FIRST or not fields:
                continue
            width = width or len(fields)
            try:
                rows.append(np.array(fields[1:], np.int16))
            except (ValueError, OverflowError):
                rows.append(np.zeros(0, np.int16))
            if len(fields) != width or not len(rows[-1]) or abs(rows[-1]).max() > (1 if width > 2 else 10_000):
                want = f"row {number} of {path} to be a photo and {width - 1} numbers"
                raise ManifestError.expected(want, f"'{line.strip()[:60]}'", "correcting it")
            photos.append(fields[0])
    if not photos:
        raise ManifestError.expected(f"{path} to list photos", "no rows", "a manifest with at least one row")
    return photos, np.stack(rows)


def _names(path: Path, kind: str, numbers: np.ndarray) -> tuple[list[str], list[str]]:
    wanted = numbers.shape[1] if kind == "attribute" else int(numbers.max())
    file = _beside(path, _NAMES[kind])
    if file is None:
        note = f"{_NAMES[kind]} isn't beside {path.name}, so labels are called '{kind} 1' and so on."
        return [f"{kind} {k + 1}" for k in range(wanted)], [note]
    lines = file.read_text(encoding="utf-8").splitlines()[2:]
    names = [line.rsplit(maxsplit=1)[0].strip() for line in lines if line.strip()]
    if len(names) < wanted or (kind == "attribute" and len(names) != wanted):
        raise ManifestError.expected(f"{file} to name {wanted} labels", len(names), "the file of the same data set")
    twice = {name for name in names if names.count(name) > 1}
    return [f"{name} {k + 1}" if name in twice else name for k, name in enumerate(names)], []


def _beside(path: Path, name: str) -> Path | None:
    places = (path.parent, path.parent / "Eval", path.parent.parent / "Eval", path.parent.parent / "Anno")
    return next((place / name for place in places if (place / name).is_file()), None)
