"""What a photo may be given as, and the squares that networks see of it."""

from __future__ import annotations

import os
from collections.abc import Collection
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from PIL import Image

from modiste.config import ImageConfig
from modiste.data import images
from modiste.errors import PhotoError

# A path, the bytes of a file, (height, width, 3) uint8 RGB, an opened picture or file; a PhotoError stays one.
PhotoLike = str | os.PathLike[str] | bytes | bytearray | memoryview | np.ndarray | Image.Image | BinaryIO | PhotoError

BYTES = "photo (bytes)"  # what errors call a photo without a name
_PREVIEW = 240  # pixels of the longer side


class Photo(NamedTuple):
    """A photo that is to be read.

    Attributes:
        name: what predictions and errors call it.
        content: its path, the bytes of a file, pixels, an opened picture, or why it is none of them.
    """

    name: str
    content: str | bytes | np.ndarray | Image.Image | PhotoError

    @classmethod
    def of(cls, source: PhotoLike) -> Photo:
        """What was given for a photo; an open file is read here, from where it stands."""
        if isinstance(source, str | os.PathLike):
            return cls(os.fsdecode(source), os.fsdecode(source))
        if isinstance(source, bytes | bytearray | memoryview):
            return cls(BYTES, bytes(source))
        if isinstance(source, np.ndarray | Image.Image):
            kind = "array" if isinstance(source, np.ndarray) else "image"
            return cls(_text(getattr(source, "filename", "")) or f"photo ({kind})", source)
        if hasattr(source, "read"):
            name = _text(getattr(source, "name", "")) or "photo (file)"
            return cls(name, _contents(source, name))
        return cls(BYTES, source if isinstance(source, PhotoError) else _refused(source))

    def squares(self, wanted: Collection[ImageConfig]) -> dict[ImageConfig, np.ndarray]:
        """What networks see of it: (size, size, 3) uint8 RGB for each size and mode; its file is read once.

        Raises:
            PhotoError: it can't be read.
        """
        content = self._opened()
        if isinstance(content, bytes):
            return {one: images.decode_square(content, one.size, one.mode, name=self.name) for one in wanted}
        return {one: images.resize(content, one.size, one.mode) for one in wanted}

    def preview(self) -> np.ndarray:
        """The whole photo, small: (height, width, 3) uint8 RGB.

        Raises:
            PhotoError: it can't be read.
        """
        content = self._opened()
        pixels = images.decode(content, name=self.name, target=_PREVIEW) if isinstance(content, bytes) else content
        picture = Image.fromarray(pixels)
        picture.thumbnail((_PREVIEW, _PREVIEW))
        return np.array(picture)

    def _opened(self) -> bytes | np.ndarray:
        """The bytes of its file, or its pixels."""
        if isinstance(self.content, PhotoError):
            raise self.content
        if isinstance(self.content, str):
            return images.read_file(self.content)
        if isinstance(self.content, Image.Image):
            return images.from_pillow(self.content, name=self.name)
        return self.content if isinstance(self.content, bytes) else _checked(self.content)


def square(source: PhotoLike, image: ImageConfig, *, name: str | None = None) -> np.ndarray:
    """What a network sees of a photo: (size, size, 3) uint8 RGB.

    Args:
        source: the photo.
        image: side and resize mode.
        name: what errors call it; None takes its path, if it has one.

    Raises:
        PhotoError: it can't be read, or is a PhotoError itself.
    """
    photo = Photo.of(source)
    return photo._replace(name=name or photo.name).squares([image])[image]


def _contents(file: Any, name: str) -> bytes | PhotoError:
    try:
        content = file.read()
    except (OSError, ValueError) as error:  # ValueError: it is closed, or holds no text
        return PhotoError.expected(f"'{name}' to be an open file", f"'{error}'", "opening it again")
    if isinstance(content, bytes):
        return content
    return PhotoError.expected(f"'{name}' to be open for reading bytes", "text", "open(path, 'rb')")


def _checked(photo: np.ndarray) -> np.ndarray:
    if photo.dtype != np.uint8 or photo.ndim != 3 or photo.shape[2] != 3 or 0 in photo.shape:
        got = f"{photo.shape} {photo.dtype}"
        raise PhotoError.expected("an array of shape (height, width, 3) and dtype uint8", got, "RGB bytes")
    return photo


def _text(name: object) -> str:
    """A name, if it is one: files of descriptors are called by numbers."""
    return os.fsdecode(name) if isinstance(name, str | bytes | os.PathLike) else ""


def _refused(source: object) -> PhotoError:
    kind = type(source).__name__
    got = f"{'an' if kind[0].lower() in 'aeiou' else 'a'} {kind}"
    fix = "stream, or frame, for several photos" if isinstance(source, list | tuple) else "its path"
    return PhotoError.expected("a photo to be a path, bytes, an array, a PIL image or an open file", got, fix)
