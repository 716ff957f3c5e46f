"""Products of drawn garments: tuned on validation photos alone, scored beside their photos, the same as when tagged."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image, ImageEnhance, ImageOps
from sklearn.metrics import average_precision_score, fbeta_score

from modiste.audit.check import look
from modiste.cli.workflows import show_evaluation
from modiste.config import DataConfig
from modiste.data.groups import group_numbers, keep_together
from modiste.data.manifest import Manifest
from modiste.decisions.pooling import Products
from modiste.demo.drawing import draw_garment, draw_styles
from modiste.evaluation.evaluate import Evaluation, evaluate, save_evaluation, score_predictions
from modiste.evaluation.report import report_evaluation
from modiste.evaluation.tune import tune
from modiste.labels import LabelSet
from modiste.runs.load import load
from modiste.runs.predictions import Predictions, predicted, write
from modiste.runs.run import Run

JD = LabelSet.read("jd2018")  # what is drawn; a run may have left rare styles out
VIEWS = 3  # photos a product
EDITS = (
    ImageOps.mirror,
    lambda photo: photo.crop((3, 3, photo.width - 3, photo.height - 3)).resize(photo.size),
    lambda photo: ImageEnhance.Brightness(photo).enhance(0.85),
)


def keep(run: Path, split: str, seed: int) -> np.ndarray:
    """Take what a network knows of the photos of a split to be their labels in noise -> its raw probabilities."""
    opened = Run.read(run)
    part = opened.manifest().part(split)
    logits = 3 * (part.targets == 1) - 3 + np.random.default_rng(seed).normal(scale=2.5, size=part.targets.shape)
    raw = (1 / (1 + np.exp(-logits))).astype(np.float32)
    write(opened, split, Predictions(part, raw, [None] * len(part), opened.views))
    return raw


def scored(run: Path, split: str) -> Evaluation:
    """Evaluate and keep it, without asking the network: the photos are not there."""
    opened = Run.read(run)
    evaluation = score_predictions(opened, split, predicted(opened, split), opened.decision)
    save_evaluation(opened, evaluation)
    return evaluation


def of_products(trained: Path, folder: Path, split: dict[str, int]) -> Path:
    """A run whose splits hold so many products of VIEWS photos each, in any order."""
    shutil.copytree(trained, folder)
    rng = np.random.default_rng(0)
    products = [(f"{name}-{k}", name) for name, count in split.items() for k in range(count)]
    targets = draw_styles(len(products), rng, minimum=10)
    rows = [
        {"image": f"{product}-{view}.jpg", "split": part, "product": product, **dict(zip(JD.ids, row, strict=True))}
        for (product, part), row in zip(products, targets.tolist(), strict=True)
        for view in range(VIEWS)
    ]
    table, label_set = folder / "products.csv", Run.read(trained).label_set
    rows = [{name: row[name] for name in ("image", "split", "product", *label_set.ids)} for row in rows]
    pl.DataFrame(rows).sample(fraction=1, shuffle=True, seed=1).write_csv(table)
    Manifest.read(table, label_set=label_set).absolute().write(folder / "manifest.parquet")
    return folder


@pytest.fixture(scope="module")
def made(trained, tmp_path_factory) -> Path:
    """90 products for validation and 60 for test."""
    run = of_products(trained, tmp_path_factory.mktemp("products") / "run", {"train": 30, "val": 90, "test": 60})
    keep(run, "val", 1)
    return run


@pytest.fixture
def run(made, tmp_path) -> Path:
    return shutil.copytree(made, tmp_path / "run")


def by_hand(probs: np.ndarray, names: list[str]) -> dict[str, np.ndarray]:
    """Product -> the mean of its photos' logits, as a probability."""
    logits = np.log(probs.astype(float) / (1 - probs))
    return {
        name: 1 / (1 + np.exp(-np.mean([row for row, one in zip(logits, names, strict=True) if one == name], axis=0)))
        for name in dict.fromkeys(names)
    }


def test_products_are_scored_beside_their_photos(run):
    tuned = tune(run, policy="fbeta:2", calibration="platt")
    assert "The photos of a product are pooled by 'mean', with mAP" in tuned.notes[0]
    raw = keep(run, "test", 2)
    evaluation = scored(run, "test")
    found, part = evaluation.products, evaluation.part
    names = part.frame["group"].to_list()
    pooled = by_hand(tuned.decision.calibration.apply(raw), names)
    targets = {name: row for name, row in zip(names, part.targets, strict=True)}
    truth = np.array([targets[name] for name in pooled])
    right = [
        average_precision_score(t, p) for t, p in zip(truth.T, np.array([*pooled.values()]).T, strict=True) if t.any()
    ]
    assert found.scores.map == pytest.approx(np.mean(right), abs=1e-6)
    thresholds = tuned.decision.products.thresholds.values
    f2 = fbeta_score(truth, np.array([*pooled.values()]) > thresholds, beta=2, average=None, zero_division=0)
    assert found.scores.macro.f2 == pytest.approx(f2[truth.any(axis=0)].mean(), abs=1e-6)
    assert np.abs(thresholds - tuned.decision.thresholds.values).max() > 0.01

    assert (len(found.products), found.products.several, found.scores.photos) == (60, 60, 60)
    gain = found.gains[0]
    assert (gain.name, gain.first, gain.second) == ("map", evaluation.scores.map, found.scores.map)
    assert gain.interval.low < gain.difference < gain.interval.high and gain.difference > 0.05
    document = json.loads((run / "metrics.json").read_text())["evaluations"][-1]["products"]
    assert (document["products"], document["with_several_photos"], document["pooling"]) == (60, 60, "mean")
    assert document["map"] == found.scores.map and document["gains"]["map"]["difference"] == gain.difference
    assert document["intervals"]["map"] == list(found.intervals["map"])


def test_products_that_were_tuned_on_are_scored_across_folds(run):
    tuned = tune(run, policy="fbeta:1", calibration="platt")
    assert tuned.evaluation.cross_fitted and tuned.decision.provenance["products"]["with_several_photos"] == 90
    again = scored(run, "val")
    np.testing.assert_array_equal(again.products.decided.decisions, tuned.evaluation.products.decided.decisions)
    label_set, numbers = again.part.label_set, again.products.products.numbers
    inside = tuned.decision.apply_products(tuned.decision.apply(again.raw, label_set).probs, numbers, label_set)
    assert (inside.decisions != again.products.decided.decisions).any()
    content = json.loads((run / "decision.json").read_text())
    content["products"]["thresholds"] = dict.fromkeys(label_set.ids, 1.0)  # edited by hand, it counts
    (run / "decision.json").write_text(json.dumps(content))
    assert not scored(run, "val").products.decided.decisions.any()


def test_test_photos_have_no_part_in_how_products_are_decided(run):
    first = tune(run, policy="fbeta:2", calibration="auto").decision
    keep(run, "test", 3)
    scored(run, "test")
    manifest = Run.read(run).manifest()
    targets = np.where((manifest.parts == "test")[:, None], 1 - manifest.targets, manifest.targets)
    replace(manifest, targets=targets).write(run / "manifest.parquet")
    second = tune(run, policy="fbeta:2", calibration="auto").decision
    assert first.products is not None and second.key == first.key
    assert second.provenance["products"] == first.provenance["products"]


def test_a_rule_without_thresholds_to_tune_still_chooses_the_pooling(run):
    tuned = tune(run, policy="fixed:0.5", calibration="none")
    assert tuned.decision.products.pooling == "mean" and "pooled by 'mean'" in tuned.notes[0]
    np.testing.assert_array_equal(tuned.decision.products.thresholds.values, 0.5)


def test_with_few_products_nothing_is_tuned_for_them_and_they_are_scored_all_the_same(trained, tmp_path):
    run = of_products(trained, tmp_path / "run", {"train": 30, "val": 49, "test": 60})
    keep(run, "val", 1)
    tuned = tune(run, policy="fbeta:2", calibration="platt")
    assert tuned.decision.products is None
    assert tuned.notes[0] == "Nothing is tuned for products: 49 here have several photos, and it takes 50."
    assert tuned.evaluation.products.pooling == "mean"
    raw = keep(run, "test", 2)
    evaluation = scored(run, "test")
    pooled = by_hand(tuned.decision.calibration.apply(raw), evaluation.part.frame["group"].to_list())
    order = np.unique(group_numbers(evaluation.part), return_index=True)[1]
    names = [evaluation.part.frame["group"][int(k)] for k in order]
    right = np.array([pooled[name] for name in names]) > tuned.decision.thresholds.values
    np.testing.assert_array_equal(evaluation.products.decided.decisions, right)


def test_groups_of_people_are_no_products(run):
    manifest = Run.read(run).manifest()
    people = [f"person {k % 10}" for k in range(len(manifest))]
    manifest.with_column("group", people).write(run / "manifest.parquet")
    raw = keep(run, "test", 2)
    evaluation = scored(run, "test")
    assert evaluation.products is None and len(raw) == 180
    assert evaluation.notes == (
        "The photos of 10 of 10 groups have different labels. They are taken for no products, and are not scored as "
        "such.",
    )
    assert json.loads((run / "metrics.json").read_text())["evaluations"][-1]["products"] is None


def test_the_contributors_of_real_photos_are_no_products(shared):
    config = DataConfig(label_columns=("garment",), group_column="contributor")
    photos = Manifest.read(shared / "data" / "clothing" / "labels.csv", config)
    found = Products.of(group_numbers(photos), photos.targets, photos.label_set)
    assert found.several > 50 and not found.plausible


def test_photos_that_contradict_each_other_are_counted(run, capsys):
    manifest = Run.read(run).manifest()
    first = {name: k for k, name in reversed([*enumerate(manifest.frame["group"])])}
    targets = manifest.targets.copy()
    for product in ("test-1", "test-2"):
        targets[first[product], 0] = 1 - targets[first[product], 0]
    replace(manifest, targets=targets).write(run / "manifest.parquet")
    keep(run, "test", 2)
    words = "60 products, 60 with several photos, pooled by the mean; the photos of 2 contradict each other"
    evaluation = scored(run, "test")
    found = evaluation.products
    assert found.sentence == words
    show_evaluation(Run.read(run), evaluation, as_json=False)
    out = " ".join(capsys.readouterr().out.split())
    assert words in out and f"{found.scores.map:.4f}" in out
    page = (run / "report-test" / "report.html").read_text()
    assert words in page and f"{found.scores.map:.3f}" in page.split('id="products"')[1].split("</section>")[0]


def test_views_of_one_garment_are_one_product_for_whatever_scores_and_tags(trained, tmp_path):
    """Groups found as near duplicates are the garments that were drawn; `predict_product` and `evaluate` agree."""
    label_set = Run.read(trained).label_set
    kept = [JD.index(label) for label in label_set.ids]
    targets = draw_styles(24, np.random.default_rng(4))
    rows = []
    for k, styles in enumerate(targets):
        photo = Image.fromarray(draw_garment(styles, 128, np.random.default_rng([4, k])))
        for view, edit in enumerate((lambda one: one, *EDITS)):
            name = f"{k}-{view}.jpg"
            edit(photo).save(tmp_path / name, quality=85)
            rows.append(
                {"image": name, "split": "test", **dict(zip(label_set.ids, styles[kept].tolist(), strict=True))}
            )
    pl.DataFrame(rows).write_csv(tmp_path / "views.csv")
    photos = Manifest.read(tmp_path / "views.csv", label_set=label_set)
    photos = keep_together(photos, look(photos, None).alike.any)
    products = Products.of(group_numbers(photos), photos.targets, label_set)
    np.testing.assert_array_equal(products.numbers, np.arange(len(photos)) // 4)
    np.testing.assert_array_equal(products.targets, targets[:, kept])

    run = shutil.copytree(trained, tmp_path / "run")
    evaluation = evaluate(run, "test", manifest=photos)
    tagger = load(run)
    for k in range(len(products)):
        said = tagger.predict_product(tmp_path / f"{k}-{view}.jpg" for view in range(4))
        np.testing.assert_allclose(said.prob_array, evaluation.products.decided.probs[k], atol=1e-5)
        logits = [np.log(one.prob_array.astype(float) / (1 - one.prob_array)) for one in said.photos]
        np.testing.assert_allclose(said.prob_array, 1 / (1 + np.exp(-np.mean(logits, axis=0))), atol=1e-5)
    assert report_evaluation(Run.read(run), evaluation).is_file()
