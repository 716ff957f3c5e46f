"""Exported files against the models that they were made from, and what is no such file."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch

import modiste as package
from modiste.config import ImageConfig, ModelConfig
from modiste.data.manifest import Manifest
from modiste.decisions.blend import Blend
from modiste.decisions.decision import Decision, ProductRule
from modiste.decisions.thresholds import Thresholds
from modiste.errors import ModisteError, UsageError
from modiste.exporting import export as exporting
from modiste.exporting import int8
from modiste.exporting.blended_network import BlendedNetwork
from modiste.exporting.int8 import Cost, cost_meters, evenly, quantize_to_int8, read_squares
from modiste.exporting.quantize import Quantizer
from modiste.inference.heatmaps import Explainer
from modiste.inference.onnx import SEAL, Exported, open_session
from modiste.inference.predictor import Predictor
from modiste.inference.writers import Tagged
from modiste.labels import LabelSet
from modiste.metrics.scores import mean_average_precision
from modiste.models.onnx import to_onnx
from modiste.models.tagger import Network, Tagger
from modiste.prediction import MapCells, Prediction
from modiste.runs.blend_run import BlendRun
from modiste.runs.load import load
from modiste.runs.run import Run

pytestmark = pytest.mark.usefixtures("traced_once")

PAPER = ("inception_resnet_v2", "inception_v4", "legacy_xception")


@pytest.fixture(scope="module")
def exported(trained, traced_once, tmp_path_factory):
    path = tmp_path_factory.mktemp("exported") / "tiny.onnx"
    package.export(trained, path, views="flip", words="Drawn garments, for tests.")
    return path


def test_a_file_says_what_its_run_says(trained, exported, photos):
    run, file = load(trained, views="flip"), load(exported)
    assert file.views == "flip"
    asked = run.stream(photos, heatmaps=True), file.stream(photos, heatmaps=True)
    for one, two in zip(*asked, strict=True):
        np.testing.assert_allclose(two.prob_array, one.prob_array, atol=1e-4)
        np.testing.assert_allclose(two.maps, one.maps, atol=1e-3)
        assert two.labels == one.labels
        assert two.label_set == one.label_set


def test_one_photo_and_many_go_through_other_sessions_to_the_same_end(exported, photos):
    alone = [load(exported).predict(photo).prob_array for photo in photos]
    together = [said.prob_array for said in load(exported).stream(photos * 3)]
    np.testing.assert_allclose(together, alone * 3, atol=1e-5)


def test_a_tuned_decision_travels_with_the_file(trained, photos, tmp_path):
    shutil.copytree(trained, tmp_path / "run")
    package.tune(tmp_path / "run", policy="fbeta:2", calibration="platt", split="train")
    opened = Run.read(tmp_path / "run")
    rule = ProductRule("most-certain", Thresholds.fixed(0.3, len(opened.label_set)))
    replace(opened.decision, products=rule).write(tmp_path / "run" / "decision.json", opened.label_set)
    package.export(tmp_path / "run", tmp_path / "tuned.onnx")
    run, file = load(tmp_path / "run"), load(tmp_path / "tuned.onnx")
    assert file.decision.products.pooling == "most-certain"
    assert file.predict_product(photos).labels == run.predict_product(photos).labels
    assert file.decision.to_dict(file.label_set) == run.decision.to_dict(run.label_set)
    for one, two in zip(run.stream(photos), file.stream(photos), strict=True):
        np.testing.assert_allclose(two.prob_array, one.prob_array, atol=1e-4)


LARGE = ("mobilenetv2_100", "inception_resnet_v2")


@pytest.mark.parametrize(
    "name", ["test_resnet", "test_vit", *(pytest.param(name, marks=pytest.mark.slow) for name in LARGE)]
)
def test_a_graph_of_several_layers_says_what_the_network_says(name):
    torch.manual_seed(0)
    size = 160 if "vit" in name else 100
    network = Network(Tagger(ModelConfig(backbone=name, weights="none", features="layers"), 5)).eval()
    photos = torch.randint(0, 256, (3, size, size, 3), dtype=torch.uint8)
    with torch.inference_mode():
        said = network(photos)
    session = open_session(to_onnx(network, photos[:2]).SerializeToString(), 1)
    for ours, theirs in zip(session.run(None, {"photos": photos.numpy()}), said, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("features", ["last", "layers"])
@pytest.mark.parametrize("name", [*PAPER, "mobilenetv2_100", "resnet10t", "swin_tiny_patch4_window7_224"])
def test_the_mean_of_the_places_is_the_logit_without_its_bias(name, features):
    torch.manual_seed(0)
    size = 224 if "swin" in name else 100  # grids that don't divide one another
    model = Tagger(ModelConfig(backbone=name, weights="none", features=features), 5).eval()
    torch.nn.init.normal_(model.head.bias)
    photos = torch.randint(0, 256, (2, size, size, 3), dtype=torch.uint8)
    with torch.inference_mode():
        probs, features, maps = Network(model)(photos)
        logits = model(photos.permute(0, 3, 1, 2))
        weight, bias = model.head.weight, model.head.bias
        torch.testing.assert_close(probs, logits.sigmoid())
        torch.testing.assert_close(maps.mean(dim=(2, 3)) + bias, logits, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(features @ weight.T + bias, logits, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("features", ["last", "layers"])
def test_a_transformer_has_no_places(features):
    model = Tagger(ModelConfig(backbone="test_vit", weights="none", features=features), 3).eval()
    size = 160
    assert len(Network(model)(torch.zeros(1, size, size, 3, dtype=torch.uint8))) == 2


@pytest.fixture(scope="module")
def two_runs(trained, train_once):
    return [Run.read(trained), Run.read(train_once("other", "seed=4"))]


RNG = np.random.default_rng(0)
BLENDS = {
    "mean": Blend.mean(2),
    "weights": Blend("weights", np.array([0.3, 0.7])),
    "stack": Blend("stack", np.array([0.5, 0.5]), RNG.normal(0, 0.3, (13, 26)), RNG.normal(0, 1, 13)),
}


@pytest.mark.parametrize(
    "method", ["stack", *(pytest.param(method, marks=pytest.mark.slow) for method in ("mean", "weights"))]
)
def test_a_blend_becomes_one_file(method, two_runs, photos, tmp_path):
    (tmp_path / "blend").mkdir()
    BlendRun.write(tmp_path / "blend", two_runs, two_runs[0].manifest(), BLENDS[method], {})
    package.export(tmp_path / "blend", tmp_path / "blend.onnx", photos=photos)
    before, after = load(tmp_path / "blend"), load(tmp_path / "blend.onnx")
    for one, two in zip(before.raw(photos, maps=True), after.raw(photos, maps=True), strict=True):
        np.testing.assert_allclose(two.probs, one.probs, atol=1e-4)
        np.testing.assert_allclose(two.maps, one.maps, atol=1e-3)


@pytest.mark.parametrize("method", BLENDS)
def test_a_blended_network_says_what_the_blend_makes_of_its_members(method):
    torch.manual_seed(0)
    configs = [ModelConfig(backbone="test_byobnet", weights="none", features=kind) for kind in ("last", "layers")]
    members = [Network(Tagger(config, 13)).eval() for config in configs]
    photos = torch.randint(0, 256, (4, 32, 32, 3), dtype=torch.uint8)
    with torch.inference_mode():
        probs, _, maps = BlendedNetwork(members, BLENDS[method])(photos)
        said = [member(photos) for member in members]
    expected = BLENDS[method].apply(np.stack([each[0].numpy() for each in said]))
    np.testing.assert_allclose(probs.numpy(), expected, atol=1e-6)
    torch.testing.assert_close(maps, (said[0][2] + said[1][2]) / 2)


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

    graph = onnx.load(exported)
    facts = json.loads({prop.key: prop.value for prop in graph.metadata_props}["modiste"])
    exporting.write_model(tmp_path / "newer.onnx", graph, {**facts, "format": 99, "version": "9.9"})
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


@pytest.mark.parametrize("tuned", [False, True])
@pytest.mark.parametrize(("error", "kept"), [(5e-5, True), (0.01, False), (np.nan, False)])
def test_a_file_that_disagrees_is_not_kept(error, kept, tuned, *, trained, tmp_path, monkeypatch):
    """One probability of one label is tampered with, by more or less than what float32 loses."""
    run = shutil.copytree(trained, tmp_path / "run")
    if tuned:
        package.tune(run, policy="fbeta:2", calibration="platt", split="train")
    opened = Exported.predictor

    def tampered(self, views=None):
        honest = opened(self, views)

        def forward(photos, maps=False):
            output = honest.forward(photos, maps=maps)
            probs = output.probs.copy()
            probs[0, 3] += error if probs[0, 3] < 0.5 else -error
            return output._replace(probs=probs)

        return replace(honest, forward=forward)

    monkeypatch.setattr(Exported, "predictor", tampered)
    (tmp_path / "out").mkdir()
    if kept:
        assert package.export(run, tmp_path / "out" / "a.onnx").parity.largest == pytest.approx(error, abs=4e-5)
        return
    with pytest.raises(ModisteError, match=r"a difference of (0\.01|nan)"):
        package.export(run, tmp_path / "out" / "a.onnx")
    assert not list((tmp_path / "out").iterdir())


@pytest.fixture(scope="module")
def quantizer(trained, traced_once, drawn, tmp_path_factory):
    opened = exporting.open_model(trained, "one", None)
    photos = read_squares(sorted((drawn.parent / "photos").iterdir()), opened.image)
    folder = tmp_path_factory.mktemp("int8")
    return opened, Quantizer(exporting.make_graph(opened), photos, folder), folder


def reopened(opened, graph, folder):
    exporting.write_model(folder / "tried.onnx", graph, exporting.describe(opened.run, opened.original))
    return load(folder / "tried.onnx")


def test_rounding_moves_probabilities_a_little_and_leaves_them_fine(quantizer, photos):
    opened, made, folder = quantizer
    graph = made.quantized()
    kinds = {node.op_type for node in graph.graph.node}
    assert "QuantizeLinear" in kinds
    rounded = reopened(opened, graph, folder)
    before, after = (np.array([one.probs for one in tags.raw(photos * 3)]) for tags in (opened.original, rounded))
    assert 0 < np.abs(before - after).mean() < 0.1
    assert len(np.unique(after[:10])) > 100  # the scores themselves are not rounded: of 130, hardly two are alike


def test_with_all_blocks_in_float32_nothing_moves(quantizer, photos):
    opened, made, folder = quantizer
    rounded = reopened(opened, made.quantized(range(len(made.blocks))), folder)
    for one, two in zip(opened.original.raw(photos), rounded.raw(photos), strict=True):
        np.testing.assert_allclose(two.probs, one.probs, atol=1e-4)


def test_two_networks_may_be_rounded_in_one_folder(quantizer, tmp_path):
    _, made, folder = quantizer
    made.quantized()
    shutil.copytree(folder, tmp_path / "int8")  # where a tagger of garments was rounded
    photos = np.random.default_rng(0).integers(0, 256, (32, 32, 32, 3), dtype=np.uint8)
    network = Network(Tagger(ModelConfig(backbone="test_resnet", weights="none"), 3))
    graph = to_onnx(network, torch.from_numpy(photos[:2]), ["probs", "features", "maps"])
    assert Quantizer(graph, photos, tmp_path / "int8").quantized().graph.node


def test_costs_are_those_of_both_models_on_the_same_photos(quantizer):
    opened, made, folder = quantizer
    graph = made.quantized()
    tags = reopened(opened, exporting.make_graph(opened), folder)
    part = opened.run.manifest().part("val")
    cost = cost_meters(opened.run.manifest(), tags)[0].cost(reopened(opened, graph, folder))
    rounded = reopened(opened, graph, folder)
    before, after = (np.array([one.probs for one in each.raw(part.photos())]) for each in (tags, rounded))
    labels = opened.run.label_set
    assert cost.map_before == pytest.approx(mean_average_precision(part.targets, before, labels).value, abs=1e-6)
    assert cost.map_after == pytest.approx(mean_average_precision(part.targets, after, labels).value, abs=1e-6)
    decided = (tags.decision.apply(raw, labels).decisions for raw in (before, after))
    assert cost.flipped == (next(decided) != next(decided)).sum()
    assert cost.moved == pytest.approx(np.abs(before - after).mean(), rel=1e-4)


class Fake:
    """A cost meter and a quantizer in one: rounding costs a point for each block that is rounded."""

    blocks = ("a", "b", "c", "d")

    def quantized(self, kept=()):
        return tuple(kept)

    def cost(self, kept):
        worth = {0: 1.0, 1: 4.0, 2: 2.0, 3: 0.5}
        lost = sum(points for k, points in worth.items() if k not in kept)
        return Cost("val", 10, 0.5, 0.5 - lost / 100, 0, 100, lost)


@pytest.mark.parametrize(("most", "kept"), [(8, 0), (4, 1), (2, 2), (1, 3), (0, 4)])
def test_as_few_blocks_stay_in_float32_as_the_loss_allows(most, kept, trained, monkeypatch):
    monkeypatch.setattr(int8, "_times", lambda *_: (2.0, 1.0))
    found = quantize_to_int8(Fake(), [Fake()], most, lambda graph: graph, None)
    assert (found.kept, found.close, found.faster) == (kept, True, kept < 4)  # with none left, nothing is int8
    assert found.costs[0].lost <= most + 1e-9


def test_a_loss_that_stays_too_large_is_told(monkeypatch):
    monkeypatch.setattr(int8, "_times", lambda *_: (2.0, 1.0))
    monkeypatch.setattr(Fake, "cost", lambda self, kept: Cost("val", 10, 0.5, 0.4, 0, 100, 0.0))
    found = quantize_to_int8(Fake(), [Fake()], 0.3, lambda graph: graph, None)
    assert (found.kept, found.close, found.worth) == (4, False, False)


def test_an_int8_file_tells_what_it_lost(trained, drawn, tmp_path, modiste, monkeypatch):
    monkeypatch.setattr(int8, "_times", lambda *_: (2.0, 1.0))
    photos = drawn.parent / "photos"
    code, out, err = modiste("export", trained, "-o", tmp_path / "a.onnx", "--int8", photos, "--max-loss", "9")
    assert code == 0, err
    assert "points lost" in out
    facts = Exported.read(tmp_path / "a.onnx").facts
    assert facts["precision"] == "int8"
    assert "Rounded to int8" in facts["card"]
    assert facts["int8"]["costs"][0]["lost"] <= 9


def test_features_of_several_layers_go_into_files_of_both_kinds(train_once, drawn, photos, tmp_path, monkeypatch):
    monkeypatch.setattr(int8, "_times", lambda *_: (2.0, 1.0))
    run = train_once("layers", "model.features=layers")
    squares = sorted((drawn.parent / "photos").iterdir())
    before = load(run)
    for precision, atol, rounding in (("fp32", 1e-4, None), ("int8", 0.2, exporting.Int8(squares, most=99))):
        written = package.export(run, tmp_path / f"{precision}.onnx", int8=rounding)
        assert written.exported.facts["precision"] == precision
        assert "test_byobnet, means of earlier layers beside the last" in written.exported.facts["card"]
        assert written.parity.largest < 1e-4
        after = load(tmp_path / f"{precision}.onnx")
        for one, two in zip(before.raw(photos, maps=True), after.raw(photos, maps=True), strict=True):
            np.testing.assert_allclose(two.probs, one.probs, atol=atol)
            np.testing.assert_allclose(two.maps, one.maps, atol=10 * atol)


def test_the_means_of_layers_are_never_rounded(tmp_path):
    photos = np.random.default_rng(0).integers(0, 256, (32, 32, 32, 3), dtype=np.uint8)
    network = Network(Tagger(ModelConfig(backbone="test_resnet", weights="none", features="layers"), 3))
    graph = to_onnx(network, torch.from_numpy(photos[:2]), ["probs", "features", "maps"])
    made = Quantizer(graph, photos, tmp_path)
    means = [node for node in graph.graph.node if node.op_type == "ReduceMean"]
    assert len(means) >= 5
    assert not {node.name for node in means} & {name for block in made.blocks for name in block}


def test_where_int8_is_slower_the_file_stays_in_float32(trained, drawn, tmp_path, modiste, monkeypatch):
    monkeypatch.setattr(int8, "_times", lambda *_: (1.0, 2.0))
    photos = drawn.parent / "photos"
    code, out, _ = modiste("export", trained, "-o", tmp_path / "a.onnx", "--int8", photos, "--max-loss", "9")
    assert code == 0
    assert "so the file stays in float32" in out
    assert Exported.read(tmp_path / "a.onnx").facts["precision"] == "fp32"


def test_a_loss_without_rounding_is_refused(trained, tmp_path, modiste):
    code, _, err = modiste("export", trained, "-o", tmp_path / "a.onnx", "--max-loss", "1")
    assert code == 2
    assert "--int8 PHOTOS beside --max-loss" in err


@pytest.mark.parametrize(("count", "most"), [(300, 256), (511, 256), (5, 256), (1000, 10), (0, 4)])
def test_photos_are_taken_evenly_from_first_to_last(count, most):
    places = evenly(count, most)
    assert len(set(places)) == len(places) == min(count, most)
    if count:
        assert (places[0], places[-1]) == (0, count - 1)
        assert np.ptp(np.diff(places)) <= 1


def test_a_split_without_labels_measures_nothing(trained, photos):
    opened = exporting.open_model(trained, None, None)
    part = opened.run.manifest().part("val")
    unknown = Manifest(part.label_set, part.frame, np.full_like(part.targets, -1), part.root, part.source)
    with pytest.raises(UsageError, match="labelled photos that tell"):
        cost_meters(unknown, opened.original)


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
        load(trained).label_set.ids
    )
    assert "Drawn garments, for tests." in said["card"]
    assert said["bytes"] == exported.stat().st_size
    assert said["ms_per_photo"] > 0
    code, out, _ = modiste("info", trained)
    assert code == 0
    assert "test_byobnet" in out


def test_heatmaps_are_written_for_each_chosen_label(exported, photos, tmp_path, modiste):
    (tmp_path / "A.jpg").write_bytes(photos[1].read_bytes())
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a.jpg").write_bytes(photos[1].read_bytes())
    (tmp_path / ("x" * 250 + ".jpg")).write_bytes(photos[1].read_bytes())
    said = ["--thresholds", "top:2", "--json"]
    why = tmp_path.with_name("why")
    code, out, err = modiste("tag", tmp_path, "-m", exported, "--explain", why, *said)
    assert code == 0, err
    tagged = json.loads(out)["photos"]
    names = {path.name for path in why.iterdir()}
    assert len(names - {"heatmaps.csv"}) == 2 * len(tagged) == 6
    assert {f"A.{label}.jpg" for label in tagged[0]["labels"]} <= names
    assert {f"a-2.{label}.jpg" for label in tagged[1]["labels"]} <= names
    rows = pl.read_csv(why / "heatmaps.csv").rows()
    assert [row[:2] for row in rows] == [(one["photo"], label) for one in tagged for label in one["labels"]]
    assert {row[2] for row in rows} == names - {"heatmaps.csv"}


def test_labels_that_differ_in_odd_characters_have_pictures_of_their_own(photos, tmp_path):
    labels = LabelSet.free("odd", ["red/blue", "red blue", "红/蓝"])
    maps, cells = np.ones((3, 2, 2), np.float32), MapCells(32, (0.25, 0.75))
    said = Prediction("a", labels, np.ones(3, np.float32), labels.ids, None, maps, cells)
    network = Predictor(
        lambda photos, maps: None, labels, ImageConfig(size=32), Decision.untuned("fixed:0.5", labels), cells=cells
    )
    list(Explainer(tmp_path / "why", network).watch([Tagged("a", photos[0].read_bytes(), said)]))
    assert len(list((tmp_path / "why").glob("*.jpg"))) == 3


def test_a_file_for_a_newer_onnx_runtime_is_one_sentence(exported, tmp_path):
    import onnx

    graph = onnx.load(exported)
    graph.opset_import[0].version = 999
    exporting.write_model(tmp_path / "newer.onnx", graph, {"format": 1})
    with pytest.raises(ModisteError, match="to run on this ONNX Runtime"):
        load(tmp_path / "newer.onnx")


def test_a_file_that_could_not_be_opened_is_not_written(trained, tmp_path, modiste):
    code, _, err = modiste("export", trained, "-o", tmp_path / "coat")
    assert code == 2
    assert "to end in .onnx" in err


def test_blends_that_one_graph_cannot_be_are_refused(two_runs, photos, tmp_path):
    (tmp_path / "stack").mkdir()
    BlendRun.write(tmp_path / "stack", two_runs, two_runs[0].manifest(), BLENDS["stack"], {})
    with pytest.raises(ModisteError, match="Try --views one"):
        package.export(tmp_path / "stack", tmp_path / "blend.onnx", photos=photos, views="flip")
    assert not (tmp_path / "blend.onnx").exists()


def test_without_pytorch_a_run_folder_is_one_sentence(trained, photos):
    code = (
        "import sys; sys.modules['torch'] = None; sys.argv = ['modiste', *sys.argv[1:]]\n"
        "from modiste.cli.app import main; main()"
    )
    command = [sys.executable, "-c", code, "tag", str(photos[0]), "-m", str(trained)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stderr.startswith("modiste: Expected the packages of training, but got no torch")


@pytest.mark.parametrize("name", ["crossvit_tiny_240", "coat_tiny"])
def test_networks_of_several_streams_have_no_places(name):
    model = Tagger(ModelConfig(backbone=name, weights="none"), 3).eval()
    size = model.backbone.pretrained_cfg["input_size"][-1]
    photos = torch.randint(0, 256, (1, size, size, 3), dtype=torch.uint8)
    with torch.inference_mode():
        said = Network(model)(photos)
        torch.testing.assert_close(said[0], model(photos.permute(0, 3, 1, 2)).sigmoid())
    assert len(said) == 2


def test_the_seal_stands_once(exported):
    assert exported.read_bytes().count(SEAL.encode()) == 1
