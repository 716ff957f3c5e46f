"""Which options a file can't obey: told before it is read, rather than left without effect."""

from __future__ import annotations

from pathlib import Path

from modiste.data.formats.excel import SUFFIXES as SHEETS
from modiste.data.images import PHOTO_SUFFIXES
from modiste.data.json_tables import LINES
from modiste.errors import ManifestError, UsageError

_ENCODED = {".parquet": "Parquet", ".json": "JSON, which is UTF-8", **dict.fromkeys(LINES, "JSON, which is UTF-8")}
_ENCODED |= dict.fromkeys(SHEETS, "a spreadsheet")


def refuse_photo(path: Path) -> None:
    """Refuse a photo in place of a table.

    Raises:
        ManifestError: it is one, by its name.
    """
    if path.suffix.lower() in PHOTO_SUFFIXES and path.is_file():
        fix = "a folder with one folder a class, a table that names it, or modiste tag"
        raise ManifestError.expected(f"{path} to be a table of photos and labels, or a folder", "a photo", fix)


def refuse_options(path: Path, encoding: str | None, sheet: str | None) -> None:
    """Refuse a sheet of what has none, and an encoding of what knows its own.

    Raises:
        UsageError: --sheet or --encoding can have no effect on it.
    """
    suffix = path.suffix.lower()
    if sheet is not None and suffix not in SHEETS:
        what = "a folder" if path.is_dir() else path.name
        raise UsageError.expected(f"--sheet with a spreadsheet, such as {SHEETS[0]}", what, "leaving --sheet out")
    if encoding is not None and (path.is_dir() or suffix in _ENCODED):
        what = "a folder" if path.is_dir() else f"{path.name}, {_ENCODED[suffix]}"
        raise UsageError.expected("--encoding with a text file, such as .csv", what, "leaving --encoding out")
