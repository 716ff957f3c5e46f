"""Milliseconds a photo: PyTorch, Keras 3, ONNX Runtime, OpenVINO and modiste's exported files, at 299 px.

    python benchmarks/inference.py FOLDER --peers /path/to/venv/bin/python [--networks inception_resnet_v2,...]

Each engine tags the same 16 ready photos with all cores, in turns so that a busy moment hits all; medians. The peers'
environment holds keras, tensorflow-cpu and openvino. Weights are random, with batch statistics of real photos: speed
doesn't depend on them. Beside them is what the operations alone would take at the rate of a matrix product, in
float32 by PyTorch and in int8 by ONNX Runtime. Needs MODISTE_DATA (photos).
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from datetime import date
from pathlib import Path
from statistics import median

import numpy as np
import onnx
import onnxruntime
import torch
from measuring import rate, settle, timed
from onnx import TensorProto, helper

from modiste.config import ModelConfig
from modiste.data.images import read_square
from modiste.exporting.quantize import Quantizer
from modiste.inference.onnx import Engine
from modiste.models.backbones import PAPER_BACKBONES
from modiste.models.onnx import to_onnx
from modiste.models.split import NetworkSplitter
from modiste.models.tagger import Network, Tagger
from modiste.training.feature_engine import operations

DATA = Path(os.environ.get("MODISTE_DATA", Path(__file__).parents[2] / "shared"))
PEERS = Path(__file__).parent / "peers"
LABELS, BATCH, ROUNDS = 13, 16, 7


def real_photos(count: int, size: int) -> np.ndarray:
    """(count, size, size, 3) uint8."""
    paths = sorted((DATA / "data/clothing").rglob("*.jpg"))
    return np.stack([read_square(path, size, "stretch") for path in paths[:: len(paths) // count][:count]])


def make_network(name: str, photos: np.ndarray) -> Tagger:
    """Random weights, whose batch-norms have the statistics of the photos, as trained ones do."""
    torch.manual_seed(0)
    model = Tagger(ModelConfig(backbone=name, weights="none"), LABELS)
    settle(model, photos)
    return model.eval()


class Peer:
    """An engine in another environment, which times itself when it is asked: a line in, a line out."""

    def __init__(self, python: str, script: str, *arguments: object) -> None:
        command = [python, str(PEERS / script), *map(str, arguments)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __call__(self) -> float:
        self.process.stdin.write("run\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            sys.exit("a peer ended")
        return float(line)

    def end(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def session(path: Path) -> onnxruntime.InferenceSession:
    """As most people open it: defaults."""
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def rates() -> tuple[float, float]:
    """Operations a second of a 2048 x 2048 matrix product, in float32 and in int8."""
    side = 2048
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["a", "b"], ["c"])],
        "product",
        [helper.make_tensor_value_info("a", TensorProto.UINT8, [side, side])],
        [helper.make_tensor_value_info("c", TensorProto.INT32, [side, side])],
        [onnx.numpy_helper.from_array(np.random.default_rng(0).integers(-127, 127, (side, side), np.int8), "b")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    product = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    ready = {"a": np.random.default_rng(0).integers(0, 255, (side, side), np.uint8)}
    return rate(), 2 * side**3 / min(timed(lambda: product.run(None, ready)) for _ in range(12))


def engines(name: str, folder: Path, python: str, photos: np.ndarray) -> tuple[dict[str, object], float]:
    """Title -> what runs the 16 photos and gives seconds; and the operations of one photo."""
    model = make_network(name, photos)
    network = Network(model)
    flops = operations(NetworkSplitter(model, 299).locked(["none"]).eval(), 299)
    graph = to_onnx(network, torch.from_numpy(photos[:2]), ["probs", "features", "maps"])
    onnx.save(graph, folder / f"{name}.onnx")
    rounded = Quantizer(graph, real_photos(64, 299), folder).quantized()
    np.save(folder / "photos.npy", photos)
    ready = torch.from_numpy(photos)
    compiled = torch.compile(network)
    plain = session(folder / f"{name}.onnx")
    ours = {title: Engine(each.SerializeToString()) for title, each in (("float32", graph), ("int8", rounded))}

    def eager(net: torch.nn.Module) -> object:
        def work() -> float:
            with torch.inference_mode():
                return timed(lambda: net(ready))

        return work

    found: dict[str, object] = {
        "PyTorch, eager": eager(network),
        "PyTorch, torch.compile": eager(compiled),
        "ONNX Runtime, float32": lambda: timed(lambda: plain.run(None, {"photos": photos})),
        "OpenVINO, float32": Peer(python, "openvino_predict.py", folder / f"{name}.onnx", folder / "photos.npy"),
        "modiste, float32": lambda: timed(lambda: ours["float32"](photos)),
        "modiste, int8": lambda: timed(lambda: ours["int8"](photos)),
    }
    if name != "inception_v4":  # Keras has none
        found["Keras 3 (TensorFlow)"] = Peer(python, "keras_predict.py", name, folder / "photos.npy")
    return found, flops


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--peers", required=True)
    parser.add_argument("--networks", default=f"{PAPER_BACKBONES[0]},{PAPER_BACKBONES[2]}")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    photos = real_photos(BATCH, 299)
    floats, bytes_ = rates()
    print(
        f"{date.today()}, {os.cpu_count()} cores, {platform.machine()}, torch {torch.__version__}, ONNX Runtime "
        f"{onnxruntime.__version__}; a matrix product runs at {floats / 1e9:.0f} GFLOP/s, in int8 at "
        f"{bytes_ / 1e9:.0f}\n"
    )
    for name in given.networks.split(","):
        found, flops = engines(name, given.folder, given.peers, photos)
        seconds: dict[str, list[float]] = {title: [] for title in found}
        for turn in range(ROUNDS + 1):
            for title, work in found.items():
                one = work()
                if turn:  # the first run prepares
                    seconds[title].append(one)
        for work in found.values():
            if isinstance(work, Peer):
                work.end()
        ms = {title: 1000 * median(each) / BATCH for title, each in seconds.items()}
        print(json.dumps({name: ms}), file=sys.stderr)
        ours = ms["modiste, int8"]
        print(f"| {name} | ms a photo | times ours in int8 |\n|---|---|---|")
        for title, one in sorted(ms.items(), key=lambda pair: -pair[1]):
            print(f"| {title} | {one:.1f} | {one / ours:.1f} |")
        for title, speed in (("float32", floats), ("int8", bytes_)):
            limit = 1000 * flops / speed
            print(f"| the operations alone, {title} | {limit:.1f} | {limit / ours:.2f} |")
        print(flush=True)


if __name__ == "__main__":
    main()
