"""Parts of a bulk job that a version wrote which didn't say what is unsure: they get the columns that they lack.

All follows from what stands in them: labels, and the probabilities that were decided on. So nothing is tagged again,
and a folder never holds parts of two layouts once a round is finished.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl

from modiste.inference.parts import part_columns, part_numbers, part_path, read_part, rewrite_part
from modiste.inference.predictor import BasePredictor
from modiste.inference.writers import label_columns
from modiste.prediction import Decided

_FIRST = ["photo", "labels", "error"]  # columns before those of the labels


def complete_parts(folder: Path, wanted: Callable[[int], bool], predictor: BasePredictor) -> None:
    """Rewrite parts of the earlier layout with `unsure` and `review`.

    Args:
        folder: of the job.
        wanted: whether a part, by its number, is to be looked at.
        predictor: what tagged them; parts of a model with other labels stay, as the round tags all their photos again.

    Raises:
        RunError: a part can't be read.
        StorageError: one can't be written.
    """
    ids = predictor.label_set.ids
    earlier = [*_FIRST, *(f"prob.{label}" if label in _FIRST else label for label in ids)]
    for path in (part_path(folder, number) for number in part_numbers(folder) if wanted(number)):
        if part_columns(path) == earlier:
            rewrite_part(path, _completed(read_part(path), predictor))


def _completed(part: pl.DataFrame, predictor: BasePredictor) -> pl.DataFrame:
    label_set = predictor.label_set
    probs = part.select(part.columns[len(_FIRST) :]).cast(pl.Float32).to_numpy()
    decisions = np.array([[label in labels for label in label_set.ids] for labels in part["labels"]], np.int8)
    decided = Decided(probs, decisions.reshape(probs.shape))
    failed = part["error"].is_not_null()
    found = zip(failed, predictor.decision.unsure(decided, label_set), strict=True)
    unsure = pl.Series("unsure", [[] if error else list(names) for error, names in found], pl.List(pl.String))
    renamed = part.rename(dict(zip(part.columns[len(_FIRST) :], label_columns(label_set), strict=True)))
    return renamed.select(
        "photo",
        "labels",
        unsure,
        ((unsure.list.len() > 0) | failed).alias("review"),
        "error",
        *label_columns(label_set),
    )
