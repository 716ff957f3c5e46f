"""Comparisons and folds: one split for all, killed and gone on, nothing left behind where it is refused."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

import modiste as public
from modiste.cli import app
from modiste.config import Recipe
from modiste.data.manifest import Manifest
from modiste.errors import ManifestError, RecipeError, RunError, UsageError
from modiste.experiments import compare
from modiste.experiments.grid import Candidate, Grid, slug
from modiste.labels import UNKNOWN
from modiste.metrics.scores import mean_average_precision
from modiste.runs.format import FOLDER_FORMAT
from modiste.runs.load import predictor
from modiste.runs.run import Run
from modiste.training.monitor import Monitor

TIMINGS = {"seconds", "cache_seconds", "ms_a_photo"}
NAMES = ["test_byobnet-adam-3", "test_byobnet-adam-4", "test_byobnet-sgd-3", "test_byobnet-sgd-4"]


class Killed(BaseException):
    """Stands for a kill."""


def command(*arguments):
    """Run a command in this process -> exit code."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as ended:
        patch.setattr(sys, "argv", ["modiste", *map(str, arguments)])
        patch.setattr(compare, "_TIMED_SECONDS", 0)
        app.main()
    return int(ended.value.code or 0)


@pytest.fixture(scope="module")
def one_epoch(tiny, tmp_path_factory):
    """The tiny recipe with one epoch a stage."""
    path = tmp_path_factory.mktemp("recipe") / "one.toml"
    path.write_text(tiny.read_text().replace("epochs = 2", "epochs = 1") + "[augment]\nviews = 1\n")
    return path


@pytest.fixture(scope="module")
def settings(drawn, one_epoch):
    return ["compare", drawn, "--recipe", one_epoch, "--optimizers", "adam,sgd", "--seeds", 2]


@pytest.fixture(scope="module")
def compared(settings, tmp_path_factory):
    """A finished comparison of two optimisers with two seeds."""
    folder = tmp_path_factory.mktemp("compared") / "table"
    assert command(*settings, "-o", folder) == 0
    return folder


@pytest.fixture
def refused(modiste):
    """Run a command that must fail -> its one sentence."""

    def run(*arguments: object) -> str:
        code, out, err = modiste(*arguments)
        sentences = [line for line in err.splitlines() if line.startswith("modiste: ")]
        assert (code, out, len(sentences)) == (2, "", 1), err
        assert "Traceback" not in err
        assert sentences[0].startswith("modiste: Expected ") and ", but got " in sentences[0]
        assert ". Try " in sentences[0] and sentences[0].endswith(".")
        return sentences[0]

    return run


def without_timings(value):
    if isinstance(value, dict):
        kept = {key: without_timings(one) for key, one in value.items() if key not in TIMINGS}
        return {key: Path(one).name if key in {"folder", "best"} else one for key, one in kept.items()}
    return [without_timings(one) for one in value] if isinstance(value, list) else value


def table(folder):
    return without_timings(json.loads((folder / "comparison.json").read_text()))


def written(folder, *names):
    return {path: path.stat().st_mtime_ns for name in names for path in sorted(folder.glob(name))}


def said(run, part, views="one"):
    """What a run's network says of photos, asked one by one."""
    return np.stack([one.probs for one in predictor(run, views).raw(part.photos())])


def test_a_comparison_leaves_what_its_document_says(compared):
    assert sorted(path.name for path in (compared / "runs").iterdir()) == NAMES
    for name in ("compare.toml", "comparison.md", "comparison.json", "index.html", "best/model.safetensors"):
        assert (compared / name).stat().st_size > 0
    assert not list(compared.rglob(".*"))
    found = json.loads((compared / "comparison.json").read_text())
    assert {one["candidate"] for one in found["candidates"]} == {"test_byobnet adam", "test_byobnet sgd"}
    assert [Path(one["folder"]).name for one in found["runs"]] == NAMES
    assert all(found["runs"][k]["seconds"] > 0 and found["runs"][k]["ms_a_photo"] > 0 for k in range(4))


def test_all_runs_share_one_split_and_differ_in_optimiser_and_seed(compared, drawn):
    manifest = Manifest.read(compared / "manifest.parquet")
    assert [Path(path).name for path in manifest.frame["path"]] == [
        Path(name).name for name in pl.read_csv(drawn)["image"]
    ]
    for name in NAMES:
        run = Run.read(compared / "runs" / name)
        assert run.manifest().frame["split"].equals(manifest.frame["split"])
        assert name == f"test_byobnet-{run.recipe.stages[1].optimizer}-{run.recipe.seed}"


def test_scores_are_those_of_the_runs_and_validation_chooses(compared):
    found = json.loads((compared / "comparison.json").read_text())
    for one in found["runs"]:
        run = Run.read(compared / "runs" / Path(one["folder"]).name)
        part = run.manifest().part("test")
        value = mean_average_precision(part.targets, said(run, part), part.label_set).value
        assert one["scores"]["map"] == pytest.approx(value, abs=5e-3)
        assert one["val_map"] == pl.read_csv(run.folder / "history.csv")["val_map"].max()
    means = {
        one["candidate"]: np.mean([run["val_map"] for run in found["runs"] if run["candidate"] == one["candidate"]])
        for one in found["candidates"]
    }
    assert found["leader"] == max(means, key=means.get)
    own = [run for run in found["runs"] if run["candidate"] == found["leader"]]
    assert found["best"] == max(own, key=lambda run: run["val_map"])["folder"]


def test_the_best_run_tags(compared, photos):
    best = json.loads((compared / "comparison.json").read_text())["best"]
    ours, theirs = (public.load(folder).predict(photos[0]) for folder in (compared / "best", best))
    assert np.array_equal(ours.probs, theirs.probs)
    assert (compared / "best/comparison.txt").read_text() == Path(best).name


def test_a_finished_comparison_trains_nothing_and_says_the_same(compared, modiste):
    names = ("runs/*/model.safetensors", "runs/*/history.csv", "runs/*/outcome.json", "best/*")
    before, text = written(compared, *names), (compared / "comparison.json").read_text()
    code, out, _ = modiste("compare", "--resume", compared, "--json")
    assert code == 0
    assert written(compared, *names) == before
    assert (compared / "comparison.json").read_text() == text
    assert without_timings(json.loads(out)) == table(compared)


@pytest.fixture
def kill_at(monkeypatch):
    """Die at the n-th time that a file is about to get its name."""

    def at(count):
        left, replace = [count], Path.replace

        def dying(self, target):
            left[0] -= 1
            if left[0] == 0:
                raise Killed
            return replace(self, target)

        monkeypatch.setattr(Path, "replace", dying)

    return at


@pytest.mark.parametrize("kills", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_killed_at_any_file_and_resumed_ends_with_the_same_table(
    kills, compared, settings, *, kill_at, monkeypatch, tmp_path, rng
):
    folder, moments = tmp_path / "table", rng.integers(8, 30, kills)  # there are more than 60
    arguments = [*settings, "-o", folder]
    for moment in moments:
        kill_at(moment)
        with pytest.raises(Killed):
            command(*arguments)
        monkeypatch.undo()
        arguments = ["compare", "--resume", folder]
    assert command(*arguments) == 0
    assert table(folder) == table(compared), moments
    assert not list(folder.rglob(".*"))


@pytest.mark.slow  # the test above, with real kills
def test_killed_hard_twice_and_resumed_ends_with_the_same_table(compared, settings, tmp_path, rng):
    folder = tmp_path / "table"
    arguments = [sys.executable, "-m", "modiste", *map(str, settings), "-o", str(folder)]
    waits = [rng.uniform(0, 4), rng.uniform(2, 8)]
    for wait in [*waits, None]:
        process = subprocess.Popen(
            arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        deadline = time.monotonic() + 60
        while not folder.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        if wait is not None:
            time.sleep(wait)
            os.killpg(process.pid, signal.SIGKILL)
        err = process.communicate(timeout=120)[1]
        arguments = [sys.executable, "-m", "modiste", "compare", "--resume", str(folder)]
    assert process.returncode == 0, err
    assert table(folder) == table(compared), waits


def test_a_grid_comes_back_from_its_toml(one_epoch, tmp_path):
    made = Grid.product(str(one_epoch), ["resnet18", "test_byobnet"], ["adam", "sgd"], seeds=5, changes=["seed=7"])
    quoted = Candidate(name='Größe "160" \\ mal', set=('augment.border="edge"', "image.size=160"))
    for grid in (made, Grid(recipe=str(one_epoch), candidates=(quoted,))):
        (tmp_path / "grid.toml").write_text(grid.to_toml(), encoding="utf-8")
        assert Grid.read(tmp_path / "grid.toml") == grid
    runs = list(made.runs())
    assert [(one.name, recipe.seed) for one, recipe in runs[4:6]] == [("resnet18 adam", 11), ("resnet18 sgd", 7)]
    assert {recipe.model.backbone for _, recipe in runs[:10]} == {"resnet18"}
    assert [stage.optimizer for stage in runs[-1][1].stages] == ["sgd", "sgd"]
    assert slug('Größe "160" / mal') == "Größe-160-mal"


def test_an_empty_list_keeps_the_recipes_own(one_epoch):
    grid = Grid.product(str(one_epoch), [], [])
    assert [one.name for one in grid.candidates] == ["test_byobnet adam+adamw"]
    assert next(grid.runs())[1] == Recipe.read(one_epoch).replace(["seed=3"])
    with pytest.raises(UsageError, match=r"'rmsprop'.*adam, adamw, sgd"):
        Grid.product(str(one_epoch), [], ["rmsprop"])
    with pytest.raises(RecipeError, match="'no such'"):
        Grid.product("no such", [], [])


BAD_GRIDS = {
    "seeds = 0": "seeds",
    "seed = 1": "seed",
    "colour = 'red'": "colour",
    "[[": "TOML",
    "[[candidates]]\nname = 'b'\nsets = []": "sets",
    "[[candidates]]\nname = 'b'\nset = ['train.batches=5']": "batches",
    "[[candidates]]\nname = 'b'\nset = ['stages.0.optimizer=rmsprop']": "rmsprop",
    "[[candidates]]\nname = 'b'\nset = ['stages.7.lr=1']": "stages.7.lr",
    "[[candidates]]\nname = 'a '": "twice",
}


@pytest.mark.parametrize("text", BAD_GRIDS)
def test_a_wrong_grid_is_refused(text, refused, drawn, one_epoch, tmp_path):
    grid = tmp_path / "grid.toml"
    base = f'recipe = "{one_epoch}"\n'
    parts = [base, text, "\n[[candidates]]\nname = 'a'\n"] if not text.startswith("[[c") else [
        base, "[[candidates]]\nname = 'a'\n", text,
    ]  # fmt: skip
    grid.write_text("".join(parts))
    assert BAD_GRIDS[text] in refused("compare", drawn, "-o", tmp_path / "new", "--grid", grid)
    assert not (tmp_path / "new").exists()


def test_wrong_use_is_refused_and_leaves_nothing(refused, compared, settings, *, drawn, one_epoch, tmp_path):
    new, grid = tmp_path / "new", tmp_path / "grid.toml"
    grid.write_text(f'recipe = "{one_epoch}"\n[[candidates]]\nname = "a"\n')
    train = ("compare", drawn, "-o", new, "--recipe", one_epoch)
    assert "'rmsprop'" in refused(*train, "--optimizers", "adam,rmsprop")
    assert "twice" in refused(*train, "--optimizers", "adam,adam")
    assert "twice" in refused(*train, "--backbones", "resnet18,test_byobnet,resnet18")
    assert "--grid alone" in refused("compare", drawn, "-o", new, "--grid", grid, "--backbones", "resnet18")
    assert "'batches'" in refused(*train, "--set", "train.batches=3").replace("train.batches", "batches")
    assert "no such file" in refused("compare", tmp_path / "no.csv", "-o", new, "--recipe", one_epoch)
    before = written(compared, "**/*")
    for option in (("--backbones", "resnet18"), ("-o", new), ("--set", "seed=1"), ("--no-cache",), ("--grid", grid)):
        assert "--resume DIR alone" in refused("compare", "--resume", compared, *option)
    assert f"--resume {compared}" in refused(*settings, "-o", compared)
    assert "compare.toml" in refused("compare", "--resume", tmp_path)
    assert written(compared, "**/*") == before
    assert not new.exists()


@pytest.mark.parametrize("option", [("--seeds", "5"), ("--recipe", "quick")])
def test_settings_that_would_be_ignored_are_refused(option, refused, compared, *, drawn, one_epoch, tmp_path):
    grid = tmp_path / "grid.toml"
    grid.write_text(f'recipe = "{one_epoch}"\nseeds = 1\n[[candidates]]\nname = "a"\n')
    assert "alone" in refused("compare", "--resume", compared, *option)
    assert "alone" in refused("compare", drawn, "-o", tmp_path / "new", "--grid", grid, *option)


UNTRAINABLE = [
    ("--backbones", "test_byobnet,resnet1888"),
    ("--weights", "no-such-folder"),
    ("--set", "stages.1.unlock=99"),
    ("--set", "decide.policy=best:9"),
    ("--set", "decide.policy=fbeta:1"),  # 24 validation photos are too few to tune on
    ("--accelerator", "cuda"),
]


@pytest.mark.skipif(torch.cuda.is_available(), reason="cuda is no wrong accelerator here")
@pytest.mark.parametrize("options", UNTRAINABLE)
def test_what_can_not_be_trained_is_refused_before_anything_is_made(options, refused, drawn, one_epoch, tmp_path):
    refused("compare", drawn, "-o", tmp_path / "new", "--recipe", one_epoch, "--seeds", 1, *options)
    assert not (tmp_path / "new").exists()


def test_the_advice_on_too_few_photos_to_tune_on_works(refused, drawn, one_epoch, tmp_path):
    made = ("compare", drawn, "-o", tmp_path / "new", "--recipe", one_epoch, "--seeds", 1)
    words = refused(*made, "--set", "decide.calibration=temperature")
    assert "at least 50 validation photos to tune on, but got 24. Try more validation photos" in words
    assert "decide.calibration=none" in words and "--policy" not in words and "val_fraction" not in words
    compare.create_comparison(
        tmp_path / "new",
        Grid.product(str(one_epoch), [], [], changes=["decide.policy=fixed:0.5", "decide.calibration=none"]),
        Manifest.read(drawn),
    )
    assert json.loads((tmp_path / "new/format.json").read_text())["format"] == FOLDER_FORMAT


def test_photos_that_modiste_splits_are_advised_a_share_that_is_enough(refused, drawn, one_epoch, tmp_path):
    rows = pl.read_csv(drawn).with_columns(pl.format(f"{drawn.parent}/{{}}", "image").alias("image")).drop("split")
    rows.write_csv(tmp_path / "photos.csv")
    made = ("compare", tmp_path / "photos.csv", "-o", tmp_path / "new", "--recipe", one_epoch, "--seeds", 1)
    words = refused(*made, "--set", "decide.policy=fbeta:2")
    assert "at least 50 validation photos to tune on, but got 24. Try --set data.val_fraction=0.25, or" in words
    changes = ["decide.policy=fbeta:2", "data.val_fraction=0.25"]
    compare.create_comparison(
        tmp_path / "new",
        Grid.product(str(one_epoch), [], [], changes=changes),
        Manifest.read(tmp_path / "photos.csv"),
    )
    few = ("compare", tmp_path / "few.csv", *made[2:4], *made[4:])
    rows.head(60).write_csv(tmp_path / "few.csv")
    assert "Try more validation photos" in refused(*few, "--set", "decide.policy=fbeta:2")


def test_test_photos_without_labels_are_refused_before_anything_is_trained(drawn, one_epoch, tmp_path):
    manifest = Manifest.read(drawn)
    targets = manifest.targets.copy()
    targets[manifest.parts == "test"] = UNKNOWN
    grid = Grid.product(str(one_epoch), [], [])
    with pytest.raises(ManifestError, match=r"known labels of the test photos .* Try modiste split"):
        compare.create_comparison(tmp_path / "new", grid, replace(manifest, targets=targets))
    assert not (tmp_path / "new").exists()


def test_a_comparison_goes_on_without_the_recipe_it_began_with(drawn, one_epoch, tmp_path):
    own = tmp_path / "own.toml"
    own.write_text(one_epoch.read_text())
    grid = Grid.product(str(own), [], [], seeds=1)
    compare.create_comparison(tmp_path / "table", grid, Manifest.read(drawn))
    own.unlink()
    assert command("compare", "--resume", tmp_path / "table") == 0


def test_two_processes_in_one_comparison_are_refused(drawn, one_epoch, tmp_path):
    grid = Grid(recipe=str(one_epoch), candidates=(Candidate(name="only"),), seeds=1).checked()
    compare.create_comparison(tmp_path / "table", grid, Manifest.read(drawn))

    def watch(_):
        with pytest.raises(RunError, match="by one process, but got another"):
            compare.run_comparison(tmp_path / "table")
        return Monitor()

    compare.run_comparison(tmp_path / "table", watch=watch)
