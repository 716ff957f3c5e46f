"""What a bulk job found at its beginning: a file of names and places, so that files that come later move nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from modiste.data.cells import REMOTE
from modiste.errors import PhotoError, RunError, UsageError
from modiste.files import replacing
from modiste.inputs.arguments import (
    STDIN,
    InputPhoto,
    Inputs,
    LoadPart,
    NamedFiles,
    PhotoStream,
    Url,
    batches,
    printable,
)


def write_found(path: Path, arguments: Sequence[str], stdin: Sequence[InputPhoto] = ()) -> list[str]:
    """Write down the files, folders, patterns and URLs that `arguments` name, for `read_found`.

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
    files = NamedFiles(arguments)
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as out:
        for photo in stdin if arguments == [STDIN] else files:
            if isinstance(photo.source, bytes):
                raise UsageError.expected("paths or URLs on standard input", "a photo", "-o tags.csv")
            out.write(json.dumps(_place(photo)) + "\n")
    return files.notes()


def _place(photo: InputPhoto) -> list[str]:
    """What a list says of a photo: its name, and its path or URL, or a blank and why there is none."""
    if isinstance(photo.source, PhotoError):
        return [photo.id, "", str(photo.source)]
    if isinstance(photo.source, Url):
        return [photo.id, photo.source.address]
    assert isinstance(photo.source, Path)
    return [photo.id, str(photo.source.absolute())]


def read_found(path: Path) -> Inputs:
    """What `write_found` wrote down."""
    from modiste.data.tables import estimate

    def parts(size: int) -> Iterator[LoadPart]:
        with path.open(encoding="utf-8") as lines:
            for chunk in batches(lines, size):
                yield partial(iter, list(map(_found_before, chunk)))

    return Inputs([PhotoStream(partial(estimate, path), parts, by_path=True)])


def _found_before(line: str) -> InputPhoto:
    try:
        name, place, *error = json.loads(line)
    except (ValueError, TypeError) as wrong:
        want = "each line of found-*.jsonl to be as it was written"
        raise RunError.expected(want, f"'{line.strip()[:80]}'", "another -o") from wrong
    if error:
        return InputPhoto(name, PhotoError(error[0]))
    return InputPhoto(printable(name), Url(place) if REMOTE.match(place) else Path(place))
