"""What several photos of one product are worth: a photo alone, the mean of logits, the most certain view.

    python benchmarks/products.py FOLDER

trains the demo's network on single drawn garments, then draws products of five pictures each, in two ways:

- views: one drawing, mirrored, cropped, turned, darkened or saved badly at random, as shops vary one shot. All show
  the same marks of the styles.
- drawings: five drawings of the same styles, each of which may lack a mark or show it faintly, as photos of front, back
  and detail do.

Calibration and thresholds are tuned on 120 products, the scores are of 400 others; intervals are over products.
Gains are over photos one by one with the thresholds of photos. Drawn garments tell nothing of how much real
photos would gain. Run again, it trains nothing anew.
"""

import io
import os
import platform
import shutil
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
from PIL import Image, ImageEnhance, ImageOps

from modiste.config import DecideConfig, Recipe
from modiste.data.groups import group_numbers
from modiste.data.manifest import Manifest
from modiste.decisions.fit import fit_decision, make_folds
from modiste.decisions.fit_products import fit_products
from modiste.decisions.pooling import POOLINGS, Products
from modiste.demo.demo import PICTURES, SEED, SIZE
from modiste.demo.drawing import draw_dataset, draw_garment, draw_styles
from modiste.evaluation.evaluate import score_predictions
from modiste.evaluation.tune import tune
from modiste.labels import LabelSet
from modiste.metrics.scores import score
from modiste.runs.predictions import predicted
from modiste.runs.run import Run
from modiste.training.loop import train

PRODUCTS = {"val": 120, "test": 400}
PHOTOS = 5  # a product
LEAST = 12  # products with each style
POLICIES = ("fbeta:1", "fbeta:2", "precision:0.9", "recall:0.9")
LABELS = LabelSet.read("jd2018")


def train_once(folder: Path) -> Path:
    """The demo's run."""
    data = folder / "data" / "labels.csv"
    if not data.is_file():
        draw_dataset(folder / "data", PICTURES, SIZE, SEED)
    if not (folder / "run" / "model.safetensors").is_file():
        train(Recipe.read("demo"), Manifest.read(data), folder / "run")
    return folder / "run"


def views(styles: np.ndarray, number: int) -> list[Image.Image]:
    """One drawing as it is, and edited."""
    rng = np.random.default_rng([SEED, number])
    photo = Image.fromarray(draw_garment(styles, SIZE, rng))
    return [photo, *(edited(photo, rng) for _ in range(PHOTOS - 1))]


def edited(photo: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Mirrored, turned by up to 10 degrees, cropped to 70 % or more, lighter or darker, saved as JPEG of 30 or more."""
    if rng.random() < 0.5:
        photo = ImageOps.mirror(photo)
    corner = photo.getpixel((0, 0))
    photo = photo.rotate(rng.uniform(-10, 10), Image.Resampling.BILINEAR, fillcolor=corner)
    side = rng.uniform(0.7, 1) * photo.width
    left, top = rng.uniform(0, photo.width - side, 2)
    photo = photo.resize(photo.size, Image.Resampling.BILINEAR, (left, top, left + side, top + side))
    photo = ImageEnhance.Brightness(photo).enhance(rng.uniform(0.7, 1.2))
    file = io.BytesIO()
    photo.save(file, "JPEG", quality=int(rng.integers(30, 95)))
    return Image.open(file)


def drawings(styles: np.ndarray, number: int) -> list[Image.Image]:
    """Several drawings of the same styles."""
    return [
        Image.fromarray(draw_garment(styles, SIZE, np.random.default_rng([SEED, number, k]))) for k in range(PHOTOS)
    ]


def make(folder: Path, run: Path, kind: Callable[[np.ndarray, int], list[Image.Image]]) -> Path:
    """A copy of the run whose photos are products of one kind."""
    copy, photos = folder / kind.__name__, folder / f"{kind.__name__}-photos"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(run, copy)
    photos.mkdir(exist_ok=True)
    rows, number = [], 10_000
    for split, count in PRODUCTS.items():
        for styles in draw_styles(count, np.random.default_rng([SEED, count]), LEAST):
            number += 1
            for k, photo in enumerate(kind(styles, number)):
                path = photos / f"{number}-{k}.jpg"
                photo.save(path, quality=90)
                labels = dict(zip(LABELS.ids, styles.tolist(), strict=True))
                rows.append({"image": str(path), "split": split, "product": str(number), **labels})
    pl.DataFrame(rows).write_csv(folder / f"{kind.__name__}.csv")
    label_set = Run.read(copy).label_set
    Manifest.read(folder / f"{kind.__name__}.csv", label_set=label_set).absolute().write(copy / "manifest.parquet")
    return copy


def rows(kind: str, folder: Path) -> list[str]:
    """A line for photos, and one for each pooling."""
    tuned = tune(folder)
    run = Run.read(folder)
    val, test = predicted(run, "val"), predicted(run, "test")
    known = Products.of(group_numbers(val.part), val.part.targets, run.label_set)
    kept = tuned.decision.product_rule.pooling
    decisions = {name: fit_products(tuned.decision, name, val.raw, known, run.label_set) for name in POOLINGS}
    lines = []
    for pooling, decision in decisions.items():
        evaluation = score_predictions(run, "test", test, decision)
        if not lines:
            map_, f2 = evaluation.scores.map, evaluation.scores.macro.f2
            lines.append(f"| {kind} | a photo alone | {map_:.3f} | | {f2:.3f} | |")
        cells = []
        for gain in evaluation.products.gains[:2]:
            low, high = gain.interval
            cells.append(f"{gain.second:.3f} | {gain.difference:+.3f} ({low:+.3f} to {high:+.3f})")
        mark = " (chosen)" if pooling == kept else ""
        lines.append(f"| {kind} | {pooling}{mark} | {' | '.join(cells)} |")
    return lines


def threshold_rows(kind: str, folder: Path) -> list[str]:
    """For each policy a line with the thresholds of photos, and one with those of products; pooled by the mean."""
    run, lines = Run.read(folder), []
    label_set, val, test = run.label_set, predicted(run, "val"), predicted(run, "test")
    known, new = (Products.of(group_numbers(one.part), one.part.targets, label_set) for one in (val, test))
    folds = make_folds(val.part.targets, known.numbers, 5)
    for policy in POLICIES:
        config = DecideConfig(policy=policy, calibration="auto")
        plain = fit_decision(config, val.part.targets, val.raw, folds, label_set).decision
        tuned = fit_products(plain, "mean", val.raw, known, label_set)
        for whose, decision in (("photos", plain), ("products", tuned)):
            decided = decision.apply_products(decision.apply(test.raw, label_set).probs, new.numbers, label_set)
            found = score(new.targets, *decided, label_set)
            reached = f"{found.micro.precision:.3f} | {found.micro.recall:.3f}"
            lines.append(f"| {kind} | {policy} | {whose} | {found.macro.f1:.3f} | {found.macro.f2:.3f} | {reached} |")
    return lines


def main() -> None:
    folder = Path(sys.argv[1])
    run = train_once(folder)
    folders = {kind.__name__: make(folder, run, kind) for kind in (views, drawings)}
    print(
        f"{date.today()}, {os.cpu_count()} cores, {platform.machine()}; the demo's network on drawn garments of {SIZE} "
        f"px, {PHOTOS} pictures a product; tuned on {PRODUCTS['val']} products, scored on {PRODUCTS['test']}, one "
        "training\n"
    )
    print("| five pictures | answer | test mAP | gain (95 %) | macro F2 | gain (95 %) |\n|---|---|---|---|---|---|")
    print("\n".join(line for each in folders.items() for line in rows(*each)))
    print("\n| five pictures | policy | thresholds of | macro F1 | macro F2 | precision | recall |")
    print("|---|---|---|---|---|---|---|")
    print("\n".join(line for each in folders.items() for line in threshold_rows(*each)))


if __name__ == "__main__":
    main()
