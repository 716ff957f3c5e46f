"""Evaluation: the photos of one split -> probabilities -> decisions -> scores with intervals."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from modiste.config import DecideConfig
from modiste.data.groups import group_numbers
from modiste.data.manifest import Manifest
from modiste.decisions.decision import Decision
from modiste.decisions.fit import cross_fit_decision, make_folds
from modiste.errors import RunError, UsageError
from modiste.files import StrPath, write_text
from modiste.inference.predictor import Views
from modiste.metrics.bootstrap import Interval, comparisons, intervals, replicate
from modiste.metrics.scores import Scores, score
from modiste.metrics.weighted import flat_scores
from modiste.prediction import Decided
from modiste.runs import predictions
from modiste.runs.blend_run import BlendRun
from modiste.runs.load import open_run
from modiste.runs.metrics_file import read_metrics
from modiste.runs.predictions import Predictions, Progress, photos_key, predict
from modiste.runs.run import Run


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What a model said of a split, and how good that is.

    Attributes:
        split: name of the split.
        part: the photos that could be read, with their targets.
        raw: (n, labels) float32 of those photos, the network's own probabilities.
        probs: likewise, calibrated where the decision is.
        decisions: (n, labels) int8.
        scores: measured on them.
        intervals: score's name -> 95 % interval, by the names of `weighted.flat`.
        failed: path of each photo that could not be read -> why.
        decision: what turned probabilities into decisions.
        cross_fitted: the decision was tuned on these photos, so that each was decided by what the others tuned.
        views: test-time augmentation that was used.
        folds: (n,) fold numbers of the cross-fitting; None where there was none.
        notes: sentences that a reader of the scores has to know.
    """

    split: str
    part: Manifest
    raw: np.ndarray
    probs: np.ndarray
    decisions: np.ndarray
    scores: Scores
    intervals: dict[str, Interval]
    failed: dict[str, str]
    decision: Decision
    views: Views
    folds: np.ndarray | None
    notes: tuple[str, ...] = ()

    @property
    def cross_fitted(self) -> bool:
        """Whether each photo was decided by what the others tuned."""
        return self.folds is not None


def evaluate(
    folder: StrPath,
    split: str = "test",
    *,
    manifest: Manifest | None = None,
    views: Views | None = None,
    thresholds: str | None = None,
    progress: Progress = None,
) -> Evaluation:
    """Score a model on one of its splits, and write `predictions-<split>.parquet` and `metrics.json`.

    On the photos that its thresholds were tuned on, scores are cross-fitted: each photo is decided by what the
    photos of the other folds tuned.

    Args:
        folder: the run or blend folder.
        split: "train", "val", "test", or "all" for every photo of the manifest.
        manifest: other photos than the run's own, with the same labels.
        views: test-time augmentation; None takes the recipe's.
        thresholds: "fixed:0.5" or "top:3"; None takes the run's own decision.
        progress: told (photos done, photos in all).

    Raises:
        ManifestError: the split is empty.
        RunError: there is no trained model, or not one photo can be read.
        UsageError: no such thresholds.
    """
    run = open_run(Path(folder))
    part = run.manifest() if manifest is None else manifest.absolute()
    if part.label_set.ids != run.label_set.ids:
        got = ", ".join(part.label_set.ids[:3])
        raise RunError.expected(
            f"a manifest of the labels of {folder}, in order", got, "Manifest.read(path, labels=...)"
        )
    decision = run.decision if thresholds is None else Decision.untuned(thresholds, run.label_set)
    said = predict(run, part if split == "all" else part.part(split), views, progress)
    return judge(run, split, said, decision)


def judge(run: Run | BlendRun, split: str, said: Predictions, decision: Decision) -> Evaluation:
    """Decide and score what a network said; keep it in `predictions-<split>.parquet` and `metrics.json`."""
    read = said.readable
    part, raw = said.part.select(read), said.raw[read]
    folds = tuning_folds(decision, part)
    if folds is None:
        decided = decision.apply(raw, run.label_set)
    else:
        here = None if decision.mix is None else decision.mix.here
        decided = cross_fit_decision(decide_config(decision), part.targets, raw, folds, run.label_set, here=here)
    everyone = Decided(np.full_like(said.raw, np.nan), np.zeros(said.raw.shape, np.int8))
    everyone.probs[read] = decided.probs
    predictions.write(run, split, said, everyone)
    base = _prevalence(run.manifest())
    scores = score(part.targets, decided.probs, decided.decisions, run.label_set, base)
    draws = replicate(part.targets, decided.probs, decided.decisions, run.label_set, groups=group_numbers(part))
    failed = {name: error for name, error in zip(said.photos(), said.errors, strict=True) if error is not None}
    notes = () if folds is not None else _notes(run, decision, part)
    evaluation = Evaluation(
        split,
        part,
        raw,
        *decided,
        scores,
        intervals(draws, flat_scores(scores)),
        failed,
        decision,
        said.views,
        folds,
        notes,
    )
    _write_metrics(run, evaluation)
    return evaluation


def compared(one: Evaluation, other: Evaluation, name: str, other_name: str) -> list[dict[str, Any]]:
    """Whether `one` is better than `other` on the same photos: mAP, macro F2 and the accuracy of each group.

    Raises:
        UsageError: they are about other photos or other labels.
    """
    if one.part.label_set.ids != other.part.label_set.ids or photos_key(one.part) != photos_key(other.part):
        got = f"{len(one.part)} and {len(other.part)} photos that differ, or other labels"
        raise UsageError.expected(f"{name} and {other_name} to be scored on the same photos", got, "one manifest")
    label_set, groups = one.part.label_set, group_numbers(one.part)
    scores = [
        "map",
        *(["macro.f2"] if label_set.free_labels.size else []),
        *(f"groups.{g}.accuracy" for g in label_set.exclusive),
    ]
    first, second = Decided(other.probs, other.decisions), Decided(one.probs, one.decisions)
    found = comparisons(first, second, one.part.targets, label_set, scores, groups=groups)
    return [
        {
            "score": each.name,
            "difference": None if np.isnan(each.difference) else each.difference,
            "interval": None if np.isnan(each.interval.low) else list(each.interval),
            "probability": None if np.isnan(each.better) else each.better,
            "sentence": each.sentence(other_name, name),
        }
        for each in found
    ]


def _prevalence(manifest: Manifest) -> np.ndarray:
    """Of the labels among training photos; an ensemble of folds has trained on its validation photos."""
    return manifest.part("train" if "train" in manifest.parts else "val").prevalence


def tuning_folds(decision: Decision, part: Manifest) -> np.ndarray | None:
    """The folds (n,) that the decision was tuned with, if it was tuned on these photos and not edited since."""
    known = decision.provenance
    if known.get("photos") != photos_key(part) or known.get("thresholds") != decision.digest:
        return None
    return make_folds(part.targets, group_numbers(part), decide_config(decision).folds)


def decide_config(decision: Decision) -> DecideConfig:
    """The settings that a tuned decision was made with."""
    known = {key: decision.provenance[key] for key in ("calibration", "folds") if key in decision.provenance}
    return DecideConfig(policy=str(decision.policy), **known)


def _notes(run: Run | BlendRun, decision: Decision, part: Manifest) -> tuple[str, ...]:
    """Whether some of the photos were tuned on, which flatters what is said of them."""
    split = decision.provenance.get("split")
    if split is None:
        return ()
    tuned = run.manifest().part(split)
    both = {*tuned.photos()} & {*part.photos()}
    return (f"{len(both)} of these photos were tuned on: what is said of them flatters.",) if both else ()


def to_document(evaluation: Evaluation) -> dict[str, Any]:
    """Plain data for `metrics.json` and `--json`."""
    return {
        "split": evaluation.split,
        "views": evaluation.views,
        "policy": str(evaluation.decision.policy),
        "cross_fitted": evaluation.cross_fitted,
        "notes": list(evaluation.notes),
        "failed": [{"photo": photo, "error": error} for photo, error in evaluation.failed.items()],
        **evaluation.scores.to_dict(),
        "intervals": {
            name: None if np.isnan(one.low) else [one.low, one.high] for name, one in evaluation.intervals.items()
        },
    }


def _write_metrics(run: Run | BlendRun, evaluation: Evaluation) -> None:
    known = read_metrics(run.folder)
    known[evaluation.split] = to_document(evaluation)
    write_text(run.folder / "metrics.json", json.dumps(known, ensure_ascii=False, indent=1) + "\n")
