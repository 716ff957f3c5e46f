"""Which files of a folder are photos: one walk for training, checking and tagging.

The suffix decides, and for all other files the first bytes. What looks like a photo but can't be read here is counted.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from PIL.AvifImagePlugin import SUPPORTED as AVIF_SUPPORTED

from modiste.data.images import PHOTO_SUFFIXES, content_kind

# Folders of thumbnails, deleted files and metadata, which systems make among people's photos; in lower case.
JUNK_FOLDERS = frozenset(
    {"__macosx", "@eadir", "#recycle", "#snapshot", "$recycle.bin", "lost+found", "system volume information"}
)
_HEAD = 64  # bytes that tell what a file is
_LINK = "link to a folder"
_RAW = (
    *("3fr", "arw", "cr2", "cr3", "crw", "dcr", "dng", "erf", "iiq", "kdc", "mef", "mrw", "nef", "nrw", "orf", "pef"),
    *("raf", "raw", "rw2", "rwl", "sr2", "srf", "srw", "x3f"),
)
_UNREADABLE = {
    **dict.fromkeys((".heic", ".heics"), "HEIC"),
    **dict.fromkeys((".heif", ".hif"), "HEIF"),
    **dict.fromkeys((".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"), "JPEG 2000"),
    ".avif": "AVIF",
    ".jxl": "JPEG XL",
    **dict.fromkeys((f".{name}" for name in _RAW), "RAW"),
}


def photo_files(folder: Path, left_out: Counter[str]) -> Iterator[Path]:
    """All photos in a folder and its folders, in the order of their paths; one folder's names are in memory.

    Hidden files and folders are left out, and those of JUNK_FOLDERS.

    Args:
        folder: where to look.
        left_out: counts, by kind, what looks like a photo but can't be read, and links to folders, which may go round.
    """
    with os.scandir(folder) as entries:
        found = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries)
    for name, is_folder in found:
        if name.startswith("."):
            continue
        if is_folder:
            if name.lower() not in JUNK_FOLDERS:
                yield from photo_files(folder / name, left_out)
            continue
        kind = _kind(os.path.join(folder, name))  # noqa: PTH118  a Path a name takes longer
        if kind == "":
            yield folder / name
        elif kind is not None:
            left_out[kind] += 1


def left_out_notes(folder: Path | str, left_out: Counter[str]) -> list[str]:
    """What a walk left out, in a sentence or two."""
    notes = []
    words = unreadable(left_out)
    if words:
        many = sum(left_out.values()) - left_out[_LINK] > 1
        it = "and are left out: convert them" if many else "and is left out: convert it"
        notes.append(f"{words} in {folder} can't be read {it} to JPEG.")
    links = left_out[_LINK]
    if links:
        said = f"{_LINK} in {folder} is not followed: name its target instead."
        several = f"{links:,} links to folders in {folder} are not followed: name their targets instead."
        notes.append(f"1 {said}" if links == 1 else several)
    return notes


def unreadable(left_out: Counter[str]) -> str:
    """What can't be read, by kind: "5 HEIC files and 1 RAW file"; "" where there is nothing."""
    words = [
        f"{count:,} {kind} {'file' if count == 1 else 'files'}"
        for kind, count in left_out.most_common()
        if kind != _LINK
    ]
    return " and ".join([*([", ".join(words[:-1])] if words[1:] else []), *words[-1:]])


def _kind(path: str) -> str | None:
    """ "" for a photo, what it is where it can't be read here, None for all else."""
    suffix = os.path.splitext(path)[1].lower()  # noqa: PTH122
    if suffix in PHOTO_SUFFIXES and (suffix != ".avif" or AVIF_SUPPORTED):
        return ""
    if not os.path.isfile(path):  # noqa: PTH113  a link to a folder or to nothing, or a pipe, which would never end
        return _LINK if os.path.isdir(path) else None  # noqa: PTH112
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            found = content_kind(file.read(_HEAD))
    except OSError:  # it may not be read, and doesn't call itself a photo
        found = None
    content, is_read = found or (None, False)
    known = _UNREADABLE.get(suffix)
    if is_read and not (known == "RAW" and content == "TIFF"):  # most kinds of RAW are built as TIFF
        return ""
    return known or content
