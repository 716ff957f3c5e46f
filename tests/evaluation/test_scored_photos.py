"""Photos that can't be scored or tuned on are refused before the network is asked, with what works instead."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from modiste.config import DataConfig
from modiste.data.manifest import Manifest
from modiste.errors import LabelError, ManifestError
from modiste.evaluation.evaluate import evaluate
from modiste.evaluation.scored_photos import other_photos, own_photos
from modiste.evaluation.tune import tune
from modiste.labels import UNKNOWN
from modiste.runs.run import Run


@pytest.fixture
def run(trained, tmp_path) -> Run:
    return Run.read(shutil.copytree(trained, tmp_path / "run"))


@pytest.fixture
def table(drawn, tmp_path) -> Path:
    """The drawn garments with other labels, or without: a group of two that the run may know."""
    kinds = [["coat", "hat"][k % 2] for k in range(240)]
    rows = pl.read_csv(drawn, infer_schema=False).select(
        pl.format(f"{drawn.parent}/{{}}", "image").alias("image"), sports=pl.col("l1"), kind=pl.Series(kinds)
    )
    rows.write_csv(tmp_path / "other.csv")
    return tmp_path / "other.csv"


def test_a_table_without_splits_is_scored_as_a_whole_as_advised(run, table):
    other = Manifest.read(table, DataConfig(label_columns=("sports",)), run.label_set)
    with pytest.raises(ManifestError, match=r"split 'test' .*, but got none of any split. Try --split all, or"):
        evaluate(run.folder, manifest=other)
    assert evaluate(run.folder, "all", manifest=other).scores.photos == 240


def test_a_split_that_is_not_there_is_answered_with_one_that_is(run):
    manifest = run.manifest()
    manifest.with_column("split", ["val" if k < 60 else "train" for k in range(240)]).write(
        run.folder / "manifest.parquet"
    )
    for work in (evaluate, lambda folder: tune(folder, split="test")):
        with pytest.raises(ManifestError, match=r"of 'val', 180 of 'train'. Try --split val"):
            work(run.folder)
    assert len(own_photos(run, "val")) == 60 and len(own_photos(run, "all")) == 240


def test_labels_that_the_run_does_not_know_are_no_scores(run, table):
    other = Manifest.read(table, DataConfig(label_columns=()), run.label_set)
    assert (other.targets == UNKNOWN).all()
    with pytest.raises(LabelError) as refused:
        evaluate(run.folder, "all", manifest=other)
    words = str(refused.value)
    assert f"labels in {table} that {run.folder} knows ('sports', 'casual', 'commuting'" in words
    assert "and 7 more), but got none. Try --labels with columns that hold them." in words
    assert not (run.folder / "metrics.json").exists()


def test_labels_that_were_left_out_of_training_are_named_with_the_column_to_take(run, table):
    """As after training with --labels kind,sports, where hats and sports were too rare."""
    manifest = Manifest.read(table, DataConfig(label_columns=("kind",)))
    told = manifest.with_column("left_out", ["sports"] * 240).with_column("split", ["train"] * 240)
    told.write(run.folder / "manifest.parquet")
    manifest.label_set.write(run.folder / "labels.json")
    known = replace(run, label_set=manifest.label_set)
    config = DataConfig(label_columns=("sports",))
    other = Manifest.read(table, config, manifest.label_set, left_out=("sports",))
    with pytest.raises(LabelError, match=r"none; it was trained without 'sports'. Try --labels kind.$"):
        other_photos(known, other, "all")
    right = Manifest.read(table, DataConfig(label_columns=("kind",)), manifest.label_set)
    assert len(other_photos(known, right, "all")) == 240


def test_nothing_is_tuned_or_scored_on_photos_of_which_nothing_is_known(run):
    manifest = run.manifest()
    targets = manifest.targets.copy()
    targets[manifest.parts == "val"] = UNKNOWN
    replace(manifest, targets=targets).write(run.folder / "manifest.parquet")
    for work in (tune, lambda folder: evaluate(folder, "val")):
        with pytest.raises(ManifestError, match=rf"to have labels, but got none on {np.sum(manifest.parts == 'val')}"):
            work(run.folder)
    assert len(evaluate(run.folder, "test").part) == np.sum(manifest.parts == "test")
