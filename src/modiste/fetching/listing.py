"""A list of URLs, read as a stream: however long it is, only a few rows are in memory at a time.

Tables of every format that `data.tables` reads, with a URL column, and plain lists of URLs.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from modiste.data.photo_columns import find_path_and_url
from modiste.data.table import column_key, empty
from modiste.data.tables import RowStream, estimate, open_rows
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
        stream: the rows.
        guessed: what was guessed of the columns.
    """

    path: Path
    columns: tuple[str, ...]
    roles: dict[str, int]
    stream: RowStream
    guessed: tuple[str, ...] = ()

    @property
    def label_set(self) -> LabelSet | None:
        """The label set, where the file names its label columns."""
        return self.stream.label_set

    @property
    def notes(self) -> list[str]:
        """What was guessed, and once all rows are read, what was mended or left out."""
        return [*self.guessed, *self.stream.notes]

    @classmethod
    def open(
        cls,
        path: StrPath,
        *,
        url_column: str | None = None,
        id_column: str | None = None,
        encoding: str | None = None,
        sheet: str | None = None,
    ) -> Self:
        """Look at the file's columns, and read it through where rows may hold several URLs.

        Raises:
            ManifestError: it is missing or has no rows, or names no URLs.
        """
        path = Path(path)
        if path.is_dir():
            raise ManifestError.expected(f"{path} to be a list of URLs", "a folder", "a table with a URL column")
        stream = open_rows(path, encoding=encoding, sheet=sheet)
        if next(stream.read(), None) is None:
            raise empty(path)
        columns = stream.columns
        places = {column_key(name): k for k, name in reversed(list(enumerate(columns)))}
        asked = {"url": url_column, "id": id_column}
        roles: dict[str, int] = {}
        for role, name in asked.items():
            if name is not None:
                roles[role] = columns.index(_named(stream, name, f"--{role}-column"))
        settled = stream.roles.get("url")
        if "url" not in roles and settled is not None:
            roles["url"] = columns.index(settled)
        found, guessed = find_path_and_url(columns, stream.sample(), [columns[k] for k in roles.values()])
        if "url" not in roles:
            if "url" not in found:
                known = ", ".join(f"'{column}'" for column in stream.own_columns()[:20])
                raise ManifestError.expected(
                    f"a column of urls in {path}", f"only {known}", "--url-column with one of these"
                )
            roles["url"] = columns.index(found["url"])
        if "path" in found and columns.index(found["path"]) not in roles.values():
            roles["path"] = columns.index(found["path"])
        if "id" not in roles and "id" in places and places["id"] not in roles.values():
            roles["id"] = places["id"]  # a product_id may have several photos
        return cls(path, columns, roles, stream, tuple(guessed))

    def rows(self) -> Iterator[ListedPhoto]:
        """Every row, in order.

        Raises:
            ManifestError: a row can't be read.
        """
        url, id_, place = (self.roles.get(role) for role in ("url", "id", "path"))
        for number, cells in self.stream.read():
            named = cells[id_] if id_ is not None else ""
            if not named and place is not None:
                named = cells[place].removesuffix(".jpg")
            address = cells[url].strip()  # type: ignore[index]
            name = file_stem(named) if named else _digest(address) if address else f"row-{number}"
            yield ListedPhoto(name, address, cells)

    def estimate(self) -> int:
        """About how many rows there are."""
        return estimate(self.path)


def _named(stream: RowStream, name: str, option: str) -> str:
    """The column of the file that an option names, in upper or lower case."""
    columns = stream.own_columns()
    lower = {column.lower(): column for column in reversed(columns)}
    if name not in columns and name.lower() not in lower:
        known = ", ".join(f"'{column}'" for column in columns[:20])
        raise ManifestError.expected(
            f"column '{name}' in {stream.path}", f"only {known}", f"{option} with one of these"
        )
    return name if name in columns else lower[name.lower()]


def file_stem(id_: str) -> str:
    """A file name for an id, without suffix: letters, digits, "_" and "-", so that no id leaves its folder.

    An id that has anything else in it, or is long, gets a hash appended, so that two ids never share a name.
    """
    plain = re.sub(r"[^\w-]+", "_", id_)
    short = plain.encode()[:_STEM].decode(errors="ignore")
    return id_ if short == id_ else f"{short.strip('_')}-{_digest(id_)[:12]}".lstrip("-")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:20]
