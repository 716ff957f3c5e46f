"""Evaluations that write nothing, groups from the manifest to the interval, and what a card may call a test score."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from safetensors.torch import load_file, save_file

from modiste.config import DataConfig, DecideConfig
from modiste.data.manifest import Manifest
from modiste.decisions.fit import cross_fit_decision, fit_decision, make_folds
from modiste.decisions.thresholds import Thresholds
from modiste.errors import UsageError
from modiste.evaluation.evaluate import evaluate, score_predictions
from modiste.evaluation.report import report_evaluation
from modiste.evaluation.tune import tune, tune_predictions
from modiste.exporting.export import describe
from modiste.labels import LabelSet
from modiste.runs.load import predictor
from modiste.runs.predictions import Predictions, predict, write
from modiste.runs.run import Run

JD = LabelSet.read("jd2018")


@pytest.fixture
def run(trained, tmp_path) -> Path:
    return shutil.copytree(trained, tmp_path / "run")


def card(folder: Path) -> tuple[str, str]:
    """The part of a card that shows the model's own test scores, and the one of other evaluations."""
    opened = Run.read(folder)
    text = describe(opened, predictor(opened))["card"].split("## Scores")[1].split("## Decisions")[0]
    own, _, others = text.partition("### Other evaluations")
    return own, others


def content(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_scoring_and_tuning_on_predictions_write_nothing(run):
    opened = Run.read(run)
    before = content(run)
    predictions = predict(opened, opened.manifest().part("train"))
    evaluation = score_predictions(opened, "train", predictions, opened.decision)
    config = DecideConfig(policy="fbeta:2", calibration="platt")
    tuned = tune_predictions(opened, "train", predictions, config)
    assert content(run) == before
    written = tune(run, policy="fbeta:2", calibration="platt", split="train")
    for one in (tuned, written):
        assert one.evaluation.scores.map == pytest.approx(written.evaluation.scores.map)
        assert set(one.decision.provenance) == set(written.decision.provenance)
    assert "expected" not in tuned.evaluation.decision.provenance  # a decision is never changed once it is made
    assert "expected" in tuned.decision.provenance
    assert evaluation.scores.photos == 167


def test_a_card_shows_only_the_models_own_test_score(run, drawn, tmp_path):
    table = pl.read_csv(drawn).filter(pl.col("split") == "train").with_columns(pl.lit("test").alias("split"))
    other = tmp_path / "other.csv"
    table.with_columns(pl.format(f"{drawn.parent}/{{}}", "image").alias("image")).write_csv(other)
    manifest = Manifest.read(other, label_set=JD)
    evaluate(run, "test", manifest=manifest, thresholds="fixed:0.9")
    evaluate(run, "train", thresholds="fixed:0.9")
    evaluate(run, "test", thresholds="fixed:0.9")
    own, others = card(run)
    assert "Not measured" in own and "167" not in own
    for name in ("test of other.csv, fixed:0.9", "train, fixed:0.9", "test, fixed:0.9"):
        assert f"| {name} |" in others
    mine = evaluate(run, "test")
    evaluate(run, "test", manifest=manifest)
    evaluate(run, "val")
    own, others = card(run)
    assert f"| test | 49 | mAP | {mine.scores.map:.3f} |" in own
    assert "other.csv" not in own and "fixed:0.9" not in own and "167" not in own and "| val |" not in own
    assert "| test of other.csv |" in others and "| val |" in others
    page = report_evaluation(Run.read(run), evaluate(run, "test", manifest=manifest, thresholds="fixed:0.9"))
    words = page.read_text()
    assert "tiny: test of other.csv, fixed:0.9" in words and "not the model&#39;s own photos" in words


def test_a_score_is_the_models_own_until_its_decision_or_weights_change(run):
    evaluate(run, "test")
    assert "| test | 49 |" in card(run)[0]
    tune(run, policy="fbeta:2", split="train")
    own, others = card(run)
    assert "Not measured" in own and "| test, another decision | fixed:0.5 | 49 |" in others
    evaluate(run, "test")
    assert "| test | 49 |" in card(run)[0]
    known = json.loads((run / "decision.json").read_text())
    edited = {**known, "thresholds": {**known["thresholds"], "sports": 0.123}}
    (run / "decision.json").write_text(json.dumps(edited))
    assert "Not measured" in card(run)[0]
    (run / "decision.json").write_text(json.dumps(known))
    assert "| test | 49 |" in card(run)[0]
    state = load_file(run / "model.safetensors")
    state["head.bias"] += 1
    save_file(state, run / "model.safetensors", {"labels": json.dumps(JD.ids)})
    own, others = card(run)
    assert "Not measured" in own and "| test, earlier weights |" in others


def test_a_file_of_an_earlier_modiste_is_no_test_score(run):
    evaluate(run, "test")
    document = json.loads((run / "metrics.json").read_text())["evaluations"][0]
    old = {key: value for key, value in document.items() if key not in ("name", "origin")}
    (run / "metrics.json").write_text(json.dumps({"test": old}))
    own, others = card(run)
    assert "Not measured" in own and "| test, origin unknown | fixed:0.5 | 49 |" in others


BASE, COPIES = 30, 20  # photos, and how often each one is there


@pytest.fixture(scope="module")
def repeated(trained, drawn, tmp_path_factory) -> Path:
    """A run whose validation photos are 30 photos 20 times each, in groups; test holds the 30 without groups.

    The network is taken to say of each photo what tells nothing of its labels, alike for all copies of it: whatever
    fits the copies of a photo knows the ones held out, unless groups are kept whole.
    """
    folder = tmp_path_factory.mktemp("repeated")
    run = shutil.copytree(trained, folder / "run")
    rows = pl.read_csv(drawn).head(BASE).with_columns(pl.format(f"{drawn.parent}/{{}}", "image").alias("image"))
    copies = []
    for k in range(COPIES):
        paths = [folder / f"{Path(path).stem}-{k}.jpg" for path in rows["image"]]
        who = [f"garment {n}" for n in range(BASE)]
        copies.append(rows.with_columns(image=pl.Series(map(str, paths)), garment=pl.Series(who), split=pl.lit("val")))
    once = rows.with_columns(garment=pl.lit(""), split=pl.lit("test"))
    pl.concat([*copies, once]).write_csv(folder / "repeated.csv")
    manifest = Manifest.read(folder / "repeated.csv", DataConfig(group_column="garment"), JD)
    manifest.absolute().write(run / "manifest.parquet")
    opened = Run.read(run)
    rng = np.random.default_rng(0)
    share = np.clip(opened.manifest().part("test").prevalence, 0.05, 0.95)
    logits = np.log(share / (1 - share)) + rng.normal(scale=0.5, size=(BASE, len(JD)))
    noise = (1 / (1 + np.exp(-logits))).astype(np.float32)
    for split, times in (("val", COPIES), ("test", 1)):
        part = opened.manifest().part(split)
        raw = np.tile(noise, (times, 1))
        write(opened, split, Predictions(part, raw, [None] * len(part), opened.views))
    return run


def of_groups(run: Run) -> tuple[Manifest, np.ndarray, np.ndarray]:
    """The validation photos, and folds that keep and that split groups, told from file names alone."""
    part = run.manifest().part("val")
    names = [path.stem.rsplit("-", 1)[0] for path in part.photos()]
    groups = np.unique(names, return_inverse=True)[1]
    whole, split = make_folds(part.targets, groups, 5), make_folds(part.targets, None, 5)
    assert all(len(set(whole[groups == g])) == 1 for g in groups)
    assert any(len(set(split[groups == g])) > 1 for g in groups)
    return part, whole, split


def test_groups_of_the_manifest_are_kept_whole_wherever_photos_are_dealt_or_drawn(repeated, tmp_path):
    folder = shutil.copytree(repeated, tmp_path / "run")
    run = Run.read(folder)
    part, whole, split = of_groups(run)
    raw = pl.read_parquet(folder / "predictions-val.parquet")
    raw = raw.select([f"prob.{label}" for label in JD.ids]).to_numpy().astype(np.float32)
    config = DecideConfig(policy="fbeta:1", calibration="auto")
    right, wrong = (fit_decision(config, part.targets, raw, folds, JD).decision for folds in (whole, split))
    assert right.key != wrong.key  # else it tells nothing
    tuned = tune(folder, policy="fbeta:1", calibration="auto")
    assert tuned.decision.key == right.key

    run = Run.read(folder)
    evaluation = score_predictions(run, "val", Predictions(part, raw, [None] * len(part), run.views), run.decision)
    right, wrong = (cross_fit_decision(config, part.targets, raw, folds, JD) for folds in (whole, split))
    assert np.abs(right.probs - wrong.probs).max() > 1e-3
    np.testing.assert_array_equal(evaluation.folds, whole)
    np.testing.assert_array_equal(evaluation.probs, right.probs)

    once = run.manifest().part("test")
    untuned = Run.read(repeated)
    widths = [
        np.diff(score_predictions(untuned, "x", each, untuned.decision).intervals["map"])[0]
        for each in (
            Predictions(part, raw, [None] * len(part), "one"),
            Predictions(once, raw[:BASE], [None] * len(once), "one"),
        )
    ]
    assert 0.6 < widths[0] / widths[1] < 1.6  # copies are no evidence: without groups 20 copies would give 0.22


def test_too_few_groups_are_refused_however_many_photos_there_are(repeated, tmp_path):
    folder = shutil.copytree(repeated, tmp_path / "run")
    manifest = Run.read(folder).manifest()
    groups = [f"garment {k % 8}" if split == "val" else "" for k, split in enumerate(manifest.parts)]
    manifest.with_column("group", groups).write(folder / "manifest.parquet")
    with pytest.raises(UsageError, match="at least 10 groups of photos to tune on, but got 8"):
        tune(folder, policy="fbeta:1")


def test_the_verdict_counts_photos_that_the_model_has_not_learned_from(run):
    opened = Run.read(run)
    manifest = opened.manifest()
    counts = {split: int((manifest.parts == split).sum()) for split in ("train", "val", "test")}
    untuned = {split: evaluate(run, split) for split in (*counts, "all")}
    judged = {split: one.verdict.judged for split, one in untuned.items()}
    assert judged == {**counts, "train": 0, "all": counts["val"] + counts["test"]}
    assert untuned["train"].verdict.sentence.startswith("All these photos were used for training")
    seen = untuned["all"]
    for k, (label, verdict) in enumerate(seen.verdict.labels.items()):
        target = seen.part.targets[seen.unseen, k]
        chosen = seen.decisions[seen.unseen, k] == 1
        right, wrong = (chosen & (target == 1)).sum(), (chosen & (target == 0)).sum()
        good = right >= 10 and right / (right + wrong) >= 0.9
        assert verdict == ("too few photos" if (target == 1).sum() < 10 else "publish" if good else "review"), label
    documents = json.loads((run / "metrics.json").read_text())["evaluations"]
    assert [one["verdict"] for one in documents] == [one.verdict.sentence for one in untuned.values()]


def test_the_verdict_leaves_out_photos_that_thresholds_were_tuned_on(run):
    opened = Run.read(run)
    whole = opened.manifest()
    test = whole.parts.copy()
    test[np.flatnonzero(test == "train")[:30]] = "test"  # 49 of them are too few to tune on
    whole.with_column("split", test.tolist()).write(run / "manifest.parquet")
    part = opened.manifest().part("test")
    predictions = predict(opened, part)
    tuned = tune_predictions(opened, "test", predictions, DecideConfig(policy="fbeta:2", calibration="platt"))
    crossed = score_predictions(opened, "test", predictions, tuned.decision)
    assert crossed.cross_fitted and crossed.verdict.judged == len(part)  # each decided by what the others tuned
    edited = replace(tuned.decision, thresholds=Thresholds.fixed(0.3, len(opened.label_set)))
    seen = score_predictions(opened, "test", predictions, edited)
    assert not seen.cross_fitted and seen.verdict.judged == 0
    some = predict(opened, part.select(np.arange(len(part)) < 30))
    assert score_predictions(opened, "test", some, tuned.decision).verdict.judged == 0
