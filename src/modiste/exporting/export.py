"""A trained run or blend -> one ONNX file, compared with it on real photos before it gets its name."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from importlib import metadata
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from modiste.config import ImageConfig
from modiste.errors import RunError, UsageError
from modiste.exporting.blended_network import BlendedNetwork
from modiste.exporting.card import model_card
from modiste.exporting.int8 import Rounded, cost_meters, int8_card, quantize_to_int8, read_squares
from modiste.exporting.quantize import Quantizer
from modiste.files import StrPath, replacing
from modiste.inference.onnx import FILE_FORMAT, KEY, SEAL, UNSEALED, Exported, seal
from modiste.inference.predictor import BasePredictor, Ensemble, Predictor, Views, check_views
from modiste.models.onnx import to_onnx
from modiste.models.tagger import Network
from modiste.progress import StepProgress
from modiste.runs.blend_run import BlendRun
from modiste.runs.evaluations import model_scores
from modiste.runs.load import open_run, predictor, trained_network
from modiste.runs.run import Run

TOLERANCE = 1e-4  # of a probability: what float32 loses where sums are taken in another order
CHECKED = 64  # photos that are compared, of those at hand


class Parity(NamedTuple):
    """How an exported file agrees with what it was made from.

    Attributes:
        photos: how many were compared.
        largest: the largest difference between two probabilities, before any calibration; nan where one is nan.
        flipped: decisions that differ.
    """

    photos: int
    largest: float
    flipped: int


@dataclass(frozen=True, eq=False)
class Opened:
    """A model that is to be exported, and how it tags now."""

    run: Run | BlendRun
    original: BasePredictor
    image: ImageConfig
    photos: Sequence[Path]


@dataclass(frozen=True)
class Int8:
    """How to round.

    Attributes:
        photos: to calibrate with, FEWEST at least.
        most: mAP points, of 100, that may be lost.
    """

    photos: Sequence[StrPath]
    most: float = 0.3


class Written(NamedTuple):
    """An exported file, how its float32 network agrees with the original, and what int8 costs and gains, if tried."""

    exported: Exported
    parity: Parity
    rounded: Rounded | None


def export(
    folder: StrPath,
    path: StrPath,
    *,
    views: Views | None = None,
    words: str = "",
    photos: Sequence[StrPath] | None = None,
    int8: Int8 | None = None,
    overwrite: bool = False,
    progress: StepProgress = lambda *_: None,
) -> Written:
    """Write a run or blend folder's model as one ONNX file.

    The file takes (n, size, size, 3) uint8 RGB as `photos`, and gives `probs`, `features` and, where the network has
    places, `maps`, as in `modiste.prediction.NetworkOutput`. Its metadata hold labels, preparation, decision and card.

    Args:
        folder: a run or blend folder.
        path: the file.
        views: test-time augmentation that it is opened with; None keeps the model's.
        words: Markdown for its card, of what only people know.
        photos: what it is compared on; None takes the model's own test or validation photos.
        int8: round weights and activations to eight bits, where that is faster here.
        overwrite: replace the file, if there is one.
        progress: told (what is being done, how far, of how much).

    Raises:
        RunError: there is no trained model, its backbone can't be exported, or the file gives other probabilities.
        UsageError: the file exists, there are no such views, too few photos, or members of a blend see other squares.
    """
    folder, path = Path(folder), Path(path)
    if not overwrite:
        _refuse_existing(path)
    opened = open_model(folder, views, None if photos is None else list(map(Path, photos)))
    progress("tracing the network", 0, 1)
    graph, facts = make_graph(opened), describe(opened.run, opened.original, words)
    with replacing(path) as temporary:
        exported = _reopened(temporary, graph, facts)
        tags = exported.predictor()
        parity = check_parity(opened.original, tags, opened.photos, partial(progress, "comparing"))
        if not parity.largest <= TOLERANCE:  # also rejects nan
            raise RunError.expected(
                f"{path} to give the probabilities of {folder}, within {TOLERANCE:g}",
                f"a difference of {parity.largest:.2g} in {parity.photos} photos",
                "another backbone",
            )
        rounded = None if int8 is None else _round(opened, graph, tags, facts, int8=int8, progress=progress)
        if rounded is not None and rounded.worth:
            exported = _reopened(temporary, rounded.graph, _rounded_facts(facts, rounded))
        if not overwrite:
            _refuse_existing(path)  # it may have come meanwhile
    return Written(replace(exported, path=path), parity, rounded)


def _refuse_existing(path: Path) -> None:
    if path.exists():
        raise UsageError.expected(f"{path} to be a new file", "one that exists", "another -o")


def _reopened(path: Path, graph: Any, facts: dict[str, Any]) -> Exported:
    write_model(path, graph, facts)
    return Exported.read(path)


def _round(
    opened: Opened, graph: Any, tags: Predictor, facts: dict[str, Any], *, int8: Int8, progress: StepProgress
) -> Rounded:
    squares = read_squares(list(map(Path, int8.photos)), opened.image)
    with TemporaryDirectory(prefix="modiste-") as name:
        folder = Path(name)
        return quantize_to_int8(
            Quantizer(graph, squares, folder, partial(progress, "calibrating")),
            cost_meters(opened.run.manifest(), tags),
            int8.most,
            lambda rounded: _reopened(folder / "tried.onnx", rounded, facts).predictor(),
            tags,
            progress=partial(progress, "trying blocks in float32"),
        )


def _rounded_facts(facts: dict[str, Any], rounded: Rounded) -> dict[str, Any]:
    card = facts["card"] + "\n" + int8_card(rounded)
    known = {"kept": rounded.kept, "costs": [cost.to_dict() for cost in rounded.costs]}
    return {**facts, "precision": "int8", "int8": known, "card": card}


def open_model(folder: Path, views: Views | None, photos: Sequence[Path] | None) -> Opened:
    """Open a model that is to be exported.

    Raises:
        RunError, UsageError: as `export`.
    """
    if views is not None:
        check_views(views)
    run = open_run(folder)
    images = {member.recipe.image for member in _members(run)}
    if len(images) > 1:
        got = ", ".join(f"{image.size} px, {image.mode}" for image in images)
        raise UsageError.expected("members that see the same squares, for one file", got, "exporting each by itself")
    _check_views(run, views)
    found = _photos(run) if photos is None else photos
    if not found:
        raise UsageError.expected("photos to compare the file on", "none that can be found", "--check FOLDER")
    # On the CPU, as the file: a GPU's convolutions round more.
    return Opened(run, predictor(run, views or run.views, device="cpu"), images.pop(), found[:CHECKED])


def _check_views(run: Run | BlendRun, views: Views | None) -> None:
    """Refuse a blend that one graph can't be: it blends each view, and the views are averaged after that.

    Raises:
        UsageError: it is such a blend.
    """
    if not isinstance(run, BlendRun):
        return
    own = {views or run.own_views or member.views for member in run.members}
    if len(own) > 1:
        got = ", ".join(sorted(own))
        raise UsageError.expected("members that see the same views, for one file", got, "--views with one of them")
    if run.blend.method == "stack" and own != {"one"}:
        raise UsageError.expected("one view of each photo, for a stack in one file", own.pop(), "--views one")


def _photos(run: Run | BlendRun) -> list[Path]:
    """Those of the model's own that nobody trained on, where they are still there."""
    manifest = run.manifest()
    parts = (manifest.part(split).photos() for split in ("test", "val") if split in manifest.parts)
    found = (photo for part in parts for photo in part if photo.is_file())
    return list(islice(found, CHECKED))


def make_graph(opened: Opened) -> Any:
    """The model as an onnx.ModelProto.

    Raises:
        RunError: the exporter can't make one of it.
    """
    network = _network(opened.run)
    size = opened.image.size
    names = ["probs", "features", "maps"]
    photos = torch.zeros(2, size, size, 3, dtype=torch.uint8)
    try:
        with torch.inference_mode():
            count = len(network(photos))
        return to_onnx(network, photos, names[:count])
    except Exception as error:  # whatever an exporter meets in a backbone's code
        first = str(error).strip().splitlines()[0][:160] if str(error).strip() else type(error).__name__
        backbones = ", ".join(_backbones(opened.run))
        raise RunError.expected(f"{backbones} to be exported as ONNX", f"'{first}'", "another backbone") from error


def _network(run: Run | BlendRun) -> nn.Module:
    networks = [Network(trained_network(one)) for one in _members(run)]
    return BlendedNetwork(networks, run.blend).eval() if isinstance(run, BlendRun) else networks[0]


def _members(run: Run | BlendRun) -> tuple[Run, ...]:
    return run.members if isinstance(run, BlendRun) else (run,)


def _backbones(run: Run | BlendRun) -> list[str]:
    return sorted({member.recipe.model.backbone for member in _members(run)})


def describe(run: Run | BlendRun, tagger: BasePredictor, words: str = "") -> dict[str, Any]:
    """What is known of a model as plain data: the metadata of an exported file (docs/reference/export.md)."""
    parts = run.manifest().parts
    views = tuple(one.views for one in (tagger.members if isinstance(tagger, Ensemble) else (tagger,)))
    card = model_card(
        run.name,
        run.label_set,
        run.decision,
        facts=run.facts(),
        photos={part: int((parts == part).sum()) for part in dict.fromkeys(parts.tolist()) if part},
        scores=model_scores(run, views),
        words=words,
    )
    return {
        "format": FILE_FORMAT,
        "version": metadata.version("modiste"),
        "name": run.name,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "precision": "fp32",
        "backbones": _backbones(run),
        "image": tagger.image.model_dump(),
        "cells": None if tagger.cells is None else tagger.cells.centres,
        "views": tagger.views,
        "labels": run.label_set.to_dict(),
        "decision": run.decision.to_dict(run.label_set),
        "card": card,
    }


def write_model(path: Path, proto: Any, facts: dict[str, Any]) -> None:
    """Write a graph with its metadata and their seal; `path` is a temporary file."""
    import onnx

    known = json.dumps(facts, ensure_ascii=False, allow_nan=False)
    onnx.helper.set_model_props(proto, {KEY: known, SEAL: UNSEALED.decode()})
    path.write_bytes(seal(proto.SerializeToString()))


def check_parity(
    original: BasePredictor, other: BasePredictor, photos: Sequence[Path], progress: Callable[[int, int], None]
) -> Parity:
    """Ask both of the same photos; one that can't be read is left out.

    Raises:
        UsageError: not one photo can be read.
    """
    pairs = []
    for k, (one, two) in enumerate(zip(original.raw(photos), other.raw(photos), strict=True), 1):
        progress(k, len(photos))
        if one.error is None:
            pairs.append((one.probs, two.probs))
    if not pairs:
        raise UsageError.expected("photos to compare the file on", "none that can be read", "--check FOLDER")
    before, after = np.array([one for one, _ in pairs]), np.array([two for _, two in pairs])
    largest = float(np.abs(before - after).max())
    if not np.isfinite(largest):  # there is nothing to decide on
        return Parity(len(pairs), largest, before.size)
    flipped = (
        original.decision.apply(before, original.label_set).decisions
        != other.decision.apply(after, original.label_set).decisions
    )
    return Parity(len(pairs), largest, int(flipped.sum()))
