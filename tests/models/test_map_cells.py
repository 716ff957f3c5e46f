"""Where cells lie: against the arithmetic of strides and paddings, whatever the weights."""

import numpy as np
import pytest
import torch

from modiste.config import ModelConfig
from modiste.models.map_cells import find_cells
from modiste.models.tagger import Tagger
from modiste.prediction import MapCells

# Kernel, stride and padding of what a place passes through, where kernels are no mere same-size ones.
INCEPTION_RESNET = [(3, 2, 0), (3, 1, 0), (3, 2, 0), (3, 1, 0), (3, 2, 0), (3, 2, 0), (3, 2, 0)]
INCEPTION_V4 = [(3, 2, 0), (3, 1, 0), (3, 2, 0), (3, 1, 0), (3, 2, 0), (3, 2, 0), (3, 2, 0)]
XCEPTION = [(3, 2, 0), (3, 1, 0), *[(3, 2, 1)] * 4]
MOBILENET = [(3, 2, 1)] * 5
CONVNEXT = [(4, 4, 0), *[(2, 2, 0)] * 3]
NETWORKS = [
    ("inception_resnet_v2", 299, INCEPTION_RESNET),
    ("inception_v4", 299, INCEPTION_V4),
    ("legacy_xception", 299, XCEPTION),
    ("mobilenetv2_100", 224, MOBILENET),
    ("mobilenetv2_100", 128, MOBILENET),
    ("convnext_atto", 224, CONVNEXT),
    ("swin_tiny_patch4_window7_224", 224, CONVNEXT),
]


@pytest.mark.parametrize(("name", "size", "layers"), NETWORKS)
def test_cells_lie_where_strides_and_paddings_put_them(name, size, layers):
    start, stride = 0.0, 1
    for kernel, step, padding in layers:
        start, stride = start + ((kernel - 1) / 2 - padding) * stride, stride * step
    torch.manual_seed(0)
    model = Tagger(ModelConfig(backbone=name, weights="none"), 3).eval()
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    cells = find_cells(model, size)
    found = np.array(cells.centres) * size - 0.5
    np.testing.assert_allclose(np.diff(found), stride, atol=1e-6)
    np.testing.assert_allclose(found[0], start, atol=1.5)
    assert all(torch.equal(before[key], tensor) for key, tensor in model.state_dict().items())


@pytest.mark.parametrize("name", ["coatnet_nano_rw_224", "tiny_vit_5m_224"])
def test_where_attention_mixes_all_places_cells_are_an_even_split(name):
    torch.manual_seed(0)
    cells = find_cells(Tagger(ModelConfig(backbone=name, weights="none"), 3).eval(), 224)
    np.testing.assert_allclose(cells.centres, (np.arange(7) + 0.5) / 7)


def test_cells_are_the_last_layers_where_features_are_of_several():
    torch.manual_seed(0)
    last, layers = (
        find_cells(Tagger(ModelConfig(backbone="mobilenetv2_100", weights="none", features=features), 3).eval(), 128)
        for features in ("last", "layers")
    )
    np.testing.assert_allclose(layers.centres, last.centres, atol=0.01)


def test_what_has_no_places_has_no_cells():
    model = Tagger(ModelConfig(backbone="test_vit", weights="none"), 3).eval()
    assert find_cells(model, model.backbone.patch_embed.img_size[0]) is None


def test_a_cell_reaches_to_its_neighbours_and_peaks_at_its_centre():
    cells = MapCells(64, ((0 + 0.5) / 64, (32 + 0.5) / 64))
    spread = cells.spread(64)
    np.testing.assert_array_equal(spread.argmax(axis=0), [0, 32])
    np.testing.assert_allclose(spread[:33].sum(axis=1), 1)
    np.testing.assert_allclose(spread[16], [0.5, 0.5])
    assert MapCells(64, (0.5,)).spread(8).argmax() in (3, 4)
