"""Photos to be tagged, as a stream: files, folders, patterns and tables of paths, URLs or bytes, however many.

Photos come in parts of one size, which hold the same photos whenever the same arguments are read again.
"""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, groupby, islice
from pathlib import Path
from typing import NamedTuple, TypeVar

from modiste.data.images import PHOTO_SUFFIXES
from modiste.errors import PhotoError, RunError, UsageError
from modiste.files import replacing

TABLES = frozenset({".csv", ".tsv", ".parquet", ".jsonl", ".ndjson", ".txt"})

T = TypeVar("T")


@dataclass(frozen=True)
class Url:
    """Where a photo is to be fetched from."""

    address: str


def printable(text: str) -> str:
    """A path, or a sentence about one, as UTF-8 has it; file systems allow bytes that are none."""
    return text.encode(errors="surrogateescape").decode(errors="replace")


class InputPhoto(NamedTuple):
    """A photo to be tagged: what it is called, and a path, a file's bytes, a Url, or why it is none of them.

    `product` names what it shows, where a column for that was asked for; "" is a product of its own.
    """

    id: str
    source: Path | bytes | Url | PhotoError
    product: str = ""


LoadPart = Callable[[], Iterator[InputPhoto]]


class PhotoStream(NamedTuple):
    """Photos of one argument, or of several files one after the other."""

    size: Callable[[], int]
    parts: Callable[[int], Iterator[LoadPart]]


def batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """A stream in lists of `size`; the last may be shorter."""
    items = iter(items)
    while batch := list(islice(items, size)):
        yield batch


@dataclass(frozen=True)
class Inputs:
    """Photos that arguments name.

    A part is a function that reads its photos: of those that are passed over, nothing is read that can be left.
    """

    sources: Sequence[PhotoStream]

    @classmethod
    def of(cls, arguments: Sequence[str], *, image_column: str | None = None, root: str | None = None) -> Inputs:
        """Look at files, folders, glob patterns and tables.

        A folder is searched through all its folders, by name. A table names its photos by a column of paths, URLs or
        (Parquet) bytes; a path that isn't there gives way to a URL.

        Raises:
            UsageError: an argument names nothing, or a table that isn't there.
            ManifestError: a table can't be read, or names no photos.
        """
        sources: list[PhotoStream] = []
        for table, group in grouped(named(arguments)):
            if table:
                from modiste.inputs.tables import photos_in  # with Polars: a tenth of the time that one photo takes

                sources += [photos_in(Path(path), image_column, root) for path in group]
            else:
                sources.append(_files(group))
        return cls(sources)

    @classmethod
    def of_products(
        cls, tables: Sequence[str], column: str, *, image_column: str | None = None, root: str | None = None
    ) -> Inputs:
        """Look at tables that say in `column` which product each photo shows; else as `of`.

        Raises:
            UsageError: an argument is no table.
            ManifestError: a table can't be read, names no photos, or lacks a column that was asked for.
        """
        from modiste.inputs.tables import photos_in

        every = named(tables)
        for argument in every:
            if not is_table(Path(argument)):
                want, got = f"tables with a column '{column}' for --by", f"'{argument}', which is none"
                raise UsageError.expected(want, got, "a .csv, .tsv, .jsonl or .parquet file that lists the photos")
        return cls([photos_in(Path(path), image_column, root, column) for path in every])

    @classmethod
    def found(cls, path: Path) -> Inputs:
        """What `write_found` wrote down."""
        return cls([_listed(path)])

    def count(self) -> int:
        """How many photos there are; of text tables, how many lines."""
        return sum(source.size() for source in self.sources)

    def parts(self, size: int) -> Iterator[LoadPart]:
        """All photos in parts of `size`; the last of each source may be smaller."""
        return chain.from_iterable(source.parts(size) for source in self.sources)

    def items(self) -> Iterator[InputPhoto]:
        """All photos."""
        return chain.from_iterable(load() for load in self.parts(1000))


def named(arguments: Iterable[str]) -> list[str]:
    """The arguments, and in place of a pattern of tables the tables that it matches.

    Raises:
        UsageError: a table isn't there.
    """
    every: list[str] = []
    for argument in arguments:
        if Path(argument).suffix.lower() not in TABLES or os.path.exists(argument):  # noqa: PTH110
            every.append(argument)
            continue
        tables = sorted(glob.glob(argument, recursive=True)) if glob.has_magic(argument) else []  # noqa: PTH207
        if not tables:
            raise UsageError.expected(f"a table of photos at '{argument}'", "no such file", "another path")
        every += tables
    return every


def grouped(arguments: Sequence[str]) -> Iterator[tuple[bool, list[str]]]:
    """Tables that follow each other, and what stands between them: whether they are tables, and which."""
    for table, group in groupby(arguments, lambda argument: is_table(Path(argument))):
        yield table, list(group)


def is_table(path: Path) -> bool:
    """Whether an argument is a file that lists photos."""
    return path.suffix.lower() in TABLES and os.path.isfile(path)  # noqa: PTH113  Path raises for a name that is too long


def files(arguments: Sequence[str]) -> list[Path]:
    """Where all photos lie that arguments name.

    Raises:
        UsageError: one of them is no file but a URL or bytes; or as `Inputs.of`.
    """
    found = []
    for item in Inputs.of(arguments).items():
        if not isinstance(item.source, Path):
            raise UsageError.expected("photos in files", f"'{item.id}', which is none", "fetching them first")
        found.append(item.source)
    return found


def write_found(path: Path, arguments: Sequence[str]) -> None:
    """Write down the files, folders and patterns that `arguments` name, for `Inputs.found`.

    Raises:
        UsageError: an argument names nothing.
        StorageError: the list can't be written.
    """
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as out:
        for found in _found(arguments):
            out.write(json.dumps([str(found), str(found.absolute())]) + "\n")


def _listed(path: Path) -> PhotoStream:
    """What `write_found` wrote."""
    from modiste.data.tables import estimate

    def parts(size: int) -> Iterator[LoadPart]:
        with path.open(encoding="utf-8") as lines:
            for chunk in batches(lines, size):
                yield partial(iter, list(map(_found_before, chunk)))

    return PhotoStream(partial(estimate, path), parts)


def _found_before(line: str) -> InputPhoto:
    try:
        name, place = json.loads(line)
    except (ValueError, TypeError) as error:
        want = "each line of found-*.jsonl to be as it was written"
        raise RunError.expected(want, f"'{line.strip()[:80]}'", "another -o") from error
    return InputPhoto(printable(name), Path(place))


def _files(arguments: Sequence[str]) -> PhotoStream:
    def parts(size: int) -> Iterator[LoadPart]:
        for chunk in batches((InputPhoto(printable(str(path)), path) for path in _found(arguments)), size):
            yield partial(iter, chunk)

    if len(arguments) < 1000:  # a pattern or folder without photos is refused before a model is opened
        for argument in arguments:
            next(_found([argument]))
    return PhotoStream(lambda: sum(1 for _ in _found(arguments)), parts)


def _found(arguments: Iterable[str]) -> Iterator[Path]:
    for argument in arguments:
        path = Path(argument)
        is_folder = os.path.isdir(path)  # noqa: PTH112  Path raises for a name that is too long
        if is_folder:
            photos = _walk(path)
        elif os.path.exists(path) or not glob.has_magic(argument):  # noqa: PTH110
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
