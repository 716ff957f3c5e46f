"""Whether int8 is worth it: how many layers may be rounded, what that costs in mAP and decisions, what it gains."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np

from modiste.config import ImageConfig
from modiste.data.images import read_square
from modiste.data.manifest import Manifest
from modiste.errors import PhotoError, UsageError
from modiste.exporting.card import markdown_table
from modiste.exporting.quantize import FEWEST_CALIBRATION, MOST, Quantizer
from modiste.inference.predictor import Predictor
from modiste.metrics.scores import mean_average_precision

_ROUNDS = 5  # in which both graphs are timed in turn
_AT_ONCE = 8  # photos of a timed run, per core
_GAIN = 0.97  # of float32's time: what takes more is not faster, as moments differ
_MOST_PHOTOS = 1000  # of a split that each graph is tried on


class Cost(NamedTuple):
    """What int8 changes on labelled photos.

    Attributes:
        split: which photos.
        photos: how many.
        map_before, map_after: mean average precision in float32 and in int8.
        flipped: decisions that differ.
        decisions: how many there are.
        moved: by how much a probability differs, on average.
    """

    split: str
    photos: int
    map_before: float
    map_after: float
    flipped: int
    decisions: int
    moved: float

    @property
    def lost(self) -> float:
        """mAP points, of 100."""
        return 100 * (self.map_before - self.map_after)

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {**self._asdict(), "lost": self.lost}


@dataclass(frozen=True, eq=False)
class Rounded:
    """An int8 graph and what it is like.

    Attributes:
        graph: the onnx.ModelProto.
        kept: how many of `blocks` pieces of the network stayed in float32.
        blocks: pieces that it was cut into.
        costs: on the photos that chose what stays, and on those that nobody has seen, where there are any.
        ms_before, ms_after: milliseconds a photo, all cores at work.
        most: mAP points, of 100, that were to be lost on the first photos.
    """

    graph: Any
    kept: int
    blocks: int
    costs: tuple[Cost, ...]
    ms_before: float
    ms_after: float
    most: float

    @property
    def faster(self) -> bool:
        """Whether int8 gains anything on this machine."""
        return self.kept < self.blocks and self.ms_after < _GAIN * self.ms_before

    @property
    def close(self) -> bool:
        """Whether it loses no more than it may."""
        return self.costs[0].lost <= self.most

    def to_dict(self) -> dict[str, Any]:
        """Plain data, without the graph."""
        return {
            "worth": self.worth,
            "faster": self.faster,
            "close": self.close,
            "ms_before": self.ms_before,
            "ms_after": self.ms_after,
            "kept": self.kept,
            "blocks": self.blocks,
            "costs": [cost.to_dict() for cost in self.costs],
        }

    @property
    def worth(self) -> bool:
        """Whether the int8 graph is the one to keep."""
        return self.faster and self.close


class CostMeter:
    """Measures what another graph costs on the photos of one split.

    Args:
        split: its name.
        part: labelled photos.
        tags: the model in float32.

    Raises:
        UsageError: not one can be read, or no label is known to hold of one.
    """

    def __init__(self, split: str, part: Manifest, tags: Predictor) -> None:
        predictions = list(tags.raw(part.photos()))
        self._split = split
        self._part = part.select(np.array([one.error is None for one in predictions], dtype=bool))
        self._before = np.array([one.probs for one in predictions if one.error is None])
        if not (self._part.targets == 1).any():
            raise UsageError.expected(f"{split} photos with labels", "none that can be read", "the run's own")

    def cost(self, tags: Predictor) -> Cost:
        """Scores of `tags`, against those of the float32 model."""
        after = np.array([one.probs for one in tags.raw(self._part.photos())])
        label_set, decision = tags.label_set, tags.decision
        decided, decided_after = (decision.apply(raw, label_set) for raw in (self._before, after))
        best, worse = (
            mean_average_precision(self._part.targets, raw, label_set).value for raw in (self._before, after)
        )
        flipped = int((decided.decisions != decided_after.decisions).sum())
        moved = float(np.abs(after - self._before).mean())
        return Cost(self._split, len(after), best, worse, flipped, decided.decisions.size, moved)


def cost_meters(manifest: Manifest, tags: Predictor) -> list[CostMeter]:
    """One of the validation photos, which chooses, then one of the test photos, where they are there.

    Raises:
        UsageError: there are neither, with labels, that can be read.
    """
    found = []
    for split in ("val", "test"):
        if split in manifest.parts:
            part = manifest.part(split)
            there = np.flatnonzero([photo.is_file() for photo in part.photos()])
            with suppress(UsageError):
                found.append(CostMeter(split, part.select(there[evenly(len(there), _MOST_PHOTOS)]), tags))
    if not found:
        raise UsageError.expected("labelled photos that tell what int8 costs", "none that are there", "the run's own")
    return found


def evenly(count: int, most: int) -> np.ndarray:
    """Positions of `most` of `count` things, or of all, from the first to the last: lists are sorted by class."""
    return np.linspace(0, count - 1, min(count, most)).round().astype(int)


def read_squares(photos: Sequence[Path], image: ImageConfig) -> np.ndarray:
    """Photos to calibrate with, spread over those given: (n, size, size, 3) uint8.

    Raises:
        UsageError: fewer than FEWEST can be read.
    """
    squares: list[np.ndarray] = []
    for k in evenly(len(photos), MOST):
        with suppress(PhotoError):
            squares.append(read_square(photos[k], image.size, image.mode))
    if len(squares) < FEWEST_CALIBRATION:
        got = f"{len(squares)} that can be read"
        raise UsageError.expected(
            f"{FEWEST_CALIBRATION} photos or more for --int8", got, "photos like those to be tagged"
        )
    return np.stack(squares)


def int8_card(rounded: Rounded) -> str:
    """The section on quantization in a model card."""
    kept = f"{rounded.kept} of {rounded.blocks} blocks stayed in float32.\n\n" if rounded.kept else ""
    rows = []
    for cost in rounded.costs:
        scores = f"{cost.map_before:.4f}", f"{cost.map_after:.4f}"
        share = 100 * cost.flipped / cost.decisions
        rows.append((cost.split, f"{cost.photos:,}", *scores, f"{cost.flipped:,} ({share:.2f} %)"))
    table = markdown_table(rows, ("split", "photos", "mAP, float32", "mAP, int8", "decisions that differ"))
    return f"## Rounded to int8\n\n{kept}{table}\n"


def quantize_to_int8(
    quantizer: Quantizer,
    meters: list[CostMeter],
    most: float,
    open_graph: Callable[[Any], Predictor],
    tags: Predictor,
    *,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> Rounded:
    """Find the int8 graph that loses at most `most` mAP points on the first meter's photos.

    First everything is rounded. Where that costs too much, each block is left in float32 by itself, and then as
    many as it takes of those that help most, together.

    Args:
        quantizer: makes the graphs.
        meters: the first chooses, all measure.
        most: mAP points, of 100.
        open_graph: a graph -> what tags with it.
        tags: the model in float32.
        progress: told (graphs tried, graphs to try at most).
    """
    chooser, blocks = meters[0], len(quantizer.blocks)
    kept: list[int] = []
    graph = quantizer.quantized()
    rounded = open_graph(graph)
    cost = chooser.cost(rounded)
    if cost.lost > most:
        alone = []
        for k in range(blocks):
            progress(k, 2 * blocks)
            alone.append(chooser.cost(open_graph(quantizer.quantized([k]))).moved)
        for k in np.argsort(alone, kind="stable").tolist():
            progress(blocks + len(kept), 2 * blocks)
            kept.append(k)
            graph = quantizer.quantized(kept)
            rounded = open_graph(graph)
            cost = chooser.cost(rounded)
            if cost.lost <= most:
                break
    before, after = _times(tags, rounded)
    costs = (cost, *(meter.cost(rounded) for meter in meters[1:]))
    return Rounded(graph, len(kept), blocks, costs, before, after, most)


def _times(*taggers: Predictor) -> tuple[float, ...]:
    """Median milliseconds a photo of each, in turn, so that a busy moment hits all."""
    size, batch = taggers[0].image.size, _AT_ONCE * taggers[0].readers
    photos = np.random.default_rng(0).integers(0, 256, (batch, size, size, 3), dtype=np.uint8)
    seconds: list[list[float]] = [[] for _ in taggers]
    for turn in range(_ROUNDS + 1):
        for mine, tags in zip(seconds, taggers, strict=True):
            began = time.perf_counter()
            tags.forward(photos, maps=False)
            if turn:  # the first run prepares
                mine.append(time.perf_counter() - began)
    return tuple(1000 * median(mine) / batch for mine in seconds)
