"""The network: sizes equal timm's, published names load strictly, what is locked does not move by one bit."""

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from modiste.config import ModelConfig
from modiste.errors import RecipeError, WeightsError
from modiste.models import torchvision_compat  # noqa: F401
from modiste.models.backbones import PAPER_BACKBONES, coarse_groups, create_backbone
from modiste.models.tagger import Network, Tagger, normalise

# isort: split
import timm

TINY = ModelConfig(backbone="test_byobnet", weights="none")


@pytest.mark.parametrize("name", PAPER_BACKBONES)
def test_parameter_counts_are_timms(name):
    with torch.device("meta"):  # shapes without memory
        ours = Tagger(ModelConfig(backbone=name, weights="none"), 13)
        theirs = timm.create_model(name, num_classes=13)
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in theirs.parameters())


@pytest.mark.parametrize("name", [*PAPER_BACKBONES, "mobilenetv2_100"])
def test_published_names_load_strictly(name, tmp_path):
    published = timm.create_model(name)  # a thousand classes, as on the hub
    save_file(published.state_dict(), tmp_path / "model.safetensors")
    backbone = create_backbone(name, str(tmp_path / "model.safetensors"))
    photos = torch.rand(1, 3, 139, 139)
    with torch.inference_mode():
        features = published.eval().forward_head(published.forward_features(photos), pre_logits=True)
        assert torch.equal(backbone.eval()(photos), features)


def test_weights_that_do_not_fit_are_refused_and_named(tmp_path):
    state = create_backbone("test_byobnet").state_dict()
    path = tmp_path / "model.safetensors"
    save_file({k: v for k, v in state.items() if k != "stem.conv.weight"}, path)
    with pytest.raises(WeightsError, match=r"test_byobnet.*1 missing and 0 unknown tensors, first 'stem.conv.weight'"):
        create_backbone("test_byobnet", str(path))
    save_file({**state, "surprise": torch.zeros(1)}, path)
    with pytest.raises(WeightsError, match="0 missing and 1 unknown tensors, first 'surprise'"):
        create_backbone("test_byobnet", str(path))
    save_file({**state, "stem.conv.weight": torch.zeros(3)}, path)
    with pytest.raises(WeightsError, match=r"'stem.conv.weight' of shape"):
        create_backbone("test_byobnet", str(path))
    path.write_bytes(b"not safetensors")
    with pytest.raises(WeightsError, match="to be a safetensors file"):
        create_backbone("test_byobnet", str(path))
    with pytest.raises(WeightsError, match="to be a safetensors file"):
        create_backbone("test_byobnet", str(tmp_path / "missing.safetensors"))


def test_a_hub_out_of_reach_says_how_to_go_on(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(WeightsError, match=r"Try --weights FILE .*huggingface.co/timm.*--weights none\.$"):
        create_backbone("inception_v4", "hub")


def test_an_unknown_backbone_is_named_with_close_ones():
    with pytest.raises(RecipeError, match=r"'inception_v5'.*inception_v4"):
        create_backbone("inception_v5")


def test_normalisation_is_inside_and_takes_bytes_or_floats():
    model = Tagger(TINY, 4).eval()
    photos = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    config = model.backbone.pretrained_cfg
    normalised = (photos / 255 - torch.tensor(config["mean"]).view(3, 1, 1)) / torch.tensor(config["std"]).view(3, 1, 1)
    with torch.inference_mode():
        expected = model.head(model.backbone(normalised))
        assert torch.allclose(model(photos), expected, atol=1e-5)
        assert torch.equal(model(photos), model(photos.float()))


def test_maps_are_the_head_on_each_place_by_row_and_column():
    model = Tagger(TINY, 4).eval()
    photos = torch.randint(0, 256, (2, 96, 64, 3), dtype=torch.uint8)
    with torch.inference_mode():
        maps = Network(model)(photos)[2]
        grid = model.backbone.forward_features(normalise(photos.permute(0, 3, 1, 2), model.mean, model.std))
        expected = torch.einsum("lf,nfhw->nlhw", model.head.weight, grid)
    assert maps.shape[2] > maps.shape[3] > 1
    torch.testing.assert_close(maps, expected, atol=1e-5, rtol=1e-5)


def test_maps_of_several_layers_are_the_sum_of_their_evidence():
    torch.manual_seed(0)
    model = Tagger(TINY.model_copy(update={"features": "layers"}), 4).eval()
    network = model.backbone.network
    photos = torch.randint(0, 256, (2, 96, 64, 3), dtype=torch.uint8)
    with torch.inference_mode():
        probs, features, maps = Network(model)(photos)
        x = normalise(photos.permute(0, 3, 1, 2), model.mean, model.std)
        grids = []
        for module in (network.stem, *network.stages, network.final_conv):
            x = module(x)
            grids.append(x)
        del grids[4]  # of the last stage timm names no layer: the final convolution follows
        weights = model.head.weight.split([grid.shape[1] for grid in grids], dim=1)
        expected = sum(
            torch.einsum("lf,nfrpcq->nlrc", weight, grid.reshape(*grid.shape[:2], 3, grid.shape[2] // 3, 2, -1))
            * (6 / grid.shape[2:].numel())
            for weight, grid in zip(weights, grids, strict=True)
        )
        logits = model(photos.permute(0, 3, 1, 2))
        torch.testing.assert_close(maps, expected, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(maps.mean(dim=(2, 3)) + model.head.bias, logits, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(features, torch.cat([grid.mean(dim=(2, 3)) for grid in grids], dim=1))
        torch.testing.assert_close(probs, logits.sigmoid())
        without = Network(model)(photos, maps=False)
    assert torch.equal(without[0], probs)
    assert torch.equal(without[1], features)


@pytest.mark.parametrize(
    "name", [*PAPER_BACKBONES, "mobilenetv2_100", "test_byobnet", "test_vit", "poolformer_s12", "rdnet_tiny"]
)
def test_coarse_groups_hold_every_parameter_once(name):
    with torch.device("meta"):
        backbone = timm.create_model(name, num_classes=0)
    grouped = [parameter for group in coarse_groups(backbone) for parameter in group]
    assert sorted(grouped) == sorted(key for key, _ in backbone.named_parameters())


def step(model):
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.5, weight_decay=0.1)
    model.train()
    for _ in range(2):
        optimizer.zero_grad()
        model(torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8)).square().sum().backward()
        optimizer.step()


@pytest.mark.parametrize("features", ["last", "layers"])
@pytest.mark.parametrize("statistics", ["updated", "locked"])
@pytest.mark.parametrize("what", ["none", 1, 3, "all"])
def test_what_is_locked_does_not_move_by_one_bit(what, statistics, features):
    torch.manual_seed(0)
    model = Tagger(TINY.model_copy(update={"features": features}), 4)
    model.unlock(what, statistics)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    step(model)
    moved = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    groups = coarse_groups(model.backbone)
    count = {"none": 0, "all": len(groups)}.get(what, what)
    unlocked = {f"backbone.{key}" for group in groups[len(groups) - count :] for key in group}
    norms = {key.rpartition(".")[0] for key in before if key.endswith("running_mean")}
    statistics_of = {
        f"{norm}.{name}"
        for norm in norms
        if f"{norm}.weight" in unlocked and statistics == "updated"
        for name in ("running_mean", "running_var", "num_batches_tracked")
    }
    assert moved == unlocked | statistics_of | {"head.weight", "head.bias"}


def test_locked_batch_norms_stay_in_eval_mode():
    model = Tagger(TINY, 4)
    model.unlock(1)
    norms = {name: m for name, m in model.backbone.train().named_modules() if isinstance(m, nn.BatchNorm2d)}
    model.train()
    training = {name for name, module in norms.items() if module.training}
    assert training
    assert all(any(p.requires_grad for p in norms[name].parameters()) for name in training)
    assert len(training) < len(norms)
    model.unlock("none")
    assert not any(module.training for module in model.train().backbone.modules())


def test_more_groups_than_there_are_is_refused():
    with pytest.raises(RecipeError, match="at most the backbone's"):
        Tagger(TINY, 4).unlock(99)
