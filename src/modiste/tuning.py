"""Tuning: a model's predictions on labelled photos -> its decision, with what may be expected of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from modiste.blends import BlendRun
from modiste.bootstrap import Predicted
from modiste.bundle import Run
from modiste.config import DecideConfig
from modiste.deciding import fit_decision, make_folds
from modiste.decision import FILE, Decision
from modiste.errors import UsageError
from modiste.evaluation import Evaluation, judge
from modiste.evenness import group_numbers
from modiste.label_mix import estimate_mix
from modiste.loading import open_run, predictor
from modiste.metrics import Scores, measure_prevalence, score
from modiste.policies import Policy
from modiste.predict import Source, Views
from modiste.predictions import Progress, fingerprint, predicted
from modiste.weighted import flat

CALIBRATIONS = ("temperature", "platt", "isotonic")
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
        notes: a sentence for each label whose threshold says less than it seems to, or that a catalogue has more
            or less of.
    """

    decision: Decision
    evaluation: Evaluation
    in_sample: Scores
    before: Scores
    notes: tuple[str, ...]


def tune(
    folder: Path | str,
    *,
    policy: str | None = None,
    calibration: str | None = None,
    split: str = "val",
    views: Views | None = None,
    catalogue: Sequence[Source] = (),
    progress: Progress = None,
) -> Tuned:
    """Calibrate a model and tune its thresholds on a split; write `decision.json`.

    Args:
        folder: the run or blend folder.
        policy: "fixed:0.5", "fbeta:2", "precision:0.9", "recall:0.9" or "top:3"; None takes the recipe's.
        calibration: "none", "auto", "temperature", "platt" or "isotonic"; None takes the recipe's.
        split: photos to tune on; not those that are to be reported.
        views: test-time augmentation; None takes the recipe's.
        catalogue: photos without labels of the catalogue that will be tagged, where its label mix is another one.
        progress: told (photos done, photos in all), where the network has to be asked.

    Raises:
        ManifestError: the split is empty.
        RunError: there is no trained model, or not one photo can be read.
        UsageError: no such policy or calibration, or too few photos.
    """
    run = open_run(Path(folder))
    config = _settings(run, policy, calibration)
    said = predicted(run, split, views, progress)
    read = said.readable
    part, raw = said.part.select(read), said.raw[read]
    folds = make_folds(part.targets, group_numbers(part), config.folds)
    fitted = fit_decision(config, part.targets, raw, folds, run.labels)
    provenance: dict[str, Any] = {
        "split": split,
        "photos": fingerprint(part),
        "count": len(part),
        "calibration": config.calibration,
        "folds": config.folds,
        "views": said.views,
        "date": datetime.now().astimezone().isoformat(timespec="seconds"),
    }
    decision = replace(fitted.decision, provenance=provenance)
    evaluation = judge(run, split, said, decision)
    provenance["expected"] = _expected(evaluation)
    notes = list(fitted.notes)
    if catalogue:
        here, words = _label_mix(run, decision, part.targets, catalogue)
        fitted = fit_decision(config, part.targets, raw, folds, run.labels, here=here)
        del provenance["photos"]  # what is expected was measured without the correction
        decision = replace(fitted.decision, provenance={**provenance, "catalogue": len(catalogue)})
        notes += words
    decision.write(run.folder / FILE, run.labels)
    inside, paper = replace(decision, mix=None), Decision.untuned("fixed:0.5", run.labels)
    in_sample, before = (_scores(run, part.targets, one.apply(raw, run.labels)) for one in (inside, paper))
    return Tuned(decision, evaluation, in_sample, before, tuple(notes))


def _expected(evaluation: Evaluation) -> dict[str, dict[str, float]]:
    """The main scores with their intervals."""
    measured = flat(evaluation.scores)
    return {
        name: {"value": measured[name], **evaluation.intervals[name]._asdict()}
        for name in _EXPECTED
        if np.isfinite(measured[name])
    }


def needs_tuning(run: Run | BlendRun) -> bool:
    """Whether the run's settings ask for a decision that is not there yet."""
    asked = Policy.parse(run.decide.policy) != run.decision.policy or run.decide.calibration != "none"
    return asked and not run.decision.provenance


def _settings(run: Run | BlendRun, policy: str | None, calibration: str | None) -> DecideConfig:
    """The run's settings with what is given in their place."""
    config = run.decide
    if policy is not None:
        config = config.model_copy(update={"policy": str(Policy.parse(policy))})
    if calibration is not None:
        known = ("none", *CALIBRATIONS, "auto")
        if calibration not in known:
            raise UsageError.expected(f"--calibration to be one of {', '.join(known)}", f"'{calibration}'", "auto")
        config = config.model_copy(update={"calibration": calibration})
    return config


def _scores(run: Run | BlendRun, targets: np.ndarray, said: Predicted) -> Scores:
    return score(targets, said.probs, said.decisions, run.labels)


def _label_mix(
    run: Run | BlendRun, decision: Decision, targets: np.ndarray, catalogue: Sequence[Source]
) -> tuple[np.ndarray, list[str]]:
    """How frequent each label is in a catalogue, and a sentence for each that is clearly more or less so."""
    raw = np.stack([said.probs for said in predictor(run).raw(catalogue)])
    probs = decision.apply(raw[np.isfinite(raw).all(axis=1)], run.labels).probs
    tuned = measure_prevalence(targets)
    here = estimate_mix(probs, tuned, run.labels)
    words = [
        f"'{label}' is estimated at {new:.1%} of the catalogue, against {old:.1%} of the photos tuned on."
        for label, old, new in zip(run.labels.ids, tuned, here, strict=True)
        if abs(new - old) > _MOVED * max(old, 0.01)
    ]
    return here, words
