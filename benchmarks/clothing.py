"""Accuracy on clothing-dataset-small (10 classes; 3,068 train, 341 validation, 372 test), by seed.

    python benchmarks/clothing.py runs

trains `recipes/clothing.toml` once for each seed, scores each run on the test split and prints a table.
A seed that is finished in the folder is not trained again. Needs MODISTE_DATA (photos and weights).
"""

import os
import platform
import sys
from datetime import date
from pathlib import Path

import numpy as np

from modiste.cli.progress import TerminalMonitor
from modiste.config import Recipe
from modiste.data.manifest import Manifest
from modiste.evaluation.evaluate import evaluate
from modiste.training.loop import resume, train

SEEDS = (0, 1, 2)
DATA = Path(os.environ.get("MODISTE_DATA", Path(__file__).parents[2] / "shared"))


def run(folder: Path, seed: int) -> dict:
    """Train or open one seed's run and score it."""
    recipe = Recipe.read("clothing").replace(
        [f"seed={seed}", f'model.weights="{DATA / "weights/mobilenetv2_100.safetensors"}"']
    )
    if folder.exists():
        resume(folder, monitor=TerminalMonitor())
    else:
        manifest = Manifest.read(DATA / "data/clothing/labels.csv", recipe.data)
        train(recipe, manifest, folder, monitor=TerminalMonitor())
    row = {"seed": seed}
    for split in ("val", "test"):
        scores = evaluate(folder, split).scores
        row |= {f"{split} accuracy": scores.groups["small_label"].accuracy, f"{split} mAP": scores.map}
    began, ended = ((folder / name).stat().st_mtime for name in ("recipe.toml", "history.csv"))
    row["minutes"] = (ended - began) / 60
    return row


def main() -> None:
    rows = [run(Path(sys.argv[1]) / f"clothing-{seed}", seed) for seed in SEEDS]
    keys = list(rows[0])
    lines = ["| " + " | ".join(keys) + " |", "|" + "---|" * len(keys)]
    for row in rows:
        values = [f"{v:.1f}" if k == "minutes" else v if k == "seed" else f"{v:.4f}" for k, v in row.items()]
        lines.append("| " + " | ".join(map(str, values)) + " |")
    for name, of in (("mean", np.mean), ("spread (standard deviation)", lambda v: np.std(v, ddof=1))):
        values = [of([row[key] for row in rows]) for key in keys[1:]]
        lines.append(f"| {name} | " + " | ".join(f"{v:.4f}" for v in values[:-1]) + f" | {values[-1]:.1f} |")
    print(f"{date.today()}, {os.cpu_count()} cores, {platform.machine()}, minutes to the last epoch\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
