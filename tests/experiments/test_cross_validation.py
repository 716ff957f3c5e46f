"""Cross-validation: each photo of the folds is scored by the run that never saw it."""

import json
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import modiste as public
from modiste.cli import app
from modiste.config import Recipe
from modiste.data.manifest import Manifest
from modiste.errors import RunError
from modiste.experiments.cross_validation import create_folds, cross_validate
from modiste.labels import LabelSet
from modiste.metrics.scores import mean_average_precision
from modiste.runs.blend_run import BlendRun
from modiste.runs.format import FOLDER_FORMAT
from modiste.runs.load import predictor
from modiste.runs.run import Run

FOLDS = 3


class Killed(BaseException):
    """Stands for a kill."""


def command(*arguments):
    """Run a command in this process -> exit code."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as ended:
        patch.setattr(sys, "argv", ["modiste", *map(str, arguments)])
        app.main()
    return int(ended.value.code or 0)


@pytest.fixture(scope="module")
def settings(drawn, tiny, tmp_path_factory):
    recipe = tmp_path_factory.mktemp("recipe") / "one.toml"
    recipe.write_text(tiny.read_text().replace("epochs = 2", "epochs = 1") + "[augment]\nviews = 1\n")
    return ["train", drawn, "--recipe", recipe, "--folds", FOLDS]


@pytest.fixture(scope="module")
def trained_folds(settings, tmp_path_factory):
    """A finished cross-validation."""
    folder = tmp_path_factory.mktemp("folds") / "runs"
    assert command(*settings, "-o", folder) == 0
    return folder


@pytest.fixture
def refused(modiste):
    """Run a command that must fail -> its one sentence."""

    def run(*arguments: object) -> str:
        code, out, err = modiste(*arguments)
        sentences = [line for line in err.splitlines() if line.startswith("modiste: ")]
        assert (code, out, len(sentences)) == (2, "", 1), err
        assert sentences[0].startswith("modiste: Expected ") and ". Try " in sentences[0]
        return sentences[0]

    return run


def runs(folder):
    return [Run.read(folder / f"fold-{fold}") for fold in range(FOLDS)]


def said(run, part):
    """What a run's network says of photos, asked one by one."""
    return np.stack([one.probs for one in predictor(run, "one").raw(part.photos())])


def out_of_fold(folder):
    """Photos and what the ensemble keeps of them."""
    ensemble = BlendRun.read(folder / "ensemble")
    part = ensemble.manifest().part("val")
    kept = pl.read_parquet(folder / "ensemble/predictions-val.parquet")
    assert kept["photo"].to_list() == [str(path) for path in part.photos()]
    return part, kept.select([f"prob.{label}" for label in part.label_set.ids]).to_numpy()


def test_each_run_validates_on_its_own_fold(trained_folds, drawn):
    whole = Manifest.read(trained_folds / "manifest.parquet")
    folds, test = whole.frame["fold"].to_numpy(), whole.parts == "test"
    original = pl.read_csv(drawn)
    assert ((original["split"] == "test").to_numpy() == test).all()
    assert (folds[test] == -1).all() and set(folds[~test].tolist()) == set(range(FOLDS))
    assert np.ptp(np.bincount(folds[~test])) <= 2
    for fold, run in enumerate(runs(trained_folds)):
        splits = run.manifest().parts
        assert (splits[folds == fold] == "val").all()
        assert (splits[~test & (folds != fold)] == "train").all()
        assert (splits[test] == "test").all()
        assert run.recipe.data.fold == fold


def test_each_photo_is_scored_by_the_run_that_never_saw_it(trained_folds):
    part, kept = out_of_fold(trained_folds)
    folds = part.frame["fold"].to_numpy()
    everyone = np.stack([said(run, part) for run in runs(trained_folds)])
    np.testing.assert_allclose(kept, everyone[folds, np.arange(len(part))], atol=1e-3)
    others = everyone[(folds + 1) % FOLDS, np.arange(len(part))]
    assert (np.abs(kept - others).max(axis=1) > 1e-3).mean() > 0.9  # else it tells nothing
    (metrics,) = json.loads((trained_folds / "ensemble/metrics.json").read_text())["evaluations"]
    assert metrics["map"] == pytest.approx(mean_average_precision(part.targets, kept, part.label_set).value)
    assert metrics["photos"] == len(part)


def test_evaluating_again_asks_the_same_runs(trained_folds, modiste):
    before = out_of_fold(trained_folds)[1]
    code, out, _ = modiste("evaluate", trained_folds / "ensemble", "--split", "val", "--json")
    assert code == 0
    np.testing.assert_allclose(out_of_fold(trained_folds)[1], before, atol=1e-3)
    assert json.loads(out)["photos"] == len(before)


def test_no_photo_of_the_test_part_was_trained_or_tuned_on(trained_folds):
    ensemble = BlendRun.read(trained_folds / "ensemble")
    test = {str(path) for path in ensemble.manifest().part("test").photos()}
    assert not test & {str(path) for path in ensemble.manifest().part("val").photos()}
    for run in runs(trained_folds):
        seen = [*run.manifest().part("train").photos(), *run.manifest().part("val").photos()]
        assert not test & set(map(str, seen))


def test_the_ensemble_tags_with_the_mean_of_all(trained_folds, modiste):
    part = BlendRun.read(trained_folds / "ensemble").manifest().part("test").select(np.arange(5))
    tags = public.load(trained_folds / "ensemble")
    ours = np.stack([one.prob_array for one in tags.stream(part.photos())])
    np.testing.assert_allclose(ours, np.mean([said(run, part) for run in runs(trained_folds)], axis=0), atol=1e-5)
    code, out, _ = modiste("tag", *part.photos(), "-m", trained_folds / "ensemble", "--json")
    assert (code, len(json.loads(out)["photos"])) == (0, 5)


@pytest.mark.parametrize("place", [1, 20, pytest.param(35, marks=pytest.mark.slow)])
def test_killed_and_resumed_ends_with_the_same_numbers(
    place, trained_folds, settings, *, drawn, monkeypatch, tmp_path, rng
):
    folder, left, replace = tmp_path / "runs", [int(rng.integers(place, place + 10))], Path.replace

    def dying(self, target):
        left[0] -= 1
        if left[0] == 0:
            raise Killed
        return replace(self, target)

    create_folds(folder, Recipe.read(settings[3]), Manifest.read(drawn), FOLDS)
    monkeypatch.setattr(Path, "replace", dying)
    with pytest.raises(Killed):
        cross_validate(folder)
    monkeypatch.undo()
    begun = sorted(folder.glob("fold-*"))
    finished = {path: path.stat().st_mtime_ns for run in begun[:-1] for path in run.iterdir()}
    assert cross_validate(folder).folder == folder / "ensemble"
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    for one, other in zip(runs(folder), runs(trained_folds), strict=True):
        assert one.key == other.key  # the same weights
    np.testing.assert_allclose(out_of_fold(folder)[1], out_of_fold(trained_folds)[1], atol=1e-3)
    assert not [path for path in folder.rglob(".*") if not path.name.startswith(".ensemble")]


def test_a_finished_cross_validation_trains_nothing(trained_folds, modiste):
    before = {path: path.stat().st_mtime_ns for path in trained_folds.glob("fold-*/*")}
    (scores,) = json.loads((trained_folds / "ensemble/metrics.json").read_text())["evaluations"]
    code, out, _ = modiste("train", "--resume", trained_folds, "--json")
    assert (code, json.loads(out)["map"]) == (0, scores["map"])
    assert {path: path.stat().st_mtime_ns for path in trained_folds.glob("fold-*/*")} == before


def numbered(drawn, path, numbers):
    """The drawn garments with folds of these numbers."""
    rows = pl.read_csv(drawn, infer_schema=False)
    folds = [str(numbers[k % len(numbers)]) if split != "test" else "" for k, split in enumerate(rows["split"])]
    photo = pl.format(f"{drawn.parent}/{{}}", "image").alias("image")
    rows.with_columns(photo, pl.Series("fold", folds)).write_csv(path)
    return path


def test_folds_of_the_manifest_are_kept(settings, drawn, monkeypatch, tmp_path):
    path = numbered(drawn, tmp_path / "own.csv", [0, 2, 1])
    monkeypatch.setattr(
        "modiste.experiments.cross_validation.cross_validate", lambda *_, **__: (_ for _ in ()).throw(Killed)
    )
    with pytest.raises(Killed):
        command(settings[0], path, *settings[2:], "-o", tmp_path / "runs")
    made = Manifest.read(tmp_path / "runs/manifest.parquet").frame["fold"]
    assert made.equals(Manifest.read(path).frame["fold"])


def test_wrong_use_is_refused_and_leaves_nothing(refused, modiste, settings, *, trained_folds, drawn, tmp_path):
    new = tmp_path / "new"
    path = numbered(drawn, tmp_path / "four.csv", [0, 1, 2, 3])
    assert "3 folds" in (words := refused(settings[0], path, *settings[2:], "-o", new)) and "--folds 4" in words
    assert "one device" in refused(*settings, "-o", new, "--devices", 2)
    assert f"--resume {trained_folds}" in refused(*settings, "-o", trained_folds)
    for option in (("--folds", 3), ("--seed", 1), ("-o", new)):
        assert "--resume RUN alone" in refused("train", "--resume", trained_folds, *option)
    code, out, err = modiste(*settings[:-1], 1, "-o", new)
    assert (code, out) == (2, "") and "--folds" in err
    assert not new.exists()


@pytest.mark.slow
def test_folds_that_count_from_one(settings, drawn, tmp_path):
    path = numbered(drawn, tmp_path / "one.csv", [1, 2, 3])
    code = command(settings[0], path, *settings[2:], "-o", tmp_path / "new")
    assert code == 0 or not (tmp_path / "new").exists()


def test_one_fold_and_all_folds(refused, settings, monkeypatch, tmp_path):
    monkeypatch.setattr(
        "modiste.experiments.cross_validation.cross_validate", lambda *_, **__: (_ for _ in ()).throw(Killed)
    )
    assert "--fold" in refused(*settings, "--fold", 1, "-o", tmp_path / "new")


def test_a_folder_of_folds_names_its_ensemble(refused, trained_folds, drawn):
    photo = next((drawn.parent / "photos").iterdir())
    for verb in (("evaluate", trained_folds), ("tag", photo, "-m", trained_folds)):
        assert "ensemble" in refused(*verb)


def test_a_label_that_can_not_be_dealt_is_left_out(settings, drawn, tmp_path):
    """One photo has it: in the fold of that photo nothing is left to learn it from."""
    rows = pl.read_csv(drawn, infer_schema=False)
    once = ["1" if k == rows["split"].to_list().index("train") else "0" for k in range(len(rows))]
    photo = pl.format(f"{drawn.parent}/{{}}", "image").alias("image")
    path = tmp_path / "rare.csv"
    rows.with_columns(photo, pl.Series("l13", once)).write_csv(path)
    recipe = Recipe.read(settings[3])
    kept = create_folds(tmp_path / "new", recipe, Manifest.read(path, recipe.data), FOLDS)
    assert kept.left_out == {"ethnic": 0} and any("ethnic 0" in note for note in kept.notes())
    ids = LabelSet.read(tmp_path / "new" / "labels.json").ids
    assert ids == tuple(label for label in Manifest.read(drawn).label_set.ids if label != "ethnic")


@pytest.mark.parametrize(
    "options",
    [
        ("--backbone", "resnet1888"),
        ("--weights", "no-such-folder"),
        ("--set", "stages.1.unlock=99"),
        ("--set", "decide.policy=best:9"),
        ("--accelerator", "mps"),
    ],
)
def test_what_can_not_be_trained_is_refused_before_anything_is_made(options, refused, settings, tmp_path):
    refused(*settings, "-o", tmp_path / "new", *options)
    assert list(tmp_path.iterdir()) == []


def test_two_processes_in_one_cross_validation_are_refused(settings, drawn, tmp_path):
    create_folds(tmp_path / "folds", Recipe.read(settings[3]), Manifest.read(drawn), 2)
    assert json.loads((tmp_path / "folds/format.json").read_text())["format"] == FOLDER_FORMAT

    def watch(_):
        with pytest.raises(RunError, match="by one process, but got another"):
            cross_validate(tmp_path / "folds")
        raise Killed

    with pytest.raises(Killed):
        cross_validate(tmp_path / "folds", watch=watch)
