"""One page for a person: how good the predictions are, where they fail, and what needs no photo at all.

`report.html` holds everything it shows (plots, thumbnails, sorting) and asks nothing of the network.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import polars as pl
from PIL import Image

from modiste.config import DecideConfig
from modiste.data.groups import group_numbers
from modiste.decisions.decision import Decision
from modiste.decisions.fit import make_folds
from modiste.decisions.fit_thresholds import FEW
from modiste.errors import UsageError
from modiste.evaluation.report_photos import photo_cards
from modiste.evaluation.report_plots import ThresholdCurve, plot_operating, plot_reliability, plot_thresholds
from modiste.evaluation.verdict import GOOD_PRECISION, Verdict
from modiste.files import write_text
from modiste.inference.predictor import BasePredictor
from modiste.labels import LabelSet
from modiste.metrics.bootstrap import Interval, spoken
from modiste.metrics.operating_points import FEWEST_PHOTOS, OperatingPoint, operating_curve
from modiste.metrics.scores import Scores
from modiste.metrics.sweep import sweep
from modiste.pages.html import data_uri, render
from modiste.pages.plots import (
    DPI,
    MOST_LABELS,
    MatrixWords,
    ScoredPhotos,
    drawable,
    plot_curves,
    plot_history,
    plot_labels,
    plot_matrix,
)
from modiste.prediction import Decided
from modiste.runs.evaluations import evaluation_file_name
from modiste.runs.load import predictor
from modiste.runs.predictions import seen_views

if TYPE_CHECKING:  # need torch
    from modiste.evaluation.evaluate import Evaluation
    from modiste.evaluation.products import ProductScores
    from modiste.runs.blend_run import BlendRun
    from modiste.runs.run import Run

DRAWN = "The pictures are drawn, not photographed: these scores say nothing about real photos."
_MOST_PAIRS = 15  # rows of a table of confusions
_MOST_ERRORS = 30  # labels in the plot of co-errors
_MOST_CHIPS = 8  # labels of one kind under one photo


def write_report(
    folder: Path,
    *,
    title: str,
    scores: Scores,
    targets: np.ndarray,
    raw: np.ndarray,
    decided: Decided,
    label_set: LabelSet,
    photos: Sequence[Path],
    decision: Decision,
    verdict: Verdict,
    facts: Mapping[str, str],
    intervals: Mapping[str, Interval],
    operating: Sequence[OperatingPoint] = (),
    history: list[dict[str, Any]] | None = None,
    notes: Sequence[str] = (),
    tags: BasePredictor | None = None,
    products: ProductScores | None = None,
) -> Path:
    """Write `report.html` and its plots as PNG files into `folder`; return the page's path.

    Args:
        folder: made if missing; files of an earlier report are replaced.
        scores, targets, label_set: as `metrics.scores.score` gives and takes them.
        raw, decided: the network's own probabilities (n, labels), and what was made of them.
        photos: n files; one that can't be read shows as a grey box with its name.
        decision, verdict: how probabilities became decisions; of these, from `verdict.judge`.
        facts, intervals: what a reader should know, in order; of the scores, by the names of `weighted.flat`.
        operating, products: points of rising precision, none draw no curve; scores of whole products, if any.
        history, notes, tags: rows as `plot_history` takes them; sentences above everything; what makes heatmaps.

    Raises:
        UsageError: the numbers of photos differ.
    """
    if not len(targets) == len(decided.probs) == len(photos):
        got = f"{len(targets)}, {len(decided.probs)} and {len(photos)}"
        raise UsageError.expected("as many targets as predictions and photos", got, "the arrays of one evaluation")
    scored, plots = ScoredPhotos(scores, targets, decided, label_set), _Plots(folder)
    _draw(plots, scored, history)
    _draw_decision(plots, scored, raw, decision, intervals)
    if operating:
        plots.keep("operating.png", plot_operating, operating)
    page = _page(
        title=title,
        facts=facts,
        notes=notes,
        scores=scores,
        labels=label_set,
        decision=decision,
        intervals=intervals,
        operating=operating,
        verdict=verdict,
        plots=plots.drawn,
        pairs=_pairs(scored),
        cards=photo_cards(scored, photos, tags, folder),
        products=products,
    )
    write_text(folder / "report.html", page)
    return folder / "report.html"


def _beta(decision: Decision) -> int:
    """Of the F-score that threshold curves show: those with intervals are F1 and F2."""
    return 1 if (decision.policy.kind, decision.policy.value) == ("fbeta", 1) else 2


class _Plot(NamedTuple):
    """A plot on the page: its data URI, and its width in CSS pixels."""

    uri: str
    width: int


class Confusion(NamedTuple):
    """Names of a true label and of one that was predicted in its place, on how many photos, of which share of them."""

    true: str
    predicted: str
    photos: int
    share: float


class _Plots:
    """Plots in a folder by file name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.drawn: dict[str, _Plot] = {}

    def keep(self, name: str, draw: Callable[..., None], *arguments: object, **options: object) -> None:
        """Draw a plot into the folder."""
        draw(*arguments, self.folder / name, **options)
        content = (self.folder / name).read_bytes()
        self.drawn[name] = _Plot(data_uri("png", content), Image.open(io.BytesIO(content)).width * 96 // DPI)


def _shown(scores: Scores) -> list[int]:
    """Positions of the labels that plots have room for: the most frequent ones, in order."""
    positives = np.array([label.positives for label in scores.labels.values()])
    return sorted(k for k in np.argsort(-positives, kind="stable")[:MOST_LABELS].tolist() if positives[k])


def _confusion_file(group: str) -> str:
    return "confusion-" + re.sub(r"[^\w-]+", "-", group)[:60] + ".png"  # a group's name may hold "/"


def _draw(plots: _Plots, scored: ScoredPhotos, history: list[dict[str, Any]] | None) -> None:
    """Draw what there is something to draw for."""
    shown, words = _shown(scored.scores), drawable(scored.label_set.ids)
    if shown:
        plots.keep("pr-curves.png", plot_curves, scored, shown, words)
        plots.keep("labels.png", plot_labels, scored.scores, shown, words)
    for name, group in scored.scores.groups.items():
        if group.n and len(group.ids) <= MOST_LABELS:
            rows = group.confusion / np.maximum(group.confusion.sum(axis=1, keepdims=True), 1)
            ids = [words[scored.label_set.index(label)] for label in group.ids]
            plots.keep(
                _confusion_file(name), plot_matrix, rows, ids, MatrixWords("predicted", "true", "share of the row")
            )
    errors = _co_errors(scored)
    if errors.any():
        busy = np.sort(np.argsort(-(errors.sum(axis=0) + errors.sum(axis=1)), kind="stable")[:_MOST_ERRORS])
        ids = [words[k] for k in busy]
        plots.keep(
            "co-errors.png",
            plot_matrix,
            errors[np.ix_(busy, busy)],
            ids,
            MatrixWords("wrongly predicted", "missed", "photos"),
        )
    if history:
        plots.keep("curves.png", plot_history, history)


def _draw_decision(
    plots: _Plots, scored: ScoredPhotos, raw: np.ndarray, decision: Decision, intervals: Mapping[str, Interval]
) -> None:
    """Draw how probabilities became decisions."""
    shown, words = _shown(scored.scores), drawable(scored.label_set.ids)
    if not shown:
        return
    names = [words[k] for k in shown]
    plots.keep(
        "reliability.png",
        plot_reliability,
        scored.targets[:, shown],
        raw[:, shown],
        scored.decided.probs[:, shown],
        names,
    )
    free = [k for k in shown if k in scored.label_set.free_labels]
    if not free or decision.thresholds.top is not None:
        return
    beta = _beta(decision)
    curves = [
        ThresholdCurve(
            words[k],
            sweep(scored.targets[:, k], scored.decided.probs[:, k]),
            float(decision.thresholds.values[k]),
            intervals[f"labels.{scored.label_set.ids[k]}.f{beta}"],
        )
        for k in free
    ]
    plots.keep("thresholds.png", plot_thresholds, curves, beta)


def _co_errors(scored: ScoredPhotos) -> np.ndarray:
    """(labels, labels) int64: photos where i was missed and j of the same free group was wrongly predicted."""
    missed = (scored.targets == 1) & (scored.decided.decisions == 0)
    wrong = (scored.targets == 0) & (scored.decided.decisions == 1)
    counts = np.rint(missed.T.astype(np.float64) @ wrong).astype(np.int64)
    groups = scored.label_set.groups
    group = np.repeat([-1 if g.exclusive else k for k, g in enumerate(groups)], [len(g.labels) for g in groups])
    return np.where((group[:, None] == group) & (group >= 0), counts, 0)


def _pairs(scored: ScoredPhotos) -> dict[str, list[Confusion]]:
    """Frequent confusions, by name for exclusive groups, under "" for the free ones."""
    names, index = scored.label_set.names(), scored.label_set.index
    missed = ((scored.targets == 1) & (scored.decided.decisions == 0)).sum(axis=0)
    parts = {"": (_co_errors(scored), missed, names)}
    for group, found in scored.scores.groups.items():
        parts[group] = (found.confusion, found.confusion.sum(axis=1), [names[index(label)] for label in found.ids])
    pairs = {}
    for part, (counts, whole, ids) in parts.items():
        off = counts * (1 - np.eye(len(counts), dtype=np.int64))
        top = [np.unravel_index(at, off.shape) for at in np.argsort(-off, axis=None, kind="stable")[:_MOST_PAIRS]]
        pairs[part] = [Confusion(ids[i], ids[j], int(off[i, j]), off[i, j] / whole[i]) for i, j in top if off[i, j]]
    return {part: rows for part, rows in pairs.items() if rows}


def _number(value: float | None) -> str:
    return "–" if value is None or math.isnan(value) else f"{value:.3f}"


def _page(*, decision: Decision, **content: object) -> str:
    filters: dict[str, Callable[..., str]] = {"number": _number, "confusion_file": _confusion_file, "spoken": spoken}
    limits = {"few": FEW, "fewest": FEWEST_PHOTOS, "good": GOOD_PRECISION}
    limits |= {"most_labels": MOST_LABELS, "most_chips": _MOST_CHIPS, "beta": _beta(decision)}
    return render("report.html.j2", filters, decision=decision, **limits, **content)


def report_evaluation(run: Run | BlendRun, evaluation: Evaluation) -> Path:
    """Write the report of an evaluation into `report-<split>` of its run folder; return the page's path.

    Other photos, thresholds or views than the model's own stand in the folder's name, so that its own report stays.
    """
    part, decision, history = evaluation.part, evaluation.decision, run.folder / "history.csv"
    facts = {
        **run.facts(),
        "photos": f"{len(part)} of split '{evaluation.split}'{_manifest(evaluation)}",
        "test-time augmentation": evaluation.views,
        "thresholds": _origin(evaluation),
        "date": datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
    }
    notes = [f"{len(evaluation.failed)} photos could not be read and are left out."] if evaluation.failed else []
    notes += [DRAWN] if run.name == "demo" else []
    notes += evaluation.notes
    return write_report(
        run.folder / f"report-{_file_name(run, evaluation)}",
        title=f"{run.name}: {evaluation.name}",
        scores=evaluation.scores,
        targets=part.targets,
        raw=evaluation.raw,
        decided=evaluation.decided,
        label_set=run.label_set,
        photos=part.photos(),
        decision=decision,
        verdict=evaluation.verdict,
        facts=facts,
        intervals=evaluation.intervals,
        operating=_operating(evaluation),
        history=pl.read_csv(history, glob=False).to_dicts() if history.is_file() else None,
        notes=notes,
        tags=predictor(run, "one"),
        products=evaluation.products,
    )


def _file_name(run: Run | BlendRun, evaluation: Evaluation) -> str:
    """As of the evaluation's other files, and the views where they are not the model's own."""
    origin = evaluation.origin
    views = None if origin.views == seen_views(run) else evaluation.views
    return evaluation_file_name(evaluation.split, origin.manifest, origin.thresholds, views)


def _manifest(evaluation: Evaluation) -> str:
    return "" if evaluation.origin.manifest is None else f" of {evaluation.origin.manifest}, not the model's own photos"


def _origin(evaluation: Evaluation) -> str:
    """Where the thresholds come from, in words."""
    decision = evaluation.decision
    if evaluation.origin.thresholds is not None:
        return f"{decision.policy}, in place of the model's own"
    if not decision.provenance:
        return str(decision.policy)
    known = decision.provenance
    words = f"{decision.policy}, tuned on {known['count']} photos of '{known['split']}' on {known['date'][:10]}"
    if decision.calibrated:
        words += ", calibrated"
    return words + (", each photo here by what the others tuned" if evaluation.cross_fitted else "")


def _operating(evaluation: Evaluation) -> list[OperatingPoint]:
    """What each precision costs in reviews, on the unseen photos; empty where they are too few to deal into folds."""
    part, unseen = evaluation.part.select(evaluation.unseen), evaluation.unseen
    try:
        groups, count = group_numbers(part), DecideConfig().folds
        folds = make_folds(part.targets, groups, count) if evaluation.folds is None else evaluation.folds[unseen]
        return operating_curve(part.targets, evaluation.probs[unseen], evaluation.decisions[unseen], folds=folds)
    except UsageError:
        return []
