"""Let `import torchvision` work beside a torch that was built without torchvision's compiled ops.

Linux CPU wheels of torch next to PyPI's CUDA-linked torchvision can't load its compiled library;
the import then fails with "operator torchvision::nms does not exist", because torchvision registers
shape functions for ops that nobody declared. timm imports torchvision, but none of these ops is used
here, so declaring their schemas is enough. Import this module before timm and lightning_fabric.
"""

from __future__ import annotations

import sys
from typing import Any

import torch

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)

try:
    import torchvision  # noqa: F401
except RuntimeError as error:
    if "torchvision::nms" not in str(error):
        raise
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]
    DECLARED: Any = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]  # kept alive here
    for schema in _SCHEMAS:
        DECLARED.define(schema)
