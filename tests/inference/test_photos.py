"""What a photo may be given as: all of it means the same pixels, and anything else is one sentence."""

import io
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from modiste.config import ImageConfig
from modiste.data import images
from modiste.errors import PhotoError
from modiste.inference.photos import Photo, square

IMAGE = ImageConfig(size=32, mode="crop")


class Named:
    """A path that is no Path."""

    def __init__(self, path):
        self.path = str(path)

    def __fspath__(self):
        return self.path


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    pixels = np.random.default_rng(0).integers(0, 256, (30, 20, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path_factory.mktemp("photo") / "a.png"
    Image.fromarray(pixels).resize((200, 300)).save(path, exif=exif)
    return path


KINDS = {
    "str": str,
    "path": lambda path: path,
    "path-like": Named,
    "bytes": Path.read_bytes,
    "bytearray": lambda path: bytearray(path.read_bytes()),
    "memoryview": lambda path: memoryview(path.read_bytes()),
    "array": images.read_photo,
    "image": Image.open,
    "file": lambda path: path.open("rb"),
    "buffer": lambda path: io.BytesIO(path.read_bytes()),
}


@pytest.fixture
def given(path):
    """The photo as one of KINDS."""
    with ExitStack() as opened:

        def make(kind):
            source = KINDS[kind](path)
            return opened.enter_context(source) if kind in ("image", "file") else source

        yield make


@pytest.mark.parametrize("kind", KINDS)
def test_all_that_a_photo_may_be_gives_the_same_square(kind, path, given):
    whole = images.resize(images.read_photo(path), 32, "crop")
    np.testing.assert_array_equal(square(given(kind), IMAGE), whole)


@pytest.mark.parametrize("kind", ["str", "path", "path-like", "image", "file"])
def test_what_has_a_path_is_called_by_it(kind, path, given):
    assert Photo.of(given(kind)).name == str(path)


def closed():
    file = io.BytesIO(b"")
    file.close()
    return file


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (None, "a photo to be a path, bytes, an array, a PIL image or an open file, but got a NoneType"),
        (3, "but got an int. Try its path"),
        (["a.jpg", "b.jpg"], "but got a list. Try stream, or frame, for several photos"),
        ({}, "but got a dict"),
        (io.StringIO("a.jpg"), r"but got text. Try open\(path, 'rb'\)"),
        (closed(), "to be an open file, but got 'I/O operation on closed file"),
        (np.zeros((4, 4)), r"but got \(4, 4\) float64"),
    ],
)
def test_anything_else_is_one_sentence(source, words):
    with pytest.raises(PhotoError, match=f"^Expected .*{words}"):
        square(source, IMAGE)


def test_a_preview_is_the_whole_photo_upright_and_small(given):
    for kind in ("str", "bytes", "array", "image"):
        small = Photo.of(given(kind)).preview()
        assert small.shape == (160, 240, 3)
