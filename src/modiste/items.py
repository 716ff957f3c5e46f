"""Photos on their way to be tagged."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple, TypeVar

from modiste.errors import PhotoError

T = TypeVar("T")

PHOTO_SUFFIXES = frozenset(
    {".avif", ".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".mpo", ".png", ".tif", ".tiff", ".webp"}
)


@dataclass(frozen=True)
class Url:
    """Where a photo is to be fetched from."""

    address: str


def printable(text: str) -> str:
    """A path, or a sentence about one, as UTF-8 has it; file systems allow bytes that are none."""
    return text.encode(errors="surrogateescape").decode(errors="replace")


class Item(NamedTuple):
    """A photo to be tagged: what it is called, and a path, a file's bytes, a Url, or why it is none of them."""

    id: str
    source: Path | bytes | Url | PhotoError


Load = Callable[[], Iterator[Item]]


class Source(NamedTuple):
    """Photos of one argument, or of several files one after the other."""

    size: Callable[[], int]
    parts: Callable[[int], Iterator[Load]]


def batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """A stream in lists of `size`; the last may be shorter."""
    items = iter(items)
    while batch := list(islice(items, size)):
        yield batch
