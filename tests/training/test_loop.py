"""Training: masking, two stages, the paper's backbones, resuming, several processes."""

import os
import shutil
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file

from modiste.config import Recipe
from modiste.data.manifest import Manifest
from modiste.errors import ManifestError, PhotoError, RecipeError, RunError, TrainingError
from modiste.files import only_process
from modiste.labels import UNKNOWN
from modiste.runs.run import Run
from modiste.training import batches, loop
from modiste.training.dataset import TrainingPhotos, global_batches, make_loader
from modiste.training.loop import resume, train
from modiste.training.monitor import Monitor

MODISTE = [sys.executable, "-m", "modiste"]
OFF = "train.cache=off"  # the recipe's stages train from kept features else


class Killed(Exception):
    """Stands for a kill in the middle of a step."""


class StopAfter(Monitor):
    def __init__(self, steps):
        self.left = steps

    def step(self, *_):
        self.left -= 1
        if self.left == 0:
            raise Killed


def same_weights(one, other):
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (one, other))
    return ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)


def losses(folder):
    return pl.read_csv(folder / "history.csv").select("epoch", "stage", "lr", "loss", "val_loss", "val_map")


def test_two_stages_leave_a_whole_run_folder(trained):
    names = {path.name for path in trained.iterdir()}
    assert names == {
        "recipe.toml", "labels.json", "manifest.parquet", "manifest.labels.json", "decision.json",
        "environment.json", "model.safetensors", "history.csv", "curves.png", "train.lock",
            "format.json",
    }  # fmt: skip
    history = losses(trained)
    assert history["stage"].to_list() == ["locked", "locked", "unlocked", "unlocked"]
    assert history["loss"][3] < history["loss"][0]


def test_a_run_repeats_to_the_last_bit(trained, drawn, tiny, tmp_path):
    train(Recipe.read(tiny), Manifest.read(drawn), tmp_path / "again")
    assert same_weights(trained, tmp_path / "again")
    assert losses(trained).equals(losses(tmp_path / "again"))


def test_another_seed_gives_other_weights(trained, train_once):
    assert not same_weights(trained, train_once("other", "seed=4"))


def test_workers_change_nothing_from_pixels(drawn, tiny, tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(batches, "make_loader", lambda *said: (made.append(said[-1]), make_loader(*said))[1])
    for workers in (0, 2):
        own = [OFF, f"train.workers={workers}", "stages.0.epochs=1", "stages.1.epochs=1"]
        train(Recipe.read(tiny).replace(own), Manifest.read(drawn), tmp_path / str(workers))
    assert made == [0, 0, 2, 2]  # an epoch each
    assert same_weights(tmp_path / "0", tmp_path / "2")
    assert losses(tmp_path / "0").equals(losses(tmp_path / "2"))


def test_the_weights_kept_are_those_of_the_best_epoch(drawn, tiny, tmp_path, monkeypatch):
    said, weights = iter([np.nan, 0.7, 0.5, 0.7, 0.6]), []
    real = loop._validate

    def watched(job, *rest):
        weights.append({name: tensor.clone() for name, tensor in job.model.state_dict().items()})
        real(job, *rest)

    monkeypatch.setattr(loop, "_validate", watched)
    monkeypatch.setattr(loop, "mean_average_precision", lambda *_: SimpleNamespace(value=next(said)))
    recipe = Recipe.read(tiny).replace(["stages.0.epochs=3", "train.batch_size=96"])
    kept = train(recipe, Manifest.read(drawn), tmp_path / "run").read_weights()
    assert [all(torch.equal(kept[key], one[key]) for key in kept) for one in weights] == [False, True, *[False] * 3]


def test_the_average_is_that_of_the_weights_of_each_step(drawn, tiny, tmp_path, monkeypatch):
    follow, average, seen = loop._follow, [], []

    def numbers(model):
        return {name: tensor.double().clone() for name, tensor in model.state_dict().items() if tensor.ndim}

    def watched(job, step):
        if not average:
            average.append(numbers(job.average))
        follow(job, step)
        seen.append(numbers(job.model))
        average[1:] = [numbers(job.average)]

    monkeypatch.setattr(loop, "_follow", watched)
    own = ["train.average=0.3", "stages.0.epochs=1", "stages.1.epochs=1", "train.batch_size=40"]
    train(Recipe.read(tiny).replace(own), Manifest.read(drawn), tmp_path / "run")
    assert len(seen) == 8
    expected = average[0]
    for step, now in enumerate(seen):
        decay = min(0.3, (1 + step) / (10 + step))  # 0.1, 0.18, 0.25, then 0.3
        expected = {name: decay * tensor + (1 - decay) * now[name] for name, tensor in expected.items()}
    for name, tensor in expected.items():
        torch.testing.assert_close(average[1][name], tensor, atol=1e-6, rtol=1e-5)


STEPS = 6  # an epoch of the drawn garments has, in batches of 24
STOPS = [STEPS - 1, 4 * STEPS]  # inside and at the ends of epochs and stages
STOPS += [pytest.param(stop, marks=pytest.mark.slow) for stop in (1, STEPS, STEPS + 1, 3 * STEPS - 1)]


@pytest.mark.parametrize("stop", STOPS)
@pytest.mark.parametrize("settings", [("train.average=0", OFF), ("train.average=0.9",)], ids=["pixels", "features"])
def test_stopped_anywhere_and_resumed_ends_with_the_same_weights(settings, stop, drawn, train_once, tmp_path):
    whole = train_once("-".join(["whole", *settings]), "train.checkpoint_seconds=1e-9", *settings)
    manifest, folder = Manifest.read(drawn), tmp_path / "run"
    assert len(manifest.part("train")) // 24 == STEPS
    with pytest.raises(Killed):
        train(Run.read(whole).recipe, manifest, folder, monitor=StopAfter(stop))
    assert (folder / "checkpoint.pt").exists() == (stop > 1)
    resume(folder)
    assert same_weights(folder, whole)
    assert losses(folder).equals(losses(whole))
    assert not (folder / "checkpoint.pt").exists()


def written(path):
    """When a file was last written, if it is there."""
    return path.stat().st_mtime_ns if path.exists() else 0


@pytest.mark.parametrize("kills", [1, pytest.param(5, marks=pytest.mark.slow)])
def test_killed_hard_at_random_moments(kills, drawn, tiny, tmp_path, rng):
    settings = ["train.checkpoint_seconds=0.05", f"stages.0.epochs={4 + 2 * kills}", "train.workers=1"]
    settings += [OFF]  # else no worker is at it when it is killed
    train(Recipe.read(tiny).replace(settings), Manifest.read(drawn), tmp_path / "whole")
    folder = tmp_path / "killed"
    command = [*MODISTE, "train", str(drawn), "--recipe", str(tiny), "-o", str(folder)]
    command += [word for change in settings for word in ("--set", change)]
    for kill in range(kills):
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        early = kills > 1 and kill == 0  # before there is a checkpoint
        watched, left = (folder, 1) if early else (folder / "checkpoint.pt", rng.integers(1, 6))
        before = written(watched)
        while left and process.poll() is None:
            if (now := written(watched)) != before:
                left, before = left - 1, now
            time.sleep(0.005)
        time.sleep(0.1 * rng.random())  # now and then while it writes
        assert process.poll() is None, "it ended before it was killed"
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        command = [*MODISTE, "train", "--resume", str(folder)]
    resume(folder)
    assert same_weights(folder, tmp_path / "whole")
    assert losses(folder).equals(losses(tmp_path / "whole"))
    assert not list(folder.glob(".*")), "a killed write left its temporary file"


def test_a_run_that_trains_is_closed_to_others(drawn, tiny, tmp_path):
    class Other(Monitor):
        def step(self, *_):
            with pytest.raises(RunError, match=r"run to be trained by one process, but got another"):
                resume(tmp_path / "run")

    recipe = Recipe.read(tiny).replace(["stages.0.epochs=1", "stages.1.epochs=1"])
    run = train(recipe, Manifest.read(drawn), tmp_path / "run", monitor=Other())
    assert run.epochs() == 2


@pytest.mark.slow
def test_several_processes_are_refused_together_where_another_trains(drawn, tiny, tmp_path):
    with pytest.raises(Killed):
        train(Recipe.read(tiny), Manifest.read(drawn), tmp_path / "run", monitor=StopAfter(1))
    with only_process(tmp_path / "run" / "train.lock", "", ""):
        refused = subprocess.run(
            [*MODISTE, "train", "--resume", str(tmp_path / "run"), "--devices", "2", "--accelerator", "cpu"],
            check=False,
            capture_output=True,
            text=True,
            timeout=300,
        )
    assert refused.returncode == 2
    assert refused.stderr.count("by one process, but got another that is at it") == 1
    assert "Traceback" not in refused.stderr


def test_a_finished_run_is_left_as_it_is(trained):
    before = {path: path.stat().st_mtime_ns for path in trained.iterdir()}
    resume(trained)
    assert before == {path: path.stat().st_mtime_ns for path in trained.iterdir()}


def test_unknown_targets_change_nothing_when_their_photos_say_nothing_else(drawn, tiny):
    manifest = Manifest.read(drawn)
    targets = manifest.targets.copy()
    targets[:, 3] = -1
    photos = TrainingPhotos(
        Manifest(manifest.label_set, manifest.frame, targets, manifest.root, manifest.source), Recipe.read(tiny), 32
    )
    _, given = photos[(0, 5)]
    assert given[3].isnan()
    assert not given[[0, 1, 2, 4]].isnan().any()


def test_global_batches_hold_each_photo_once_and_move_by_epoch():
    first, second = (np.concatenate(global_batches(96 * 3 + 10, 96, 0, epoch)) for epoch in (0, 1))
    assert len(first) == 96 * 3
    assert len(set(first.tolist())) == len(first)
    assert not np.array_equal(first, second)
    assert [len(batch) for batch in global_batches(7, 96, 0, 0)] == [7]


def test_mixup_mixes_photos_and_targets_alike(drawn, tiny):
    recipe = Recipe.read(tiny).replace(
        ["augment.mixup=0.5", "augment.flip=0", "augment.rotate=0", "augment.translate=0"]
    )
    manifest = Manifest.read(drawn)
    mixed, plain = (
        TrainingPhotos(manifest, recipe, 32),
        TrainingPhotos(manifest, recipe.replace(["augment.mixup=0"]), 32),
    )
    everyone = [plain[(0, row)] for row in range(len(plain))]
    for row in range(5):
        photo, targets = mixed[(0, row)]
        fits = []
        for other, other_targets in everyone:
            difference = (everyone[row][0].float() - other.float()).flatten()
            share = float(
                (photo.float() - other.float()).flatten() @ difference / difference.square().sum().clamp(min=1)
            )
            expected = share * everyone[row][1] + (1 - share) * other_targets
            pixels = share * everyone[row][0].float() + (1 - share) * other.float()
            fits.append(((pixels - photo.float()).abs().mean() < 1) and (expected - targets).abs().max() < 0.02)
        assert any(fits)


PAPER = [("inception_resnet_v2", 139), ("inception_v4", 139), ("legacy_xception", 299)]
PAPER += [pytest.param(name, 299, marks=pytest.mark.slow) for name in ("inception_resnet_v2", "inception_v4")]


@pytest.mark.parametrize(("name", "size"), PAPER)
def test_the_papers_backbones_train_both_stages(name, size, drawn, tmp_path):
    recipe = Recipe.read("jd2018").replace(
        [f"model.backbone={name}", f"image.size={size}", "model.weights=none", "train.batch_size=2",
         "train.workers=0", "stages.0.epochs=1", "stages.1.epochs=1", "stages.0.lr=0.01", "stages.1.lr=0.001",
         "augment.views=1"]
    )  # fmt: skip
    manifest = Manifest.read(drawn)
    train_rows, val_rows = (np.flatnonzero(manifest.frame["split"] == split) for split in ("train", "val"))
    several = train_rows[np.argsort(-manifest.targets[train_rows].sum(axis=1), kind="stable")]
    needed = {int(next(row for row in several if manifest.targets[row, k] == 1)) for k in range(13)}
    part = manifest.select(np.array(sorted(needed) + val_rows[:2].tolist()))
    run = train(recipe, part, tmp_path / "run")
    history = losses(run.folder)
    assert history["stage"].to_list() == ["locked", "unlocked"]
    assert np.isfinite(history["loss"].to_numpy()).all()


COMPARABLE = [
    OFF,  # kept features have a test of their own
    "stages.0.optimizer='sgd'",  # Adam takes the same steps whatever its gradients are multiplied by
    "stages.1.optimizer='sgd'",
    "model.dropout=0",  # each process draws its own dropout
    "stages.0.batch_statistics='locked'",  # each process has statistics of its own share
    "stages.1.batch_statistics='locked'",
]


@pytest.mark.parametrize("starter", ["torchrun", pytest.param("devices", marks=pytest.mark.slow)])
def test_three_processes_take_the_same_steps_as_one(starter, drawn, tiny, tmp_path):
    manifest, rng = Manifest.read(drawn), np.random.default_rng(0)
    manifest.targets[rng.random(len(manifest)) < 0.5, :11] = UNKNOWN  # so that processes know more or less of a step
    manifest.write(tmp_path / "partly.csv")
    settings = [word for change in COMPARABLE for word in ("--set", change)]
    arguments = ["train", str(tmp_path / "partly.csv"), "--recipe", str(tiny), "--accelerator", "cpu", *settings]
    alone, three = tmp_path / "alone", tmp_path / "three"
    train(Recipe.read(tiny).replace(COMPARABLE), Manifest.read(tmp_path / "partly.csv"), alone)
    command = [*MODISTE]
    if starter == "torchrun":
        command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "3", "--master-port", "29541"]
        command += ["-m", "modiste"]
    count = ["--devices", "3"] if starter == "devices" else []  # torchrun says it itself
    done = subprocess.run(
        [*command, *arguments, "-o", str(three), *count],
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    one, other = losses(alone), losses(three)
    for column in ("loss", "val_loss", "lr"):
        np.testing.assert_allclose(other[column].to_numpy(), one[column].to_numpy(), atol=1e-4)
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (alone, three))
    for key in ours:
        torch.testing.assert_close(theirs[key], ours[key], atol=1e-5, rtol=1e-5)


def test_processes_share_a_step_without_overlap(drawn, tiny):
    photos = TrainingPhotos(Manifest.read(drawn), Recipe.read(tiny), 32)
    batch = global_batches(len(photos), 24, 0, 5)[2]
    whole, _ = next(iter(make_loader(photos, 5, [batch], 0)))
    shares = [next(iter(make_loader(photos, 5, [batch[rank::3]], 0)))[0] for rank in range(3)]
    for rank, share in enumerate(shares):
        assert torch.equal(whole[rank::3], share)


def test_a_loss_that_is_not_finite_stops_and_keeps_the_run(drawn, tiny, tmp_path):
    recipe = Recipe.read(tiny).replace(["stages.0.lr=1e38", "stages.0.optimizer=sgd"])
    with pytest.raises(TrainingError, match=r"loss to be finite in stage 'locked', epoch 1.*lower lr"):
        train(recipe, Manifest.read(drawn), tmp_path / "run")
    assert Run.read(tmp_path / "run").recipe == recipe


def test_a_run_folder_that_exists_is_left_alone(trained, drawn, tiny):
    before = (trained / "model.safetensors").stat().st_mtime_ns
    with pytest.raises(RunError, match=r"--resume"):
        train(Recipe.read(tiny), Manifest.read(drawn), trained)
    assert (trained / "model.safetensors").stat().st_mtime_ns == before


def test_a_label_without_positives_is_left_out_and_named(drawn, tiny, tmp_path):
    manifest = Manifest.read(drawn)
    manifest.targets[:, 3] = 0
    notes = []
    monitor = Monitor()
    monitor.note = notes.append
    recipe = Recipe.read(tiny).replace(["stages.0.epochs=1", "stages.1.epochs=1"])
    run = train(recipe, manifest, tmp_path / "run", monitor=monitor)
    assert run.label_set.ids == tuple(label for label in manifest.label_set.ids if label != "japanese")
    assert any("left out" in words and "japanese 0" in words for words in notes)


def test_missing_and_broken_photos_are_named(drawn, tiny, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(drawn.parent, data)
    manifest = Manifest.read(data / "labels.csv")
    victim = manifest.part("train").photo(7)
    victim.write_bytes(victim.read_bytes()[:500])
    with pytest.raises(PhotoError, match=victim.name):
        train(Recipe.read(tiny).replace([OFF, "train.workers=1"]), manifest, tmp_path / "broken")
    victim.unlink()
    with pytest.raises(ManifestError, match=rf"1 of \d+ missing, first .*{victim.name}"):
        train(Recipe.read(tiny), manifest, tmp_path / "missing")
    assert not (tmp_path / "missing").exists()


@pytest.mark.slow
def test_a_batch_that_does_not_divide_is_refused(drawn, tiny, tmp_path):
    done = subprocess.run(
        [*MODISTE, "train", str(drawn), "--recipe", str(tiny), "-o", str(tmp_path / "run"), "--devices", "2",
         "--accelerator", "cpu", "--set", "train.batch_size=25"],
        check=False, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 2
    assert "train.batch_size=24" in done.stderr
    assert "Traceback" not in done.stderr


PLACES = [("train", "auto"), *(pytest.param(split, "off", marks=pytest.mark.slow) for split in ("train", "val"))]


@pytest.mark.slow
@pytest.mark.parametrize(("split", "cache"), PLACES)
def test_a_broken_photo_of_one_process_is_named_once_by_all(split, cache, drawn, tiny, tmp_path):
    shutil.copytree(drawn.parent, tmp_path / "data")
    victim = Manifest.read(tmp_path / "data/labels.csv").part(split).photo(7)
    victim.write_bytes(b"no photo")
    arguments = ["train", str(tmp_path / "data/labels.csv"), "--recipe", str(tiny), "-o", str(tmp_path / "run")]
    arguments += ["--set", f"train.cache={cache}"]
    done = subprocess.run(
        [*MODISTE, *arguments, "--devices", "2", "--accelerator", "cpu"],
        check=False, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 1
    assert [line for line in done.stderr.splitlines() if line.startswith("modiste: ")] == [
        line for line in done.stderr.splitlines() if victim.name in line
    ]
    assert done.stderr.count(victim.name) == 1
    assert "Traceback" not in done.stderr


def test_a_stage_fits_the_head_to_convergence_and_training_goes_on_from_it(tiny, drawn, tmp_path):
    recipe = Recipe.read(tiny).replace(['stages.0.epochs="converged"', "stages.1.epochs=1"])
    run = train(recipe, Manifest.read(drawn), tmp_path / "run")
    history = losses(run.folder)
    assert history["stage"].to_list() == ["locked", "unlocked"]
    assert history["lr"][0] is None and history["loss"].is_finite().all()
    kept = Run.read(run.folder).recipe
    assert kept.stages[0].epochs == "converged" and kept.epochs == 2
    again = train(recipe.replace([OFF]), Manifest.read(drawn), tmp_path / "off")  # features computed for itself alone
    assert losses(again.folder)["val_map"][0] == pytest.approx(history["val_map"][0], abs=0.02)
    longer = train(recipe.replace(["stages.0.epochs=3"]), Manifest.read(drawn), tmp_path / "longer")
    assert losses(longer.folder)["loss"][2] > history["loss"][0]  # three epochs are not convergence


def test_only_a_head_can_be_fitted_to_convergence(tiny):
    with pytest.raises(RecipeError, match='needs unlock = "none"'):
        Recipe.read(tiny).replace(['stages.1.epochs="converged"'])
