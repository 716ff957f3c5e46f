"""Paths that another system wrote, against the files that are there."""

import pytest
from tables import write

from modiste.data.manifest import Manifest


@pytest.fixture
def shop(tmp_path):
    (tmp_path / "images").mkdir()
    for k in range(3):
        (tmp_path / "images" / f"{k}.jpg").touch()
    return tmp_path


PATHS = {
    "as they are": "images/{}.jpg",
    "backslashes": "images\\{}.jpg",
    "backslashes and a dot": ".\\images\\{}.jpg",
    "another drive": "C:\\Users\\me\\shop\\images\\{}.jpg",
    "another folder": "/home/me/shop/images/{}.jpg",
    "a file URL": "file:///shop/images/{}.jpg",
    "a quoted file URL": "file:///my%20shop/images/{}.jpg",
    "a file URL of a drive": "file:///C:/shop/images/{}.jpg",
    "upper case": "images/{}.JPG",
}


@pytest.mark.parametrize("kind", PATHS)
def test_photos_are_found(shop, kind):
    path = write(shop, "a.csv", "image,class\n" + "".join(f"{PATHS[kind].format(k)},{'xy'[k % 2]}\n" for k in range(3)))
    manifest = Manifest.read(path)
    assert all(photo.is_file() for photo in manifest.photos())
    assert bool(manifest.notes) == (kind != "as they are")


def test_a_name_may_hold_a_backslash(shop):
    (shop / "a\\b.jpg").touch()
    manifest = Manifest.read(write(shop, "a.csv", "image,class\na\\b.jpg,x\n"))
    assert manifest.photo(0).is_file() and not manifest.notes


def test_paths_of_photos_that_are_nowhere_stay_as_they_are(shop):
    manifest = Manifest.read(write(shop, "a.csv", "image,class\n/far/9.jpg,x\n"))
    assert manifest.frame["path"].to_list() == ["/far/9.jpg"]
