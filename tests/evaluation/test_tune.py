"""Tuning and blending of run folders, from the library and the command line."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from safetensors.torch import load_file, save_file

from modiste.data.manifest import Manifest
from modiste.decisions.blend import Blend
from modiste.decisions.decision import Decision
from modiste.decisions.fit import make_folds
from modiste.decisions.fit_blend import cross_fit_blend
from modiste.errors import UsageError
from modiste.evaluation.evaluate import compared, evaluate, score_predictions
from modiste.evaluation.tune import needs_tuning, tune
from modiste.experiments.ensemble import blend
from modiste.labels import Group, Label, LabelSet
from modiste.runs.blend_run import BlendRun
from modiste.runs.load import load, open_run
from modiste.runs.predictions import Predictions, predict, predicted, write
from modiste.runs.run import Run

JD = LabelSet.read("jd2018")


def shaken(run: Path, folder: Path, seed: int) -> Path:
    """A copy of a run whose head is another one."""
    shutil.copytree(run, folder)
    state = load_file(folder / "model.safetensors")
    noise = np.random.default_rng(seed).normal(scale=0.3, size=tuple(state["head.weight"].shape)).astype(np.float32)
    state["head.weight"] += state["head.weight"].new_tensor(noise)
    save_file(state, folder / "model.safetensors", {"labels": json.dumps(JD.ids)})
    return folder


@pytest.fixture
def run(trained, tmp_path) -> Path:
    return shutil.copytree(trained, tmp_path / "run")


@pytest.fixture(scope="module")
def tuned(trained, tmp_path_factory) -> Path:
    """A run that is calibrated and tuned on its 167 training photos, as its 24 for validation are too few."""
    folder = shutil.copytree(trained, tmp_path_factory.mktemp("tuned") / "run")
    tune(folder, policy="fbeta:2", calibration="platt", split="train")
    return folder


@pytest.fixture(scope="module")
def both(trained, tmp_path_factory) -> Path:
    """A blend of two runs."""
    folder = tmp_path_factory.mktemp("blend")
    other = shaken(trained, folder / "other", 1)
    blend([trained, other], folder / "both", split="train")
    shutil.rmtree(other)
    return folder / "both"


def test_what_is_tuned_is_applied_alike_by_tag_and_evaluate(tuned):
    run = Run.read(tuned)
    part = run.manifest().part("test")
    evaluation = evaluate(tuned, "test")
    said = list(load(tuned).stream(part.photo(k) for k in range(len(part))))
    np.testing.assert_allclose(evaluation.probs, [one.prob_array for one in said], atol=1e-6)
    for one, decisions in zip(said, evaluation.decisions, strict=True):
        assert one.labels == tuple(label for label, yes in zip(JD.ids, decisions, strict=True) if yes)
    by_hand = run.decision.apply(evaluation.raw, JD)
    np.testing.assert_array_equal(evaluation.decisions, by_hand.decisions)
    assert not evaluation.cross_fitted
    assert not np.allclose(evaluation.raw, evaluation.probs)  # calibrated


def test_the_papers_rule_comes_back(trained, tuned, photos):
    for photo in photos[:3]:
        before, back = load(trained).predict(photo), load(tuned, thresholds="fixed:0.5").predict(photo)
        assert before.probs == back.probs
        assert before.labels == back.labels


def test_photos_that_were_tuned_on_are_scored_across_folds(tuned):
    evaluation = evaluate(tuned, "train")
    assert evaluation.cross_fitted
    inside = Run.read(tuned).decision.apply(evaluation.raw, JD).decisions
    assert (inside != evaluation.decisions).any()
    assert not evaluate(tuned, "train", thresholds="fixed:0.5").cross_fitted


def test_the_decision_says_where_it_comes_from(run):
    made = tune(run, policy="fbeta:2", calibration="auto", split="train")
    known = json.loads((run / "decision.json").read_text())["provenance"]
    assert (known["split"], known["count"], known["calibration"], known["folds"]) == ("train", 167, "auto", 5)
    expected = known["expected"]["macro.f2"]
    assert expected["value"] == pytest.approx(made.evaluation.scores.macro.f2)
    assert expected["low"] < expected["value"] < expected["high"]
    assert made.in_sample.macro.f2 > made.evaluation.scores.macro.f2  # why it is not what is expected


def test_tuning_twice_gives_the_same_and_asks_the_network_once(run):
    calls: list[int] = []
    tune(run, policy="fbeta:1", split="train", progress=lambda done, total: calls.append(done))
    first, asked = (run / "decision.json").read_text(), len(calls)
    tune(run, policy="fbeta:1", split="train", progress=lambda done, total: calls.append(done))
    again = json.loads((run / "decision.json").read_text())
    assert again["thresholds"] == json.loads(first)["thresholds"]
    assert asked == len(calls) == 167
    state = load_file(run / "model.safetensors")
    state["head.bias"] += 1
    save_file(state, run / "model.safetensors", {"labels": json.dumps(JD.ids)})
    tune(run, policy="fbeta:1", split="train", progress=lambda done, total: calls.append(done))
    assert len(calls) == 2 * 167  # other weights, so what was kept holds no more


def test_kept_predictions_are_those_of_the_network(tuned):
    run = Run.read(tuned)
    evaluation = evaluate(tuned, "test")
    np.testing.assert_array_equal(predicted(run, "test").raw, evaluation.raw)
    frame = pl.read_parquet(tuned / "predictions-test.parquet")
    np.testing.assert_array_equal(frame["prob.casual"].to_numpy(), evaluation.raw[:, JD.index("casual")])
    np.testing.assert_array_equal(frame["calibrated.casual"].to_numpy(), evaluation.probs[:, JD.index("casual")])


def test_a_catalogue_of_another_mix_is_corrected_for(run, drawn):
    photos = sorted((drawn.parent / "photos").glob("*.jpg"))[:60]
    plain = tune(run, policy="fbeta:1", calibration="platt", split="train")
    made = tune(run, policy="fbeta:1", calibration="platt", split="train", catalogue=photos)
    assert made.in_sample.macro.f1 == plain.in_sample.macro.f1  # what to expect is told without the correction
    assert made.decision.label_shift is not None and made.decision.provenance["catalogue"] == 60
    read = Run.read(run).decision
    np.testing.assert_allclose(read.label_shift.here, made.decision.label_shift.here)
    assert evaluate(run, "train").cross_fitted
    before = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
    with pytest.raises(UsageError, match="at least 50 photos of the catalogue"):
        tune(run, policy="fbeta:2", calibration="platt", split="train", catalogue=photos[:10])
    with pytest.raises(UsageError, match="calibrated probabilities"):
        tune(run, policy="fbeta:1", calibration="none", split="train", catalogue=photos)
    assert before == {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}


def test_what_needs_no_photos_is_set_on_any_number_of_them(run):
    made = tune(run, policy="top:2", calibration="none")  # 24 validation photos
    assert not made.decision.provenance
    assert set(evaluate(run, "test").decisions.sum(axis=1)) == {2}


def test_photos_that_were_tuned_on_are_known_however_they_are_named(tuned, drawn, monkeypatch):
    monkeypatch.chdir(drawn.parent.parent)
    table = Manifest.read(Path(drawn.parent.name) / drawn.name, label_set=JD)
    assert evaluate(tuned, "train", manifest=table).cross_fitted
    whole = evaluate(tuned, "all", manifest=table)
    assert not whole.cross_fitted
    assert whole.notes == ("167 of these photos were used for tuning, so these scores are too high.",)
    assert evaluate(tuned, "test").notes == ()


def test_thresholds_that_were_edited_by_hand_count(tuned, tmp_path):
    run = shutil.copytree(tuned, tmp_path / "run")
    content = json.loads((run / "decision.json").read_text())
    content["thresholds"] = dict.fromkeys(JD.ids, 1.0)
    (run / "decision.json").write_text(json.dumps(content))
    evaluation = evaluate(run, "train")
    assert not evaluation.decisions.any() and "167 of these photos" in evaluation.notes[0]


def test_views_that_were_tuned_with_are_those_that_tag(run, photos):
    tune(run, policy="fbeta:1", split="train", views="flip")
    assert load(run).views == "flip" and evaluate(run, "test").views == "flip"
    np.testing.assert_allclose(
        load(run).predict(photos[0]).prob_array, load(run, views="flip").predict(photos[0]).prob_array
    )


def test_a_resumed_run_with_other_weights_is_tuned_again(run):
    tune(run, policy="fbeta:1", split="train")
    assert not needs_tuning(Run.read(run))
    state = load_file(run / "model.safetensors")
    state["head.bias"] += 1
    save_file(state, run / "model.safetensors", {"labels": json.dumps(JD.ids)})
    assert needs_tuning(Run.read(run))


def test_a_policy_of_many_digits_is_tuned_once(trained, tmp_path):
    run = shutil.copytree(trained, tmp_path / "run")
    recipe = (run / "recipe.toml").read_text()
    (run / "recipe.toml").write_text(recipe.replace('policy = "fixed:0.5"', 'policy = "fixed:0.12345678"'))
    assert needs_tuning(Run.read(run))
    tune(run)
    assert not needs_tuning(Run.read(run))


def test_members_of_a_blend_keep_their_own_views(trained, tmp_path, photos):
    other = shaken(trained, tmp_path / "other", 3)
    recipe = (other / "recipe.toml").read_text()
    (other / "recipe.toml").write_text(recipe.replace('views = "one"', 'views = "flip"'))
    made = blend([trained, other], tmp_path / "both", split="train").run
    asked = load(tmp_path / "both")
    assert [member.views for member in asked.members] == ["one", "flip"]
    part = made.manifest().part("test")
    tagged = [one.probs for one in asked.raw(part.photo(k) for k in range(len(part)))]
    np.testing.assert_allclose(predict(made, part).raw, tagged, atol=1e-6)


def test_a_run_that_learned_from_the_others_test_photos(trained, tmp_path):
    other = shaken(trained, tmp_path / "other", 4)
    manifest = pl.read_parquet(other / "manifest.parquet")
    moved = pl.when(pl.col("split") == "test").then(pl.lit("train")).otherwise(pl.col("split"))
    manifest.with_columns(split=moved).write_parquet(other / "manifest.parquet")
    with pytest.raises(UsageError, match="to be new to"):
        blend([trained, other], tmp_path / "both", split="val")


def test_too_few_photos_and_no_such_policy(run):
    before = (run / "decision.json").read_bytes()
    with pytest.raises(UsageError, match="at least 50 photos to tune on, but got 24"):
        tune(run, policy="fbeta:2")
    with pytest.raises(UsageError, match="a policy"):
        tune(run, policy="best", split="train")
    with pytest.raises(UsageError, match="--calibration"):
        tune(run, calibration="magic", split="train")
    assert (run / "decision.json").read_bytes() == before


def test_a_blend_is_a_model_like_any_other(both, trained, photos, tmp_path):
    opened = open_run(both)
    assert isinstance(opened, BlendRun) and len(opened.members) == 2
    said = list(load(both).stream([photos[0], tmp_path / "missing.jpg", photos[1]]))
    assert [one.error is None for one in said] == [True, False, True]
    members = [load(member.folder).predict(photos[0]).prob_array for member in opened.members]
    np.testing.assert_allclose(said[0].prob_array, opened.blend.apply(np.stack(members)[:, None])[0], atol=1e-6)
    assert evaluate(both, "test").scores.photos == 49
    tune(both, policy="fbeta:2", split="train")
    assert open_run(both).decision.provenance["count"] == 167


def test_a_fitted_blend_is_scored_across_folds_where_it_was_fitted(both):
    """A stack of strong coefficients that nothing learned: across folds others take their place."""
    opened = open_run(both)
    blend = Blend("stack", np.full(2, 0.5), np.hstack([2 * np.eye(13), np.zeros((13, 13))]), np.zeros(13))
    changed = replace(opened, blend=blend)
    part = opened.manifest().part("train")
    asked = load([member.folder for member in opened.members])
    raw = np.stack([[one.probs for one in m.raw(part.photo(k) for k in range(len(part)))] for m in asked.members])
    folds = make_folds(part.targets, None, 5)
    np.testing.assert_allclose(
        predict(changed, part).raw, cross_fit_blend(part.targets, raw, folds, "stack"), atol=1e-5
    )
    test = opened.manifest().part("test")
    first = [one.probs for one in asked.members[0].raw(test.photo(k) for k in range(len(test)))]
    logit = np.log(np.array(first) / (1 - np.array(first)))
    np.testing.assert_allclose(predict(changed, test).raw, 1 / (1 + np.exp(-2 * logit)), atol=1e-4)


def test_runs_that_do_not_belong_together(trained, run, tmp_path):
    with pytest.raises(UsageError, match="at least two runs"):
        blend([trained], tmp_path / "blend", split="train")
    labels = (run / "labels.json").read_text()
    manifest = pl.read_parquet(run / "manifest.parquet")
    other = manifest["split"].to_list()
    other[0], other[1] = "test" if other[0] == "train" else "train", "test" if other[1] == "train" else "train"
    manifest.with_columns(pl.Series("split", other)).write_parquet(run / "manifest.parquet")
    with pytest.raises(UsageError, match="the same train photos"):
        blend([trained, run], tmp_path / "blend", split="train")
    assert (run / "labels.json").read_text() == labels
    assert not (tmp_path / "blend").exists()


def test_too_few_photos_to_blend_on_are_refused_with_what_needs_none(trained, tmp_path, modiste, photos):
    other = shaken(trained, tmp_path / "other", 5)
    with pytest.raises(
        UsageError, match=r"at least 50 val photos to choose a blend on, but got 24. Try modiste tag -m"
    ):
        blend([trained, other], tmp_path / "both", policy="fixed:0.5", calibration="none")
    assert not (tmp_path / "both").exists()
    assert modiste("tag", photos[0], "-m", trained, "-m", other, "--thresholds", "fixed:0.5")[0] == 0


def test_a_blend_that_fails_on_the_way_leaves_nothing(trained, tmp_path, monkeypatch):
    other = shaken(trained, tmp_path / "other", 5)

    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("modiste.experiments.ensemble.tune", stopped)
    with pytest.raises(KeyboardInterrupt):
        blend([trained, other], tmp_path / "both", split="train")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other"]
    with pytest.raises(UsageError, match="a policy"):
        blend([trained, other], tmp_path / "both", split="train", policy="best")
    with pytest.raises(UsageError, match="one of them twice"):
        blend([trained, trained], tmp_path / "both", split="train")


def test_without_its_file_a_decision_is_the_papers_rule_until_it_is_tuned(run, trained, photos):
    (run / "decision.json").unlink()
    assert load(run).predict(photos[0]).labels == load(trained, thresholds="fixed:0.5").predict(photos[0]).labels
    tune(run, policy="fbeta:2", split="train")
    assert (run / "decision.json").is_file()


def test_thresholds_for_once_are_those_that_need_no_photos(trained):
    with pytest.raises(UsageError, match="that need no photos"):
        load(trained, thresholds="fbeta:2")
    with pytest.raises(UsageError, match=r"fixed:0\.5, or top:3"):
        load(trained, thresholds="0.5")


def test_an_ensemble_of_tuned_models_has_no_thresholds(trained, tuned, photos):
    with pytest.raises(UsageError, match="modiste blend"):
        load([trained, tuned])
    said = load([trained, tuned], thresholds="fixed:0.5").predict(photos[0])
    members = [load(one, thresholds="fixed:0.5").predict(photos[0]).prob_array for one in (trained, tuned)]
    np.testing.assert_allclose(said.prob_array, np.mean(members, axis=0), atol=1e-6)


def test_a_model_beside_another_on_the_same_photos(trained, both):
    found = compared(evaluate(both, "test"), evaluate(trained, "test"), "both", "one")
    assert [one["score"] for one in found] == ["map", "macro.f2"]
    assert found[0]["sentence"].startswith("both is better than one in mAP with probability")
    with pytest.raises(UsageError, match="the same photos"):
        compared(evaluate(both, "test"), evaluate(trained, "train"), "both", "one")


@pytest.mark.slow
def test_tune_blend_and_evaluate_from_the_command_line(modiste, trained, tmp_path):
    one, other = shutil.copytree(trained, tmp_path / "a"), shaken(trained, tmp_path / "b", 2)
    code, out, err = modiste("tune", one, "--split", "train", "--policy", "fbeta:2", "--calibration", "auto")
    assert code == 0, err
    assert "what to expect" in out and "cross-fitted" in out and "sports" in out
    assert (one / "report-train" / "thresholds.png").is_file() and (one / "report-train" / "reliability.png").is_file()
    assert "next to nothing" in (one / "report-train" / "report.html").read_text()
    code, out, _ = modiste("tune", one, "--split", "train", "--policy", "top:2", "--json")
    assert code == 0 and json.loads(out)["policy"] == "top:2"
    assert {len(labels) for labels in _said(modiste, one, trained)} == {2}
    code, out, err = modiste("blend", one, other, "-o", tmp_path / "blend", "--split", "train")
    assert code == 0, err
    assert "out of fold" in out and "stack" in out
    code, out, err = modiste("evaluate", tmp_path / "blend", "--against", one, "--split", "test")
    assert code == 0, err
    assert f"{tmp_path / 'blend'} is better than {one} in mAP" in out.replace("\n", " ")
    code, _, err = modiste("blend", one, other, "-o", tmp_path / "blend", "--split", "train")
    assert code == 2 and "to be a new folder" in err


def _said(modiste, run, trained):
    manifest = Run.read(trained).manifest()
    code, out, _ = modiste("tag", *(manifest.photo(k) for k in range(5)), "-m", run, "--json")
    assert code == 0
    return [photo["labels"] for photo in json.loads(out)["photos"]]


def test_training_tunes_as_its_recipe_says(modiste, drawn, tiny, tmp_path):
    rows = pl.read_csv(drawn).with_columns(pl.format(f"{drawn.parent}/{{}}", "image").alias("image"))
    table = tmp_path / "photos.csv"
    rows.drop("split").write_csv(table)
    setting = ("--recipe", tiny, "--set", "stages.0.epochs=1", "--set", "stages.1.epochs=1")
    setting += ("--set", "decide.policy=fbeta:2")
    code, out, err = modiste("train", table, "-o", tmp_path / "run", *setting, "--set", "data.val_fraction=0.3")
    assert code == 0, err
    assert "fbeta:2, cross-fitted" in out
    assert Run.read(tmp_path / "run").decision.provenance["split"] == "val"
    code, out, err = modiste("train", table, "-o", tmp_path / "few", *setting)
    assert code == 0, err
    told = "not tuned, so labels are chosen above 0.5: tuning takes at least 50 validation photos, and there are 24."
    assert told in err and "--policy" not in err  # which train has not
    assert "Try --set data.val_fraction=0.25 where" in err  # 0.25 of 240 photos
    assert Run.read(tmp_path / "few").decision.policy == Decision.untuned("fixed:0.5", JD).policy


# Exclusive groups


@pytest.fixture(scope="module")
def choosing(trained, tmp_path_factory) -> Path:
    """A run whose first four labels exclude each other, with predictions of 400 photos that are not there."""
    folder = shutil.copytree(trained, tmp_path_factory.mktemp("choosing") / "run")
    ids = Run.read(trained).label_set.ids
    groups = (Group("kind", tuple(map(Label, ids[:4])), exclusive=True), Group("style", tuple(map(Label, ids[4:]))))
    label_set, rng = LabelSet("choosing", groups), np.random.default_rng(0)
    label_set.write(folder / "labels.json")
    n = 800
    targets = (rng.random((n, len(ids))) < 0.3).astype(np.int8)
    targets[:, :4] = rng.integers(5, size=n)[:, None] == np.arange(4)  # or none of them
    rows = [
        {"image": f"{k}.jpg", "split": "val" if k % 2 else "test", **dict(zip(ids, row, strict=True))}
        for k, row in enumerate(targets.tolist())
    ]
    pl.DataFrame(rows).write_csv(folder / "rows.csv")
    Manifest.read(folder / "rows.csv", label_set=label_set).absolute().write(folder / "manifest.parquet")
    for split in ("val", "test"):
        part = Run.read(folder).manifest().part(split)
        logits = 3 * (part.targets == 1) - 2 + rng.normal(scale=1.5, size=part.targets.shape)
        raw = (1 / (1 + np.exp(-logits))).astype(np.float32)
        write(Run.read(folder), split, Predictions(part, raw, [None] * len(part), Run.read(folder).views))
    return folder


def test_a_precision_of_a_group_is_tuned_shown_and_applied(choosing, tmp_path, modiste):
    run = shutil.copytree(choosing, tmp_path / "run")
    code, out, err = modiste("tune", run, "--policy", "precision:0.8", "--calibration", "auto")
    assert code == 0, err
    decision = json.loads((run / "decision.json").read_text())
    ids = Run.read(run).label_set.ids
    assert {decision["thresholds"][label] for label in ids[:4]} == {decision["groups"]["kind"]}
    assert decision["calibration"][ids[0]] == decision["calibration"][ids[3]]
    assert "coverage" in out and "exclusive groups, said where the most probable value is above the threshold" in out
    assert "coverage kind" in out and "precision kind" in out
    evaluation = score_predictions(Run.read(run), "test", predicted(Run.read(run), "test"), Run.read(run).decision)
    group = evaluation.scores.groups["kind"]
    assert group.precision == pytest.approx(0.8, abs=0.07) and 0.2 < group.coverage < 1
    assert "kind is said for" in evaluation.verdict.unsure[0]
    page = (run / "report-val" / "report.html").read_text(encoding="utf-8")
    assert "Exclusive groups" in page and f"{decision['groups']['kind']:.3f}" in page
    code, out, err = modiste("info", run)
    assert code == 0, err
    assert out.count(f"above {decision['groups']['kind']:.3f}") >= 4 + 1  # of each label, and in the card
    assert f"kind is said where its most probable value is above {decision['groups']['kind']:.3f}, else unsure." in out


def test_the_papers_rule_says_nothing_of_coverage(choosing, tmp_path, modiste):
    run = shutil.copytree(choosing, tmp_path / "run")
    code, out, err = modiste("tune", run, "--policy", "fixed:0.5")
    assert code == 0, err
    assert "accuracy kind" in out and "coverage" not in out and "unsure" not in out


def test_a_decision_of_an_earlier_modiste_leaves_no_group_unsure_across_folds(choosing, tmp_path):
    run = shutil.copytree(choosing, tmp_path / "run")
    tuned = tune(run, policy="precision:0.8")
    assert tuned.evaluation.scores.groups["kind"].coverage < 1
    content = json.loads((run / "decision.json").read_text())
    content.pop("groups")
    old = Decision.from_dict(content, Run.read(run).label_set, "decision.json")
    content["provenance"]["thresholds"] = old.thresholds_key  # as it was hashed then
    (run / "decision.json").write_text(json.dumps(content))
    opened = Run.read(run)
    evaluation = score_predictions(opened, "val", predicted(opened, "val"), opened.decision)
    assert evaluation.cross_fitted and evaluation.scores.groups["kind"].coverage == 1
    assert not evaluation.verdict.unsure
