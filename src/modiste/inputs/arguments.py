"""Photos to be tagged, as a stream: files, folders, patterns, URLs and tables of paths, URLs or bytes, however many.

Photos come in parts of one size, which hold the same photos whenever the same arguments are read again.
"""

from __future__ import annotations

import glob
import json
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
from modiste.errors import PhotoError, RunError, UsageError
from modiste.files import replacing

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
    """

    image_column: str | None = None
    root: str | None = None
    encoding: str | None = None
    sheet: str | None = None


class PhotoStream(NamedTuple):
    """Photos of one argument, or of several files one after the other.

    Attributes:
        size: about how many there are.
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
        stdin: Sequence[InputPhoto] = (),
    ) -> Inputs:
        """Look at files, folders, glob patterns, URLs and tables.

        A folder is searched through all its folders, by name. A table names its photos by a column of paths, URLs or
        (Parquet) bytes; a path that isn't there gives way to a URL.

        Args:
            arguments: what names the photos.
            image_column, root, encoding, sheet: of tables; None finds them.
            stdin: the photos that the argument "-" stands for, from `read_stdin`.

        Raises:
            UsageError: an argument names nothing, or a table that isn't there.
            ManifestError: a table can't be read, or names no photos.
        """
        tables = TableOptions(image_column, root, encoding, sheet)
        sources: list[PhotoStream] = []
        for kind, group in grouped(named(arguments)):
            if kind == "table":
                from modiste.inputs.tables import photos_in  # with Polars: a tenth of the time that one photo takes

                sources += [photos_in(Path(path), tables) for path in group]
            else:
                sources.append(_stdin(stdin) if kind == "stdin" else _files(group))
        return cls(sources)

    @classmethod
    def of_products(
        cls,
        tables: Sequence[str],
        column: str,
        *,
        image_column: str | None = None,
        root: str | None = None,
        encoding: str | None = None,
        sheet: str | None = None,
    ) -> Inputs:
        """Look at tables that say in `column` which product each photo shows; else as `of`.

        Raises:
            UsageError: an argument is no table.
            ManifestError: a table can't be read, names no photos, or lacks a column that was asked for.
        """
        from modiste.inputs.tables import photos_in

        options = TableOptions(image_column, root, encoding, sheet)
        every = named(tables)
        for argument in every:
            if not is_table(Path(argument)):
                want, got = f"tables with a column '{column}' for --by", f"'{argument}', which is none"
                raise UsageError.expected(want, got, "a .csv, .tsv, .jsonl or .parquet file that lists the photos")
        return cls([photos_in(Path(path), options, column) for path in every])

    @classmethod
    def found(cls, path: Path) -> Inputs:
        """What `write_found` wrote down."""
        return cls([_listed(path)])

    def count(self) -> int:
        """How many photos there are; of text tables, how many lines."""
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


def write_found(path: Path, arguments: Sequence[str], stdin: Sequence[InputPhoto] = ()) -> list[str]:
    """Write down the files, folders, patterns and URLs that `arguments` name, for `Inputs.found`.

    Args:
        path: the list.
        arguments: what names them.
        stdin: what "-" stands for.

    Returns:
        What was left out, a sentence each.

    Raises:
        UsageError: an argument names nothing, or standard input holds a photo's bytes, which a list can't.
        StorageError: the list can't be written.
    """
    files = _Files(arguments)
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as out:
        for photo in stdin if arguments == [STDIN] else files:
            if isinstance(photo.source, bytes):
                raise UsageError.expected("paths or URLs on standard input", "a photo", "-o tags.csv")
            out.write(json.dumps(_place(photo)) + "\n")
    return files.notes()


def _place(photo: InputPhoto) -> list[str]:
    """What a list says of a photo: its name, and its path or URL."""
    if isinstance(photo.source, Url):
        return [photo.id, photo.source.address]
    assert isinstance(photo.source, Path)
    return [photo.id, str(photo.source.absolute())]


def _listed(path: Path) -> PhotoStream:
    """What `write_found` wrote."""
    from modiste.data.tables import estimate

    def parts(size: int) -> Iterator[LoadPart]:
        with path.open(encoding="utf-8") as lines:
            for chunk in batches(lines, size):
                yield partial(iter, list(map(_found_before, chunk)))

    return PhotoStream(partial(estimate, path), parts, by_path=True)


def _found_before(line: str) -> InputPhoto:
    try:
        name, place = json.loads(line)
    except (ValueError, TypeError) as error:
        want = "each line of found-*.jsonl to be as it was written"
        raise RunError.expected(want, f"'{line.strip()[:80]}'", "another -o") from error
    return InputPhoto(printable(name), Url(place) if REMOTE.match(place) else Path(place))


def _stdin(photos: Sequence[InputPhoto]) -> PhotoStream:
    def parts(size: int) -> Iterator[LoadPart]:
        return (partial(iter, chunk) for chunk in batches(photos, size))

    return PhotoStream(lambda: len(photos), parts, by_path=True)


def _files(arguments: Sequence[str]) -> PhotoStream:
    files = _Files(arguments)
    if len(arguments) < 1000:  # a pattern or folder without photos is refused before a model is opened
        for argument in arguments:
            next(iter(_Files([argument])))

    def parts(size: int) -> Iterator[LoadPart]:
        return (partial(iter, chunk) for chunk in batches(files, size))

    return PhotoStream(lambda: sum(1 for _ in files), parts, files.notes, by_path=True)


@dataclass
class _Files:
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
