"""Features of several layers: the mean of each earlier block's output, beside what the backbone ends in.

timm says of every backbone which blocks these are, in `feature_info`: one for each resolution.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from threading import get_ident
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn
from torch.nn.functional import adaptive_avg_pool2d

from modiste.errors import RecipeError

MOST = 4  # layers of one resolution, evenly spaced: a transformer has all its blocks at one

fx.wrap("as_grid")  # looks at shapes, which nobody knows while operations are traced


class Layer(NamedTuple):
    """A block of a timm network: the name of its module, and the channels of its output."""

    module: str
    channels: int


class Seen(NamedTuple):
    """What a backbone makes of n photos.

    Attributes:
        features: (n, features).
        grid: of its last layer, before pooling; of some networks tokens, or several tensors.
        evidence: of each earlier layer, (n, labels, height, width) on its own grid; empty where none was asked for.
    """

    features: Tensor
    grid: Any
    evidence: tuple[Tensor, ...] = ()


class LayerMeans(nn.Module):
    """A timm network whose features are the means of its earlier layers over all places, then its own.

    Args:
        network: ends in pooled features.

    Attributes:
        layers: the earlier ones, from input to output.
        num_features: of all layers together.

    Raises:
        RecipeError: timm doesn't say which layers it has.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.layers = earlier_layers(network)
        self.num_features = sum(layer.channels for layer in self.layers) + feature_count(network)

    def forward(self, pixels: Tensor) -> Tensor:
        """(n, 3, height, width), normalised -> (n, num_features).

        Raises:
            RecipeError: a layer's output is another than timm says.
        """
        with self._listening(_mean) as means:
            last = self.network(pixels)
        return torch.cat([*self._ordered(means), last], dim=1)

    def see(self, pixels: Tensor, weight: Tensor | None) -> Seen:
        """The same with the last grid, and the evidence of earlier layers where it is asked for.

        Args:
            pixels: (n, 3, height, width), normalised.
            weight: (labels, num_features) of the layer that follows the features.
        """
        network: Any = self.network
        widths = [*(layer.channels for layer in self.layers), feature_count(network)]
        weights = None if weight is None else torch.split(weight, widths, dim=1)
        evidence: dict[int, Tensor] = {}

        def take(k: int, places: Tensor) -> Tensor:
            if weights is not None:
                evidence[k] = (weights[k] @ places.flatten(2)).reshape(places.shape[0], -1, *places.shape[2:])
            return _mean(k, places)

        with self._listening(take) as means:
            grid = network.forward_features(pixels)
        features = torch.cat([*self._ordered(means), network.forward_head(grid)], dim=1)
        return Seen(features, grid, tuple(evidence[k] for k in sorted(evidence)))

    def check(self) -> None:
        """See one blank photo, in eval mode.

        Raises:
            RecipeError: a layer's output is another than timm says.
        """
        network: Any = self.network
        with torch.inference_mode():
            self.eval()(torch.zeros(1, *network.pretrained_cfg["input_size"]))

    @contextmanager
    def _listening(self, take: Callable[[int, Tensor], Tensor]) -> Iterator[dict[int, Tensor]]:
        """Keep what `take` makes of each earlier layer's number and grid while the network runs.

        At once, as what follows a block may overwrite its output. Hooks live as long as one pass: a copy of this
        network has its own.
        """
        thread, at_end = get_ident(), has_channels_last(self.network)
        found: dict[int, Tensor] = {}

        def hook(k: int) -> Callable[[nn.Module, Any, Any], None]:
            def keep(module: nn.Module, inputs: Any, output: Any) -> None:
                if get_ident() == thread:  # else of other photos
                    found[k] = take(k, as_grid(output, self.layers[k].channels, at_end))

            return keep

        modules = [self.network.get_submodule(layer.module) for layer in self.layers]
        handles = [module.register_forward_hook(hook(k)) for k, module in enumerate(modules)]
        try:
            yield found
        finally:
            for handle in handles:
                handle.remove()

    def _ordered(self, found: dict[int, Tensor]) -> list[Tensor]:
        if len(found) < len(self.layers):
            raise _no_layers("one whose blocks are no steps of its own")
        return [found[k] for k in range(len(self.layers))]


def timm_network(backbone: nn.Module) -> Any:
    """The network of timm in a backbone that may be LayerMeans."""
    return backbone.network if isinstance(backbone, LayerMeans) else backbone


def see(backbone: nn.Module, pixels: Tensor, weight: Tensor | None) -> Seen:
    """Features and last grid of any backbone; evidence of earlier layers where a last layer's `weight` is given."""
    if isinstance(backbone, LayerMeans):
        return backbone.see(pixels, weight)
    network: Any = backbone
    grid = network.forward_features(pixels)
    return Seen(network.forward_head(grid), grid)


def feature_count(backbone: nn.Module) -> int:
    """Features that a backbone ends in."""
    counted: Any = backbone
    return int(getattr(backbone, "head_hidden_size", None) or counted.num_features)


def has_channels_last(network: nn.Module) -> bool:
    """Whether grids of a timm network are (n, height, width, channels)."""
    return bool(getattr(network, "output_fmt", "NCHW") == "NHWC")


def earlier_layers(network: nn.Module) -> tuple[Layer, ...]:
    """The blocks of a timm network whose outputs are something else than what it pools at its end.

    Of one resolution, MOST at most: the ends of so many equal parts.

    Raises:
        RecipeError: timm doesn't say which they are.
    """
    info: Sequence[dict[str, Any]] = getattr(network, "feature_info", None) or ()
    modules = {name for name, _ in network.named_modules()}
    chosen: list[Layer] = []
    for _, alike in groupby(info, lambda entry: entry["reduction"]):
        entries = list(alike)
        parts = min(len(entries), MOST)
        ends = [len(entries) * (part + 1) // parts - 1 for part in range(parts)]
        chosen += [Layer(entries[end]["module"], entries[end]["num_chs"]) for end in ends]
    if chosen and chosen[-1].channels == feature_count(network):
        chosen.pop()
    names = [layer.module for layer in chosen]
    if not chosen or not set(names) <= modules or len(set(names)) < len(names):
        raise _no_layers("one that doesn't name them")
    return tuple(chosen)


def as_grid(output: Any, channels: int, channels_last: bool) -> Tensor:
    """A block's output as (n, channels, height, width); tokens, (n, tokens, channels), are one place: their mean.

    Raises:
        RecipeError: it is something else.
    """
    if isinstance(output, Tensor) and output.ndim in {3, 4}:
        if output.ndim == 3:
            grid = output.mean(dim=1)[:, :, None, None]
        else:
            grid = output.permute(0, 3, 1, 2) if channels_last else output
        if grid.shape[1] == channels:
            return grid
    got = f"a shape of {list(output.shape)}" if isinstance(output, Tensor) else f"a {type(output).__name__}"
    raise _no_layers(f"{got} instead of {channels} channels")


def shrunk(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """(n, labels, height, width) averaged down to another height and width, with the mean of each map kept.

    Cells of a grid that doesn't divide the other overlap, so that places count unequally; a constant makes up for it.
    """
    pooled = adaptive_avg_pool2d(maps, size)
    return pooled + (maps.mean(dim=(2, 3), keepdim=True) - pooled.mean(dim=(2, 3), keepdim=True))


def _mean(k: int, places: Tensor) -> Tensor:
    return places.mean(dim=(2, 3))


def _no_layers(got: str) -> RecipeError:
    want = "a backbone whose blocks each give one feature map, for model.features = 'layers'"
    return RecipeError.expected(want, got, "another backbone, or model.features = 'last'")
