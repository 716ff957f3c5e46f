"""An ONNX graph in float32 -> the same in int8: weights per channel, activations by what real photos reach.

Static quantisation of ONNX Runtime, in the QDQ format. Where the whole network in int8 costs too much, the blocks
that cost most stay in float32.
"""

from __future__ import annotations

import logging
import platform
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

FEWEST_CALIBRATION = 32  # photos to calibrate with: fewer leave the range of an activation to chance
MOST = 256  # photos that are used of those given: ranges hardly move after that
BLOCKS = 16  # pieces of the network that may stay in float32, each by itself
_AT_ONCE = 8  # photos that are run together


class Quantizer:
    """Makes int8 graphs of one network, which share what calibration found.

    Args:
        graph: an onnx.ModelProto in float32, as `onnx_graph.to_onnx` makes it.
        photos: (n, size, size, 3) uint8 RGB to calibrate with.
        folder: for temporary files.
        progress: told (photos done, photos in all).
    """

    def __init__(
        self, graph: Any, photos: np.ndarray, folder: Path, progress: Callable[[int, int], None] = lambda *_: None
    ) -> None:
        self._folder, self._photos, self._progress = folder, photos, progress
        self._prepared, self._ranges = folder / "prepared.onnx", folder / "ranges.json"
        self._ranges.unlink(missing_ok=True)  # another network's
        onnx.save(graph, folder / "float32.onnx")
        # Folds batch-norms into the convolutions before them, so that both are rounded once.
        quant_pre_process(folder / "float32.onnx", self._prepared, skip_symbolic_shape=True)
        nodes = onnx.load(self._prepared).graph.node
        leading = _leading_to_convolutions(nodes)
        pieces = np.array_split([node.name for node in nodes if node.name in leading], BLOCKS)
        self.blocks = [piece.tolist() for piece in pieces if len(piece)]
        # What no convolution follows, pooling, head and blend, costs nothing, and every label's score rests on it.
        self._never = [node.name for node in nodes if node.name not in leading]

    def quantized(self, kept: Sequence[int] = ()) -> Any:
        """The graph in int8 but for the blocks `kept`, as an onnx.ModelProto."""
        path = self._folder / "int8.onnx"
        names = [name for k in kept for name in self.blocks[k]]
        root = logging.getLogger()
        level = root.level
        root.setLevel(logging.ERROR)  # the library logs on the root logger
        try:
            quantize_static(
                self._prepared,
                path,
                _Photos(self._photos, self._progress),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                reduce_range=not _has_vnni(),
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                nodes_to_exclude=[*self._never, *names],
                calibration_cache_path=self._ranges,
            )
        finally:
            root.setLevel(level)
        return onnx.load(path)


def _leading_to_convolutions(nodes: Sequence[Any]) -> set[str]:
    """Names of the convolutions and of all that they are computed from; `nodes` are in order of computation."""
    needed: set[str] = set()
    leading: set[str] = set()
    for node in reversed(nodes):
        if node.op_type == "Conv" or needed & set(node.output):
            leading.add(node.name)
            needed.update(node.input)
    return leading


class _Photos(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, photos: np.ndarray, progress: Callable[[int, int], None]) -> None:
        self._batches = self._read(photos, progress)

    @staticmethod
    def _read(photos: np.ndarray, progress: Callable[[int, int], None]) -> Iterator[dict[str, np.ndarray]]:
        for start in range(0, len(photos), _AT_ONCE):
            yield {"photos": photos[start : start + _AT_ONCE]}
            progress(min(start + _AT_ONCE, len(photos)), len(photos))

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next batch."""
        return next(self._batches, None)


def _has_vnni() -> bool:
    """Whether this processor adds products of bytes without overflow; on others, weights get seven bits."""
    if platform.machine().lower() in {"arm64", "aarch64"}:
        return True
    try:
        return "vnni" in Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
