"""Predictions of a network for the photos of a split: kept beside the model, and used again while they still hold."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from modiste.data.groups import group_numbers
from modiste.data.images import DECODER
from modiste.data.manifest import Manifest
from modiste.decisions.fit import make_folds
from modiste.decisions.fit_blend import cross_fit_blend
from modiste.errors import RunError
from modiste.files import replacing
from modiste.inference.predictor import Views
from modiste.progress import Progress
from modiste.runs.blend_run import BlendRun
from modiste.runs.load import predictor
from modiste.runs.run import Run


@dataclass(frozen=True, eq=False)
class Predictions:
    """A network's probabilities for the photos of a manifest, in the manifest's order.

    Attributes:
        part: the photos, with their targets.
        raw: (n, labels) float32, before calibration; nan throughout where a photo can't be read.
        errors: of each photo, why it can't be read; None where it can.
        views: test-time augmentation, of a blend that of its first member.
        asked: the views that were asked for in place of the model's own.
    """

    part: Manifest
    raw: np.ndarray
    errors: list[str | None]
    views: Views
    asked: Views | None = None

    @property
    def readable(self) -> np.ndarray:
        """(n,) bool."""
        return np.array([error is None for error in self.errors])

    def photos(self) -> list[str]:
        """Paths."""
        return list(map(str, self.part.photos()))


def predict(
    run: Run | BlendRun, part: Manifest, views: Views | None = None, progress: Progress | None = None
) -> Predictions:
    """Ask the network of every photo, or those of a blend in turn.

    For the photos that a blend was fitted on they are out of fold: from a blend fitted on the other folds.

    Raises:
        RunError: there is no trained model, or not one photo can be read.
    """
    networks = _networks(run, views)
    raw = np.full((len(networks), len(part), len(run.label_set)), np.nan, np.float32)
    errors: list[str | None] = [None] * len(part)
    for m, network in enumerate(networks):
        for k, prediction in enumerate(predictor(network.run, network.views).raw(part.photos())):
            raw[m, k] = prediction.probs
            errors[k] = errors[k] or prediction.error
            if progress:
                progress(m * len(part) + k + 1, len(networks) * len(part))
    if all(error is not None for error in errors):
        raise RunError.expected(f"the photos of {part.source} to be readable", errors[0], "--root FOLDER")
    probs = blended(run, part, raw) if isinstance(run, BlendRun) else raw[0]
    return Predictions(part, probs, errors, views or run.views, views)


def blended(run: BlendRun, part: Manifest, raw: np.ndarray) -> np.ndarray:
    """A blend's probabilities for photos whose members give `raw`, (members, n, labels); nan where those do."""
    read = np.isfinite(raw).all(axis=(0, 2))
    probs = np.full(raw.shape[1:], np.nan, np.float32)
    readable = part.select(read)
    folds_of_members = run.choice.get("out_of_fold")
    if folds_of_members and run.choice.get("photos") == photos_key(readable):
        members = np.searchsorted(folds_of_members, readable.frame["fold"].to_numpy())
        probs[read] = raw[members, np.flatnonzero(read)]
        return probs
    fitted = run.blend.method != "mean" and run.blend.weights.max() < 1  # not so one run alone
    if fitted and run.choice.get("photos") == photos_key(readable):
        folds = make_folds(readable.targets, group_numbers(readable), run.choice["folds"])
        probs[read] = cross_fit_blend(readable.targets, raw[:, read], folds, run.blend.method)
    else:
        probs[read] = run.blend.apply(raw[:, read])
    return probs


def photos_key(part: Manifest) -> str:
    """Tells whether two parts are the same photos with the same targets."""
    photos = "\0".join(map(str, part.photos()))
    return hashlib.sha256(photos.encode() + part.targets.tobytes()).hexdigest()


def predicted(
    run: Run | BlendRun, split: str, views: Views | None = None, progress: Progress | None = None
) -> Predictions:
    """The network's probabilities for the run's own photos of a split: as kept by the last evaluation, or computed.

    Raises:
        ManifestError: the split is empty.
        RunError: as `predict`.
    """
    part = run.manifest().part(split)
    return _read(run, split, part, views) or predict(run, part, views, progress)


def write(run: Run | BlendRun, split: str, predictions: Predictions, probs: np.ndarray | None = None) -> None:
    """Keep predictions as `predictions-<split>.parquet`.

    Columns: photo, error, then for each label prob.<label> (the network's own), calibrated.<label> (where
    calibration or correction for label shift changes it) and target.<label>.

    Args:
        run: whose folder they are kept in.
        split: what the photos are called.
        predictions: of the network.
        probs: (n, labels) as they are decided on, nan where a photo can't be read; None: the network's own.
    """
    frame = pl.DataFrame(
        {"photo": predictions.photos(), "error": predictions.errors},
        schema={"photo": pl.String, "error": pl.String},
    )
    kinds = {"prob": predictions.raw}
    if probs is not None and not np.array_equal(predictions.raw, probs, equal_nan=True):
        kinds["calibrated"] = probs
    kinds["target"] = predictions.part.targets
    columns = [
        pl.Series(f"{kind}.{label}", values[:, k])
        for kind, values in kinds.items()
        for k, label in enumerate(run.label_set.ids)
    ]
    key = _key(run, predictions.part, predictions.asked)
    with replacing(_path(run, split), pl.exceptions.ComputeError) as temporary:
        frame.with_columns(columns).write_parquet(temporary, metadata={"key": key, "decoder": str(DECODER)})


class _Network(NamedTuple):
    """A run whose network is asked, and the views of each photo that it sees."""

    run: Run
    views: Views


def _networks(run: Run | BlendRun, views: Views | None) -> list[_Network]:
    """Whose network is asked: a blend's members each with their own views, unless told otherwise."""
    if isinstance(run, BlendRun):
        return [_Network(member, views or run.own_views or member.views) for member in run.members]
    return [_Network(run, views or run.views)]


def seen_views(run: Run | BlendRun, views: Views | None = None) -> tuple[Views, ...]:
    """Test-time augmentation of each network of a model; `views` takes the place of the model's own."""
    return tuple(network.views for network in _networks(run, views))


def _read(run: Run | BlendRun, split: str, part: Manifest, views: Views | None) -> Predictions | None:
    """What was kept, unless weights, photos, targets or views are others now, or a photo could not be read then.

    What was computed with an earlier decoder counts only where a photo has gone and it can't be computed anew.
    """
    path = _path(run, split)
    try:
        kept = pl.read_parquet_metadata(path)
        if kept.get("key") != _key(run, part, views):
            return None
        if kept.get("decoder") != str(DECODER) and all(photo.is_file() for photo in part.photos()):
            return None
        frame = pl.read_parquet(path, glob=False)
        if frame["error"].null_count() < len(frame):
            return None
        raw = frame.select([f"prob.{label}" for label in run.label_set.ids]).to_numpy().astype(np.float32)
        return Predictions(part, raw, frame["error"].to_list(), views or run.views, views)
    except (OSError, pl.exceptions.PolarsError):
        return None


def _path(run: Run | BlendRun, split: str) -> Path:
    return run.folder / f"predictions-{split}.parquet"


def _key(run: Run | BlendRun, part: Manifest, views: Views | None) -> str:
    return hashlib.sha256(" ".join([run.key, *seen_views(run, views), photos_key(part)]).encode()).hexdigest()
