"""Run folders of earlier versions: tests/old_run was trained by the first one, and loads without a migration."""

import json
import lzma
import os
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import modiste as public
from modiste.data.manifest import Manifest
from modiste.runs import predictions
from modiste.runs.run import Run

OLD = Path(__file__).parents[1] / "old_run"


@pytest.fixture
def old(tmp_path) -> Path:
    """A copy as it was written: its photos lay in a folder that this machine doesn't have."""
    run = shutil.copytree(OLD, tmp_path / "run", ignore=shutil.ignore_patterns("photos", "*.xz"))
    (run / "model.safetensors").write_bytes(lzma.decompress((OLD / "model.safetensors.xz").read_bytes()))
    return run


@pytest.fixture
def moved(old) -> Path:
    """The same with its photos found."""
    path = pl.col("path").str.replace(r"^.*/photos/", f"{OLD / 'photos'}/")
    manifest = pl.read_parquet(old / "manifest.parquet").with_columns(path)
    manifest.write_parquet(old / "manifest.parquet")
    return old


def stored(run: Path) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Photos, and what the first version's network said of them, before and after calibration."""
    frame = pl.read_parquet(run / "predictions-test.parquet")
    labels = [name.removeprefix("prob.") for name in frame.columns if name.startswith("prob.")]
    raw, calibrated = (
        frame.select(f"{kind}.{label}" for label in labels).to_numpy() for kind in ("prob", "calibrated")
    )
    return [str(OLD / "photos" / os.path.basename(photo)) for photo in frame["photo"]], raw, calibrated  # noqa: PTH119


def test_an_old_run_is_read_with_all_that_it_says(old):
    run = Run.read(old)
    assert not (old / "format.json").exists()
    assert (run.recipe.name, run.recipe.model.backbone, run.views) == ("old", "test_efficientnet", "flip")
    assert run.recipe.train.workers == 0
    assert (len(run.label_set), len(run.manifest()), run.epochs()) == (13, 240, 6)
    assert str(run.decision.policy) == "fbeta:2" and run.decision.calibrated
    assert not run.unfinished()


def test_what_an_old_run_kept_still_holds(old):
    """Its photos aren't there, so that nothing can have been computed anew."""
    run = Run.read(old)
    assert not any(photo.exists() for photo in run.manifest().part("test").photos())
    assert np.array_equal(predictions.predicted(run, "test").raw, stored(old)[1])


def test_what_an_earlier_decoder_kept_is_computed_anew_where_the_photos_are(moved, monkeypatch):
    pytest.importorskip("torch", reason="a run folder is computed by PyTorch")
    run = Run.read(moved)
    kept = predictions.predicted(run, "test")
    predictions.write(run, "test", kept)
    monkeypatch.setattr(predictions, "predict", lambda *_: pytest.fail("they are current"))
    predictions.predicted(run, "test")
    monkeypatch.setattr(predictions, "DECODER", predictions.DECODER + 1)
    monkeypatch.setattr(predictions, "predict", lambda *_: "anew")
    assert predictions.predicted(run, "test") == "anew"


def test_an_old_run_gives_the_probabilities_that_it_gave(moved):
    pytest.importorskip("torch", reason="a run folder is computed by PyTorch")
    photos, raw, calibrated = stored(moved)
    predictor = public.load(moved)
    said = np.stack([one.probs for one in predictor.raw(photos)])
    np.testing.assert_allclose(said, raw, atol=1e-4)
    first = predictor.predict(photos[0])
    np.testing.assert_allclose(list(first.probs.values()), calibrated[0], atol=1e-4)


def test_an_old_run_has_the_scores_that_it_had(moved, modiste):
    pytest.importorskip("torch", reason="a run folder is computed by PyTorch")
    before = json.loads((moved / "metrics.json").read_text())["test"]
    code, out, err = modiste("evaluate", moved, "--split", "test", "--json")
    assert code == 0, err
    assert json.loads(out)["map"] == pytest.approx(before["map"], abs=1e-3)
    assert len(Manifest.read(moved / "manifest.parquet").part("test")) == 30
