"""Photos to be tagged, as a stream: files, folders, patterns, URLs and tables of paths, URLs or bytes, however many.

Photos come in parts of one size, which hold the same photos whenever the same arguments are read again.
"""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, groupby, islice
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

from modiste.data.cells import REMOTE
from modiste.data.photo_files import JUNK_FOLDERS, left_out_notes, photo_files, unreadable
from modiste.errors import PhotoError, UsageError
from modiste.words import counted

TABLES = frozenset({".csv", ".tsv", ".parquet", ".jsonl", ".ndjson", ".json", ".txt"})
TABLES |= {".xlsx", ".xlsm", ".xlsb", ".xls", ".ods"}  # spreadsheets
STDIN = "-"  # the argument that stands for standard input

Kind = Literal["table", "files", "stdin"]
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


def _nothing() -> list[str]:
    return []


class TableOptions(NamedTuple):
    """How tables name photos; None is found out.

    Attributes:
        image_column: of paths, URLs or bytes.
        root: folder that relative paths start from.
        encoding: of a text file.
        sheet: of a spreadsheet.
        product_column: what names the product of each photo; none is looked for.
    """

    image_column: str | None = None
    root: str | None = None
    encoding: str | None = None
    sheet: str | None = None
    product_column: str | None = None


class PhotoStream(NamedTuple):
    """Photos of one argument, or of several files one after the other.

    Attributes:
        size: how many there are.
        parts: gives them in parts of a size, each time from the first on.
        notes: what is left out, a sentence each, once all have been counted or read.
        rows: gives those from one position on, so many; None where they name files or URLs.
        by_path: whether a photo is the same while its path is; else while its id is.
    """

    size: Callable[[], int]
    parts: Callable[[int], Iterator[LoadPart]]
    notes: Callable[[], list[str]] = _nothing
    rows: Callable[[int, int], Iterator[InputPhoto]] | None = None
    by_path: bool = False


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
    def of(
        cls,
        arguments: Sequence[str],
        *,
        image_column: str | None = None,
        root: str | None = None,
        encoding: str | None = None,
        sheet: str | None = None,
        product_column: str | None = None,
        stdin: Sequence[InputPhoto] = (),
    ) -> Inputs:
        """Look at files, folders, glob patterns, URLs and tables.

        A folder is searched through all its folders, by name. A table names its photos by a column of paths, URLs or
        (Parquet) bytes; a path that isn't there gives way to a URL.

        Args:
            arguments: what names the photos.
            image_column, root, encoding, sheet: of tables; None finds them.
            product_column: of tables, which all arguments have to be, or standard input.
            stdin: the photos that the argument "-" stands for, from `read_stdin`.

        Raises:
            UsageError: an argument names nothing, or a table that isn't there, or all are paths that aren't there.
            ManifestError: a table can't be read, names no photos, or lacks a column that was asked for.
        """
        tables = TableOptions(image_column, root, encoding, sheet, product_column)
        every = named(arguments)
        refuse_missing(every)
        refuse_no_products(every, product_column)
        return cls([source for kind, group in grouped(every) for source in sources(kind, group, tables, stdin)])

    def count(self) -> int:
        """How many photos there are."""
        return sum(source.size() for source in self.sources)

    def notes(self) -> list[str]:
        """What was left out, a sentence each, once all photos have been counted or read."""
        return [note for source in self.sources for note in source.notes()]

    def parts(self, size: int) -> Iterator[LoadPart]:
        """All photos in parts of `size`; the last of each source may be smaller."""
        return chain.from_iterable(source.parts(size) for source in self.sources)

    def items(self) -> Iterator[InputPhoto]:
        """All photos."""
        return chain.from_iterable(load() for load in self.parts(1000))


def named(arguments: Iterable[str]) -> list[str]:
    """The arguments, and in place of a pattern of tables the tables that it matches.

    Raises:
        UsageError: a table isn't there, or is a URL; or standard input is named twice.
    """
    every: list[str] = []
    for argument in arguments:
        if REMOTE.match(argument):
            if Path(argument.partition("?")[0]).suffix.lower() in TABLES:
                want = "a photo's URL, or a table in a file"
                raise UsageError.expected(want, f"the URL of a table, '{argument}'", "downloading it first")
            every.append(argument)
            continue
        if Path(argument).suffix.lower() not in TABLES or os.path.exists(argument):  # noqa: PTH110
            every.append(argument)
            continue
        tables = sorted(glob.glob(argument, recursive=True)) if glob.has_magic(argument) else []  # noqa: PTH207
        if not tables:
            raise UsageError.expected(f"a table of photos at '{argument}'", "no such file", "another path")
        every += tables
    if every.count(STDIN) > 1:
        raise UsageError.expected(f"'{STDIN}', standard input, once", f"{every.count(STDIN)} of it", "leaving one")
    return every


def refuse_missing(arguments: Sequence[str]) -> None:
    """Refuse paths of which none is there; among others, a missing photo is an error of its own.

    Raises:
        UsageError: no argument is anything but a path that isn't there.
    """

    def is_missing(argument: str) -> bool:
        other = argument == STDIN or REMOTE.match(argument) or glob.has_magic(argument)
        return not other and not os.path.exists(argument)  # noqa: PTH110  Path raises for a name that is too long

    if arguments and all(map(is_missing, arguments)):
        others = len(arguments) - 1
        got = f"no such {'file' if not others else 'files'}"
        where = f"'{arguments[0]}'" + (f" and {counted(others, 'other path')}" if others else "")
        raise UsageError.expected(f"a photo, a folder or a table at {where}", got, "another path")


def refuse_no_products(arguments: Sequence[str], product_column: str | None) -> None:
    """Refuse what can't say which product a photo shows, where that is asked for.

    Raises:
        UsageError: an argument is no table.
    """
    other = next((group[0] for kind, group in grouped(arguments) if kind == "files"), None)
    if product_column is not None and other is not None:
        want, got = f"tables with a column '{product_column}' for --by", f"'{other}', which is none"
        raise UsageError.expected(want, got, "a .csv, .tsv, .jsonl or .parquet file that lists the photos")


def sources(
    kind: Kind, arguments: Sequence[str], tables: TableOptions, stdin: Sequence[InputPhoto]
) -> list[PhotoStream]:
    """The photos of arguments of one kind; errors as of `Inputs.of`."""
    if kind == "table":
        from modiste.inputs.tables import photos_in  # with Polars: a tenth of the time that one photo takes

        return photos_in(list(map(Path, arguments)), tables)
    if kind == "stdin":
        return [_stdin(stdin)]
    return [_files(arguments)]


def grouped(arguments: Sequence[str]) -> Iterator[tuple[Kind, list[str]]]:
    """Arguments of one kind that follow each other, and the kind: tables, standard input, or all else."""
    for kind, group in groupby(arguments, _argument_kind):
        yield kind, list(group)


def _argument_kind(argument: str) -> Kind:
    return "stdin" if argument == STDIN else "table" if is_table(Path(argument)) else "files"


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


def _stdin(photos: Sequence[InputPhoto]) -> PhotoStream:
    def parts(size: int) -> Iterator[LoadPart]:
        return (partial(iter, chunk) for chunk in batches(photos, size))

    return PhotoStream(lambda: len(photos), parts, by_path=True)


def _files(arguments: Sequence[str]) -> PhotoStream:
    files = NamedFiles(arguments)
    if len(arguments) < 1000:  # a pattern or folder without photos is refused before a model is opened
        for argument in arguments:
            next(iter(NamedFiles([argument])))

    def parts(size: int) -> Iterator[LoadPart]:
        return (partial(iter, chunk) for chunk in batches(files, size))

    return PhotoStream(lambda: sum(1 for _ in files), parts, files.notes, by_path=True)


@dataclass
class NamedFiles:
    """Photos that files, folders, patterns and URLs name, found anew each time; what is left out is counted."""

    arguments: Sequence[str]
    left_out: dict[str, Counter[str]] = field(default_factory=dict)

    def __iter__(self) -> Iterator[InputPhoto]:
        self.left_out.clear()
        for argument in self.arguments:
            if REMOTE.match(argument):
                yield InputPhoto(argument, Url(argument))
                continue
            for path in _found(argument, self.left_out.setdefault(argument, Counter())):
                yield InputPhoto(printable(str(path)), path)

    def notes(self) -> list[str]:
        """What was left out, once all have been found."""
        return [note for folder, counts in self.left_out.items() for note in left_out_notes(printable(folder), counts)]


def _found(argument: str, left_out: Counter[str]) -> Iterator[Path]:
    """The photos that a file, a folder or a pattern names.

    Raises:
        UsageError: a folder or pattern names none.
    """
    path = Path(argument)
    is_folder = os.path.isdir(path)  # noqa: PTH112  Path raises for a name that is too long
    if is_folder:
        photos = photo_files(path, left_out)
    elif os.path.exists(path) or not glob.has_magic(argument):  # noqa: PTH110
        photos = iter([path])  # a missing photo is an error of its own, beside the others
    else:
        photos = _matched(argument)
    first = next(photos, None)
    if first is None:
        raise _none(argument, left_out, is_folder=is_folder)
    yield first
    yield from photos


def _matched(pattern: str) -> Iterator[Path]:
    """Files that match, by name; those in folders that systems make only where the pattern names them."""
    junk = JUNK_FOLDERS - {part.lower() for part in Path(pattern).parts}
    matched = map(Path, glob.iglob(pattern, recursive=True))  # noqa: PTH207  Path has no absolute globs
    return iter(sorted(m for m in matched if not junk & {part.lower() for part in m.parts} and m.is_file()))


def _none(argument: str, left_out: Counter[str], *, is_folder: bool) -> UsageError:
    if not is_folder:
        return UsageError.expected(f"files that match '{argument}'", "none", "another pattern")
    what = unreadable(left_out)
    want, fix = f"photos in folder {argument}", "a folder of JPEG, PNG or WebP files"
    if what:
        return UsageError.expected(want, f"only {what}, which can't be read", "converting to JPEG")
    return UsageError.expected(want, "none", fix)
