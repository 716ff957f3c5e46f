"""The demo: drawn garments instead of photos, so that it needs no data and no network."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl

from modiste.demo.drawing import draw_dataset
from modiste.inference.writers import as_text
from modiste.runs.load import load

PICTURES = 2400
SIZE = 128  # pixels a side
SEED = 2018


def prepare(folder: Path, progress: Callable[[int, int], None] | None = None) -> Path:
    """Draw the pictures into `folder/data` unless they are there already; gives the manifest's path.

    Raises:
        StorageError: the folder can't be written.
    """
    manifest = folder / "data" / "labels.csv"
    return manifest if manifest.is_file() else draw_dataset(folder / "data", PICTURES, SIZE, SEED, progress)


def tag_some(folder: Path, count: int = 5) -> Iterator[str]:
    """Tag a few test pictures with the demo's run: a line each, predicted and true labels."""
    table = pl.read_csv(folder / "data" / "labels.csv", glob=False).filter(pl.col("split") == "test").head(count)
    predictor = load(folder / "run")
    flags = [name for name in table.columns if name not in ("image", "split")]
    for row in table.iter_rows(named=True):
        prediction = predictor.predict(folder / "data" / row["image"])
        true = [label for label, flag in zip(predictor.label_set.ids, flags, strict=True) if row[flag] == 1]
        yield f"{as_text(prediction, row['image'])}   (true: {', '.join(true)})"
