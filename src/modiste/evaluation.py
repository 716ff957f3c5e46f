"""Evaluation: the photos of one split -> probabilities -> scores."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from modiste.bundle import Run
from modiste.errors import RunError
from modiste.loading import load
from modiste.manifest import Manifest
from modiste.metrics import Scores, score
from modiste.predict import Prediction, Views
from modiste.storage import replacing, write_text
from modiste.thresholds import Thresholds


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What a model said of a split, and how good that is.

    Attributes:
        split: name of the split.
        part: the photos that could be read, with their targets.
        probs: (n, labels) float32 of those photos.
        scores: measured on them.
        failed: predictions of the photos that could not be read, with their errors.
        thresholds: what turned probabilities into decisions.
        views: test-time augmentation that was used.
    """

    split: str
    part: Manifest
    probs: np.ndarray
    scores: Scores
    failed: list[Prediction]
    thresholds: Thresholds
    views: Views


def evaluate(
    folder: Path | str,
    split: str = "test",
    *,
    manifest: Manifest | None = None,
    views: Views | None = None,
    threshold: float | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Score a run on one of its splits, and write `predictions-<split>.parquet` and `metrics.json`.

    Args:
        folder: the run folder.
        split: "train", "val", "test", or "all" for every photo of the manifest.
        manifest: other photos than the run's own, with the same labels.
        views: test-time augmentation; None takes the recipe's.
        threshold: one probability for all labels; None takes the run's own.
        progress: told (photos done, photos in all).

    Raises:
        ManifestError: the split is empty.
        RunError: there is no trained model, or not one photo can be read.
    """
    run = Run.read(Path(folder))
    own = run.manifest()
    part = own if manifest is None else manifest
    if part.labels.ids != run.labels.ids:
        got = ", ".join(part.labels.ids[:3])
        raise RunError.expected(
            f"a manifest of the labels of {folder}, in order", got, "Manifest.read(path, labels=...)"
        )
    part = part if split == "all" else part.part(split)
    predictor = load(folder, views=views, threshold=threshold)
    predictions = []
    for done, prediction in enumerate(predictor.stream(part.photo(k) for k in range(len(part))), 1):
        predictions.append(prediction)
        if progress:
            progress(done, len(part))
    readable = np.array([prediction.error is None for prediction in predictions])
    failed = [prediction for prediction in predictions if prediction.error is not None]
    if not readable.any():
        raise RunError.expected(f"photos of split '{split}' to be readable", failed[0].error, "--root FOLDER")
    probs = np.stack([prediction.probs for prediction in predictions])
    _write_predictions(run, split, part, probs, predictions)
    part, probs = part.select(readable), probs[readable]
    decisions = predictor.thresholds.apply(probs, run.labels)
    scores = score(part.targets, probs, decisions, run.labels, own.part("train").prevalence)
    evaluation = Evaluation(split, part, probs, scores, failed, predictor.thresholds, predictor.views)
    _write_metrics(run, evaluation)
    return evaluation


def summary(evaluation: Evaluation) -> dict[str, Any]:
    """Plain data for `metrics.json` and `--json`."""
    return {
        "split": evaluation.split,
        "views": evaluation.views,
        "thresholds": evaluation.thresholds.source,
        "failed": [{"photo": prediction.photo, "error": prediction.error} for prediction in evaluation.failed],
        **evaluation.scores.to_dict(),
    }


def _write_predictions(run: Run, split: str, part: Manifest, probs: np.ndarray, predictions: list[Prediction]) -> None:
    photos = [prediction.photo for prediction in predictions]
    errors = [prediction.error for prediction in predictions]
    frame = pl.DataFrame({"photo": photos, "error": errors}, schema={"photo": pl.String, "error": pl.String})
    columns = [pl.Series(f"prob.{label}", probs[:, k]) for k, label in enumerate(run.labels.ids)]
    columns += [pl.Series(f"target.{label}", part.targets[:, k]) for k, label in enumerate(run.labels.ids)]
    with replacing(run.folder / f"predictions-{split}.parquet", pl.exceptions.ComputeError) as temporary:
        frame.with_columns(columns).write_parquet(temporary)


def _write_metrics(run: Run, evaluation: Evaluation) -> None:
    path = run.folder / "metrics.json"
    try:
        known = dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}
    except (ValueError, TypeError) as error:
        raise RunError.expected(f"{path} to be a JSON object", f"'{error}'", "removing it") from error
    known[evaluation.split] = summary(evaluation)
    write_text(path, json.dumps(known, ensure_ascii=False, indent=1) + "\n")
