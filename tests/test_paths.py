"""Every path of the public API may be a str, a Path, or anything else with a path in it."""

import os
import shutil
from pathlib import Path

import polars as pl
import pytest

import modiste as package
from modiste.config import DataConfig, Recipe
from modiste.decisions.decision import Decision
from modiste.fetching.config import FetchConfig
from modiste.runs.run import Run

pytestmark = pytest.mark.parametrize("kind", [str, Path, pytest.param("Named", id="PathLike")])


class Named:
    """A path that is neither str nor Path."""

    def __init__(self, path):
        self.path = os.fspath(path)

    def __fspath__(self):
        return self.path


@pytest.fixture
def named(kind):
    return Named if kind == "Named" else kind


def test_models(named, trained, traced_once, photos, tmp_path):
    path = named(tmp_path / "tiny.onnx")
    package.export(named(trained), path, photos=[named(photo) for photo in photos])
    said = package.load(path).predict(named(photos[0]))
    assert said.photo == str(photos[0])
    assert package.load([named(trained), path], thresholds="fixed:0.5").predict(photos[0]).labels is not None
    assert package.resume(named(trained)).folder == Path(trained)


def test_scores_and_decisions(named, trained, tmp_path):
    trained = shutil.copytree(trained, tmp_path / "run")  # what is written stays out of other tests
    assert package.evaluate(named(trained), "val").split == "val"
    assert package.tune(named(trained), policy="fixed:0.5").decision.policy.kind == "fixed"
    run = Run.read(trained)
    assert Decision.read(named(trained / "decision.json"), run.label_set).policy == run.decision.policy


def test_manifests_recipes_and_label_sets(named, drawn, tiny, tmp_path):
    manifest = package.Manifest.read(named(drawn), DataConfig(root=named(drawn.parent)))
    manifest.write(named(tmp_path / "copy.csv"))
    manifest.label_set.write(named(tmp_path / "labels.json"))
    again = package.Manifest.read(
        named(tmp_path / "copy.csv"), DataConfig(label_set=named(tmp_path / "labels.json"), root=named(drawn.parent))
    )
    assert again.label_set.ids == package.LabelSet.read(named(tmp_path / "labels.json")).ids
    assert again.photo(0) == manifest.photo(0)
    assert Recipe.read(named(tiny)).name == "tiny"
    assert Recipe.read(named("quick")).name == "quick"


def test_checks_and_splits(named, drawn, tmp_path):
    package.check(named(drawn), named(tmp_path / "report"))
    dealt = package.split(named(drawn), checked=named(tmp_path / "report"))
    assert set(dealt.parts) == {"train", "val", "test"}


def test_fetching(named, tmp_path):
    (tmp_path / "urls.csv").write_text("url\nhttp://127.0.0.1:9/a.jpg\n")
    assert package.Listing.open(named(tmp_path / "urls.csv")).columns == ("url",)
    summary = package.fetch(named(tmp_path / "urls.csv"), named(tmp_path / "out"), FetchConfig())
    assert sum(summary.failures.values()) == 1  # a private address
    assert pl.read_csv(tmp_path / "out" / "manifest.csv").height == 1


def test_training_and_blending(named, trained, drawn, tiny, tmp_path):
    if named is not Named:
        pytest.skip("trained once, by the kind that is hardest")
    recipe = Recipe.read(tiny).replace(["stages.0.epochs=1", "stages.1.epochs=1", "seed=3"])
    run = package.train(recipe, package.Manifest.read(drawn), named(tmp_path / "run"))
    assert run.folder == tmp_path / "run"
    blend = package.blend([named(trained), named(tmp_path / "run")], named(tmp_path / "blend"), split="train")
    assert blend.run.folder == tmp_path / "blend"
