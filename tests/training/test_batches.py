"""Training with what is computed once ends with the numbers of training without it."""

import os
import shutil
import subprocess
import sys

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from modiste.config import Recipe
from modiste.data.manifest import Manifest
from modiste.evaluation.cached_predictions import predict_kept
from modiste.metrics.scores import mean_average_precision, mean_log_loss
from modiste.models.backbones import create_backbone
from modiste.runs.predictions import predict
from modiste.runs.run import Run
from modiste.storage import cache
from modiste.training.dataset import ViewPlan
from modiste.training.loop import resume, train
from modiste.training.monitor import Monitor

OFF, VIEWS = "train.cache=off", "augment.views=2"
GENTLE = ["stages.1.optimizer=sgd", "stages.1.lr=1e-3"]  # Adam's first steps blow the least rounding up
LOCKED = "batch_statistics='locked'"  # else each process has statistics of its own share
NEAR = 1e-3  # of a loss; float16 has eleven bits, and steps add their rounding up


class Killed(Exception):
    """Stands for a kill."""


class Watch(Monitor):
    """Keeps notes and what was computed; stops after some steps, or in the middle of computing."""

    def __init__(self, steps=0, computing=0):
        self.notes, self.computed, self.left, self.computing = [], 0, steps, computing

    def note(self, words):
        self.notes.append(words)

    def caching(self, done, _):
        self.computed = max(self.computed, done)
        if self.computing and done >= self.computing:
            raise Killed

    def step(self, *_):
        self.left -= 1
        if self.left == 0:
            raise Killed


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MODISTE_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module", autouse=True)
def no_denormals():
    """Random weights make numbers so small that they cost a CPU a hundred times the time."""
    torch.set_flush_denormal(True)
    yield
    torch.set_flush_denormal(False)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A folder of random weights whose statistics fit them, as a trained network's do."""
    folder = tmp_path_factory.mktemp("weights")

    def of(name, size=32):
        if not (folder / f"{name}.safetensors").exists():
            torch.manual_seed(0)
            backbone = create_backbone(name)
            for module in backbone.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.momentum = None  # the mean of all batches
            with torch.no_grad():
                backbone.train()(torch.randn(16, 3, size, size))
            save_file(backbone.state_dict(), folder / f"{name}.safetensors")
        return f'model.weights="{folder}"'

    return of


@pytest.fixture
def run(drawn, tiny, weights, tmp_path):
    """Train a run of the tiny recipe with changes."""
    made = []

    def trained(*changes, backbone="test_byobnet", size=32, monitor=None, manifest=None):
        made.append(changes)
        own = [f"model.backbone={backbone}", weights(backbone, size), *GENTLE, VIEWS]
        recipe = Recipe.read(tiny).replace([*own, *changes])
        return train(recipe, manifest or Manifest.read(drawn), tmp_path / f"run{len(made)}", monitor=monitor)

    return trained


def history(run):
    return pl.read_csv(run.folder / "history.csv").select("epoch", "stage", "lr", "loss", "val_loss", "val_map")


def assert_near(run, other, near=NEAR):
    for column in ("loss", "val_loss"):
        np.testing.assert_allclose(history(run)[column], history(other)[column], rtol=near)
    np.testing.assert_allclose(history(run)["val_map"], history(other)["val_map"], atol=0.03)  # ranks of 24 photos


def assert_same(run, other):
    assert history(run).equals(history(other))
    ours, theirs = (load_file(one.folder / "model.safetensors") for one in (run, other))
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)


def kinds():
    return sorted(entry.folder.name.split("-")[0] for entry in cache.entries())


@pytest.mark.parametrize(
    ("backbone", "changes"),
    [
        ("test_byobnet", ["train.average=0.9"]),
        ("test_byobnet", ["stages.1.size=40"]),
        ("test_byobnet", ["model.features=layers", "stages.0.lr=1e-4"]),  # early layers' numbers are large
        pytest.param("mobilenetv2_100", ["seed=2"], marks=pytest.mark.slow),
    ],
)
def test_kept_features_train_as_pixels_do(backbone, changes, run):
    kept, pixels = run(*changes, backbone=backbone), run(*changes, OFF, backbone=backbone)
    assert kinds() == ["features"] * 4  # augmented and plain, of both stages
    assert_near(kept, pixels)
    assert history(kept)["loss"][3] < history(kept)["loss"][0]


@pytest.mark.slow  # test_split.py compares the two parts of each with the whole
@pytest.mark.parametrize("backbone", ["inception_resnet_v2", "inception_v4", "legacy_xception"])
def test_the_papers_networks_train_as_from_pixels(backbone, run, drawn):
    manifest = Manifest.read(drawn)
    train_rows, val_rows = (np.flatnonzero(manifest.frame["split"] == split) for split in ("train", "val"))
    several = train_rows[np.argsort(-manifest.targets[train_rows].sum(axis=1), kind="stable")]
    needed = {int(next(row for row in several if manifest.targets[row, k] == 1)) for k in range(13)}
    part = manifest.select(np.array(sorted(needed) + val_rows[:4].tolist()))
    own = ["image.size=75", "train.batch_size=4", "augment.views=1", "stages.0.epochs=1", "stages.1.epochs=1"]
    own += ["stages.1.unlock=1", "train.checkpoint_seconds=99"]
    kept, pixels = (run(*own, *off, backbone=backbone, size=75, manifest=part) for off in ([], [OFF]))
    assert kinds() == ["features"] * 4
    assert_near(kept, pixels)


def test_what_training_validated_is_what_the_network_says(run):
    for average in (0.0, 0.9):
        one = run(f"train.average={average}", "evaluate.views=flip")
        part = one.manifest().part("val")
        best = history(one).sort("val_map", descending=True).row(0, named=True)
        raw = predict(one, part, "one").raw
        assert mean_average_precision(part.targets, raw, part.label_set).value == pytest.approx(
            best["val_map"], abs=0.02
        )
        assert mean_log_loss(part.targets, raw) == pytest.approx(best["val_loss"], rel=NEAR)
        kept, asked = predict_kept(one, part), predict(one, part)
        assert (kept.views, kept.errors) == (asked.views, asked.errors) == ("flip", [None] * len(part))
        np.testing.assert_allclose(kept.raw, asked.raw, atol=1e-3)


def test_features_of_several_layers_are_kept_beside_those_of_the_last(run):
    last = run("stages.1.epochs=1")
    one = run("model.features=layers", "stages.1.epochs=1")
    assert kinds() == ["features"] * 8  # of both runs: augmented and plain, of both stages
    part = one.manifest().part("val")
    kept, asked = predict_kept(one, part), predict(one, part)
    np.testing.assert_allclose(kept.raw, asked.raw, atol=1e-3)
    assert np.abs(asked.raw - predict(last, part).raw).max() > 1e-3
    assert len(asked.raw) == len(part)


@pytest.mark.parametrize("stop", [pytest.param(1, marks=pytest.mark.slow), 4, pytest.param(8, marks=pytest.mark.slow)])
def test_stopped_anywhere_and_resumed_ends_with_the_same_weights(stop, run):
    settings = ["train.average=0.9", "train.checkpoint_seconds=1e-9", "train.batch_size=48"]
    whole = run(*settings)
    assert len(whole.manifest().part("train")) // 48 == 3  # steps an epoch: in the first, the second, and the third
    with pytest.raises(Killed):
        run(*settings, monitor=Watch(stop))
    assert_same(resume(whole.folder.with_name("run2"), monitor=(monitor := Watch())), whole)
    assert monitor.computed == 0


def test_killed_while_computing_and_resumed(run, monkeypatch):
    monkeypatch.setattr("modiste.storage.arrays._FLUSH_BYTES", 10**4)
    with pytest.raises(Killed):
        run(monitor=Watch(computing=64))
    broken = resume(cache.cache_folder().with_name("run1"), monitor=(rest := Watch()))
    shutil.rmtree(cache.cache_folder())
    assert_near(broken, run(monitor=(whole := Watch())))
    assert 0 < rest.computed <= whole.computed - 48


def test_another_seed_shares_the_features_and_shows_them_in_another_order(run):
    run()
    before = {entry.folder: entry.bytes for entry in cache.entries()}
    monitor = Watch()
    one, other = run(monitor=monitor), run("seed=4", monitor=monitor)
    assert monitor.computed == 0
    assert {entry.folder: entry.bytes for entry in cache.entries()} == before
    keys = cache.content_keys(one.manifest().part("train").photos())
    assert not history(one).equals(history(other))
    first, second = (ViewPlan.make(4, keys, seed) for seed in (3, 4))
    assert [first.view(0, row) for row in range(9)] != [second.view(0, row) for row in range(9)]
    assert first.rng(2, 5).random() == second.rng(2, 5).random()


def test_as_many_views_as_epochs_show_each_once():
    plan = ViewPlan.make(5, np.arange(30, dtype=np.uint64), seed=1)
    shown = np.array([[plan.view(epoch, row) for epoch in range(5)] for row in range(30)])
    assert (np.sort(shown, axis=1) == np.arange(5)).all()
    assert len(set(shown[:, 0].tolist())) == 5
    assert len({plan.rng(view, row).random() for view in range(5) for row in range(30)}) == 150


def test_without_room_it_trains_from_pixels_and_says_so(run, monkeypatch):
    off = run(OFF)
    assert cache.entries() == []
    assert not cache.cache_folder().exists()
    monkeypatch.setenv("MODISTE_CACHE_GB", "0")
    assert_same(run(monitor=(monitor := Watch())), off)
    assert cache.entries() == []
    assert len(monitor.notes) == 2  # a stage each
    assert "budget of 0.0 GB" in monitor.notes[0] and "Try MODISTE_CACHE_GB" in monitor.notes[0]


def test_what_does_not_fit_of_a_later_stage_waits_for_it(run, monkeypatch):
    monkeypatch.setenv("MODISTE_CACHE_GB", "0.0008")
    kept = run(monitor=(monitor := Watch()))
    assert [note.split("'")[1] for note in monitor.notes] == ["unlocked"]
    assert sum(entry.bytes for entry in cache.entries()) < 1e6
    assert_near(kept, run(OFF))


@pytest.mark.parametrize("crop", ["[1.0, 1.0]", "[0.5, 1.0]"])
def test_decoded_photos_train_to_the_same_bit(crop, run):
    settings = ["stages.0.unlock=all", "stages.0.epochs=3", "stages.1.epochs=1", f"augment.crop_scale={crop}"]
    settings += ["augment.mixup=0.3"] if crop.startswith("[1") else []
    off, monitor = run(*settings, OFF), Watch()
    assert_same(run(*settings, "train.cache=pixels", monitor=monitor), off)
    assert monitor.computed == len(off.manifest().part("train"))
    assert kinds() == ["pixels"]


@pytest.mark.slow
def test_three_processes_take_the_same_steps_as_one(run, drawn, tiny, weights, tmp_path):
    own = ["model.dropout=0", *(f"stages.{k}.{change}" for k in (0, 1) for change in ("epochs=1", LOCKED))]
    alone = run(*own)
    command = [sys.executable, "-m", "modiste", "train", str(drawn), "--recipe", str(tiny)]
    command += [word for change in (*own, *GENTLE, VIEWS, weights("test_byobnet")) for word in ("--set", change)]
    command += ["--devices", "3", "--accelerator", "cpu", "-o", str(tmp_path / "three")]
    environment = {**os.environ, "MODISTE_CACHE": str(tmp_path / "cache3"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=200, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    assert len(list((tmp_path / "cache3").glob("features-*/view*-2.rows"))) == 6
    three = pl.read_csv(tmp_path / "three/history.csv")
    for column in ("loss", "val_loss", "lr"):
        np.testing.assert_allclose(three[column].to_numpy(), history(alone)[column].to_numpy(), atol=1e-4)


@pytest.mark.parametrize("precision", ["bf16-mixed", pytest.param("bf16-true", marks=pytest.mark.slow)])
def test_a_network_in_16_bits(precision, run):
    kept, pixels = (run(f"train.precision={precision}", *off) for off in ([], [OFF]))
    assert_near(kept, pixels, 0.02)  # kept features are computed in 32 bits, which 16 bits of pixels are not


@pytest.mark.parametrize(
    "change", [pytest.param("model.backbone=ghostnet_050", marks=pytest.mark.slow), "stages.1.unlock=5"]
)
def test_a_later_stage_that_can_not_be_cut_trains_from_pixels(change, run):
    assert_near(run(change, "model.weights=none"), run(change, "model.weights=none", OFF))


def test_an_entry_that_is_removed_meanwhile_costs_time_at_most(run):
    class Remove(Watch):
        def epoch(self, row):
            shutil.rmtree(cache.cache_folder(), ignore_errors=True)

    whole = run("train.workers=1")
    assert_same(run("train.workers=1", monitor=Remove()), whole)


def test_what_is_kept_is_not_removed_to_make_room_for_itself(run, monkeypatch):
    run()
    kept = sum(entry.bytes for entry in cache.entries())
    cache.create_entry(cache.entry_folder("pixels", {"size": 9}), {"size": 9})
    (cache.entry_folder("pixels", {"size": 9}) / "photos-0.rows").write_bytes(bytes(kept))
    for entry in cache.entries():
        hours = 1 if entry.folder.name.startswith("pixels") else 2
        os.utime(entry.folder / "entry.json", (entry.used - hours * 3600,) * 2)
    monkeypatch.setenv("MODISTE_CACHE_GB", str(1.5 * kept / 1e9))
    run("seed=4", monitor=(monitor := Watch()))
    assert monitor.computed == 0


def test_the_average_is_validated_as_it_is_kept_where_a_later_stage_locks_more(run, monkeypatch, tmp_path):
    own = ["train.average=0.999", "train.batch_size=2", "image.size=16", "stages.1.unlock=none", "stages.1.epochs=1"]
    own += ["stages.0.unlock=3", "stages.0.epochs=3", "stages.0.optimizer=sgd", "stages.0.lr=0.1"]
    monkeypatch.setattr(Run, "remove_checkpoint", lambda _: (_ for _ in ()).throw(Killed))
    with pytest.raises(Killed):
        run(*own)
    one = Run.read(tmp_path / "run1")
    checkpoint = one.read_checkpoint()
    one.write_weights(checkpoint["average"])
    part = one.manifest().part("val")
    said = mean_log_loss(part.targets, predict(one, part, "one").raw)
    assert checkpoint["position"]["history"][-1]["val_loss"] == pytest.approx(said, rel=1e-3)


class RemovedOnce(Watch):
    """Somebody removes the whole cache when computing has just ended, before what was kept is opened."""

    times = 1

    def caching(self, done, total):
        super().caching(done, total)
        if done == total and self.times:
            self.times -= 1
            shutil.rmtree(cache.cache_folder())


FEATURES = ["stages.0.epochs=1", "stages.1.epochs=1"]
PIXELS = ["train.cache=pixels", "stages.0.unlock=all", "stages.0.epochs=2", "stages.1.epochs=1", "augment.rotate=0"]


@pytest.mark.parametrize("settings", [FEATURES, PIXELS], ids=["features", "pixels"])
def test_a_cache_that_is_removed_before_it_is_opened_is_computed_again(settings, run):
    whole = run(*settings)
    shutil.rmtree(cache.cache_folder())
    assert_same(run(*settings, monitor=(monitor := RemovedOnce())), whole)
    assert monitor.times == 0 and monitor.notes == []
    assert kinds()  # it is there again


@pytest.mark.parametrize("settings", [FEATURES, PIXELS], ids=["features", "pixels"])
def test_a_cache_that_is_removed_each_time_trains_from_photos(settings, run, caplog):
    caplog.set_level("INFO", "modiste")
    whole = run(*settings, OFF)
    monitor = RemovedOnce()
    monitor.times = 99
    assert_same(run(*settings, monitor=monitor), whole)
    assert "was removed from" in caplog.text and caplog.records[-1].name == "modiste"
    assert ("were removed" in " ".join(monitor.notes)) == (settings == FEATURES)


@pytest.mark.parametrize("settings", [FEATURES, PIXELS], ids=["features", "pixels"])
def test_what_is_trained_from_stays_while_another_run_makes_room(settings, run, monkeypatch):
    monkeypatch.setattr(cache, "TOUCH_SECONDS", 0)

    class Another(Watch):
        """A run beside this one, long after the last use that was noted."""

        def __init__(self):
            super().__init__()
            self.removed = set()

        def step(self, _, stage, *__):
            self.removed |= {(stage, entry.facts.get("unlock")) for entry in cache.prune(0)[0]}
            for entry in cache.entries():
                os.utime(entry.folder / "entry.json", (0, 0))

        def epoch(self, row):
            self.step(0, row["stage"])

    run(*settings, monitor=(monitor := Another()))
    assert monitor.removed <= {("unlocked", "none")}  # what the stage before it trained from
    assert cache.entries()


def test_evaluating_while_the_cache_is_removed_asks_the_whole_network(run, caplog):
    caplog.set_level("INFO", "modiste")
    trained = run(*FEATURES)
    part = trained.manifest().part("test")
    shutil.rmtree(cache.cache_folder())

    def remove(done, total):
        if done == total:
            shutil.rmtree(cache.cache_folder(), ignore_errors=True)

    said = predict_kept(trained, part, remove)
    np.testing.assert_allclose(said.raw, predict(trained, part, None).raw, atol=1e-6)
    assert "the whole network is asked, which is slower" in caplog.text
