"""Which files of a folder are photos: the same for whoever walks through it."""

import os
from collections import Counter
from io import BytesIO

import pytest
from PIL import Image

from modiste.data.images import decode
from modiste.data.photo_files import left_out_notes, photo_files

HEIC = b"\0\0\0\x24ftypheic\0\0\0\0mif1heic"
JPEG_2000 = b"\0\0\0\x0cjP  \r\n\x87\n"


def photo(kind="JPEG", colour=(200, 30, 30)):
    file = BytesIO()
    Image.new("RGB", (8, 8), colour).save(file, kind)
    return file.getvalue()


def fill(root, files):
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def walked(root):
    left_out = Counter()
    return [path.relative_to(root).as_posix() for path in photo_files(root, left_out)], left_out


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WebP", "GIF", "BMP", "TIFF", "AVIF"])
@pytest.mark.parametrize(
    "name", ["noext", "d.jpg_large", "e.jpg?v=3", "f.jpg.1", "i.pjpeg", "j.jpeg.download", "k.heic"]
)
def test_the_first_bytes_decide_where_the_suffix_is_unknown(tmp_path, name, kind):
    content = photo(kind)
    assert decode(content, name=name).shape == (8, 8, 3)
    fill(tmp_path, {name: content})
    assert walked(tmp_path) == ([name], {})


def test_what_people_have_beside_photos_is_no_photo(tmp_path):
    others = {
        "notes.txt": b"BMW has nine letters, and a bitmap begins with two of them",
        "labels.csv": b"image,red\n",
        "Thumbs.db": b"",
        "empty": b"",
        "film.mp4": b"\0\0\0\x20ftypisom\0\0\2\0isomiso2",
        "page.html": b"<html>",
    }
    fill(tmp_path, {**others, "a.jpg": b"x"})
    os.mkfifo(tmp_path / "pipe")  # reading it would never end
    assert walked(tmp_path) == (["a.jpg"], {})


def test_hidden_files_and_folders_that_systems_make_are_left_out(tmp_path):
    junk = ("__MACOSX", "@eaDir", "#recycle", ".thumbnails", "lost+found", "a/@eaDir/x.jpg", "a/.cache/deep")
    fill(tmp_path, {f"{folder}/1.jpg": photo() for folder in junk})
    fill(tmp_path, {"._a.jpg": b"\0\5\x16\7", ".hidden.jpg": photo(), "a.jpg": photo(), "a/b.jpg": photo()})
    assert walked(tmp_path) == (["a/b.jpg", "a.jpg"], {})


def test_a_junk_folder_that_is_asked_for_is_walked(tmp_path):
    fill(tmp_path, {"@eaDir/1.jpg": photo()})
    assert walked(tmp_path / "@eaDir") == (["1.jpg"], {})


def test_what_looks_like_a_photo_and_cannot_be_read_is_counted_by_kind(tmp_path):
    names = [f"IMG_{k}.HEIC" for k in range(5)]
    fill(tmp_path, dict.fromkeys(names, HEIC))
    fill(
        tmp_path, {"phone": HEIC, "x/a.jp2": JPEG_2000, "scan": JPEG_2000, "b.NEF": photo("TIFF"), "c.jxl": b"\xff\x0a"}
    )
    fill(tmp_path, {"a.jpg": photo()})
    names, left_out = walked(tmp_path)
    assert names == ["a.jpg"]
    assert left_out == {"HEIC": 6, "JPEG 2000": 2, "RAW": 1, "JPEG XL": 1}
    (note,) = left_out_notes("shop", left_out)
    assert note.startswith("6 HEIC files, 2 JPEG 2000 files, ")
    assert note.endswith(" in shop can't be read and are left out: convert them to JPEG.")


def test_one_file_and_one_kind_are_told_as_such():
    assert left_out_notes("shop", Counter(HEIC=5)) == [
        "5 HEIC files in shop can't be read and are left out: convert them to JPEG."
    ]
    assert left_out_notes("shop", Counter(HEIC=1)) == [
        "1 HEIC file in shop can't be read and is left out: convert it to JPEG."
    ]
    assert left_out_notes("shop", Counter()) == []


def test_avif_is_counted_where_pillow_cannot_read_it(tmp_path, monkeypatch):
    fill(tmp_path, {"a.avif": photo("AVIF"), "b": photo("AVIF")})
    monkeypatch.setattr("modiste.data.photo_files.AVIF_SUPPORTED", False)
    monkeypatch.setattr("modiste.data.images.AVIF_SUPPORTED", False)
    assert walked(tmp_path) == ([], {"AVIF": 2})


def test_links_to_folders_are_told_and_links_to_photos_followed(tmp_path):
    fill(tmp_path, {"in/a.jpg": photo(), "elsewhere/b.jpg": photo()})
    (tmp_path / "in/again").symlink_to(tmp_path / "in")
    (tmp_path / "in/c").symlink_to(tmp_path / "elsewhere/b.jpg")
    names, left_out = walked(tmp_path / "in")
    assert names == ["a.jpg", "c"]
    assert left_out_notes("in", left_out) == ["1 link to a folder in in is not followed: name its target instead."]
