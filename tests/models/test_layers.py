"""Means of layers against timm's own feature maps, in copies and threads, and what is no layer."""

from copy import deepcopy
from threading import Thread

import pytest
import torch

from modiste.config import ModelConfig, Recipe
from modiste.errors import RecipeError
from modiste.models.backbones import coarse_groups, create_backbone
from modiste.models.layers import LayerMeans, earlier_layers, shrunk
from modiste.models.tagger import Tagger
from modiste.training.state import check_recipe

# isort: split
import timm


def pixels(size, count=2):
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(1))


# The last one's maps have their channels last.
@pytest.mark.parametrize(
    ("name", "size", "earlier"),
    [
        ("mobilenetv2_100", 64, 5),
        ("test_nfnet", 64, 4),
        ("test_resnet", 64, 4),
        ("swin_tiny_patch4_window7_224", 224, 3),
    ],
)
def test_features_are_the_means_of_timms_feature_maps_and_the_last_layers(name, size, earlier):
    torch.manual_seed(0)
    network = create_backbone(name).eval()
    maps = timm.create_model(name, features_only=True, out_indices=tuple(range(earlier))).eval()
    names = {"_".join(key.split(".")): value for key, value in network.state_dict().items()}
    maps.load_state_dict({key: names["_".join(key.split("."))] for key in maps.state_dict()})
    with torch.inference_mode():
        features = LayerMeans(network)(pixels(size))
        channels_last = getattr(network, "output_fmt", "NCHW") == "NHWC"
        means = [each.mean(dim=(1, 2) if channels_last else (2, 3)) for each in maps(pixels(size))]
        torch.testing.assert_close(features, torch.cat([*means, network(pixels(size))], dim=1))


def test_of_a_transformer_some_blocks_evenly_and_the_mean_of_their_tokens():
    torch.manual_seed(0)
    with torch.device("meta"):
        layers = earlier_layers(create_backbone("vit_tiny_patch16_224"))
    assert layers == (("blocks.2", 192), ("blocks.5", 192), ("blocks.8", 192))
    network = create_backbone("test_vit").eval()
    chosen = [int(layer.module.removeprefix("blocks.")) for layer in earlier_layers(network)]
    with torch.inference_mode():
        tokens = network.patch_embed(pixels(160))
        tokens = network.norm_pre(network._pos_embed(tokens))
        means = []
        for k, block in enumerate(network.blocks):
            tokens = block(tokens)
            means += [tokens.mean(dim=1)] if k in chosen else []
        torch.testing.assert_close(
            LayerMeans(network)(pixels(160)), torch.cat([*means, network(pixels(160))], dim=1), rtol=1e-4, atol=1e-4
        )


def test_what_the_last_layer_says_already_is_left_out():
    with torch.device("meta"):
        assert [layer.module for layer in earlier_layers(create_backbone("resnet18"))] == [
            "act1",
            "layer1",
            "layer2",
            "layer3",
        ]


def test_a_copy_sees_with_its_own_layers():
    torch.manual_seed(0)
    layers = LayerMeans(create_backbone("test_resnet")).eval()
    other = deepcopy(layers)
    photos = pixels(64)
    with torch.inference_mode():
        before = layers(photos)
        assert torch.equal(other(photos), before)
        other.network.conv1[0].weight.zero_()
        after = other(photos)
        assert (after[:, : layers.layers[0].channels] != before[:, : layers.layers[0].channels]).any()
        assert torch.equal(layers(photos), before)


def test_threads_that_ask_one_network_get_their_own_photos():
    torch.manual_seed(0)
    layers, heard = LayerMeans(create_backbone("test_resnet")).eval(), []

    def ask(photos):
        with torch.inference_mode():
            heard.append(layers(photos))

    alone, amid = pixels(64)[:1], pixels(64)[1:]
    ask(alone)

    def meanwhile(*_):
        handle.remove()
        thread = Thread(target=ask, args=[amid])
        thread.start()
        thread.join()

    handle = layers.network.layer2.register_forward_hook(meanwhile)
    ask(alone)
    ask(amid)
    assert torch.equal(heard[2], heard[0])  # 1 came in the middle of 2
    assert torch.equal(heard[1], heard[3])


def zero(tensor):
    tensor.zero_()


def test_what_overwrites_an_output_later_changes_no_mean():
    torch.manual_seed(0)
    layers = LayerMeans(create_backbone("test_resnet")).eval()
    upto = sum(layer.channels for layer in layers.layers[:2])
    with torch.inference_mode():
        before = layers(pixels(64))[:, :upto]
        layers.network.layer2.register_forward_pre_hook(lambda module, inputs: zero(inputs[0]))
        assert torch.equal(layers(pixels(64))[:, :upto], before)


def test_no_hook_stays():
    layers = LayerMeans(create_backbone("test_resnet"))
    with pytest.raises(RuntimeError):
        layers(torch.zeros(1, 4, 64, 64))
    assert not any(module._forward_hooks for module in layers.modules())


@pytest.mark.parametrize("name", ["test_resnet", "test_byobnet", "test_vit", "mobilenetv2_100"])
def test_coarse_groups_are_those_of_the_network(name):
    with torch.device("meta"):
        network = create_backbone(name)
        groups = coarse_groups(LayerMeans(network))
        assert groups == [[f"network.{key}" for key in group] for group in coarse_groups(network)]
        assert sorted(key for group in groups for key in group) == sorted(
            key for key, _ in LayerMeans(network).named_parameters()
        )


@pytest.mark.parametrize("name", ["coat_tiny", "coat_lite_tiny", "crossvit_tiny_240"])
def test_a_backbone_without_such_layers_is_refused_before_training(name):
    model = {"backbone": name, "weights": "none", "features": "layers"}
    recipe = Recipe.model_validate({"name": "a", "model": model, "stages": [{"name": "a", "epochs": 1, "lr": 1}]})
    with pytest.raises(RecipeError, match=r"model.features = 'layers', but got .* Try .*model.features = 'last'\.$"):
        check_recipe(recipe)
    check_recipe(recipe.replace(["model.features=last"]))


@pytest.mark.parametrize("size", [(3, 2), (7, 7), (4, 4)])
def test_maps_shrink_to_averages_and_keep_their_means(size):
    maps = torch.randn(2, 3, 12, 8, dtype=torch.float64)
    small = shrunk(maps, size)
    assert small.shape[2:] == size
    torch.testing.assert_close(small.mean(dim=(2, 3)), maps.mean(dim=(2, 3)))
    if (12 % size[0], 8 % size[1]) == (0, 0):
        rows, columns = 12 // size[0], 8 // size[1]
        expected = maps.reshape(2, 3, size[0], rows, size[1], columns).mean(dim=(3, 5))
        torch.testing.assert_close(small, expected)


def test_features_of_the_last_layer_keep_their_names():
    last, layers = (
        Tagger(ModelConfig(backbone="test_byobnet", weights="none", features=f), 3) for f in ("last", "layers")
    )
    assert set(last.state_dict()) == {
        *(f"backbone.{key}" for key in create_backbone("test_byobnet").state_dict()),
        *("mean", "std", "head.weight", "head.bias"),
    }
    assert last.head.in_features == 256
    assert layers.head.in_features == 24 + 32 + 64 + 128 + 256
