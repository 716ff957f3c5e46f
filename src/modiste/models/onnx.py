"""Networks -> ONNX graphs."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn


def to_onnx(network: nn.Module, photos: Tensor, outputs: Sequence[str] | None = None) -> Any:
    """Trace a network into an onnx.ModelProto whose first axis, photos, has any length.

    Args:
        network: takes `photos` alone.
        photos: uint8, two at least, as it will get them.
        outputs: names of what it gives.
    """
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # the exporter's own, about PyTorch's insides
        logging.getLogger("onnxscript").setLevel(logging.ERROR)
        program = torch.onnx.export(
            network,
            (photos,),
            dynamo=True,
            dynamic_shapes=(({0: torch.export.Dim.DYNAMIC}),),
            input_names=["photos"],
            output_names=outputs,
            verbose=False,
        )
    assert program is not None
    return program.model_proto
