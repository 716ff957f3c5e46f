"""Standard input: a photo, a list of paths and URLs, or a table; all else is one sentence."""

import os
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from modiste.errors import ManifestError, PhotoError, UsageError
from modiste.inputs.arguments import InputPhoto, TableOptions, Url
from modiste.inputs.standard_input import read_stdin


def photo(kind="JPEG"):
    file = BytesIO()
    Image.new("RGB", (8, 8)).save(file, kind)
    return file.getvalue()


def read(content):
    return read_stdin(BytesIO(content)).photos


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
    assert str(caught.value).startswith(
        "Expected a photo, a list of paths and URLs, or a text table, on standard input, but got "
    )
    assert f"but got {got}. Try" in str(caught.value)


def test_a_terminal_is_not_waited_for():
    reading, writing = os.openpty()
    with os.fdopen(writing, "rb", buffering=0) as terminal, pytest.raises(UsageError, match="but got a terminal"):
        read_stdin(terminal)
    os.close(reading)


TABLE = "id,url,sku\na,https://x.org/a.jpg,7\nb,,7\na,https://x.org/a.jpg,7\n"


@pytest.mark.parametrize(
    "content",
    [TABLE.encode(), b"\xef\xbb\xbf" + TABLE.encode(), TABLE.encode("utf-16"), TABLE.replace(",", ";").encode()],
)
@pytest.mark.parametrize("product", [None, "sku"])
def test_a_table_is_known_by_its_header_and_read_as_one(content, product):
    said = read_stdin(BytesIO(content), TableOptions(product_column=product))
    one, two = said.photos
    assert said.is_table and one == InputPhoto("a", Url("https://x.org/a.jpg"), "7" if product else "")
    assert (two.id, two.product) == ("b", "7" if product else "") and isinstance(two.source, PhotoError)
    assert str(two.source).startswith("Expected row 3 of standard input to name a photo, but got a blank.")
    assert said.notes == ["1 row of standard input names a photo that an earlier row names: it is tagged once."]


def test_paths_of_a_table_start_from_the_current_folder_or_from_root():
    content = b"image\nshop/a.jpg\n"
    assert read(content) == [InputPhoto("shop/a.jpg", Path("shop/a.jpg"))]
    (said,) = read_stdin(BytesIO(content), TableOptions(root="in")).photos
    assert said.source == Path("in/shop/a.jpg")
    (said,) = read_stdin(BytesIO(b"foto,n\na.jpg,1\n"), TableOptions(image_column="foto")).photos
    assert said == InputPhoto("a.jpg", Path("a.jpg"))


def test_a_file_that_is_called_like_a_header_is_a_photo(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("image,url").touch()
    assert [photo.id for photo in read(b"image,url\nb.jpg\n")] == ["image,url", "b.jpg"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"id,url\n", "standard input to list photos, but got no rows"),
        (b"id,url\n1,a.jpg,2,3,4\n", "standard input"),
    ],
)
def test_a_table_that_cannot_be_read_is_told_as_standard_input(content, words):
    with pytest.raises(ManifestError, match=words) as caught:
        read(content)
    assert "tmp" not in str(caught.value)


@pytest.mark.parametrize(("content", "what"), [(photo(), "a photo"), (b"a.jpg\nb.jpg\n", "a list of photos")])
def test_products_want_a_table(content, what):
    with pytest.raises(UsageError, match=f"a column 'sku' on standard input for --by, but got {what}"):
        read_stdin(BytesIO(content), TableOptions(product_column="sku"))
