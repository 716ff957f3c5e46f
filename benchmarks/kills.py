"""A bulk job of 5,000 real photos, killed with -9 at ten random moments: is every photo tagged exactly once?

    python benchmarks/kills.py FOLDER [--model coat.onnx] [--seed 0]

Each run is killed within 60 % of the time that an unbroken run would still need for what is left. Needs MODISTE_DATA
(photos).
"""

import argparse
import json
import os
import platform
import random
import shutil
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

import polars as pl

DATA = Path(os.environ.get("MODISTE_DATA", Path(__file__).parents[2] / "shared"))
PHOTOS, PART, KILLS = 5000, 1000, 10
WARM = 1.5  # seconds until a job has begun


def command(table: Path, model: str, out: Path) -> list[str]:
    return [sys.executable, "-m", "modiste", "tag", str(table), "-m", model, "-o", str(out)]


def written(out: Path) -> int:
    """Parts that are whole."""
    return len(list(out.glob("part-*.parquet")))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="garments")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    paths = sorted((DATA / "data/clothing").rglob("*.jpg"))[:PHOTOS]
    table, whole, out = given.folder / "photos.jsonl", given.folder / "whole", given.folder / "killed"
    table.write_text("".join(json.dumps({"id": str(k), "path": str(path)}) + "\n" for k, path in enumerate(paths)))
    for folder in (whole, out):
        shutil.rmtree(folder, ignore_errors=True)
    began = time.monotonic()
    subprocess.run(command(table, given.model, whole), check=True, stderr=subprocess.DEVNULL)
    unbroken = time.monotonic() - began
    print(f"{date.today()}, {os.cpu_count()} cores, {platform.machine()}; {len(paths):,} photos, {given.model}")
    print(f"unbroken: {unbroken:.0f} s\n\n| kill | after, s | parts written by then |\n|---|---|---|")
    rng = random.Random(given.seed)
    for kill in range(1, KILLS + 1):
        left = unbroken * (1 - PART * written(out) / len(paths))
        seconds = rng.uniform(0.2, WARM + 0.6 * left)
        process = subprocess.Popen(command(table, given.model, out), stderr=subprocess.DEVNULL)
        time.sleep(seconds)
        process.kill()
        if process.wait() == 0:
            sys.exit("the job ended before it was killed: another --seed")
        print(f"| {kill} | {seconds:.1f} | {written(out)} |", flush=True)
    subprocess.run(command(table, given.model, out), check=True, stderr=subprocess.DEVNULL)
    killed, unkilled = (pl.read_parquet(folder / "part-*.parquet").sort("photo") for folder in (out, whole))
    once = killed["photo"].n_unique() == len(killed) == len(paths)
    print(f"\n{len(killed):,} rows, {killed['photo'].n_unique():,} photos: {'each once' if once else 'NOT each once'};")
    same = killed.select("photo", "labels").equals(unkilled.select("photo", "labels"))
    print(f"labels {'as' if same else 'NOT as'} in the unbroken run")


if __name__ == "__main__":
    main()
