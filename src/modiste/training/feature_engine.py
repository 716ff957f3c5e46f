"""What computes the locked part: the fastest engine at hand.

On a CPU that is ONNX Runtime, on a graph exported once (1.4 to 1.5 times eager PyTorch on the paper's networks,
benchmarks/recipe.py); exporting takes 5 to 20 seconds, so few photos go through PyTorch. On a GPU it is PyTorch in
half precision.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from importlib.util import find_spec

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from modiste.inference.onnx import open_session
from modiste.models.onnx import to_onnx
from modiste.models.split import Locked

_log = logging.getLogger("modiste")

WORTH_EXPORTING = 9e12  # operations: 15 s of export / (1/3 of the time saved) x 200 GFLOP/s of eager PyTorch

ComputeFeatures = Callable[[np.ndarray], list[np.ndarray]]  # (n, 3, size, size) uint8 -> float16 tensors (n, ...)


def make_engine(part: Locked, size: int, photos: int, device: torch.device) -> ComputeFeatures:
    """A function from pixels to the boundary's tensors.

    Args:
        part: what is locked; it is put into eval mode.
        size: pixels a side.
        photos: how many photos and views there are, those included that are kept already: a computation that was
            killed is resumed with the engine that it began with.
        device: where `part` lies.
    """
    part.eval()
    if device.type == "cpu" and photos * operations(part, size) >= WORTH_EXPORTING:
        lacking = [package for package in ("onnx", "onnxscript", "onnxruntime") if not find_spec(package)]
        try:
            if not lacking:
                return _onnx_runtime(part, size)
            why = f"{', '.join(lacking)} missing"
        except Exception as error:  # whatever an exporter meets in a backbone's code; PyTorch computes it too
            why = f"{type(error).__name__}: {str(error).splitlines()[0][:160]}" if str(error) else repr(error)
        _log.info("features are computed by PyTorch, 1.5 times as slow as ONNX Runtime: %s", why)
    return _pytorch(part, device)


def operations(part: Locked, size: int) -> int:
    """Floating-point operations that one photo takes: two for each multiplication and addition."""
    counter = FlopCounterMode(display=False)
    with counter, torch.inference_mode():
        part(torch.zeros(1, 3, size, size, dtype=torch.uint8, device=part.mean.device))
    return int(counter.get_total_flops())


def _pytorch(part: Locked, device: torch.device) -> ComputeFeatures:
    def run(photos: np.ndarray) -> list[np.ndarray]:
        pixels = torch.from_numpy(photos).to(device, non_blocking=True)
        with torch.inference_mode(), torch.autocast(device.type, torch.float16, enabled=device.type == "cuda"):
            return [tensor.half().cpu().numpy() for tensor in part(pixels)]

    return run


def _onnx_runtime(part: Locked, size: int) -> ComputeFeatures:
    graph = to_onnx(part, torch.zeros(2, 3, size, size, dtype=torch.uint8))
    session = open_session(graph.SerializeToString(), torch.get_num_threads())

    def run(photos: np.ndarray) -> list[np.ndarray]:
        with np.errstate(over="ignore"):  # who keeps them looks for infinities
            return [tensor.astype(np.float16) for tensor in session.run(None, {"photos": photos})]

    return run
