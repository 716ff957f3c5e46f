"""Exported files against the models that they were made from, and what is no such file."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

import modiste as package
from modiste.blending import Blend
from modiste.blends import BlendRun
from modiste.bundle import Run
from modiste.config import ModelConfig, Recipe
from modiste.errors import ModisteError
from modiste.loading import load
from modiste.manifest import Manifest
from modiste.metrics import mean_average_precision
from modiste.model import Network, Tagger
from modiste.runtime import SEAL, Exported
from modiste.training import train

PAPER = ("inception_resnet_v2", "inception_v4", "legacy_xception")


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory):
    path = tmp_path_factory.mktemp("exported") / "tiny.onnx"
    package.export(trained, path, views="flip", words="Drawn garments, for tests.")
    return path


def test_a_file_says_what_its_run_says(trained, exported, photos):
    run, file = load(trained, views="flip"), load(exported)
    assert file.views == "flip"
    for one, two in zip(run.stream(photos), file.stream(photos), strict=True):
        np.testing.assert_allclose(two.probs, one.probs, atol=1e-4)
        np.testing.assert_allclose(two.maps, one.maps, atol=1e-3)
        assert two.labels == one.labels
        assert two.label_set == one.label_set


def test_one_photo_and_many_go_through_other_sessions_to_the_same_end(exported, photos):
    alone = [load(exported).predict(photo).probs for photo in photos]
    together = [said.probs for said in load(exported).stream(photos * 3)]
    np.testing.assert_allclose(together, alone * 3, atol=1e-5)


def test_a_tuned_decision_travels_with_the_file(trained, photos, tmp_path):
    import shutil

    shutil.copytree(trained, tmp_path / "run")
    package.tune(tmp_path / "run", policy="fbeta:2", calibration="platt", split="train")
    package.export(tmp_path / "run", tmp_path / "tuned.onnx")
    run, file = load(tmp_path / "run"), load(tmp_path / "tuned.onnx")
    assert file.decision.to_dict(file.labels) == run.decision.to_dict(run.labels)
    for one, two in zip(run.stream(photos), file.stream(photos), strict=True):
        np.testing.assert_allclose(two.probs, one.probs, atol=1e-4)


@pytest.mark.parametrize("name", [*PAPER, "mobilenetv2_100", "resnet10t", "swin_tiny_patch4_window7_224"])
def test_the_mean_of_the_places_is_the_logit_without_its_bias(name):
    torch.manual_seed(0)
    size = 224 if "swin" in name else 96
    model = Tagger(ModelConfig(backbone=name, weights="none"), 5).eval()
    torch.nn.init.normal_(model.head.bias)
    photos = torch.randint(0, 256, (2, size, size, 3), dtype=torch.uint8)
    with torch.inference_mode():
        probs, features, maps = Network(model)(photos)
        logits = model(photos.permute(0, 3, 1, 2))
        weight, bias = model.head.weight, model.head.bias
        torch.testing.assert_close(probs, logits.sigmoid())
        torch.testing.assert_close(maps.mean(dim=(2, 3)) + bias, logits, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(features @ weight.T + bias, logits, rtol=1e-3, atol=1e-4)


def test_a_transformer_has_no_places():
    model = Tagger(ModelConfig(backbone="test_vit", weights="none"), 3).eval()
    size = model.backbone.patch_embed.img_size[0]
    assert len(Network(model)(torch.zeros(1, size, size, 3, dtype=torch.uint8))) == 2


@pytest.fixture(scope="module")
def two_runs(trained, drawn, tiny, tmp_path_factory):
    recipe = Recipe.read(tiny).model_copy(update={"seed": 4})
    return [Run.read(trained), train(recipe, Manifest.read(drawn), tmp_path_factory.mktemp("runs") / "other")]


RNG = np.random.default_rng(0)
BLENDS = {
    "mean": Blend.mean(2),
    "weights": Blend("weights", np.array([0.3, 0.7])),
    "stack": Blend("stack", np.array([0.5, 0.5]), RNG.normal(0, 0.3, (13, 26)), RNG.normal(0, 1, 13)),
}


@pytest.mark.parametrize("method", BLENDS)
def test_a_blend_becomes_one_file(method, two_runs, photos, tmp_path):
    (tmp_path / "blend").mkdir()
    BlendRun.write(tmp_path / "blend", two_runs, two_runs[0].manifest(), BLENDS[method], {})
    package.export(tmp_path / "blend", tmp_path / "blend.onnx", photos=photos)
    before, after = load(tmp_path / "blend"), load(tmp_path / "blend.onnx")
    for one, two in zip(before.raw(photos), after.raw(photos), strict=True):
        np.testing.assert_allclose(two.probs, one.probs, atol=1e-4)
        np.testing.assert_allclose(two.maps, one.maps, atol=1e-3)


def test_opening_a_file_needs_no_torch(exported, photos):
    code = (
        "import sys, modiste; modiste.load(sys.argv[1]).predict(sys.argv[2]);"
        "assert not {'torch', 'onnx', 'scipy', 'sklearn'} & set(sys.modules), sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code, str(exported), str(photos[0])], check=True)


def damaged(content, tmp_path):
    path = tmp_path / "damaged.onnx"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("share", [0, 0.3, 0.9, 0.999])
def test_a_file_that_was_cut_short_is_told(exported, tmp_path, share):
    content = exported.read_bytes()
    with pytest.raises(ModisteError, match=r"cut short|damaged"):
        load(damaged(content[: int(share * len(content))], tmp_path))


def test_any_changed_byte_is_told(exported, tmp_path):
    content = bytearray(exported.read_bytes())
    for place in np.random.default_rng(0).integers(0, len(content), 20):
        changed = bytearray(content)
        changed[place] ^= 1
        with pytest.raises(ModisteError, match=r"cut short|damaged"):
            load(damaged(changed, tmp_path))


def test_another_tools_file_and_a_newer_ones_are_told(exported, tmp_path):
    import onnx

    from modiste.exporting import write_model

    graph = onnx.load(exported)
    facts = json.loads({prop.key: prop.value for prop in graph.metadata_props}["modiste"])
    write_model(tmp_path / "newer.onnx", graph, {**facts, "format": 99, "version": "9.9"})
    with pytest.raises(ModisteError, match=r"format 99, of modiste 9\.9"):
        load(tmp_path / "newer.onnx")
    del graph.metadata_props[:]
    with pytest.raises(ModisteError, match="another file"):
        load(damaged(graph.SerializeToString(), tmp_path))
    with pytest.raises(ModisteError, match="No such file"):
        load(tmp_path / "missing.onnx")


def test_what_exists_stays_as_it_is(trained, exported, modiste):
    before = exported.read_bytes()
    code, _, err = modiste("export", trained, "-o", exported)
    assert code == 2
    assert "to be a new file" in err
    assert exported.read_bytes() == before


def test_a_file_that_disagrees_is_not_kept(trained, tmp_path, monkeypatch):
    from modiste import exporting

    monkeypatch.setattr(exporting, "TOLERANCE", -1.0)
    with pytest.raises(ModisteError, match="a difference of"):
        package.export(trained, tmp_path / "no.onnx")
    assert not list(tmp_path.iterdir())


def test_int8_loses_what_it_says(trained, drawn, tmp_path, modiste):
    code, out, err = modiste(
        "export", trained, "-o", tmp_path / "int8.onnx", "--int8", drawn.parent / "photos", "--max-loss", "3", "--json"
    )
    assert code == 0, err
    said = json.loads(out)
    assert said["parity"]["largest"] <= 1e-4
    file = Exported.read(tmp_path / "int8.onnx")
    if file.facts["precision"] == "fp32":  # not faster on this machine
        return
    cost = file.facts["int8"]["costs"][0]
    part = Run.read(trained).manifest().part(cost["split"])
    for path, key in ((trained, "map_before"), (tmp_path / "int8.onnx", "map_after")):
        tagger = load(path)
        probs = np.array([one.probs for one in tagger.raw(part.photos())])
        assert abs(mean_average_precision(part.targets, probs, tagger.labels).value - cost[key]) < 1e-3
    assert cost["lost"] <= 3


def test_too_few_photos_to_calibrate_are_refused(trained, photos, tmp_path, modiste):
    code, _, err = modiste("export", trained, "-o", tmp_path / "int8.onnx", "--int8", photos[0])
    assert code == 2
    assert "32 photos or more for --int8, but got 1" in err
    assert not (tmp_path / "int8.onnx").exists()


def test_info_tells_labels_card_and_speed(exported, trained, modiste):
    code, out, _ = modiste("info", exported, "--json")
    assert code == 0
    said = json.loads(out)
    assert [label["id"] for group in said["labels"]["groups"] for label in group["labels"]] == list(
        load(trained).labels.ids
    )
    assert "Drawn garments, for tests." in said["card"]
    assert said["bytes"] == exported.stat().st_size
    assert said["ms_per_photo"] > 0
    code, out, _ = modiste("info", trained)
    assert code == 0
    assert "test_byobnet" in out


def test_heatmaps_are_written_for_each_chosen_label(exported, photos, tmp_path, modiste):
    code, out, err = modiste(
        "tag", photos[0], photos[0], "-m", exported, "--explain", tmp_path / "why", "--thresholds", "top:2", "--json"
    )
    assert code == 0, err
    chosen = json.loads(out)["photos"][0]["labels"]
    names = {f"{photos[0].stem}{again}-{label}.jpg" for label in chosen for again in ("", "-2")}
    assert {path.name for path in (tmp_path / "why").iterdir()} == names
    with Image.open(tmp_path / "why" / sorted(names)[0]) as picture:
        assert picture.size == (32, 32)


def test_the_seal_stands_once(exported):
    assert exported.read_bytes().count(SEAL.encode()) == 1
