"""Multi-label tagging of street photos: the Clothing Co-Parsing data, 56 tags, a grouped, stratified test part.

    python benchmarks/ccp.py runs

The data names no groups, so photos that look nearly the same (difference hash, at most 4 of 64 bits
apart) make one and never straddle splits. Trains `recipes/ccp.toml`, scores the test part and prints
a table beside the baselines. Needs MODISTE_DATA (photos and weights).
"""

import os
import platform
import sys
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
from PIL import Image
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from modiste import images
from modiste.bundle import Run
from modiste.config import Recipe
from modiste.evaluation import evaluate
from modiste.manifest import Manifest
from modiste.report import report_evaluation
from modiste.terminal import TerminalMonitor
from modiste.training import resume, train

DATA = Path(os.environ.get("MODISTE_DATA", Path(__file__).parents[2] / "shared"))
NEAR = 4  # bits of 64


def difference_hash(path: Path) -> np.ndarray:
    """64 bits: whether each of 8 x 8 places is brighter than its left neighbour."""
    grey = Image.fromarray(images.read(path, target=64)).convert("L").resize((9, 8), Image.Resampling.BILINEAR)
    values = np.asarray(grey, dtype=int)
    return (values[:, 1:] > values[:, :-1]).ravel()


def group_near_duplicates(paths: list[Path]) -> np.ndarray:
    """A group number for each photo."""
    hashes = np.stack([difference_hash(path) for path in paths])
    apart = (hashes[:, None] != hashes[None]).sum(axis=2)
    return connected_components(csr_array(apart <= NEAR), directed=False)[1]


def make_run(folder: Path) -> None:
    """Train, or go on."""
    if folder.exists():
        resume(folder, monitor=TerminalMonitor())
        return
    table = pl.read_csv(DATA / "data/ccp/labels.csv")
    never = [tag for tag in table.columns[2:] if table[tag].sum() == 0]  # nothing to learn or to measure
    print(f"tags without any positive, left out: {', '.join(never)}", file=sys.stderr)
    table = table.drop(never)
    groups = group_near_duplicates([DATA / "data/ccp" / file for file in table["file"]])
    print(f"{len(groups)} photos in {len(set(groups.tolist()))} groups", file=sys.stderr)
    grouped = folder.with_name("ccp-grouped.csv")
    grouped.parent.mkdir(parents=True, exist_ok=True)
    table.insert_column(1, pl.Series("group", [f"g{group}" for group in groups])).write_csv(grouped)
    recipe = Recipe.read("ccp").replace(
        [f'data.root="{DATA / "data/ccp"}"', f'model.weights="{DATA / "weights/mobilenetv2_100.safetensors"}"']
    )
    train(recipe, Manifest.read(grouped, recipe.data), folder, monitor=TerminalMonitor())


def main() -> None:
    folder = Path(sys.argv[1]) / "ccp"
    make_run(folder)
    evaluation = evaluate(folder, "test")
    report_evaluation(Run.read(folder), evaluation)
    scores = evaluation.scores
    minutes = pl.read_csv(folder / "history.csv")["seconds"].sum() / 60
    print(f"{date.today()}, {os.cpu_count()} cores, {platform.machine()}; {minutes:.1f} minutes of training; ", end="")
    print(f"{scores.photos} test photos, {len(scores.labels) - len(scores.left_out)} tags with positives among them\n")
    print("| | mAP | micro AP | macro F2 | macro F1 | micro F1 |\n|---|---|---|---|---|---|")
    for name, row in {"modiste": scores, **scores.baselines}.items():
        values = (row.map, row.micro_ap, row.macro.f2, row.macro.f1, row.micro.f1)
        print(f"| {name} | " + " | ".join(f"{value:.4f}" for value in values) + " |")
    print(f"\nleft out, no positive in the test part: {', '.join(scores.left_out) or 'none'}")


if __name__ == "__main__":
    main()
