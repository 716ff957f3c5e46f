"""What a model is, in print: labels, thresholds, scores, size, speed here, card."""

from __future__ import annotations

import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from modiste.inference.predictor import BasePredictor, Ensemble, Predictor
from modiste.runs.load import locate

_ROUNDS = 7  # timed runs of one photo; their median is printed


def model_info(model: Path | str) -> dict[str, Any]:
    """Describe a run folder, a blend folder or an exported file, as plain data.

    Beside the metadata of an exported file (docs/reference/export.md) there are `bytes`, what the weights take on disk,
    and `ms_per_photo`, the median milliseconds of one photo on this machine, all cores together, decoding not included.

    Raises:
        RunError: it is no model.
    """
    tags: BasePredictor
    path = locate(model)
    if path.suffix.lower() == ".onnx" and not path.is_dir():
        from modiste.inference.onnx import Exported

        exported = Exported.read(path)
        facts, tags, size = dict(exported.facts), exported.predictor(), path.stat().st_size
    else:
        from modiste.runs.load import open_run, predictor

        run = open_run(path)  # before anything needs torch: the path may be mistyped
        from modiste.exporting.export import describe

        tags = predictor(run)
        facts = describe(run, tags)
        size = sum(file.stat().st_size for file in path.rglob("model.safetensors"))
    return {**facts, "bytes": size, "ms_per_photo": round(1000 * _seconds(tags), 2)}


def _seconds(tags: BasePredictor) -> float:
    """Of one photo with all its views."""
    if isinstance(tags, Ensemble):
        return sum(_seconds(member) for member in tags.members)
    assert isinstance(tags, Predictor)
    photo = np.random.default_rng(0).integers(0, 256, (1, tags.image.size, tags.image.size, 3), dtype=np.uint8)
    tags.ask(photo)  # the first run prepares
    seconds = []
    for _ in range(_ROUNDS):
        began = time.perf_counter()
        tags.ask(photo)
        seconds.append(time.perf_counter() - began)
    return median(seconds)
