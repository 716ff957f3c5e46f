"""Check and split as functions, beside what the commands write."""

import json
import shutil

import numpy as np
import polars as pl
import pytest
from PIL import Image

import modiste as package
from modiste.data.manifest import Manifest


@pytest.fixture
def table(tmp_path):
    """Eight photos with labels: one missing, one blank, one broken, two of the same pixels with other labels."""
    rng = np.random.default_rng(0)
    for k in range(6):
        pixels = rng.integers(0, 256, (10, 10, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((100, 100)).save(tmp_path / f"{k}.png")
    Image.new("RGB", (100, 100), "navy").save(tmp_path / "blank.png")
    shutil.copy(tmp_path / "0.png", tmp_path / "5.png")
    (tmp_path / "4.png").write_bytes(b"no photo")
    names = ["0.png", "1.png", "2.png", "3.png", "4.png", "5.png", "blank.png", "gone.png"]
    labels = {"red": [1, 0, 1, 0, 1, 0, 1, 0], "blue": [1, 1, 0, 0, 1, 1, 0, 0]}
    pl.DataFrame({"image": names, "split": ["train"] * 5 + ["test"] * 3, **labels}).write_csv(tmp_path / "photos.csv")
    return tmp_path / "photos.csv"


def test_it_finds_what_the_command_finds_and_writes_only_if_asked(table, tmp_path, modiste):
    before = sorted(tmp_path.iterdir())
    told = []
    found = package.check(table, progress=lambda *state: told.append(state))
    assert sorted(tmp_path.iterdir()) == before
    assert {what for what, _, _ in told} == {"reading photos", "comparing"}
    assert (found.missing, list(found.blank), list(found.unreadable)) == ([7], [6], [4])
    again = package.check(Manifest.read(table, strict=False), str(tmp_path / "report"))
    assert repr(again) == repr(found)
    modiste("check", table, "-o", tmp_path / "command")
    said = [json.loads((tmp_path / name / "check.json").read_text()) for name in ("report", "command")]
    assert said[0] == said[1]
    assert (tmp_path / "report" / "index.html").is_file()


def test_findings_are_a_table(table):
    found = package.check(table)
    frame = found.to_frame()
    assert frame.columns == ["row", "photo", "finding", "detail"]
    ids = Manifest.read(table).frame["id"]
    assert frame["photo"].to_list() == [ids[k] for k in frame["row"]]
    rows = {(row["row"], row["finding"]): row["detail"] for row in frame.iter_rows(named=True)}
    assert {key for key in rows if key[1] != "near duplicate"} == {
        (7, "missing"), (4, "unreadable"), (6, "blank"), (0, "exact duplicate"), (5, "exact duplicate")
    }  # fmt: skip
    assert rows[0, "exact duplicate"] == "rows 0, 5; across test and train; labels differ: red"
    assert repr(found) == ("Findings(8 photos, 6 on disk; missing 1, unreadable 1, blank 1, exact duplicate 2)")


def test_the_table_of_nothing_is_empty(drawn):
    manifest = Manifest.read(drawn).select(np.arange(2))
    assert package.check(manifest, min_side=1).to_frame().height == 0
