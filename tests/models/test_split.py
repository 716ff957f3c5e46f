"""The locked part and the unlocked part are the whole network, to the last bit."""

from functools import cache

import pytest
import torch
from torch import nn

from modiste.config import ModelConfig
from modiste.models.split import NetworkSplitter
from modiste.models.tagger import Tagger, normalise

SIZES = {  # pixels: the least that each takes, or a little more
    "mobilenetv2_100": 48,
    "resnet18": 48,
    "densenet121": 40,
    "efficientnet_b0": 48,
    "convnext_atto": 40,
    "regnety_002": 48,
    "mobilenetv3_small_100": 48,
    "dla46x_c": 64,
    "test_nfnet": 40,
    "test_byobnet": 32,
    "legacy_xception": 75,
    "inception_v4": 75,
}
UNLOCKS = ["none", 1, 2]


@pytest.fixture(autouse=True)
def no_denormals():
    """Random weights make numbers so small that they cost a CPU a hundred times the time."""
    torch.set_flush_denormal(True)
    yield
    torch.set_flush_denormal(False)


def photos(name, count=3):
    shape = (count, 3, SIZES[name], SIZES[name])
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


@cache
def network(name, features="last") -> tuple[Tagger, NetworkSplitter]:
    """A network that has seen photos, so that its statistics fit its random weights; and what cuts it."""
    torch.manual_seed(0)
    model = Tagger(ModelConfig(backbone=name, weights="none", dropout=0.0, features=features), 5)
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = None  # the mean of all batches
    with torch.no_grad():
        model(photos(name))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return model, NetworkSplitter(model, SIZES[name])


def whole_and_cut(model, cutter, unlock, pixels, then=lambda logits: logits):
    """Logits of the network and of its two parts, from the same random numbers and the same statistics."""
    before = [buffer.clone() for buffer in model.buffers()]
    locked, unlocked = cutter.locked([unlock]), cutter.unlocked(unlock)
    torch.manual_seed(2)
    whole = then(model(pixels))
    after = [buffer.clone() for buffer in model.buffers()]
    with torch.no_grad():
        for buffer, value in zip(model.buffers(), before, strict=True):
            buffer.copy_(value)
        torch.manual_seed(2)
        boundary = locked(pixels)
    cut = then(unlocked(*boundary))
    assert all(torch.equal(buffer, value) for buffer, value in zip(model.buffers(), after, strict=True))
    return whole, cut


# Of several layers; some are of one module that is traced as a whole, such as resnet18's act1.
LAYERS = ["mobilenetv2_100", "resnet18", "densenet121", "convnext_atto", "test_nfnet", "legacy_xception"]
NETWORKS = [*((name, "last") for name in SIZES), *((name, "layers") for name in LAYERS)]


@pytest.mark.parametrize(("name", "features"), NETWORKS)
def test_both_parts_are_the_whole(name, features):
    model, cutter = network(name, features)
    pixels = photos(name)
    for unlock in UNLOCKS:
        model.unlock(unlock)
        assert cutter.can_cut(unlock)
        for training in (False, True):
            model.train(training)
            with torch.no_grad():
                whole, cut = whole_and_cut(model, cutter, unlock, pixels)
            assert torch.equal(whole, cut), (unlock, training)
            assert len({tuple(row) for row in whole.tolist()}) == len(pixels)
            assert whole.abs().max() > 1e-3
    model.unlock("all")
    assert not cutter.can_cut("all")


def gradients(model):
    def of(logits):
        model.zero_grad(set_to_none=True)
        logits.square().sum().backward()
        return {name: tensor.grad for name, tensor in model.named_parameters() if tensor.grad is not None}

    return of


@pytest.mark.parametrize(
    ("name", "features"),
    [
        *((name, "last") for name in ("mobilenetv2_100", "densenet121", "test_byobnet", "legacy_xception")),
        *((name, "layers") for name in ("mobilenetv2_100", "resnet18")),
    ],
)
def test_gradients_are_those_of_the_whole(name, features):
    model, cutter = network(name, features)
    pixels = photos(name)
    for unlock in UNLOCKS:
        model.unlock(unlock)
        model.train()
        theirs, ours = whole_and_cut(model, cutter, unlock, pixels, gradients(model))
        assert ours.keys() == theirs.keys() == {n for n, p in model.named_parameters() if p.requires_grad}
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)
        assert any(gradient.abs().max() > 0 for gradient in ours.values())


@pytest.mark.parametrize(("name", "features"), NETWORKS)
def test_no_parameter_is_on_the_wrong_side(name, features):
    model, cutter = network(name, features)
    for unlock in UNLOCKS:
        model.unlock(unlock)
        trains = {id(tensor) for tensor in model.parameters() if tensor.requires_grad}
        locked = {id(tensor) for tensor in cutter.locked([unlock]).parameters()}
        unlocked = {id(tensor) for tensor in cutter.unlocked(unlock).parameters()}
        assert unlocked == trains
        assert not locked & trains
        assert locked | unlocked <= {id(tensor) for tensor in model.parameters()}


def test_several_boundaries_in_one_pass():
    model, cutter = network("test_byobnet")
    model.eval()
    pixels = photos("test_byobnet")
    with torch.no_grad():
        for unlocks in ([2, "none"], ["none", 2], [1, 2, "none"], ["none"]):
            together = list(cutter.locked(unlocks)(pixels))
            alone = [tensor for unlock in unlocks for tensor in cutter.locked([unlock])(pixels)]
            assert len(together) == len(alone) == len(unlocks)
            assert all(torch.equal(one, other) for one, other in zip(together, alone, strict=True))


def test_of_locked_layers_the_mean_is_kept_beside_the_last_grid():
    model, cutter = network("mobilenetv2_100", "layers")
    model.unlock(1)
    model.eval()
    with torch.no_grad():
        boundary = cutter.locked([1])(photos("mobilenetv2_100"))
        everything = model.backbone(normalise(photos("mobilenetv2_100"), model.mean, model.std))
    # The mean of blocks.6 is trained; that of blocks.5, at the boundary, is no earlier layer's.
    means, grids = ([each for each in boundary if each.ndim == ndim] for ndim in (2, 4))
    assert [tuple(each.shape[1:]) for each in means] == [(16,), (24,), (32,), (96,)]
    assert [tuple(each.shape[1:]) for each in grids] == [(160, 2, 2)]
    assert torch.equal(torch.cat(means, dim=1), everything[:, :168])


def test_a_boundary_may_have_several_tensors():
    model, cutter = network("dla46x_c")
    model.unlock(3)
    model.eval()
    with torch.no_grad():
        whole, cut = whole_and_cut(model, cutter, 3, photos("dla46x_c"))
        assert len(cutter.locked([3])(photos("dla46x_c"))) == 2
    assert torch.equal(whole, cut)


@pytest.mark.parametrize("count", [1, 5])
def test_a_cut_holds_for_any_number_of_photos(count):
    model, cutter = network("mobilenetv3_small_100")
    model.unlock(2)
    model.eval()
    with torch.no_grad():
        assert torch.equal(*whole_and_cut(model, cutter, 2, photos("mobilenetv3_small_100", count)))


def test_the_unlocked_part_trains_the_network_itself():
    model, cutter = network("test_byobnet")
    model.unlock(2)
    model.train()
    before = {name: tensor.detach().clone() for name, tensor in model.named_parameters()}
    optimizer = torch.optim.AdamW(cutter.unlocked(2).parameters(), lr=0.1)
    gradients(model)(cutter.unlocked(2)(*cutter.locked([2])(photos("test_byobnet"))))
    optimizer.step()
    moved = {name for name, tensor in model.named_parameters() if not torch.equal(before[name], tensor)}
    assert "head.weight" in moved and any(name.startswith("backbone.stages.2") for name in moved)
    assert moved <= {name for name, tensor in model.named_parameters() if tensor.requires_grad}
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            tensor.copy_(before[name])


def test_dropout_before_the_head_is_in_the_unlocked_part():
    model = Tagger(ModelConfig(backbone="test_byobnet", weights="none", dropout=0.5), 5)
    cutter, pixels = NetworkSplitter(model, 32), photos("test_byobnet")
    for unlock in UNLOCKS:
        model.unlock(unlock)
        model.train()
        whole, cut = whole_and_cut(model, cutter, unlock, pixels)
        assert torch.equal(whole, cut)
        assert not torch.equal(cutter.unlocked(unlock)(*cutter.locked([unlock])(pixels)), cut)


@pytest.mark.parametrize("features", ["last", "layers"])
def test_transformers_are_cut_too(features):
    model = Tagger(ModelConfig(backbone="test_vit", weights="none", dropout=0.0, features=features), 5)
    cutter, pixels = NetworkSplitter(model, 160), torch.randint(0, 256, (3, 3, 160, 160), dtype=torch.uint8)
    for unlock in UNLOCKS:
        model.unlock(unlock)
        assert cutter.can_cut(unlock)
        for training in (False, True):
            model.train(training)
            with torch.no_grad():
                assert torch.equal(*whole_and_cut(model, cutter, unlock, pixels))


def test_where_the_graph_is_of_no_use_all_of_the_backbone_can_be_locked():
    model = Tagger(ModelConfig(backbone="ghostnet_050", weights="none", dropout=0.0), 5)
    cutter, pixels = NetworkSplitter(model, 32), torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    assert [cutter.can_cut(unlock) for unlock in ("none", 1, 2, "all")] == [True, False, False, False]
    model.unlock("none")
    for training in (False, True):
        model.train(training)
        with torch.no_grad():
            assert torch.equal(*whole_and_cut(model, cutter, "none", pixels))


def test_nothing_is_locked_where_every_group_trains():
    _, cutter = network("test_byobnet")
    assert [cutter.can_cut(unlock) for unlock in ("none", 1, 4, 5, "all")] == [True, True, True, False, False]


ODD = {  # what a cut may stumble over, and a size
    "test_maxvit": 160,  # index tables, the same for all photos
    "test_coatnet": 160,  # likewise
    "davit_tiny": 32,  # height and width handed on as numbers
    "ghostnet_050": 32,  # dropout of its own, that follows the mode without being a module
}


@pytest.mark.parametrize("name", ODD)
def test_what_can_not_be_cut_rightly_is_not_cut(name):
    model = Tagger(ModelConfig(backbone=name, weights="none", dropout=0.0), 5)
    pixels = torch.randint(0, 256, (3, 3, ODD[name], ODD[name]), dtype=torch.uint8)
    model.unlock(2)
    for traced in (True, False):
        model.train(traced)
        cutter = NetworkSplitter(model, ODD[name])
        modes = [module.training for module in model.modules()]
        can = cutter.can_cut(2)
        assert modes == [module.training for module in model.modules()]
        for training in (True, False) if can else ():
            model.train(training)
            with torch.no_grad():
                assert {len(tensor) for tensor in cutter.locked([2])(pixels)} == {3}
                assert torch.equal(*whole_and_cut(model, cutter, 2, pixels))
    assert can == (name in {"test_maxvit", "test_coatnet"})


class Choosy(nn.Module):
    """What it computes depends on the numbers, so that its operations can't be traced."""

    def forward(self, photos):
        return photos.mean(dim=(2, 3)) if photos.sum() > 0 else photos.amax(dim=(2, 3))


def test_a_way_that_is_slower_is_told(caplog):
    caplog.set_level("INFO", "modiste")
    model = Tagger(ModelConfig(backbone="test_byobnet", weights="none"), 5)
    model.backbone = Choosy()
    assert not NetworkSplitter(model, 32).can_cut(2)
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("modiste", "INFO")
    assert "trains from pixels" in record.message and "slower" in record.message and "TraceError" in record.message
