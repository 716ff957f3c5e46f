"""Standard input -> photos: the bytes of one, a list of paths and URLs, or a text table."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from modiste.data.cells import REMOTE
from modiste.data.images import content_kind, foreign_kind
from modiste.errors import ModisteError, PhotoError, UsageError
from modiste.inputs.arguments import STDIN, InputPhoto, TableOptions, Url, printable

_WANT = "a photo, a list of paths and URLs, or a text table, on standard input"
_FIX = "cat street.jpg | modiste tag -, or ls *.jpg | modiste tag -"
_HEAD = 512  # bytes that tell what came
_BOM = b"\xef\xbb\xbf"
_NO_TEXT = re.compile(rb"[\x01-\x08\x0e-\x1f]")


class StandardInput(NamedTuple):
    """The photos that standard input held or named; of a table, also what was left out, a sentence each."""

    photos: list[InputPhoto]
    notes: list[str]
    is_table: bool


def read_stdin(stream: BinaryIO, tables: TableOptions = TableOptions()) -> StandardInput:  # noqa: B008 (immutable)
    """Read all of standard input; its first bytes say what it is.

    A list has a path or URL a line, or each ended by a null byte, as `find -print0` writes them. Text whose first line
    names a column of paths or URLs is a table.

    Raises:
        UsageError: it is a terminal, is empty, or holds something else; or no table, where products are asked for.
        ManifestError: a table can't be read, or names no photos.
    """
    if stream.isatty():
        raise UsageError.expected(_WANT, "a terminal", _FIX)
    content = stream.read()
    if not content.strip():
        raise UsageError.expected(_WANT, "nothing", _FIX)
    head = content[:_HEAD]
    if content_kind(head) is not None:
        return _no_table([InputPhoto(STDIN, content)], "a photo", tables)
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):  # as PowerShell may write text
        content, tables = content.decode("utf-16", errors="replace").encode(), tables._replace(encoding=None)
        head = content[:_HEAD]
    what = foreign_kind(head) or (_NO_TEXT.search(head) and "a file of an unknown format")
    if what:
        raise UsageError.expected(_WANT, what, "naming its file instead")
    if _is_table(content, tables):
        return _table(content, tables)
    return _no_table(list(_listed(content)), "a list of photos", tables)


def _no_table(photos: list[InputPhoto], what: str, tables: TableOptions) -> StandardInput:
    if tables.product_column is not None:
        want = f"a text table with a column '{tables.product_column}' on standard input for --by"
        raise UsageError.expected(want, what, "a table, or without --by")
    return StandardInput(photos, [], is_table=False)


def _is_table(content: bytes, tables: TableOptions) -> bool:
    """Whether the first line is the header of a table, and no photo."""
    from modiste.data.photo_columns import ROLES  # with Polars: a tenth of the time that one photo takes
    from modiste.data.table import column_key

    lines = content.removeprefix(_BOM).splitlines()
    first = os.fsdecode(next(line.strip() for line in lines if line.strip()))
    if "\0" in first or REMOTE.match(first) or os.path.exists(first):  # noqa: PTH110  Path raises for a name that is too long
        return False
    columns = {column_key(cell.strip().strip('"')) for cell in re.split(r"[,;\t|]", first)}
    asked = [column_key(name) for name in (tables.image_column, tables.product_column) if name is not None]
    return not columns.isdisjoint({*ROLES["path"], *ROLES["url"], *asked})


def _table(content: bytes, tables: TableOptions) -> StandardInput:
    """The photos of a table, whose paths start from the current folder."""
    from modiste.inputs.tables import photos_in

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.csv"

        def named(words: object) -> str:
            return str(words).replace(str(path), "standard input")

        path.write_bytes(content)
        try:
            (found,) = photos_in([path], tables._replace(root=tables.root or os.curdir))
            photos = [photo for load in found.parts(1000) for photo in load()]
        except ModisteError as error:
            raise type(error)(named(error)) from error
        for k, photo in enumerate(photos):
            if isinstance(photo.source, PhotoError):
                photos[k] = photo._replace(source=PhotoError(named(photo.source)))
        return StandardInput(photos, list(map(named, found.notes())), is_table=True)


def _listed(content: bytes) -> Iterator[InputPhoto]:
    """The photos of a list."""
    ended = b"\0" if b"\0" in content else b"\n"
    for line in content.removeprefix(_BOM).split(ended):
        name = os.fsdecode(line.strip(b"\r\n"))
        if not name.strip():
            continue
        if REMOTE.match(name):
            yield InputPhoto(name, Url(name.strip()))
        else:
            yield InputPhoto(printable(name), Path(name))
