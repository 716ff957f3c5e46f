"""Standard input -> photos: the bytes of one, or a list of paths and URLs."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from modiste.data.cells import REMOTE
from modiste.data.images import content_kind, foreign_kind
from modiste.errors import UsageError
from modiste.inputs.arguments import STDIN, InputPhoto, Url, printable

_WANT = "a photo, or a list of paths and URLs, on standard input"
_FIX = "cat street.jpg | modiste tag -, or ls *.jpg | modiste tag -"
_HEAD = 512  # bytes that tell what came
_NO_TEXT = re.compile(rb"[\x01-\x08\x0e-\x1f]")


def read_stdin(stream: BinaryIO) -> list[InputPhoto]:
    """Read all of standard input; its first bytes say what it is.

    A list has a path or URL a line, or each ended by a null byte, as `find -print0` writes them.

    Raises:
        UsageError: it is a terminal, is empty, or holds something else.
    """
    if stream.isatty():
        raise UsageError.expected(_WANT, "a terminal", _FIX)
    content = stream.read()
    if not content.strip():
        raise UsageError.expected(_WANT, "nothing", _FIX)
    head = content[:_HEAD]
    if content_kind(head) is not None:
        return [InputPhoto(STDIN, content)]
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):  # as PowerShell may write text
        content = content.decode("utf-16", errors="replace").encode()
        head = content[:_HEAD]
    what = foreign_kind(head) or (_NO_TEXT.search(head) and "a file of an unknown format")
    if what:
        raise UsageError.expected(_WANT, what, "naming its file instead")
    return list(_listed(content))


def _listed(content: bytes) -> Iterator[InputPhoto]:
    """The photos of a list."""
    ended = b"\0" if b"\0" in content else b"\n"
    for line in content.removeprefix(b"\xef\xbb\xbf").split(ended):
        name = os.fsdecode(line.strip(b"\r\n"))
        if not name.strip():
            continue
        if REMOTE.match(name):
            yield InputPhoto(name, Url(name.strip()))
        else:
            yield InputPhoto(printable(name), Path(name))
