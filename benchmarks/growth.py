"""How the cost of the paper's two stages grows with the photos: time, memory, disk; and on paper for many more.

    python benchmarks/growth.py FOLDER

Trains MobileNetV2 at 160 px by the paper's recipe (10 epochs locked, 10 with the last group unlocked) on 500, 1,000,
2,000 and 5,000 real photos, each with an empty cache, and prints wall seconds, memory and disk. Memory is what
belongs to the processes alone (RssAnon, sampled); pages of mapped files are the kernel's, which takes them back. Then
what the paper's networks cost for 54,908 and 1,000,000 photos, by the rates that benchmarks/recipe.py measured.
Needs MODISTE_DATA (photos and weights).
"""

import csv
import os
import platform
import shutil
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

import numpy as np
from measuring import rate

from modiste.config import DEFAULT_VIEWS, DataConfig, ModelConfig, Recipe
from modiste.data.manifest import Manifest
from modiste.models.backbones import PAPER_BACKBONES
from modiste.models.split import NetworkSplitter
from modiste.models.tagger import Tagger
from modiste.training.feature_cache import boundaries
from modiste.training.feature_engine import operations

DATA = Path(os.environ.get("MODISTE_DATA", Path(__file__).parents[2] / "shared"))
COUNTS = (500, 1000, 2000, 5000)
ON_PAPER = (54_908, 1_000_000)
EPOCHS, TRAININGS = 10, 6
CPU_RATE = 0.8  # of a matrix product's rate that convolutions reach here, forward (ONNX Runtime) and in training
GPU_RATE = 989e12 * 0.15  # an H100's dense half-precision operations a second, and a share that convolutions may reach


def make_photos(folder: Path, count: int) -> Path:
    """A list of real photos, a tenth each of it to validate and to test."""
    whole = Manifest.read(
        DATA / "data/clothing/labels.csv", DataConfig(label_columns=("garment",), image_column="image")
    )
    known = np.flatnonzero((whole.targets == 1).any(axis=1))
    chosen = np.random.default_rng(0).permutation(known)
    rows = [(str(whole.photo(int(k))), whole.label_set.ids[int(whole.targets[k].argmax())]) for k in chosen[:count]]
    common = {label for _, label in rows if sum(other == label for _, other in rows) >= 20}
    path = folder / f"photos-{count}.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("image", "garment"), *(row for row in rows if row[1] in common)])
    return path


def anonymous(pid: int) -> int:
    """Bytes of memory of a process and its children that no file backs."""
    total = 0
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            facts = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
        except OSError:
            continue
        if pid in (int(facts["Pid"]), int(facts["PPid"])) and "RssAnon" in facts:
            total += int(facts["RssAnon"].split()[0]) * 1024
    return total


def trained(folder: Path, count: int) -> dict[str, float]:
    """Wall seconds, peak memory, disk of one training."""
    table = make_photos(folder, count)
    out, cache = folder / f"run-{count}", folder / f"cache-{count}"
    for old in (out, cache):
        shutil.rmtree(old, ignore_errors=True)
    recipe = Recipe.read("jd2018").model_dump(exclude_none=True)
    recipe["data"] = {"label_columns": ["garment"], "image_column": "image"}
    recipe["image"]["size"] = 160
    recipe["model"] |= {"backbone": "mobilenetv2_100", "weights": str(DATA / "weights/mobilenetv2_100.safetensors")}
    recipe["train"] = {"batch_size": 96, "workers": 1}
    recipe["evaluate"] = {"views": "one"}
    (folder / "growth.toml").write_text(Recipe.from_dict(recipe).to_toml())
    command = ["train", str(table), "-o", str(out), "--recipe", str(folder / "growth.toml")]
    began, peak = time.monotonic(), 0
    process = subprocess.Popen(
        [sys.executable, "-m", "modiste", *command],
        stdout=subprocess.DEVNULL,
        env={**os.environ, "MODISTE_CACHE": str(cache)},
    )
    while process.poll() is None:
        peak = max(peak, anonymous(process.pid))
        time.sleep(0.5)
    if process.returncode:
        sys.exit("training failed")
    disk = sum(file.stat().st_size for file in cache.rglob("*") if file.is_file())
    return {"wall": time.monotonic() - began, "mb": peak / 1e6, "disk": disk / 1e6}


def on_paper(cpu: float) -> None:
    """What the paper's networks cost for many photos: operations over rates."""
    print("\n| on paper | photos | disk, stage 1 | and 2 | this machine, one training | whole table | GPU, table |")
    print("|---|---|---|---|---|---|---|")
    for photos in ON_PAPER:
        total = 0.0
        for name in PAPER_BACKBONES:
            cutter = NetworkSplitter(Tagger(ModelConfig(backbone=name, weights="none"), 13), 299)
            whole, locked = (operations(cutter.locked([unlock]).eval(), 299) for unlock in ("none", 1))
            first, second = (boundaries(cutter, unlock, [299])[0].bytes for unlock in ("none", 1))
            once = photos * 1.1 * DEFAULT_VIEWS * whole
            tail = photos * EPOCHS * 3 * (whole - locked)
            total += once + TRAININGS * tail
            disk = [f"{photos * 1.1 * DEFAULT_VIEWS * each / 1e9:,.1f} GB" for each in (first, second)]
            one = (once + tail) / cpu / 3600
            print(f"| {name} | {photos:,} | {disk[0]} | {disk[1]} | {one:,.1f} h | | |")
        table = f"{total / cpu / 3600:,.1f} h | {total / GPU_RATE / 60:,.0f} min"
        print(f"| 3 networks x 2 optimisers x 3 seeds | {photos:,} | | | | {table} |")


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    flops = rate()
    rows = [(count, trained(folder, count)) for count in COUNTS]
    print(
        f"{date.today()}, {os.cpu_count()} cores, {platform.machine()}, {flops / 1e9:.0f} GFLOP/s in a matrix product\n"
    )
    print("| photos | wall s | ms a photo | peak memory MB | disk MB |\n|---|---|---|---|---|")
    for count, found in rows:
        each = f"{found['wall'] / count * 1000:.0f} | {found['mb']:.0f} | {found['disk']:.0f}"
        print(f"| {count:,} | {found['wall']:.0f} | {each} |")
    on_paper(flops * CPU_RATE)


if __name__ == "__main__":
    main()
