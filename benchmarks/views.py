"""Accuracy with kept features of V views against fresh augmentation from pixels: what the default is chosen from.

    python benchmarks/views.py runs

trains MobileNetV2 in two stages (everything locked, then the last group unlocked) on clothing-dataset-small and
on Clothing Co-Parsing, five seeds each: from pixels with a fresh view in each epoch, and from kept features of 1, 2,
4 and 8 views of each photo. Prints the difference in test mAP with its interval, over photos and seeds. Run again, it
goes on where it stopped. Needs MODISTE_DATA (photos and weights).
"""

import os
import platform
import sys
from datetime import date
from pathlib import Path

from ccp import make_table

from modiste.cli.workflows import watch
from modiste.config import DEFAULT_VIEWS
from modiste.data.manifest import Manifest
from modiste.experiments.compare import create_comparison, run_comparison
from modiste.experiments.grid import Candidate, Grid
from modiste.experiments.outcomes import inferred, number, ranged
from modiste.experiments.ranking import Ranking

DATA = Path(os.environ.get("MODISTE_DATA", Path(__file__).parents[2] / "shared"))
VIEWS = (1, 2, 4, 8)
SEEDS = 5
EPOCHS = 5  # in each of the two stages
PIXELS = "from pixels"
COMMON = (
    "image.size=160",
    'model.backbone="mobilenetv2_100"',
    f'model.weights="{DATA / "weights/mobilenetv2_100.safetensors"}"',
    "model.dropout=0.2",
    "train.batch_size=32",
    "train.workers=1",
    'evaluate.views="flip"',
    *(f"stages.{k}.epochs={EPOCHS}" for k in range(2)),
    *(f'stages.{k}.schedule="one-cycle"' for k in range(2)),
    'augment.border="reflect"',
    "augment.translate=0.1",
    "augment.rotate=15",
    "augment.crop_scale=[1.0, 1.0]",
    "augment.color=0",
    "loss.label_smoothing=0",
    *(f"stages.{k}.size=160" for k in range(2)),
    'decide.policy="fixed:0.5"',
    'decide.calibration="none"',
    "stages.0.lr=3e-3",
    "stages.1.lr=1e-3",
    "stages.1.unlock=1",
)


def clothing(_: Path) -> tuple[Path, tuple[str, ...]]:
    """The published split of ten garment types."""
    table = DATA / "data/clothing/labels.csv"
    settings = ('data.label_columns=["small_label"]', 'data.split_column="small_split"', 'data.image_column="image"')
    return table, (*settings, "data.stratify_columns=[]", 'loss.name="bce"')


def ccp(folder: Path) -> tuple[Path, tuple[str, ...]]:
    """Street photos, near duplicates in one group, 53 tags that have a positive."""
    table = folder / "ccp-grouped.csv"
    if not table.exists():
        make_table(table)
    return table, ('data.image_column="file"', f'data.root="{DATA / "data/ccp"}"', 'loss.name="asymmetric"')


def run(folder: Path, make: object) -> Ranking:
    """Train what is missing of one data set's comparison."""
    at = folder / make.__name__
    if not at.exists():
        table, settings = make(folder)
        views = [Candidate(name=f"V = {count}", set=(f"augment.views={count}",)) for count in VIEWS]
        candidates = (*views, Candidate(name=PIXELS, set=('train.cache="off"',)))
        grid = Grid(recipe="ccp", seeds=SEEDS, set=(*COMMON, *settings), candidates=candidates).checked()
        _, recipe = next(grid.runs())
        create_comparison(at, grid, Manifest.read(table, recipe.data))
    return run_comparison(at, watch=watch)


def rows(name: str, found: Ranking) -> list[str]:
    """A line a number of views, the one from pixels first."""
    runs = {one.candidate: [run for run in found.outcomes if run.candidate == one.candidate] for one in found.ranked}
    lines = []
    for candidate in (PIXELS, *(f"V = {count}" for count in VIEWS)):
        one = next(standing for standing in found.ranked if standing.candidate == candidate)
        beside = ""
        if candidate != PIXELS:
            value, interval, *_ = inferred([runs[candidate], runs[PIXELS]], "map", 0.95)
            beside = f"{value:+.4f}{ranged(interval)}"
        map_, f2 = one.scores["map"], one.scores["macro.f2"]
        told = f"{number(map_.mean, 4)} ± {number(map_.sd, 4)} | {beside} | {number(f2.mean)} ± {number(f2.sd)}"
        mark = " (default)" if candidate == f"V = {DEFAULT_VIEWS}" else ""
        lines.append(f"| {name} | {candidate}{mark} | {told} | {one.seconds:.0f} |")
    return lines


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    tables = [line for make in (clothing, ccp) for line in rows(make.__name__, run(folder, make))]
    print(
        f"{date.today()}, {os.cpu_count()} cores, {platform.machine()}; {EPOCHS} epochs with everything locked, then "
        f"{EPOCHS} with the last group unlocked, 160 px, {SEEDS} seeds; seconds of training without computing "
        "the features, beside other work\n"
    )
    print(
        "| photos | views | test mAP ± sd | less that from pixels (95 %) | macro F2 ± sd | s |\n"
        "|---|---|---|---|---|---|"
    )
    print("\n".join(tables))


if __name__ == "__main__":
    main()
