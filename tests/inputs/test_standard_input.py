"""Standard input: a photo, or a list of paths and URLs; all else is one sentence."""

import os
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from modiste.errors import UsageError
from modiste.inputs.arguments import InputPhoto, Url
from modiste.inputs.standard_input import read_stdin


def photo(kind="JPEG"):
    file = BytesIO()
    Image.new("RGB", (8, 8)).save(file, kind)
    return file.getvalue()


def read(content):
    return read_stdin(BytesIO(content))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WebP", "BMP", "TIFF", "GIF"])
def test_a_photo_is_known_by_its_first_bytes(kind):
    assert read(photo(kind)) == [InputPhoto("-", photo(kind))]


LIST = [
    InputPhoto("shop/a b.jpg", Path("shop/a b.jpg")),
    InputPhoto("https://x.org/a?b=c", Url("https://x.org/a?b=c")),
    InputPhoto("BMW.jpg", Path("BMW.jpg")),
]


@pytest.mark.parametrize(
    "content",
    [
        b"shop/a b.jpg\nhttps://x.org/a?b=c\nBMW.jpg\n",
        b"\xef\xbb\xbfshop/a b.jpg\r\n\r\nhttps://x.org/a?b=c\r\nBMW.jpg",
        b"shop/a b.jpg\0https://x.org/a?b=c\0BMW.jpg\0",
        "shop/a b.jpg\r\nhttps://x.org/a?b=c\r\nBMW.jpg\r\n".encode("utf-16"),
    ],
)
def test_a_list_has_a_path_or_a_url_a_line(content):
    assert read(content) == LIST


def test_a_list_may_begin_as_a_bitmap_does():
    assert read(b"BMW one.jpg\nBMW two.jpg\n")[0] == InputPhoto("BMW one.jpg", Path("BMW one.jpg"))


def test_paths_that_are_no_utf8_are_kept():
    (said,) = read(b"caf\xe9.jpg\n")
    assert os.fsencode(said.source) == b"caf\xe9.jpg"
    assert said.id == "caf\ufffd.jpg"


@pytest.mark.parametrize(
    ("content", "got"),
    [
        (b"", "nothing"),
        (b" \n\n", "nothing"),
        (b"%PDF-1.7", "a PDF document"),
        (b'[{"path": "a.jpg"}]', "a JSON document"),
        (b"PK\3\4", "a ZIP archive"),
        (bytes(range(256)) * 4, "a file of an unknown format"),
    ],
)
def test_all_else_is_one_sentence(content, got):
    with pytest.raises(UsageError) as caught:
        read(content)
    assert str(caught.value).startswith("Expected a photo, or a list of paths and URLs, on standard input, but got ")
    assert f"but got {got}. Try" in str(caught.value)


def test_a_terminal_is_not_waited_for():
    reading, writing = os.openpty()
    with os.fdopen(writing, "rb", buffering=0) as terminal, pytest.raises(UsageError, match="but got a terminal"):
        read_stdin(terminal)
    os.close(reading)
