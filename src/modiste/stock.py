"""Photos to be tagged, as a stream: files, folders, patterns and tables of paths, URLs or bytes, however many.

Photos come in parts of one size, which hold the same photos whenever the same arguments are read again.
"""

from __future__ import annotations

import glob
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, groupby, starmap
from pathlib import Path

from modiste.errors import ManifestError, PhotoError, UsageError
from modiste.items import Item, Load, Source, Url, batches
from modiste.listing import estimate, open_table
from modiste.parquet_photos import bytes_column, photos_of
from modiste.roles import ROLES
from modiste.storage import replacing
from modiste.tables import PHOTO_SUFFIXES, beside, check_file

TABLES = frozenset({".csv", ".tsv", ".parquet", ".jsonl", ".ndjson", ".txt"})
_REMOTE = re.compile(r"https?://", re.IGNORECASE)


@dataclass(frozen=True)
class Stock:
    """Photos that arguments name.

    A part is a function that reads its photos: of those that are passed over, nothing is read that can be left.
    """

    sources: Sequence[Source]

    @classmethod
    def of(cls, arguments: Sequence[str], *, image_column: str | None = None, root: str | None = None) -> Stock:
        """Look at files, folders, glob patterns and tables.

        A folder is searched through all its folders, by name. A table names its photos by a column of paths, URLs or
        (Parquet) bytes; a path that isn't there gives way to a URL.

        Raises:
            UsageError: an argument names nothing.
            ManifestError: a table can't be read, or names no photos.
        """
        sources: list[Source] = []
        for table, group in grouped(arguments):
            sources += [_table(Path(path), image_column, root) for path in group] if table else [_files(group)]
        return cls(sources)

    @classmethod
    def found(cls, path: Path) -> Stock:
        """What `write_found` wrote down."""
        return cls([_listed(path)])

    def count(self) -> int:
        """How many photos there are; of text tables, how many lines."""
        return sum(source.size() for source in self.sources)

    def parts(self, size: int) -> Iterator[Load]:
        """All photos in parts of `size`; the last of each source may be smaller."""
        return chain.from_iterable(source.parts(size) for source in self.sources)

    def items(self) -> Iterator[Item]:
        """All photos."""
        return chain.from_iterable(load() for load in self.parts(1000))


def grouped(arguments: Sequence[str]) -> Iterator[tuple[bool, list[str]]]:
    """Tables that follow each other, and what stands between them: whether they are tables, and which."""
    for table, group in groupby(arguments, lambda argument: is_table(Path(argument))):
        yield table, list(group)


def is_table(path: Path) -> bool:
    """Whether an argument is a file that lists photos."""
    return path.suffix.lower() in TABLES and _is(path.is_file)


def _is(ask: Callable[[], bool]) -> bool:
    try:
        return ask()
    except OSError:  # a name that is too long, a folder that may not be entered
        return False


def files(arguments: Sequence[str]) -> list[Path]:
    """Where all photos lie that arguments name.

    Raises:
        UsageError: one of them is no file but a URL or bytes; or as `Stock.of`.
    """
    found = []
    for item in Stock.of(arguments).items():
        if not isinstance(item.source, Path):
            raise UsageError.expected("photos in files", f"'{item.id}', which is none", "fetching them first")
        found.append(item.source)
    return found


def write_found(path: Path, arguments: Sequence[str]) -> None:
    """Write down the files, folders and patterns that `arguments` name, for `Stock.found`.

    Raises:
        UsageError: an argument names nothing.
        StorageError: the list can't be written.
    """
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as out:
        for found in _found(arguments):
            out.write(json.dumps([str(found), str(found.absolute())]) + "\n")


def _listed(path: Path) -> Source:
    """What `write_found` wrote."""

    def parts(size: int) -> Iterator[Load]:
        with path.open(encoding="utf-8") as lines:
            for chunk in batches(map(json.loads, lines), size):
                yield partial(iter, [Item(_printable(name), Path(place)) for name, place in chunk])

    return Source(partial(estimate, path), parts)


def _printable(name: str) -> str:
    """A name as UTF-8 has it; file systems allow bytes that are none."""
    return name.encode(errors="surrogateescape").decode(errors="replace")


def _files(arguments: Sequence[str]) -> Source:
    def parts(size: int) -> Iterator[Load]:
        for chunk in batches((Item(_printable(str(path)), path) for path in _found(arguments)), size):
            yield partial(iter, chunk)

    if len(arguments) < 1000:  # a pattern or folder without photos is told before a model is opened
        for argument in arguments:
            next(_found([argument]))
    return Source(lambda: sum(1 for _ in _found(arguments)), parts)


def _found(arguments: Iterable[str]) -> Iterator[Path]:
    for argument in arguments:
        path = Path(argument)
        is_folder = _is(path.is_dir)
        if is_folder:
            photos = _walk(path)
        elif _is(path.exists) or not glob.has_magic(argument):
            photos = iter([path])  # a missing photo is an error of its own, beside the others
        else:
            matched = map(Path, glob.iglob(argument, recursive=True))  # noqa: PTH207  Path has no absolute globs
            photos = iter(sorted(match for match in matched if match.is_file()))
        first = next(photos, None)
        if first is None:
            want = f"photos in folder {argument}" if is_folder else f"files that match '{argument}'"
            fix = "a folder of JPEG, PNG or WebP files" if is_folder else "another pattern"
            raise UsageError.expected(want, "none", fix)
        yield first
        yield from photos


def _walk(folder: Path) -> Iterator[Path]:
    """All photos in a folder and its folders, in the order of their paths; one folder's names are in memory."""
    with os.scandir(folder) as entries:
        names = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries)  # links may go round
    for name, is_folder in names:
        if is_folder:
            yield from _walk(folder / name)
        elif os.path.splitext(name)[1].lower() in PHOTO_SUFFIXES:  # noqa: PTH122  a Path a name takes longer
            yield folder / name


def _table(path: Path, image_column: str | None, root: str | None) -> Source:
    check_file(path)
    if path.suffix.lower() == ".parquet":
        column = bytes_column(path, image_column)
        if column is not None:
            return photos_of(path, *column)
    columns, read, _ = open_table(path)
    item = _reader(path, columns, image_column, _root(path, root))

    def parts(size: int) -> Iterator[Load]:
        for chunk in batches(enumerate(read(), 1), size):
            yield partial(starmap, item, chunk)

    return Source(partial(estimate, path), parts)


def _root(path: Path, root: str | None) -> Path:
    """Where relative paths start from: as asked, as modiste wrote beside the table, or the table's own folder."""
    if root is not None:
        return Path(root)
    own = json.loads(beside(path).read_text(encoding="utf-8")) if beside(path).is_file() else {}
    return path.parent / str(own.get("root", ""))


def _reader(
    path: Path, columns: Sequence[str], image_column: str | None, root: Path
) -> Callable[[int, Sequence[str]], Item]:
    """What makes an Item of a row."""
    lower = {name.lower(): k for k, name in reversed(list(enumerate(columns)))}
    names = {"id": ("id",), "path": ROLES["path"], "url": ROLES["url"]}  # a product_id may have several photos
    roles = {role: next((lower[name] for name in names[role] if name in lower), None) for role in names}
    if image_column is not None:
        if image_column not in columns:
            known = ", ".join(f"'{column}'" for column in columns[:20])
            raise ManifestError.expected(f"column '{image_column}' in {path}", f"only {known}", "one of these")
        roles["path"] = columns.index(image_column)
    if all(at is None for at in roles.values()):
        known = ", ".join(f"'{column}'" for column in columns[:20])
        raise ManifestError.expected(f"a column of photo paths or URLs in {path}", f"only {known}", "--image-column")
    # By their ids alone photos are called as in the challenge's lists, or as in Kaggle's fashion set.
    folder = "images" if {"masterCategory", "articleType"} <= set(columns) or (root / "images").is_dir() else ""

    def item(number: int, cells: Sequence[str]) -> Item:
        id_, place, url = ("" if at is None else cells[at] for at in roles.values())
        if not (id_ or place or url):
            error = PhotoError.expected(f"row {number} of {path} to name a photo", "a blank", "filling it in")
            return Item(f"row {number}", error)
        if _REMOTE.match(place):
            url, place = place, ""
        file = root / (place or f"{folder}/{id_}.jpg".lstrip("/"))
        remote = url and (not (place or id_) or not _is(file.is_file))
        return Item(id_ or place or url, Url(url) if remote else file)

    return item
