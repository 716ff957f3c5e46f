"""What int8 costs and gains on real photos: each run is exported with --int8, and a table says how it did.

    python benchmarks/int8.py RUN [RUN ...]

Calibrated on 256 of a run's own training photos; validation photos choose the blocks that stay in float32, test photos
only tell. The runs of the table in README.md were trained by the commands there.
"""

import argparse
import os
import platform
import tempfile
from datetime import date
from pathlib import Path

import numpy as np

from modiste.exporting.export import Int8, export
from modiste.runs.run import Run

CALIBRATED = 256


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("runs", type=Path, nargs="+")
    given = parser.parse_args()
    print(f"{date.today()}, {os.cpu_count()} cores, {platform.machine()}\n")
    print(
        "| run | network | part | photos | mAP | in int8 | points lost | decisions that differ | blocks in float32 |",
        end="",
    )
    print(" ms | in int8 | kept |\n|---|---|---|---|---|---|---|---|---|---|---|---|")
    for folder in given.runs:
        run = Run.read(folder)
        photos = run.manifest().part("train").photos()
        chosen = np.random.default_rng(0).permutation(len(photos))[:CALIBRATED]
        with tempfile.TemporaryDirectory() as name:
            rounded = export(folder, Path(name, "int8.onnx"), int8=Int8([photos[k] for k in chosen])).rounded
        for cost in rounded.costs:
            row = [run.name, run.recipe.model.backbone, cost.split, f"{cost.photos:,}", f"{cost.map_before:.4f}"]
            row += [f"{cost.map_after:.4f}", f"{cost.lost:.2f}", f"{cost.flipped:,} of {cost.decisions:,}"]
            row += [f"{rounded.kept} of {rounded.blocks}", f"{rounded.ms_before:.1f}", f"{rounded.ms_after:.1f}"]
            kept = "int8" if rounded.faster and rounded.close else "float32"
            print("| " + " | ".join([*row, kept]) + " |", flush=True)


if __name__ == "__main__":
    main()
