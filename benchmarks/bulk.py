"""Bulk tagging of real JPEGs, from disk to Parquet: modiste, and the same job written the usual way.

    python benchmarks/bulk.py FOLDER [--peers /path/to/venv/bin/python] [--network inception_resnet_v2 --int8]

modiste tags 5,000 photos of the clothing data with an exported file, as a command of its own; beside it stands the
rate of its engine alone, on ready arrays in memory. Then 50,000 rows (each photo ten times) show whether memory grows.
The usual way, where --peers has Keras: PyTorch's DataLoader with the eager network, and Keras's
image_dataset_from_directory with predict, both on the first 500 photos. Weights are random. Needs MODISTE_DATA
(photos).
"""

import argparse
import json
import os
import platform
import shutil
import sys
import time
from datetime import date
from pathlib import Path

import numpy as np
import torch
from inference import DATA, LABELS, PEERS, make_network, real_photos
from measuring import measured

from modiste.config import ImageConfig
from modiste.data.images import read_square
from modiste.decisions.decision import Decision
from modiste.exporting.export import write_model
from modiste.exporting.quantize import Quantizer
from modiste.inference.onnx import FILE_FORMAT, Exported
from modiste.labels import LabelSet
from modiste.models.onnx import to_onnx
from modiste.models.tagger import Network

PHOTOS, MANY, FEW = 5000, 50_000, 500


def write_file(path: Path, network: str, size: int, int8: bool) -> None:
    """An exported file of random weights."""
    photos = real_photos(16, size)
    graph = to_onnx(Network(make_network(network, photos)), torch.from_numpy(photos[:2]), ["probs", "features", "maps"])
    if int8:
        graph = Quantizer(graph, real_photos(64, size), path.parent).quantized()
    labels = LabelSet.free("labels", [f"label-{k}" for k in range(LABELS)])
    facts = {
        "format": FILE_FORMAT,
        "version": "0",
        "name": network,
        "precision": "int8" if int8 else "fp32",
        "backbones": [network],
        "image": ImageConfig(size=size).model_dump(),
        "cells": None,
        "views": "one",
        "labels": labels.to_dict(),
        "decision": Decision.untuned("fixed:0.5", labels).to_dict(labels),
        "card": "",
    }
    write_model(path, graph, facts)


def tagging(folder: Path, model: Path, count: int) -> dict[str, float]:
    paths = sorted((DATA / "data/clothing").rglob("*.jpg"))[:PHOTOS]
    table = folder / f"{count}.jsonl"
    table.write_text("".join(json.dumps({"id": str(k), "path": str(paths[k % PHOTOS])}) + "\n" for k in range(count)))
    out = folder / f"tags-{count}"
    shutil.rmtree(out, ignore_errors=True)
    return measured([sys.executable, "-m", "modiste", "tag", str(table), "-m", str(model), "-o", str(out)])[0]


def engine_rate(model: Path, size: int) -> float:
    """Photos a second of the engine alone, on ready arrays."""
    predictor = Exported.read(model).predictor()
    photos = np.stack(
        [read_square(path, size, "stretch") for path in sorted((DATA / "data/clothing").rglob("*.jpg"))[:256]]
    )
    batches = [photos[k : k + predictor.batch_size] for k in range(0, len(photos), predictor.batch_size)]
    predictor.ask(batches[0])
    began, done = time.perf_counter(), 0
    while time.perf_counter() - began < 20:
        for batch in batches:
            predictor.ask(batch)
            done += len(batch)
    return done / (time.perf_counter() - began)


def usual(folder: Path, keras: str, network: str, size: int) -> dict[str, tuple[int, dict[str, float]]]:
    """The first photos, by programs as most people write them."""
    few, out, found = folder / "few" / "all", folder / "peer.csv", {}
    few.mkdir(parents=True, exist_ok=True)
    for path in sorted((DATA / "data/clothing").rglob("*.jpg"))[:FEW]:
        shutil.copy(path, few)
    for title, python, script in (
        ("PyTorch DataLoader, eager", sys.executable, "torch_bulk.py"),
        ("Keras image_dataset_from_directory, predict", keras, "keras_bulk.py"),
    ):
        command = [python, str(PEERS / script), network, str(size), str(few.parent), str(out)]
        found[f"{title}, {FEW} photos"] = (FEW, measured(command)[0])
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--peers", help="Python with keras")
    parser.add_argument("--network", default="inception_resnet_v2")
    parser.add_argument("--size", type=int, default=299)
    parser.add_argument("--int8", action="store_true")
    parser.add_argument("--many", action=argparse.BooleanOptionalAction, default=True)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    model = given.folder / f"{given.network}.onnx"
    write_file(model, given.network, given.size, given.int8)
    rate = engine_rate(model, given.size)
    found = {f"modiste, {PHOTOS:,} photos": (PHOTOS, tagging(given.folder, model, PHOTOS))}
    rate = (rate + engine_rate(model, given.size)) / 2
    if given.many:
        found[f"modiste, {MANY:,} photos"] = (MANY, tagging(given.folder, model, MANY))
    if given.peers:
        found |= usual(given.folder, given.peers, given.network, given.size)
    print(f"{date.today()}, {os.cpu_count()} cores, {platform.machine()}; {given.network}, {given.size} px, ", end="")
    print(f"{'int8' if given.int8 else 'float32'}; the engine alone: {rate:.1f} photos/s on ready arrays\n")
    print("| job | photos/s, everything | of the engine's rate | CPU s | peak MB |\n|---|---|---|---|---|")
    for title, (count, one) in found.items():
        speed = count / one["wall"]
        print(f"| {title} | {speed:.1f} | {speed / rate:.2f} | {one['cpu']:.0f} | {one['mb']:.0f} |")


if __name__ == "__main__":
    main()
