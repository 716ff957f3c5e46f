"""Thumbnails: what is measured, what is kept, and what a killed check leaves behind."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from modiste.audit import thumbnails
from modiste.audit.thumbnails import SIDE, THUMBNAILS_FILE, hash_pixels, make_thumbnails
from modiste.errors import StorageError

KILLED = """
import sys, time
from pathlib import Path
from modiste.audit import thumbnails
from modiste.data import images
thumbnails._BATCH = 8
read = images.read_with_header
def slow(path, *, target):
    time.sleep(0.02)
    return read(path, target=target)
images.read_with_header = slow
paths = sorted(Path(sys.argv[1]).glob("*.jpg"))
thumbnails.make_thumbnails(paths, Path(sys.argv[2]), workers=1)
"""


@pytest.fixture
def noise(tmp_path) -> list[Path]:
    """Sixty photos of noise, 90 x 70."""
    generator = np.random.default_rng(0)
    folder = tmp_path / "noise"
    folder.mkdir()
    for k in range(60):
        coarse = Image.fromarray(generator.integers(0, 256, (7, 9, 3), np.uint8))
        coarse.resize((90, 70)).save(folder / f"{k:02}.jpg")
    return sorted(folder.glob("*.jpg"))


def decoded(monkeypatch) -> list[Path]:
    """The paths that are decoded from now on."""
    paths, read = [], thumbnails.images.read_with_header

    def watched(path, *, target):
        paths.append(path)
        return read(path, target=target)

    monkeypatch.setattr(thumbnails.images, "read_with_header", watched)
    return paths


def test_size_spread_and_thumbnail_are_those_of_the_photo(tmp_path):
    blank, half = Image.new("RGB", (200, 100), (250, 250, 250)), Image.new("RGB", (300, 400))
    half.paste((255, 0, 0), (0, 0, 300, 200))
    blank.save(tmp_path / "blank.png")
    half.save(tmp_path / "half.jpg", quality=95)
    (tmp_path / "text.jpg").write_text("no photo")
    names = ("blank.png", "half.jpg", "text.jpg", "gone.jpg")
    made = make_thumbnails([*(tmp_path / name for name in names), None], tmp_path / "kept", workers=2)
    assert made.there.tolist() == [True, True, False, False, False]
    assert made.sizes.tolist() == [[200, 100], [300, 400], [0, 0], [0, 0], [0, 0]]
    assert made.spreads[0] == 0
    assert made.spreads[1] > 240
    assert list(made.errors) == [2]
    assert "unknown format" in made.errors[2]
    np.testing.assert_allclose(made.pixels[1, :15].mean(axis=(0, 1)), (254, 0, 0), atol=3)
    np.testing.assert_allclose(made.pixels[1, 17:], 0, atol=3)
    assert made.pixels.shape == (5, SIDE, SIDE, 3)


def test_only_what_has_changed_is_decoded_again(noise, tmp_path, monkeypatch):
    first = make_thumbnails(noise, tmp_path / "kept", workers=2)
    again = decoded(monkeypatch)
    second = make_thumbnails(noise, tmp_path / "kept", workers=2)
    assert again == []
    np.testing.assert_array_equal(first.pixels, second.pixels)
    np.testing.assert_array_equal(first.spreads, second.spreads)
    Image.new("RGB", (50, 40), (9, 9, 9)).save(noise[3])
    os.utime(noise[5], (1, 1))
    third = make_thumbnails([*noise, noise[3]], tmp_path / "kept", workers=2)
    assert sorted(set(again)) == [noise[3], noise[5]]
    assert third.sizes[3].tolist() == third.sizes[60].tolist() == [50, 40]


def test_pixels_are_hashed_whole_and_hashed_anew_when_a_photo_changes(noise, tmp_path):
    kept = tmp_path / "kept"
    copy = noise[0].with_suffix(".png")
    Image.open(noise[0]).save(copy)
    paths = [noise[0], copy, noise[1]]
    make_thumbnails(paths, kept, workers=1)
    one, same, other = hash_pixels(paths, kept, workers=2)
    assert one == same != other
    assert hash_pixels(paths, kept, workers=2) == [one, same, other]
    Image.open(noise[1]).save(copy)
    make_thumbnails(paths, kept, workers=1)
    assert hash_pixels(paths, kept, workers=1) == [one, other, other]


def test_a_killed_check_goes_on_where_it_stopped(noise, tmp_path, monkeypatch):
    kept = tmp_path / "kept"
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(noise[0].parent), str(kept)])
    deadline = time.monotonic() + 30
    done = 0
    while done < 16 and time.monotonic() < deadline:
        time.sleep(0.02)
        if (kept / THUMBNAILS_FILE).exists():
            with sqlite3.connect(kept / THUMBNAILS_FILE) as connection:
                tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
                done = connection.execute("SELECT count(*) FROM photos").fetchone()[0] if tables else 0
            connection.close()
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert 16 <= done < 60
    todo = decoded(monkeypatch)
    resumed = make_thumbnails(noise, kept, workers=2)
    assert 0 < len(todo) <= 60 - done
    whole = make_thumbnails(noise, tmp_path / "other", workers=2)
    np.testing.assert_array_equal(resumed.pixels, whole.pixels)


def test_what_is_done_is_kept_when_something_else_fails(noise, tmp_path, monkeypatch):
    def stop(done, total):
        if done == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_thumbnails(noise, tmp_path / "kept", workers=1, progress=stop)
    todo = decoded(monkeypatch)
    make_thumbnails(noise, tmp_path / "kept", workers=1)
    assert len(todo) == 40


def test_a_folder_that_is_none_and_a_spoilt_file_are_named(noise, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="to be a folder"):
        make_thumbnails(noise, tmp_path / "file", workers=1)
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / THUMBNAILS_FILE).write_bytes(b"no database at all" * 99)
    with pytest.raises(StorageError, match="removing that file"):
        make_thumbnails(noise, tmp_path / "kept", workers=1)


def test_thumbnails_of_another_layout_are_made_anew(noise, tmp_path, monkeypatch):
    make_thumbnails(noise, tmp_path / "kept", workers=1)
    monkeypatch.setattr(thumbnails, "_LAYOUT", 99)
    todo = decoded(monkeypatch)
    make_thumbnails(noise, tmp_path / "kept", workers=1)
    assert len(todo) == 60
