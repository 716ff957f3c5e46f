"""The network in two parts: what a lock makes constant, and the rest that trains.

The locked part is every operation that no unlocked parameter reaches; the boundary is those of its results that the
unlocked part goes on from. Both are cut from the graph of the backbone's operations and share its modules, so the
unlocked part trains the very parameters of the network.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, fx, nn

from modiste.models import torchvision_compat  # noqa: F401  before timm

# isort: split
from timm.models import get_notrace_functions, get_notrace_modules

from modiste.models.tagger import Tagger, Unlock, normalise

_log = logging.getLogger("modiste")


class Locked(nn.Module):
    """(n, 3, size, size) uint8 RGB in [0, 255] -> the tensors at one boundary or several, each (n, ...)."""

    mean: Tensor
    std: Tensor

    def __init__(self, model: Tagger, part: nn.Module) -> None:
        super().__init__()
        self.part = part
        self.register_buffer("mean", model.mean)
        self.register_buffer("std", model.std)

    def forward(self, photos: Tensor) -> tuple[Tensor, ...]:
        """Normalise, then run what is locked."""
        boundary = self.part(normalise(photos, self.mean, self.std))
        return boundary if isinstance(boundary, tuple) else (boundary,)


class Unlocked(nn.Module):
    """The tensors at a boundary -> (n, labels) logits."""

    def __init__(self, model: Tagger, part: nn.Module | None) -> None:
        super().__init__()
        self.part = part
        self.dropout, self.head = model.dropout, model.head

    def forward(self, *boundary: Tensor) -> Tensor:
        """Run what is unlocked of the backbone, then dropout and head."""
        features = boundary[0] if self.part is None else self.part(*boundary)
        logits: Tensor = self.head(self.dropout(features))
        return logits


class NetworkSplitter:
    """Cuts one network where its locks end; the graph of its operations is drawn once.

    Args:
        model: the network; its parts share its modules and weights.
        size: pixels a side of a picture that a cut is tried with.
    """

    def __init__(self, model: Tagger, size: int) -> None:
        self.model = model
        self._size = size
        self._can: dict[Unlock, bool] = {}

    def can_cut(self, unlock: Unlock) -> bool:
        """Whether there is a locked part, and both parts together give exactly the output of the whole."""
        if unlock in {"none", "all"}:
            return unlock == "none"
        if unlock not in self._can:
            self._can[unlock] = bool(self._boundary(unlock)) and self._agrees(unlock)
        return self._can[unlock]

    def locked(self, unlocks: Sequence[Unlock]) -> Locked:
        """What is locked in each of several stages, in one pass: tensors of the first boundary, then the next."""
        if set(unlocks) == {"none"}:
            return Locked(self.model, self.model.backbone)
        outputs = [node for unlock in unlocks for node in self._boundary(unlock)]
        return Locked(self.model, _before(self.model.backbone, self._graph, outputs))

    def unlocked(self, unlock: Unlock) -> Unlocked:
        """What trains where `unlock` is unlocked."""
        if unlock == "none":
            return Unlocked(self.model, None)
        return Unlocked(self.model, _after(self.model.backbone, self._graph, self._boundary(unlock)))

    @cached_property
    def _graph(self) -> fx.Graph | None:
        """None where the operations can't be traced, or are others in training than in evaluation."""
        backbone = self.model.backbone
        with _modes_kept(backbone):
            try:
                graphs = [_Tracer().trace(backbone.train(mode)) for mode in (True, False)]
            except Exception as error:  # whatever a backbone's own code raises when it meets a proxy, no tensor
                _log.info("%s: its operations can't be traced (%s)", _SLOWER, _first_line(error))
                return None
            training, evaluating = (fx.GraphModule(backbone, graph).code for graph in graphs)
        if training == evaluating:
            return graphs[1]
        _log.info("%s: its operations differ between training and evaluation", _SLOWER)
        return None

    def _boundary(self, unlock: Unlock) -> list[fx.Node]:
        """Empty where nothing is locked, or nobody can tell."""
        if self._graph is None:
            return []
        if unlock == "none":
            output = next(node for node in self._graph.nodes if node.op == "output")
            return list(output.all_input_nodes)
        return _boundary(self._graph, self.model.backbone, self.model.unlocked(unlock))

    def _agrees(self, unlock: Unlock) -> bool:
        """Whether the boundary is tensors of each photo, and the parts agree with the whole on two of them."""
        photos = torch.arange(2 * 3 * self._size**2, device=self.model.mean.device) * 7919 % 256
        photos = photos.reshape(2, 3, self._size, self._size).to(torch.uint8)
        with _modes_kept(self.model), torch.inference_mode():
            self.model.eval()
            try:
                boundary = self.locked([unlock])(photos)
                if not all(torch.is_tensor(each) and each.is_floating_point() and len(each) == 2 for each in boundary):
                    return False
                said, whole = self.unlocked(unlock)(*boundary), self.model(photos)
            except Exception as error:  # whatever operations raise when they are cut through what is no tensor
                _log.info("%s: it can't be cut at unlock = %s (%s)", _SLOWER, unlock, _first_line(error))
                return False
        alike = torch.allclose(said, whole, rtol=1e-4, atol=1e-5 * float(whole.abs().max()))
        if not alike:
            _log.info("%s: cut at unlock = %s, its parts differ from the whole", _SLOWER, unlock)
        return alike


_SLOWER = "the network trains from pixels where some groups are unlocked, which is slower"


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0][:160]}"


class _Tracer(fx.Tracer):
    def __init__(self) -> None:
        super().__init__(autowrap_functions=tuple(get_notrace_functions()))  # type: ignore[no-untyped-call]
        self.leaves = tuple(get_notrace_modules())  # type: ignore[no-untyped-call]

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, self.leaves) or super().is_leaf_module(m, module_qualified_name)

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Run the hooks of a leaf too: others' are run as their operations are traced."""
        output = super().call_module(m, forward, args, kwargs)
        if self.is_leaf_module(m, self.path_of_module(m)):
            for hook in m._forward_hooks.values():
                hook(m, args, output)
        return output


@contextmanager
def _modes_kept(network: nn.Module) -> Iterator[None]:
    """Leave every module in the mode that it was in."""
    before = [(module, module.training) for module in network.modules()]
    try:
        yield
    finally:
        for module, mode in before:
            module.training = mode


def _boundary(graph: fx.Graph, backbone: nn.Module, unlocked: Set[str]) -> list[fx.Node]:
    """Results of a photo that no unlocked parameter reaches, but whose users it does."""
    owners = {name.rsplit(".", depth)[0] for name in unlocked for depth in range(name.count(".") + 1)}
    moving: set[fx.Node] = set()
    of_photo: set[fx.Node] = set()
    for node in graph.nodes:
        own = node.op in {"call_module", "get_attr"} and (node.target in owners or node.target in unlocked)
        if own or node.op == "output" or any(source in moving for source in node.all_input_nodes):
            moving.add(node)
        if node.op == "placeholder" or any(source in of_photo for source in node.all_input_nodes):
            of_photo.add(node)
    still = of_photo - moving
    boundary = [node for node in graph.nodes if node in still and any(user in moving for user in node.users)]
    if not any(_weights(node, backbone) for node in still):
        return []  # nothing is locked that would be worth keeping
    # What follows from another tensor at the boundary without any weight, such as its mean, is not worth keeping.
    weightless = {node for node in boundary if not _weights(node, backbone)}
    return [node for node in boundary if node not in weightless or not set(node.all_input_nodes) <= set(boundary)]


def _weights(node: fx.Node, backbone: nn.Module) -> bool:
    if node.op == "call_module":
        return bool(backbone.get_submodule(str(node.target)).state_dict())
    return node.op == "get_attr"


def _before(backbone: nn.Module, graph: fx.Graph | None, outputs: Sequence[fx.Node]) -> nn.Module:
    """The operations that lead from the photos to `outputs`."""
    assert graph is not None
    needed: set[fx.Node] = set(outputs)
    for node in reversed(graph.nodes):
        if node in needed:
            needed.update(node.all_input_nodes)
    part = fx.Graph()
    made: dict[fx.Node, fx.Node] = {}
    for node in graph.nodes:
        if node in needed:
            made[node] = part.node_copy(node, made.__getitem__)
    part.output(tuple(made[node] for node in outputs))
    return fx.GraphModule(backbone, part)


def _after(backbone: nn.Module, graph: fx.Graph | None, inputs: Sequence[fx.Node]) -> nn.Module:
    """The operations that lead from `inputs` to the backbone's output, with what no photo is needed for."""
    assert graph is not None
    needed: set[fx.Node] = set()
    for node in reversed(graph.nodes):
        if node.op == "output" or (node not in inputs and any(user in needed for user in node.users)):
            needed.add(node)
    part = fx.Graph()
    made = {node: part.placeholder(f"boundary_{k}") for k, node in enumerate(inputs)}
    for node in graph.nodes:
        if node in needed:
            made[node] = part.node_copy(node, made.__getitem__)
    return fx.GraphModule(backbone, part)
