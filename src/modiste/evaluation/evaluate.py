"""Evaluation: the photos of one split -> probabilities -> decisions -> scores with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from modiste.config import DecideConfig
from modiste.data.groups import group_numbers
from modiste.data.manifest import Manifest
from modiste.decisions.decision import Decision
from modiste.decisions.fit import FoldFit, decide_out_of_fold, fit_each_fold, make_folds
from modiste.decisions.fit_products import contradictions, cross_fit_products
from modiste.decisions.pooling import Products
from modiste.errors import RunError, UsageError
from modiste.evaluation.products import ProductScores, score_products
from modiste.evaluation.scored_photos import other_photos, own_photos
from modiste.evaluation.verdict import Verdict, judge
from modiste.files import StrPath
from modiste.inference.predictor import Views
from modiste.labels import LabelSet
from modiste.metrics.bootstrap import Interval, comparisons, intervals, replicate
from modiste.metrics.scores import Scores, score
from modiste.metrics.weighted import flat_scores
from modiste.prediction import Decided
from modiste.progress import Progress
from modiste.runs.blend_run import BlendRun
from modiste.runs.evaluations import Origin, add_evaluation, evaluation_file_name, evaluation_name, read_evaluations
from modiste.runs.load import open_run
from modiste.runs.predictions import Predictions, photos_key, predict, seen_views, write
from modiste.runs.run import Run


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The predictions of a model for a split, and their scores.

    Attributes:
        split: name of the split.
        predictions: the network's probabilities of all photos, unreadable ones included.
        decided: probs, calibrated where the decision is, and decisions of the n photos that could be read.
        decision: what turned probabilities into decisions.
        folds: (n,) fold numbers of the cross-fitting; None where there was none.
        scores: measured on the n photos.
        intervals: score's name -> 95 % interval, by the names of `weighted.flat_scores`.
        origin: which photos, weights and decision were scored.
        unseen: (n,) bool, photos that neither training nor tuning has seen, or only out of fold.
        notes: sentences that a reader of the scores has to know.
        products: scores of whole products; None where no group of the manifest has several photos, or the groups are
            no products.
    """

    split: str
    predictions: Predictions
    decided: Decided
    decision: Decision
    folds: np.ndarray | None
    scores: Scores
    intervals: dict[str, Interval]
    origin: Origin
    unseen: np.ndarray
    notes: tuple[str, ...] = ()
    products: ProductScores | None = None

    @cached_property
    def verdict(self) -> Verdict:
        """Which labels are good enough to publish unreviewed, judged on the unseen photos."""
        return judge(self.scores, self.part.targets, self.decisions, self.part.label_set, self.unseen)

    @cached_property
    def part(self) -> Manifest:
        """The n photos that could be read, with their targets."""
        return self.predictions.part.select(self.predictions.readable)

    @cached_property
    def raw(self) -> np.ndarray:
        """(n, labels) float32, the network's own probabilities."""
        raw: np.ndarray = self.predictions.raw[self.predictions.readable]
        return raw

    @property
    def probs(self) -> np.ndarray:
        """(n, labels) float32, calibrated where the decision is."""
        return self.decided.probs

    @property
    def decisions(self) -> np.ndarray:
        """(n, labels) int8."""
        return self.decided.decisions

    @property
    def failed(self) -> dict[str, str]:
        """Path of each photo that could not be read -> why."""
        photos, errors = self.predictions.photos(), self.predictions.errors
        return {name: error for name, error in zip(photos, errors, strict=True) if error is not None}

    @property
    def views(self) -> Views:
        """Test-time augmentation that was used."""
        return self.predictions.views

    @property
    def name(self) -> str:
        """What a person calls it: split, other manifest, other thresholds."""
        return evaluation_name(self.split, self.origin.manifest, self.origin.thresholds)

    @property
    def file_name(self) -> str:
        """What its files are called by: the split, and what differs from the model's own photos and thresholds."""
        return evaluation_file_name(self.split, self.origin.manifest, self.origin.thresholds)

    @property
    def cross_fitted(self) -> bool:
        """Whether each photo was decided by a decision that the photos of other folds tuned."""
        return self.folds is not None


def evaluate(
    folder: StrPath,
    split: str = "test",
    *,
    manifest: Manifest | None = None,
    views: Views | None = None,
    thresholds: str | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Score a model on one of its splits, and write `predictions-<split>.parquet` and `metrics.json`.

    Predictions for other photos, or decided by other thresholds, are written under a name that says so.

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
        LabelError: nothing is known of the photos' labels.
        ManifestError: the split is empty.
        RunError: there is no trained model, not one photo can be read, or `metrics.json` is damaged.
        UsageError: no such thresholds.
    """
    run = open_run(Path(folder))
    if manifest is not None and manifest.label_set.ids != run.label_set.ids:
        got = ", ".join(manifest.label_set.ids[:3])
        raise RunError.expected(
            f"a manifest of the labels of {folder}, in order", got, "Manifest.read(path, label_set=...)"
        )
    part = own_photos(run, split) if manifest is None else other_photos(run, manifest.absolute(), split)
    decision = run.decision if thresholds is None else Decision.untuned(thresholds, run.label_set)
    read_evaluations(run.folder)  # a damaged file is refused before the network is asked
    predictions = predict(run, part, views, progress)
    source = None if manifest is None else manifest.source
    evaluation = score_predictions(run, split, predictions, decision, manifest=source, thresholds=thresholds)
    save_evaluation(run, evaluation)
    return evaluation


def score_predictions(
    run: Run | BlendRun,
    split: str,
    predictions: Predictions,
    decision: Decision,
    *,
    manifest: str | None = None,
    thresholds: str | None = None,
) -> Evaluation:
    """Decide and score predictions; nothing is written.

    Args:
        run: whose network it was.
        split: what the photos are called.
        predictions: of the network.
        decision: from probabilities to decisions; cross-fitted on the photos that it was tuned on.
        manifest: file of the photos where they are not the run's own.
        thresholds: what was asked for in place of the run's own decision.
    """
    read = predictions.readable
    part, raw = predictions.part.select(read), predictions.raw[read]
    folds = tuning_folds(decision, part)
    fits: list[FoldFit] = []
    if folds is None:
        decided = decision.apply(raw, run.label_set)
    else:
        here = None if decision.label_shift is None else decision.label_shift.here
        fits = fit_each_fold(decide_config(decision), part.targets, raw, folds, run.label_set, here=here)
        if not decision.thresholds.groups:  # tuned by an earlier version, which left no group unsure
            fits = [FoldFit(inside, fitted.without_groups(run.label_set)) for inside, fitted in fits]
        decided = decide_out_of_fold(fits, raw, run.label_set)
    prevalence, groups = _prevalence(run.manifest()), group_numbers(part)
    scores = score(part.targets, *decided, run.label_set, prevalence)
    draws = replicate(part.targets, *decided, run.label_set, groups=groups)
    views = seen_views(run, predictions.asked)
    origin = Origin.now(run, predictions.part, decision, views, manifest=manifest, thresholds=thresholds)
    notes = () if folds is not None else _notes(run, decision, part)
    products, whole = Products.of(groups, part.targets, run.label_set), None
    if products.several and not products.plausible:
        notes = (*notes, f"{contradictions(products)} They are taken for no products, and are not scored as such.")
    elif products.several:
        pooled = _decide_products(decision, fits, raw, products, run.label_set)
        pooling = decision.product_rule.pooling
        whole = score_products(
            products, pooling, pooled, run.label_set, prevalence=prevalence, photos=scores, draws=draws
        )
    return Evaluation(
        split,
        predictions,
        decided,
        decision,
        folds,
        scores,
        intervals(draws, flat_scores(scores)),
        origin,
        _unseen(run, decision, part, cross_fitted=folds is not None),
        notes,
        whole,
    )


def _decide_products(
    decision: Decision, fits: Sequence[FoldFit], raw: np.ndarray, products: Products, label_set: LabelSet
) -> Decided:
    """Products by the decision, or where it was tuned on these photos, by what was fitted on the other folds."""
    if fits:
        return cross_fit_products(fits, decision.products and decision.products.pooling, raw, products, label_set)
    return decision.apply_products(decision.apply(raw, label_set).probs, products.numbers, label_set)


def save_evaluation(run: Run | BlendRun, evaluation: Evaluation) -> None:
    """Keep an evaluation in `predictions-<its file name>.parquet` and beside the others in `metrics.json`.

    Raises:
        RunError: `metrics.json` is damaged; nothing is written then.
    """
    read_evaluations(run.folder)
    predictions = evaluation.predictions
    probs = np.full_like(predictions.raw, np.nan)
    probs[predictions.readable] = evaluation.probs
    write(run, evaluation.file_name, predictions, probs)
    add_evaluation(run.folder, to_document(evaluation))


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
    found = comparisons(other.decided, one.decided, one.part.targets, label_set, scores, groups=groups)
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
    if known.get("photos") != photos_key(part) or known.get("thresholds") != decision.thresholds_key:
        return None
    return make_folds(part.targets, group_numbers(part), decide_config(decision).folds)


def decide_config(decision: Decision) -> DecideConfig:
    """The settings that a tuned decision was made with."""
    known = {key: decision.provenance[key] for key in ("calibration", "folds") if key in decision.provenance}
    return DecideConfig(policy=str(decision.policy), **known)


def _unseen(run: Run | BlendRun, decision: Decision, part: Manifest, *, cross_fitted: bool) -> np.ndarray:
    """Which photos, (n,) bool, were used neither for training nor for tuning or blending, or only out of fold."""
    used: set[str | None] = {"train"} if cross_fitted else {"train", decision.provenance.get("split")}
    if isinstance(run, BlendRun) and run.choice.get("photos") != photos_key(part):
        used.add(run.choice.get("split"))
    own = run.manifest()
    known = [split for split in used if split is not None and (own.parts == split).any()]
    seen = {photo for split in known for photo in own.part(split).photos()}
    return np.array([photo not in seen for photo in part.photos()], dtype=bool)


def _notes(run: Run | BlendRun, decision: Decision, part: Manifest) -> tuple[str, ...]:
    """Whether some of the photos were used for tuning, which makes their scores too high."""
    split = decision.provenance.get("split")
    if split is None:
        return ()
    tuned = run.manifest().part(split)
    both = {*tuned.photos()} & {*part.photos()}
    return (f"{len(both)} of these photos were used for tuning, so these scores are too high.",) if both else ()


def to_document(evaluation: Evaluation) -> dict[str, Any]:
    """Plain data for `metrics.json` and `--json`."""
    verdict = evaluation.verdict
    return {
        "name": evaluation.name,
        "verdict": verdict.sentence,
        "verdicts": dict(verdict.labels),
        "below_guessing": {one.name: one.guess for one in verdict.below},
        "split": evaluation.split,
        "views": evaluation.views,
        "policy": str(evaluation.decision.policy),
        "cross_fitted": evaluation.cross_fitted,
        "notes": list(evaluation.notes),
        "failed": [{"photo": photo, "error": error} for photo, error in evaluation.failed.items()],
        "origin": asdict(evaluation.origin),
        **evaluation.scores.to_dict(),
        "intervals": {
            name: None if np.isnan(one.low) else [one.low, one.high] for name, one in evaluation.intervals.items()
        },
        "products": None if evaluation.products is None else evaluation.products.to_dict(),
    }
