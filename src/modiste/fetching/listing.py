"""A list of URLs, read as a stream: however long it is, only a few rows are in memory at a time.

CSV, TSV, JSONL and Parquet with a URL column, the JD challenge's text files, and plain lists of URLs.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from modiste.data.photo_columns import ROLES
from modiste.data.row_stream import Read, estimate, open_table
from modiste.data.tables import check_file
from modiste.errors import ManifestError
from modiste.files import StrPath
from modiste.labels import LabelSet

_STEM = 120  # bytes of a file's name before its suffix; file systems allow 255 in all


@dataclass(frozen=True)
class ListedPhoto:
    """One photo to fetch: its file's name without suffix, its URL ("" is none), and the cells of its row."""

    name: str
    url: str
    cells: Sequence[str]


@dataclass(frozen=True)
class Listing:
    """Rows of a file that name a URL each.

    Attributes:
        path: the file.
        columns: names of the cells of each row.
        roles: positions in `columns` of "url" and, where there are any, of "id" and "path".
        read: gives the rows' cells from the first one on, each time it is called.
        label_set: the label set, where the file says what its label columns are.
    """

    path: Path
    columns: tuple[str, ...]
    roles: dict[str, int]
    read: Read
    label_set: LabelSet | None = None

    @classmethod
    def open(cls, path: StrPath, *, url_column: str | None = None, id_column: str | None = None) -> Self:
        """Look at the file's beginning.

        Raises:
            ManifestError: it is missing or empty, or names no URLs.
        """
        path = Path(path)
        check_file(path)
        if path.is_dir():
            raise ManifestError.expected(f"{path} to be a list of URLs", "a folder", "a table with a URL column")
        columns, read, label_set = open_table(path)
        asked = {"url": url_column, "id": id_column}
        roles: dict[str, int] = {}
        lower = {name.lower(): k for k, name in reversed(list(enumerate(columns)))}
        for role in ("url", "id", "path"):
            names = ("id",) if role == "id" else ROLES[role]  # a product_id may have several photos
            free = (name for name in names if name in lower and lower[name] not in roles.values())
            name = asked.get(role) or next(free, None)
            if name is not None and name.lower() in lower:
                roles[role] = columns.index(name) if name in columns else lower[name.lower()]
            elif role == "url" or asked.get(role):
                known = ", ".join(f"'{column}'" for column in columns[:20])
                fix = "--id-column" if role == "id" else "--url-column with one of these"
                raise ManifestError.expected(f"a column of {role}s in {path}", f"only {known}", fix)
        return cls(path, columns, roles, read, label_set)

    def rows(self) -> Iterator[ListedPhoto]:
        """Every row, in order.

        Raises:
            ManifestError: a row can't be read.
        """
        url, id_, place = (self.roles.get(role) for role in ("url", "id", "path"))
        for cells in self.read():
            named = cells[id_] if id_ is not None else ""
            if not named and place is not None:
                named = cells[place].removesuffix(".jpg")
            address = cells[url].strip()  # type: ignore[index]
            yield ListedPhoto(file_stem(named) if named else _digest(address), address, cells)

    def estimate(self) -> int:
        """About how many rows there are."""
        return estimate(self.path)


def file_stem(id_: str) -> str:
    """A file name for an id, without suffix: letters, digits, "_" and "-", so that no id leaves its folder.

    An id that has anything else in it, or is long, gets a hash appended, so that two ids never share a name.
    """
    plain = re.sub(r"[^\w-]+", "_", id_)
    short = plain.encode()[:_STEM].decode(errors="ignore")
    return id_ if short == id_ else f"{short.strip('_')}-{_digest(id_)[:12]}".lstrip("-")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:20]
