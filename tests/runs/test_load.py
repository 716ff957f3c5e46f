"""The bundled model: there without any setting, small, and as good as its card says."""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from modiste.errors import RunError, UsageError
from modiste.runs.load import BUNDLED, load, locate

TEN = ("t-shirt", "longsleeve", "pants", "shoes", "shirt", "dress", "outwear", "shorts", "hat", "skirt")


@pytest.fixture(scope="module")
def bundled():
    return load()


def test_it_tags_without_a_model_torch_or_network(tmp_path):
    Image.fromarray(np.full((40, 30, 3), 90, np.uint8)).save(tmp_path / "a.jpg")
    code = (
        "import socket, sys, modiste; from modiste.cli.app import main\n"
        "socket.socket.connect = socket.getaddrinfo = None\n"
        f"sys.argv = ['modiste', 'tag', {str(tmp_path / 'a.jpg')!r}, '--json']\n"
        "try: main()\n"
        "except SystemExit as stop: assert not stop.code\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    said = json.loads(done.stdout)
    assert said["model"] == BUNDLED
    assert set(said["photos"][0]["probs"]) == set(load().label_set.ids)


def test_it_is_small_and_has_a_card(modiste):
    assert locate(BUNDLED).stat().st_size <= 10e6
    code, out, _ = modiste("info", "--json")
    assert code == 0
    said = json.loads(out)
    assert {"en", "zh"} <= set(said["labels"]["groups"][0]["labels"][0]["names"])
    assert all(word in said["card"] for word in ("CC0", "Not for", "mAP", "Apache-2.0"))


def test_a_folder_of_its_name_comes_first_where_it_is_named(tmp_path, monkeypatch, modiste):
    monkeypatch.chdir(tmp_path)
    Path("garments").mkdir()
    Image.fromarray(np.full((40, 30, 3), 90, np.uint8)).save("garments/a.jpg")
    with pytest.raises(RunError, match="garments"):
        load("garments")
    assert set(TEN) < set(load().label_set.ids)
    assert modiste("tag", "garments")[0] == 0
    assert modiste("info")[0] == 0


def test_weights_of_the_same_labels_in_another_order_are_refused(trained, tmp_path):
    run = shutil.copytree(trained, tmp_path / "run")
    labels = json.loads((run / "labels.json").read_text(encoding="utf-8"))
    labels["groups"][0]["labels"].reverse()
    (run / "labels.json").write_text(json.dumps(labels), encoding="utf-8")
    with pytest.raises(RunError, match=r"model\.safetensors to be about the labels of labels\.json, in their order"):
        load(run)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_readers_and_batches_of_a_run_follow_cores_and_device(device, trained, monkeypatch):
    from modiste.models.tagger import Tagger
    from modiste.runs import load as loading

    monkeypatch.setattr(loading, "usable_cores", lambda: 6)
    monkeypatch.setattr(Tagger, "to", lambda self, device: self)  # there may be no such device here
    tags = loading.predictor(loading.open_run(trained), device=device)
    assert tags.readers == 6
    assert tags.batch_size == {"cpu": 48, "cuda": 64}[device]


def test_unknown_views_are_refused_everywhere(trained, tmp_path):
    import modiste as package

    before = sorted(path.name for path in trained.iterdir())
    tasks = (
        lambda: load(views="ten"),
        lambda: load(trained, views="ten"),
        lambda: package.evaluate(trained, "val", views="ten"),
        lambda: package.tune(trained, views="ten"),
        lambda: package.export(trained, tmp_path / "a.onnx", views="ten"),
    )
    for task in tasks:
        with pytest.raises(UsageError, match=r"views to be one of one, flip, flip\+translate, but got 'ten'"):
            task()
    assert sorted(path.name for path in trained.iterdir()) == before
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["white", "grey", "blue", "noise", "stripes"])
def test_what_shows_no_garment_gets_none(bundled, kind):
    rng = np.random.default_rng(1)
    photo = np.full((300, 300, 3), {"white": 255, "grey": 128}.get(kind, 0), np.uint8)
    if kind == "blue":
        photo[..., 2] = 200
    elif kind == "noise":
        photo = rng.integers(0, 256, photo.shape, dtype=np.uint8)
    elif kind == "stripes":
        photo[:, ::20] = photo[:, 1::20] = 220
    assert bundled.predict(photo).labels == ()


def test_it_is_as_good_as_published_on_photos_it_has_not_seen(bundled, shared):
    folder = shared / "data/clothing"
    with (folder / "labels.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["small_split"] == "test"]
    predictions = list(bundled.stream([folder / row["image"] for row in rows]))
    columns = [bundled.label_set.index(name) for name in TEN]
    found = [TEN[int(one.prob_array[columns].argmax())] for one in predictions]
    right = sum(name == row["small_label"].lower() for name, row in zip(found, rows, strict=True))
    assert right / len(rows) > 0.92
