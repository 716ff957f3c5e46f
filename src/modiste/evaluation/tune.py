"""Tuning: a model's predictions on labelled photos -> its decision, with what may be expected of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from modiste.config import DecideConfig
from modiste.data.groups import group_numbers
from modiste.data.manifest import Manifest
from modiste.decisions.calibration import CALIBRATION_METHODS
from modiste.decisions.decision import DECISION_FILE, Decision
from modiste.decisions.fit import Fitted, TooFew, cross_fit_decision, fit_decision, make_folds
from modiste.decisions.fit_products import PoolingChoice, choose_pooling, fit_products
from modiste.decisions.label_shift import FEWEST_CATALOGUE, estimate_label_shift
from modiste.decisions.policies import Policy
from modiste.decisions.pooling import Products
from modiste.errors import UsageError
from modiste.evaluation.evaluate import Evaluation, save_evaluation, score_predictions
from modiste.evaluation.scored_photos import own_photos
from modiste.files import StrPath
from modiste.inference.photos import PhotoLike
from modiste.inference.predictor import Views
from modiste.metrics.scores import Scores, measure_prevalence, score
from modiste.metrics.weighted import flat_scores
from modiste.prediction import Decided
from modiste.progress import Progress
from modiste.runs.blend_run import BlendRun
from modiste.runs.load import open_run, predictor
from modiste.runs.predictions import Predictions, photos_key, predicted
from modiste.runs.run import Run

_MEMORISED = ("The network was trained on these photos, so expect lower scores on others.",)
_MOST_VALIDATION = 0.5  # share of the photos that may be advised to validate on
_MOVED = 0.5  # share by which a label must be more or less frequent to be named
_EXPECTED = ("map", "macro.precision", "macro.recall", "macro.f1", "macro.f2", "micro.f1")


@dataclass(frozen=True, eq=False)
class Tuned:
    """A decision that has been made.

    Attributes:
        decision: what was written.
        evaluation: cross-fitted, on the photos that it was tuned on: what may be expected.
        in_sample: scores of the decision on those same photos, which flatter it.
        before: scores of the paper's rule, probability > 0.5, on the same photos.
        notes: how products are pooled, where there are any, then a sentence for each label whose threshold is less
            certain than it seems, or that a catalogue has more or less of.
    """

    decision: Decision
    evaluation: Evaluation
    in_sample: Scores
    before: Scores
    notes: tuple[str, ...]


def tune(
    folder: StrPath,
    *,
    policy: str | None = None,
    calibration: str | None = None,
    split: str = "val",
    views: Views | None = None,
    catalogue: Sequence[PhotoLike] = (),
    progress: Progress | None = None,
) -> Tuned:
    """Calibrate a model and tune its thresholds on a split; write `decision.json`.

    Args:
        folder: the run or blend folder.
        policy: "fixed:0.5", "fbeta:2", "precision:0.9", "recall:0.9" or "top:3"; None takes the recipe's.
        calibration: "none", "auto", "temperature", "platt" or "isotonic"; None takes the recipe's.
        split: photos to tune on; not those that are to be reported.
        views: test-time augmentation; None takes the recipe's.
        catalogue: unlabelled photos of the catalogue that will be tagged, where label frequencies differ there.
        progress: told (photos done, photos in all), where the network has to be asked.

    Raises:
        ManifestError: the split is empty, or nothing is known of its labels.
        RunError: there is no trained model, or not one photo can be read.
        UsageError: no such policy or calibration, too few photos, or a catalogue without calibration.
    """
    run = open_run(Path(folder))
    config = settings(run, policy, calibration)
    own_photos(run, split)
    predictions = predicted(run, split, views, progress)
    if not (Policy.parse(config.policy).tuned or config.calibration != "none"):
        tuned = _untuned(run, split, predictions, config.policy)
    else:
        tuned = tune_predictions(run, split, predictions, config, views=views, catalogue=catalogue)
    save_evaluation(run, tuned.evaluation)
    tuned.decision.write(run.folder / DECISION_FILE, run.label_set)
    return tuned


def tune_predictions(
    run: Run | BlendRun,
    split: str,
    predictions: Predictions,
    config: DecideConfig,
    *,
    views: Views | None = None,
    catalogue: Sequence[PhotoLike] = (),
) -> Tuned:
    """Calibrate and tune on predictions for labelled photos; nothing is written.

    Args:
        run: whose network it was.
        split: what the photos are called.
        predictions: of the network.
        config: policy and calibration, of which one has to be tuned.
        views, catalogue: as for `tune`.

    Raises:
        UsageError: too few photos, or a catalogue without calibration.
    """
    part, raw = predictions.part.select(predictions.readable), predictions.raw[predictions.readable]
    groups = group_numbers(part)
    folds = make_folds(part.targets, groups, config.folds)
    products = Products.of(groups, part.targets, run.label_set)
    choice = choose_pooling(
        products, lambda: cross_fit_decision(config, part.targets, raw, folds, run.label_set).probs, run.label_set
    )

    def fit(here: np.ndarray | None = None) -> Fitted:
        fitted = fit_decision(config, part.targets, raw, folds, run.label_set, here=here)
        return fitted._replace(decision=fit_products(fitted.decision, choice.pooling, raw, products, run.label_set))

    fitted, shift = fit(), None
    if catalogue:
        shift = _label_shift(run, config, fitted.decision, part.targets, catalogue=catalogue, views=views)
    provenance = {
        "split": split,
        "photos": photos_key(part),
        "count": len(part),
        "views": views or run.decision.provenance.get("views"),
        **_settings_and_date(run, config, fitted.decision),
        **_product_facts(products, choice),
    }
    decision = replace(fitted.decision, provenance=provenance)
    evaluation = score_predictions(run, split, predictions, decision)
    in_sample = _scores(run, part.targets, decision.apply(raw, run.label_set))
    notes = [*(_MEMORISED if split == "train" else ()), *filter(None, [choice.reason])]
    expected: dict[str, Any] = {"expected": _expected(evaluation)}
    if shift is not None:
        fitted = fit(shift.here)
        expected |= {"thresholds": fitted.decision.thresholds_key, "catalogue": len(catalogue)}
        notes += shift.notes
    before = _scores(run, part.targets, Decision.untuned("fixed:0.5", run.label_set).apply(raw, run.label_set))
    decision = replace(fitted.decision, provenance={**provenance, **expected})
    return Tuned(decision, evaluation, in_sample, before, (*notes, *fitted.notes))


def _settings_and_date(run: Run | BlendRun, config: DecideConfig, decision: Decision) -> dict[str, Any]:
    """What a decision was made with and when; it tells later whether that still holds."""
    return {
        "model": run.key,
        "thresholds": decision.thresholds_key,
        "calibration": config.calibration,
        "folds": config.folds,
        "date": datetime.now().astimezone().isoformat(timespec="seconds"),
    }


def _untuned(run: Run | BlendRun, split: str, predictions: Predictions, policy: str) -> Tuned:
    """A decision that needs no photos, with its scores."""
    decision = Decision.untuned(policy, run.label_set)
    part, raw = predictions.part.select(predictions.readable), predictions.raw[predictions.readable]
    products = Products.of(group_numbers(part), part.targets, run.label_set)
    choice = choose_pooling(products, lambda: raw, run.label_set)
    decision = fit_products(decision, choice.pooling, raw, products, run.label_set)
    evaluation = score_predictions(run, split, predictions, decision)
    paper = Decision.untuned("fixed:0.5", run.label_set).apply(evaluation.raw, run.label_set)
    before = _scores(run, part.targets, paper)
    return Tuned(decision, evaluation, evaluation.scores, before, tuple(filter(None, [choice.reason])))


def _product_facts(products: Products, choice: PoolingChoice) -> dict[str, Any]:
    """What the pooling was chosen on."""
    if choice.pooling is None:
        return {}
    return {"products": {"count": len(products), "with_several_photos": products.several, "map": dict(choice.maps)}}


def _expected(evaluation: Evaluation) -> dict[str, dict[str, float]]:
    """The main scores with their intervals."""
    measured = flat_scores(evaluation.scores)
    return {
        name: {"value": measured[name], **evaluation.intervals[name]._asdict()}
        for name in _EXPECTED
        if np.isfinite(measured[name])
    }


def needs_tuning(run: Run | BlendRun) -> bool:
    """Whether the run's settings ask for a decision that is not there yet, or was made for other weights."""
    known = run.decision.provenance
    asked = Policy.parse(run.decide.policy) != run.decision.policy or run.decide.calibration != "none"
    return known.get("model") != run.key if known else asked


def advice_for_more(manifest: Manifest, lack: TooFew, *, dealt: bool | None) -> str:
    """What gives a run enough validation photos to tune on, or makes it need none.

    Args:
        manifest: with splits.
        lack: what its validation photos lack.
        dealt: whether modiste chose the validation photos, rather than the table; None where nobody knows.
    """
    none_needed = "--set decide.policy=fixed:0.5 --set decide.calibration=none, which need none"
    pool = int(np.isin(manifest.parts, ("train", "val")).sum())
    share = math.ceil(105 * lack.least / max(pool, 1)) / 100  # parts are exact to a few photos
    if dealt is not False and lack.noun == "photos" and share <= _MOST_VALIDATION:
        where = "" if dealt else " where the table names no validation photos"
        return f"--set data.val_fraction={share:g}{where}, or {none_needed}"
    return f"more validation photos, or {none_needed}"


def settings(run: Run | BlendRun, policy: str | None, calibration: str | None) -> DecideConfig:
    """The run's settings with what is given in their place.

    Raises:
        UsageError: no such policy or calibration.
    """
    config = run.decide
    if policy is not None:
        config = config.model_copy(update={"policy": str(Policy.parse(policy))})
    if calibration is not None:
        known = (*CALIBRATION_METHODS, "auto")
        if calibration not in known:
            raise UsageError.expected(f"--calibration to be one of {', '.join(known)}", f"'{calibration}'", "auto")
        config = config.model_copy(update={"calibration": calibration})
    return config


def _scores(run: Run | BlendRun, targets: np.ndarray, decided: Decided) -> Scores:
    return score(targets, *decided, run.label_set)


class _Shift(NamedTuple):
    """How frequent each label is in a catalogue, (labels,), and sentences about it."""

    here: np.ndarray
    notes: list[str]


def _label_shift(
    run: Run | BlendRun,
    config: DecideConfig,
    decision: Decision,
    targets: np.ndarray,
    *,
    catalogue: Sequence[PhotoLike],
    views: Views | None,
) -> _Shift:
    """How frequent each label is among a catalogue's photos."""
    if config.calibration == "none":
        got = "--calibration none"
        raise UsageError.expected("calibrated probabilities to estimate label shift from", got, "--calibration auto")
    predictions = list(predictor(run, views).raw(catalogue))
    errors = [one.error for one in predictions if one.error is not None]
    if len(predictions) - len(errors) < FEWEST_CATALOGUE:
        broken = next((f", and {one.photo} that can't be" for one in predictions if one.error is not None), "")
        got = f"{len(predictions) - len(errors)}{broken}"
        raise UsageError.expected(
            f"at least {FEWEST_CATALOGUE} photos of the catalogue that can be read", got, "more of them"
        )
    raw = np.stack([one.probs for one in predictions])
    read = np.isfinite(raw).all(axis=1)
    tuned = measure_prevalence(targets)
    here = estimate_label_shift(decision.apply(raw[read], run.label_set).probs, tuned, run.label_set)
    notes = [f"{len(errors)} of the catalogue's {len(raw)} photos could not be read: {errors[0]}"] if errors else []
    notes += [
        f"'{label}' is estimated at {new:.1%} of the catalogue, against {old:.1%} of the photos tuned on."
        for label, old, new in zip(run.label_set.ids, tuned, here, strict=True)
        if abs(new - old) > _MOVED * max(old, 0.01)
    ]
    return _Shift(here, notes)
