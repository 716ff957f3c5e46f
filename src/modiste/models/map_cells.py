"""Where the cells of a network's maps lie in the square that it sees."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from modiste.models.layers import has_channels_last, timm_network
from modiste.models.tagger import Tagger, normalise
from modiste.prediction import MapCells

_ASTRAY = 0.1  # of the stride: what is measured may differ by so much
_FAINT = 0.1  # of the largest: gradients below are what gates and attention bring from everywhere


def find_cells(model: Tagger, size: int) -> MapCells | None:
    """Measure where a network's places look.

    MapCells are no even split of the square: with padding on both sides, a cell of stride 32 looks half a cell up and
    left of its share, and networks without padding never look at the border. Here every kernel is left its middle
    alone and every maximum becomes a mean, so that what moves a cell, its gradient, is where it lies.

    Args:
        model: the network; it is not changed.
        size: pixels a side of the square.

    Returns:
        None where the network has no map of places.
    """
    backbone: Any = deepcopy(timm_network(model.backbone)).eval()
    generator = torch.Generator().manual_seed(0)
    for module in list(backbone.modules()):
        if isinstance(module, nn.Conv2d):
            _keep_middle(module, generator)
        for name, pool in module.named_children():
            if type(pool) is nn.MaxPool2d:
                setattr(module, name, _mean_of(pool))
    photo = 255 * torch.rand(1, 3, size, size, generator=generator).to(model.mean.device)
    with torch.enable_grad():
        photo.requires_grad_()
        grid = backbone.forward_features(normalise(photo, model.mean, model.std))
        if not isinstance(grid, Tensor) or grid.ndim != 4:
            return None
        places = grid[0] if has_channels_last(backbone) else grid[0].permute(1, 2, 0)
        count = len(places)
        first, last = count // 4, count - 1 - count // 4  # neither is at the border, where padding lies
        measured = {place: _middle(places[place, place], photo) for place in (first, last)}
    stride, start = _line(backbone, size, count, measured)
    return MapCells(size, tuple((start + stride * k + 0.5) / size for k in range(count)))


def _line(backbone: Any, size: int, count: int, measured: dict[int, float]) -> tuple[float, float]:
    """How far cells lie apart, in pixels, and where the first one's centre is.

    The stride is timm's, as the measured one is a pixel off in deep networks. Where the measured one is no
    stride at all, as attention mixes all places, cells are an even split.
    """
    if len(measured) == 1:
        ((place, middle),) = measured.items()
        return size, middle - size * place
    stride = getattr(backbone, "feature_info", None) and backbone.feature_info[-1].get("reduction")
    stride = float(stride or size / count)
    (first, one), (last, two) = measured.items()
    if not abs((two - one) / (last - first) - stride) <= _ASTRAY * stride:  # nan is none
        return size / count, (size / count - 1) / 2
    return stride, (one + two) / 2 - stride * (first + last) / 2


def _keep_middle(convolution: nn.Conv2d, generator: torch.Generator) -> None:
    """Draw a kernel's middle, or its two, anew, as large as all of it is, and leave the rest nothing."""
    with torch.no_grad():
        weight = convolution.weight
        rows, columns = (slice((length - 1) // 2, length // 2 + 1) for length in weight.shape[2:])
        size = weight.square().sum(dim=(2, 3), keepdim=True).sqrt()
        drawn = size * torch.randn(weight[:, :, rows, columns].shape, generator=generator).to(weight)
        weight.zero_()[:, :, rows, columns] = drawn


def _mean_of(pool: nn.MaxPool2d) -> nn.AvgPool2d:
    return nn.AvgPool2d(pool.kernel_size, pool.stride, pool.padding, pool.ceil_mode, count_include_pad=False)


def _middle(place: Tensor, photo: Tensor) -> float:
    """The centre of what moves one place, in pixels; a square's rows and columns are alike."""
    (gradient,) = torch.autograd.grad((place / place.abs().max()).square().sum(), photo, retain_graph=True)
    moved = (gradient / gradient.abs().max()).square().sum(dim=(0, 1))
    moved = torch.where(moved < _FAINT * moved.max(), 0, moved).double()
    along = torch.arange(len(moved), device=moved.device)
    return float(((moved.sum(dim=0) + moved.sum(dim=1)) * along).sum() / (2 * moved.sum()))
