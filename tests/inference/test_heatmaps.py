"""Heatmaps: readable on any garment, named so that they map back to photos, never over others' files."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from modiste.config import ImageConfig
from modiste.decisions.decision import Decision
from modiste.errors import RunError, UsageError
from modiste.inference.heatmaps import Explainer, overlay, picture, read_heatmaps
from modiste.inference.predictor import Predictor
from modiste.inference.writers import Tagged
from modiste.labels import LabelSet
from modiste.prediction import MapCells, Prediction

LABELS = LabelSet.free("two", ["dress", "red/blue"])
CELLS = MapCells(32, (0.25, 0.75))
RED, WHITE, BLACK = (200, 20, 20), (255, 255, 255), (0, 0, 0)


def network(cells=CELLS):
    decision = Decision.untuned("fixed:0.5", LABELS)
    return Predictor(lambda photos, maps: None, LABELS, ImageConfig(size=32), decision, cells=cells)


def tagged(path, labels=LABELS.ids):
    maps = np.arange(8, dtype=np.float32).reshape(2, 2, 2)
    return Tagged(str(path), path, Prediction(str(path), LABELS, np.ones(2, np.float32), labels, None, maps, CELLS))


def explain(folder, *photos):
    assert list(Explainer(folder, network()).watch(photos)) == list(photos)


def table(folder):
    with (folder / "heatmaps.csv").open(encoding="utf-8", newline="") as file:
        return [tuple(row.values()) for row in csv.DictReader(file)]


@pytest.fixture
def photo(tmp_path):
    def draw(name, colour=RED):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 40), colour).save(path)
        return path

    return draw


def colourfulness(pixels):
    return pixels.max(axis=-1).astype(int) - pixels.min(axis=-1)


@pytest.mark.parametrize("colour", [RED, WHITE, BLACK, (240, 249, 33), (126, 3, 168)])
def test_heat_stands_out_on_every_colour(colour):
    heat = np.zeros((64, 64), np.float32)
    heat[16:48, 16:48] = 1
    seen = overlay(np.full((64, 64, 3), colour, np.uint8), heat)
    assert colourfulness(seen[:8]).max() <= 1  # grey where there is no evidence
    assert colourfulness(seen[20:44, 20:44]).min() > 100
    around, inside = seen[4, 4].astype(int), seen[32, 32].astype(int)
    assert np.abs(around - inside).max() > 80


def test_colours_rise_in_lightness_as_evidence_does():
    heat = np.linspace(0.5, 1, 64, dtype=np.float32)[None].repeat(64, 0)
    light = overlay(np.full((64, 64, 3), 128, np.uint8), heat) @ np.array([0.299, 0.587, 0.114])
    assert (np.diff(light[32]) > 0).all()


def test_label_probability_and_legend_are_written_around_the_photo():
    photo, heat = np.full((448, 448, 3), 255, np.uint8), np.zeros((448, 448), np.float32)
    plain = np.array(picture(photo, heat, "", 0.5))
    named = np.array(picture(photo, heat, "dress", 0.5))
    other = np.array(picture(photo, heat, "dress", 0.9))
    long = np.array(picture(photo, heat, "dress " * 50, 0.5))
    assert named.shape == (504, 448, 3)
    assert (plain[28:] == named[28:]).all() and (plain[:28, :200] != named[:28, :200]).any()
    assert (named[:28, 400:] != other[:28, 400:]).any()
    assert (long[:28, 405:] == named[:28, 405:]).all()  # a long name doesn't run over the number
    assert colourfulness(plain[476:]).max() > 100


def test_each_picture_maps_back_to_its_photo(photo, tmp_path):
    photos = [photo("a/1.jpg"), photo("b/1.jpg"), photo("b/1.png"), photo("c/A.jpg"), photo("c/a.png")]
    explain(tmp_path / "why", *map(tagged, photos))
    rows = table(tmp_path / "why")
    assert [(row[0], row[1]) for row in rows] == [(str(path), label) for path in photos for label in LABELS.ids]
    files = [row[2] for row in rows]
    assert len({name.casefold() for name in files}) == 10
    assert {path.name for path in (tmp_path / "why").iterdir()} == {*files, "heatmaps.csv"}
    assert files[0] == "1.dress.jpg" and files[2] == "1-2.dress.jpg"


def test_a_second_run_replaces_its_photos_and_keeps_the_others(photo, tmp_path):
    why, first, second = tmp_path / "why", photo("a/1.jpg"), photo("b/1.jpg", WHITE)
    explain(why, tagged(first))
    kept = {path.name: path.read_bytes() for path in why.glob("*.jpg")}
    explain(why, tagged(second))
    assert {row[0] for row in table(why)} == {str(first), str(second)}
    assert all((why / name).read_bytes() == content for name, content in kept.items())
    explain(why, tagged(first, ("dress",)))
    assert sorted(row[:2] for row in table(why)) == [
        (str(first), "dress"),
        (str(second), "dress"),
        (str(second), "red/blue"),
    ]
    assert {path.name for path in why.glob("*.jpg")} == {row[2] for row in table(why)}


def test_a_folder_of_others_files_is_refused_untouched(photo, tmp_path):
    path = photo("a/1.dress.jpg")
    before = path.read_bytes()
    with pytest.raises(UsageError, match=r"one with '1\.dress\.jpg' in it"):
        Explainer(path.parent, network())
    assert {one.name: one.read_bytes() for one in path.parent.iterdir()} == {path.name: before}


def test_a_file_that_came_later_is_not_written_over(photo, tmp_path):
    why = tmp_path / "why"
    explain(why, tagged(photo("a/1.jpg")))
    mine = photo("why/2.dress.jpg")
    before = mine.read_bytes()
    explain(why, tagged(photo("a/2.jpg")))
    assert mine.read_bytes() == before
    assert (why / "2-2.dress.jpg").is_file()


def test_a_killed_run_leaves_no_picture_that_the_table_does_not_name(photo, tmp_path):
    why, photos = tmp_path / "why", [photo(f"{k}.jpg") for k in range(3)]
    stream = Explainer(why, network()).watch(map(tagged, photos))
    next(stream)
    next(stream)
    stream.close()
    named = {row.file for row in read_heatmaps(why)}
    assert {path.name for path in why.glob("*.jpg")} <= named
    assert len(named) == 4
    explain(why, *map(tagged, photos))
    assert len(table(why)) == 6


def test_a_table_of_something_else_is_one_sentence(tmp_path):
    (tmp_path / "heatmaps.csv").write_text("name,heat\na,1\n")
    with pytest.raises(RunError, match=r"heatmaps\.csv to list heatmaps"):
        read_heatmaps(tmp_path)


def test_names_in_other_scripts_give_way_to_ids(photo, tmp_path, monkeypatch):
    written = []
    monkeypatch.setattr("modiste.inference.heatmaps.picture", lambda *a: written.append(a[2]) or picture(*a))
    groups = [
        {
            "name": "g",
            "exclusive": False,
            "labels": [
                {"id": "dress", "names": {"en": "连衣裙"}},
                {"id": "coat", "names": {"en": "Überzug"}},
                "连衣裙",
            ],
        }
    ]
    labels = LabelSet.from_dict({"name": "x", "groups": groups})
    maps = np.ones((3, 2, 2), np.float32)
    said = Prediction("a", labels, np.ones(3, np.float32), labels.ids, None, maps, CELLS)
    path = Path(photo("a.jpg"))
    list(Explainer(tmp_path / "why", network()).watch([Tagged("a", path, said)]))
    assert written == ["dress", "Uberzug", "see heatmaps.csv"]
