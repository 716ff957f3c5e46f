"""The paper's recipe, 20 epochs in two stages at 299 px: modiste, Keras 3, and a plain PyTorch + timm loop.

    python benchmarks/recipe.py FOLDER --keras /path/to/venv/bin/python [--photos 192]

One training of Inception-ResNet-v2, then the whole table: 3 networks x 2 optimisers x 3 seeds. modiste does all of
it, from starting the command to the best run, validation included; its cache is empty before each. Of the peers one
epoch of each stage over 96 of the photos is timed after one that warms up (`benchmarks/peers`), and multiplied by
photos, epochs and trainings; that leaves out their start, their compilation and any validation. Keras has no
Inception-v4: the time of its Xception, which does two thirds of the operations, stands for it. Beside them is what
the arithmetic alone would take at the rate of a matrix product on this machine. Needs MODISTE_DATA (photos); weights
are random, with batch statistics of the photos: speed doesn't depend on them.
"""

import argparse
import csv
import json
import os
import platform
import shutil
import sys
from datetime import date
from pathlib import Path

import numpy as np
import torch
from measuring import measured, rate, settle
from safetensors.torch import save_file

from modiste.config import DEFAULT_VIEWS, ModelConfig, Recipe
from modiste.data.images import read_square
from modiste.data.manifest import Manifest
from modiste.models.backbones import PAPER_BACKBONES
from modiste.models.split import NetworkSplitter
from modiste.models.tagger import Tagger
from modiste.training.feature_engine import operations

DATA = Path(os.environ.get("MODISTE_DATA", Path(__file__).parents[2] / "shared"))
PEERS = Path(__file__).parent / "peers"
EPOCHS = 10  # a stage
PEER_PHOTOS = 96  # one batch
TRAININGS = 6  # of each network in the table: two optimisers, three seeds


def make_recipe(folder: Path) -> None:
    """paper.toml: the paper's recipe with these photos' labels, and one view at test time."""
    settings = Recipe.read("jd2018").model_dump(exclude_none=True)
    settings["data"] = {"label_columns": ["small_label"], "image_column": "image", "split_column": "split"}
    settings["evaluate"] = {"views": "one"}
    settings["train"] = {"batch_size": 96, "workers": 1}
    (folder / "paper.toml").write_text(Recipe.from_dict(settings).to_toml())


def make_photos(folder: Path, count: int) -> None:
    """photos.csv for modiste (an eighth more to validate, and to test) and list.csv for the peers, of real photos."""
    whole = Manifest.read(
        DATA / "data/clothing/labels.csv",
        Recipe.read("clothing").data,
    )
    rng = np.random.default_rng(0)
    rows = []
    for split, many in (("train", count), ("val", count // 8), ("test", count // 8)):
        part = whole.part(split)
        found = rng.permutation(len(part))
        kind = part.targets[found].argmax(axis=1)
        place = np.array([(kind[:k] == kind[k]).sum() for k in range(len(kind))])
        chosen = found[np.argsort(place, kind="stable")][:many]  # of each garment in turn
        rows += [(str(part.photo(int(k))), whole.label_set.ids[int(part.targets[k].argmax())], split) for k in chosen]
    with (folder / "photos.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("image", "small_label", "split"), *rows])
    with (folder / "list.csv").open("w", newline="") as file:
        hot = [
            [path, *(int(label == one) for one in whole.label_set.ids)]
            for path, label, split in rows
            if split == "train"
        ]
        csv.writer(file).writerows([("path", *whole.label_set.ids), *hot[:PEER_PHOTOS]])


def make_weights(folder: Path) -> None:
    """Random weights of each backbone, whose batch-norms have the statistics of some photos, as trained ones do."""
    (folder / "weights").mkdir(exist_ok=True)
    paths = Manifest.read(DATA / "data/clothing/labels.csv", Recipe.read("clothing").data).photos()[:16]
    photos = np.stack([read_square(path, 299, "stretch") for path in paths])
    for name in PAPER_BACKBONES:
        torch.manual_seed(0)
        model = Tagger(ModelConfig(backbone=name, weights="none"), 10)
        settle(model, photos)
        state = {key: tensor.contiguous() for key, tensor in model.backbone.state_dict().items()}
        save_file(state, folder / "weights" / f"{name}.safetensors")


def ours(folder: Path, what: list[str], name: str) -> dict[str, float]:
    """modiste with an empty cache."""
    out, cache = folder / name, folder / f"{name}-cache"
    for old in (out, cache):
        shutil.rmtree(old, ignore_errors=True)
    settings = ["--recipe", str(folder / "paper.toml"), "--weights", str(folder / "weights"), "-o", str(out)]
    command = [sys.executable, "-m", "modiste", what[0], str(folder / "photos.csv"), *what[1:], *settings]
    found, _ = measured(command, MODISTE_CACHE=str(cache))
    found["disk"] = sum(file.stat().st_size for file in cache.rglob("*") if file.is_file()) / 1e6
    return found


def peer(python: str, script: str, folder: Path, network: str) -> dict[str, float]:
    """Seconds of an epoch of each stage, and peak MB."""
    command = [python, str(PEERS / script), "--photos", str(folder / "list.csv"), "--network", network]
    _, output = measured(command)
    return json.loads(output.strip().splitlines()[-1])


def unavoidable(network: str, photos: int, views: int, trainings: int) -> float:
    """Operations: each view once through what is locked, then forward and backward through the rest in stage 2."""
    cutter = NetworkSplitter(Tagger(ModelConfig(backbone=network, weights="none"), 10), 299)
    whole, locked = (operations(cutter.locked([unlock]).eval(), 299) for unlock in ("none", 1))
    once = photos * views * whole + photos // 8 * 2 * whole
    return once + trainings * EPOCHS * photos * 3 * (whole - locked)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--keras", required=True)
    parser.add_argument("--photos", type=int, default=192)
    parser.add_argument("--table", action=argparse.BooleanOptionalAction, default=True)
    given = parser.parse_args()
    folder, photos = given.folder, given.photos
    folder.mkdir(parents=True, exist_ok=True)
    make_photos(folder, photos)
    make_weights(folder)
    make_recipe(folder)
    flops = rate()
    one = ours(folder, ["train"], "one")
    name = PAPER_BACKBONES[0]
    keras = {net: peer(given.keras, "keras_recipe.py", folder, net) for net in PAPER_BACKBONES if "v4" not in net}
    loop = peer(sys.executable, "torch_recipe.py", folder, name)
    print("\n" + json.dumps({"ours": one, "keras": keras, "loop": loop, "flops": flops}), file=sys.stderr)
    print(
        f"{date.today()}, {os.cpu_count()} cores, {platform.machine()}, {flops / 1e9:.0f} GFLOP/s in "
        f" a matrix product; {photos} photos, {DEFAULT_VIEWS} views of each where features are kept\n"
    )
    print("| one training, Inception-ResNet-v2 | wall s | CPU s | peak MB | disk MB | times ours |")
    print("|---|---|---|---|---|---|")
    print(_line("modiste, everything", one, one))
    for title, found in (("Keras 3", keras[name]), ("PyTorch + timm loop", loop)):
        print(_line(f"{title}, epochs only", _whole(found, photos), one))
    limit = unavoidable(name, photos, DEFAULT_VIEWS, 1) / flops
    print(f"| the arithmetic alone | {limit:.0f} | | | | {limit / one['wall']:.2f} |\n")
    if given.table:
        table(folder, photos, flops, keras)


def table(folder: Path, photos: int, flops: float, keras: dict) -> None:
    """The whole table of the paper."""
    names = ",".join(PAPER_BACKBONES)
    whole = ours(folder, ["compare", "--backbones", names, "--optimizers", "adam,sgd", "--seeds", "3"], "table")
    print("| 3 networks x 2 optimisers x 3 seeds | wall s | CPU s | peak MB | disk MB | times ours |")
    print("|---|---|---|---|---|---|")
    print(_line("modiste, everything, scores and page too", whole, whole))
    each = [_whole(keras.get(name, keras["legacy_xception"]), photos) for name in PAPER_BACKBONES]
    total = {key: TRAININGS * sum(one[key] for one in each) for key in ("wall", "cpu")}
    print(_line("Keras 3, epochs only", {**total, "mb": max(one["mb"] for one in each)}, whole))
    limit = sum(unavoidable(name, photos, DEFAULT_VIEWS, TRAININGS) for name in PAPER_BACKBONES) / flops
    print(f"| the arithmetic alone | {limit:.0f} | | | | {limit / whole['wall']:.2f} |")


def _whole(found: dict, photos: int) -> dict[str, float]:
    """A peer's training: the timed epoch of each stage, times the epochs."""
    times = EPOCHS * photos / found["photos"]
    return {
        "wall": times * (found["stage1_epoch_s"] + found["stage2_epoch_s"]),
        "cpu": times * sum(found["cpu_s"].values()),
        "mb": found["peak_mb"],
    }


def _line(title: str, found: dict[str, float], beside: dict[str, float]) -> str:
    disk = f"{found['disk']:.0f}" if "disk" in found else ""
    ratio = f"{found['wall'] / beside['wall']:.1f}"
    return f"| {title} | {found['wall']:.0f} | {found['cpu']:.0f} | {found['mb']:.0f} | {disk} | {ratio} |"


if __name__ == "__main__":
    main()
