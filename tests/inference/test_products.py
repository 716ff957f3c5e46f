"""One answer a product: from Python, and through `modiste tag --by`, read back with other tools."""

import csv
import json

import numpy as np
import polars as pl
import pytest
from PIL import Image

from modiste.config import ImageConfig
from modiste.decisions.decision import Decision, ProductRule
from modiste.decisions.thresholds import Thresholds
from modiste.errors import PhotoError, UsageError
from modiste.inference.predictor import Predictor
from modiste.inference.products import product_frame, tag_products
from modiste.inputs.arguments import InputPhoto
from modiste.labels import LabelSet
from modiste.prediction import NetworkOutput
from modiste.runs.load import load

LABELS = LabelSet.free("light", ["bright", "photos"])  # one is called like a column


def shade(value):
    return np.full((16, 16, 3), value, np.uint8)


def tagger():
    """Says how bright a photo is, 0 to 1, and half of that; products are bright above 0.6."""

    def forward(photos, *, maps):
        probs = photos.mean(axis=(1, 2, 3), dtype=np.float32)[:, None] / 255 * np.array([1, 0.5], np.float32)
        return NetworkOutput(probs, probs, None)

    decision = Decision.untuned("fixed:0.5", LABELS)
    made = Decision(
        decision.policy,
        decision.thresholds,
        decision.calibration,
        products=ProductRule("mean", Thresholds(np.array([0.6, 0.1]), "by hand")),
    )
    return Predictor(forward, LABELS, ImageConfig(size=16), made, batch_size=2)


def mean(*shades):
    logits = [np.log(s / (255 - s)) for s in shades]
    return 1 / (1 + np.exp(-np.mean(logits)))


def test_a_product_is_pooled_and_meets_its_own_thresholds():
    said = tagger().predict_product([shade(102), shade(204)], name="7")
    assert said.photo == "7" and len(said.photos) == 2
    assert said.prob_array[0] == pytest.approx(mean(102, 204))
    assert mean(102, 204) > 0.6 and said.labels == ("bright", "photos")
    assert [one.labels for one in said.photos] == [(), ("bright",)]
    assert repr(said).startswith("ProductPrediction('7', bright 0.6")
    alone = tagger().predict_product([shade(140)])
    assert alone.probs == alone.photos[0].probs
    assert (alone.labels, alone.photos[0].labels) == (("photos",), ("bright",))  # 0.55 is not above 0.6


def test_a_broken_photo_is_left_out_and_named_and_without_any_there_is_no_product(tmp_path):
    said = tagger().predict_product([shade(204), tmp_path / "gone.jpg", shade(102)])
    assert said.prob_array[0] == pytest.approx(mean(102, 204))
    assert [one.error is None for one in said.photos] == [True, False, True] and "gone.jpg" in said.photos[1].error
    with pytest.raises(PhotoError, match=r"none of 2; the first: .*gone\.jpg"):
        tagger().predict_product([tmp_path / "gone.jpg"] * 2)
    with pytest.raises(UsageError, match="photos of product, but got none"):
        tagger().predict_product([])


def test_a_path_in_place_of_paths_is_one_photo(photos):
    said = tagger().predict_product(str(photos[0]))
    assert [one.photo for one in said.photos] == [str(photos[0])]
    assert tagger().predict_product(photos[0]).probs == said.probs == tagger().predict_product([photos[0]]).probs


def items(tmp_path):
    """Two products in turns, photos of none, and one that can't be read at all."""
    wanted = [("a.jpg", 204, "7"), ("b.jpg", 51, "8"), ("c.jpg", 102, "7"), ("d.jpg", 204, ""), ("e.jpg", 51, "")]
    made = [InputPhoto("gone", tmp_path / "gone.jpg", "9")]
    for name, value, product in wanted:
        Image.fromarray(shade(value)).save(tmp_path / name, quality=100)
        made.append(InputPhoto(name, tmp_path / name, product))
    return [*made, InputPhoto("7", b"broken", "7"), InputPhoto("lost", tmp_path / "lost.jpg", "9")]


def test_photos_of_a_product_may_stand_anywhere(tmp_path):
    told = []
    found = tag_products(items(tmp_path), tagger(), told.append)
    rows = [(one.id, one.photos, one.failed, one.prediction.labels) for one in found.products]
    assert rows == [
        ("9", 0, 2, ()),
        ("7", 2, 1, ("bright", "photos")),
        ("8", 1, 0, ()),
        ("d.jpg", 1, 0, ("bright", "photos")),
        ("e.jpg", 1, 0, ()),
    ]
    assert found.photos == 8 and told == list(range(1, 9)) and len(found.errors) == 3
    assert found.products[1].prediction.prob_array[0] == pytest.approx(mean(102, 204), abs=0.01)
    error = found.products[0].prediction.error
    assert error.startswith("None of its 2 photos can be read. The first: ") and "gone.jpg" in error
    assert np.isnan(found.products[0].prediction.prob_array).all()
    frame = product_frame(found.products, LABELS)
    assert frame.columns == [
        "product",
        "labels",
        "unsure",
        "review",
        "error",
        "photos",
        "failed",
        "bright",
        "prob.photos",
    ]
    assert frame["bright"].null_count() == 1


def test_many_products_are_each_what_their_photos_say_alone(rng):
    values = rng.integers(1, 255, 300)
    numbers = rng.integers(70, size=300)
    photos = [
        InputPhoto(str(k), shade(value), f"p{n}") for k, (value, n) in enumerate(zip(values, numbers, strict=True))
    ]
    found = tag_products(photos, tagger())
    assert [one.id for one in found.products] == list(dict.fromkeys(f"p{n}" for n in numbers))
    for one in found.products:
        assert one.prediction.prob_array[0] == pytest.approx(mean(*values[numbers == int(one.id[1:])]), abs=1e-5)


@pytest.fixture
def table(photos, tmp_path):
    """Products A (3 photos), B (2, one of them broken), C (none that can be read); their rows in turns."""
    (tmp_path / "broken.jpg").write_bytes(b"GIF")
    rows = ["A", "B", "C", "A", "B", "A"]
    files = [photos[0], photos[1], tmp_path / "gone.jpg", photos[2], tmp_path / "broken.jpg", photos[3]]
    path = tmp_path / "shop.csv"
    pl.DataFrame({"image": list(map(str, files)), "product_id": rows}).write_csv(path)
    return path


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_every_format_has_a_row_a_product(kind, trained, table, photos, modiste):
    out = table.with_name(f"products.{kind}")
    code, _, err = modiste("tag", table, "-m", trained, "--by", "product_id", "-o", out)
    assert code == 1 and "2 of 6 photos failed" in err and "gone.jpg" in err and "broken.jpg" in err
    tags = load(trained)
    ids = tags.label_set.ids
    if kind == "csv":
        rows = [
            {**row, "labels": row["labels"].split("|") if row["labels"] else [], "error": row["error"] or None,
             "probs": {label: float(row[label]) for label in ids if row[label]}}
            for row in csv.DictReader(out.read_text(encoding="utf-8").splitlines())
        ]  # fmt: skip
    elif kind == "jsonl":
        rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    else:
        rows = [
            {**row, "probs": {k: row[k] for k in ids if row[k] is not None}} for row in pl.read_parquet(out).to_dicts()
        ]
    assert [(row["product"], int(row["photos"]), int(row["failed"])) for row in rows] == [
        ("A", 3, 0),
        ("B", 1, 1),
        ("C", 0, 1),
    ]
    for row, shown in zip(rows, ([photos[0], photos[2], photos[3]], [photos[1]]), strict=False):
        said = tags.predict_product(shown)
        assert tuple(row["labels"]) == said.labels and row["error"] is None
        np.testing.assert_allclose([row["probs"][label] for label in ids], said.prob_array, atol=1e-5)
    assert "gone.jpg" in rows[2]["error"] and not rows[2]["labels"] and not rows[2]["probs"]


def test_products_on_stdout(trained, table, modiste):
    arguments = ("tag", table, "-m", trained, "--by", "product_id")
    lines = modiste(*arguments)[1].splitlines()
    assert [line.split("\t")[0] for line in lines] == ["A", "B", "C"]
    assert [line.split("\t")[-1] for line in lines] == ["3 photos", "1 photo", "0 photos"]
    document = json.loads(modiste(*arguments, "--json")[1])
    assert [one["product"] for one in document["products"]] == ["A", "B", "C"]
    assert document["products"][0]["probs"].keys() == set(load(trained).label_set.ids)
    assert (
        modiste(*arguments, "--format", "csv")[1]
        .splitlines()[0]
        .startswith("product,labels,unsure,review,error,photos,failed,")
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["sku"], "column 'sku' in TABLE, but got only 'image', 'product_id'"),
        (["product_id", "--shard", "1/2", "-o", "x.csv"], "a folder as -o for --shard, but got x.csv"),
        (["product_id", "--explain", "why", "-o", "tags"], "--by without --explain, but got both"),
        (["product_id", "--explain", "why"], "--by without --explain, but got both"),
        (["product_id", "--format", "jd", "-o", "x.txt"], "--by without --format jd, but got both"),
        (["product_id", "FOLDER"], "tables with a column 'product_id' for --by, but got 'FOLDER'"),
    ],
)
def test_wrong_use_is_one_sentence_and_writes_nothing(options, words, table, modiste, monkeypatch):
    here = table.parent / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    given = [str(here) if option == "FOLDER" else option for option in options]
    code, out, err = modiste("tag", table, "--by", *given)  # by the bundled model
    assert code == 2 and not out
    assert words.replace("FOLDER", str(here)).replace("TABLE", str(table)) in " ".join(err.split())
    assert not [*here.iterdir()]
