import copy
import hashlib
from collections.abc import Iterator
from typing import Any

import pytest
from torch import Tensor, nn

from modiste.exporting import export


@pytest.fixture(scope="module", autouse=True)
def traced_once() -> Iterator[None]:
    """Tracing takes longer than all else of an export: the same network with the same weights is traced once."""
    graphs: dict[object, Any] = {}
    trace = export.to_onnx

    def traced(network: nn.Module, photos: Tensor, outputs: list[str]) -> Any:
        weights = hashlib.sha256()
        for tensor in network.state_dict().values():
            weights.update(tensor.numpy().tobytes())
        key = (repr(network), weights.digest(), photos.shape, tuple(outputs))
        if key not in graphs:
            graphs[key] = trace(network, photos, outputs)
        return copy.deepcopy(graphs[key])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "to_onnx", traced)
        yield
