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
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from PIL import Image

from modiste.errors import UsageError
from modiste.labels import LabelSet
from modiste.metrics import Scores, mean_log_loss
from modiste.pages import data_uri, render, thumbnail
from modiste.plots import DPI, MOST_LABELS, Result, plot_curves, plot_history, plot_labels, plot_matrix, printable
from modiste.storage import write_text
from modiste.thresholds import Thresholds

if TYPE_CHECKING:  # both need torch, a report does not
    from modiste.bundle import Run
    from modiste.evaluation import Evaluation

DRAWN = "The pictures are drawn, not photographed: these scores say nothing about real photos."
_MOST_PAIRS = 15  # rows of a table of confusions
_MOST_ERRORS = 30  # labels in the plot of co-errors
_MOST_CHIPS = 8  # labels of one kind under one photo
_EACH_WAY = 12  # worst photos, and best ones
_THUMBNAIL = 360  # pixels of the longer side: about 180 on the page, twice that on dense screens


def write_report(
    folder: Path,
    *,
    title: str,
    scores: Scores,
    targets: np.ndarray,
    probs: np.ndarray,
    labels: LabelSet,
    photos: Sequence[Path],
    thresholds: Thresholds,
    facts: Mapping[str, str],
    history: list[dict[str, Any]] | None = None,
    notes: Sequence[str] = (),
) -> Path:
    """Write `report.html` and its plots as PNG files into `folder`; return the page's path.

    Args:
        folder: made if missing; files of an earlier report are replaced.
        scores: of these targets and probs, from `metrics.score`.
        targets, probs, labels: as in `metrics.score`.
        photos: n files; one that can't be read shows as a grey box with its name.
        thresholds: how probabilities became decisions.
        facts: what a reader should know of the run, in order: model, data, date...
        history, notes: rows as `plot_history` takes them; sentences to put above everything else.

    Raises:
        UsageError: the numbers of targets, probs and photos differ.
        StorageError: `folder` can't be written.
    """
    if not len(targets) == len(probs) == len(photos):
        got = f"{len(targets)}, {len(probs)} and {len(photos)}"
        raise UsageError.expected("as many targets as probs and photos", got, "the arrays of one evaluation")
    folder, result = Path(folder), Result(scores, targets, probs, thresholds.apply(probs, labels), labels)
    page = _page(
        title=title,
        facts=facts,
        notes=notes,
        scores=scores,
        labels=labels,
        thresholds=thresholds,
        plots=_draw(folder, result, history),
        pairs=_pairs(result),
        cards=_cards(result, photos),
    )
    write_text(folder / "report.html", page)
    return folder / "report.html"


def _confusion_file(group: str) -> str:
    return "confusion-" + re.sub(r"[^\w-]+", "-", group)[:60] + ".png"  # a group's name may hold "/"


def _draw(folder: Path, result: Result, history: list[dict[str, Any]] | None) -> dict[str, tuple[str, int]]:
    """Draw what there is something to draw for; file name -> data URI and width on the page in CSS pixels."""
    drawn: dict[str, tuple[str, int]] = {}

    def keep(name: str, draw: Callable[..., None], *arguments: object) -> None:
        draw(*arguments, folder / name)
        content = (folder / name).read_bytes()
        drawn[name] = (data_uri("png", content), Image.open(io.BytesIO(content)).width * 96 // DPI)

    scores, words = result.scores, printable(result.labels.ids)
    positives = np.array([label.positives for label in scores.labels.values()])
    shown = sorted(k for k in np.argsort(-positives, kind="stable")[:MOST_LABELS] if positives[k])
    if shown:
        keep("pr-curves.png", plot_curves, result, shown, words)
        keep("labels.png", plot_labels, scores, shown, words)
    for name, group in scores.groups.items():
        if group.n and len(group.ids) <= MOST_LABELS:
            rows = group.confusion / np.maximum(group.confusion.sum(axis=1, keepdims=True), 1)
            ids = [words[result.labels.index(label)] for label in group.ids]
            keep(_confusion_file(name), plot_matrix, rows, ids, ("said", "true", "share of the row"))
    errors = _co_errors(result)
    if errors.any():
        busy = np.sort(np.argsort(-(errors.sum(axis=0) + errors.sum(axis=1)), kind="stable")[:_MOST_ERRORS])
        ids = [words[k] for k in busy]
        keep("co-errors.png", plot_matrix, errors[np.ix_(busy, busy)], ids, ("wrongly said", "missed", "photos"))
    if history:
        keep("curves.png", plot_history, history)
    return drawn


def _co_errors(result: Result) -> np.ndarray:
    """(labels, labels) int64: photos where i was missed and j of the same free group was wrongly said."""
    missed = (result.targets == 1) & (result.decisions == 0)
    wrong = (result.targets == 0) & (result.decisions == 1)
    counts = np.rint(missed.T.astype(np.float64) @ wrong).astype(np.int64)
    groups = result.labels.groups
    group = np.repeat([-1 if g.exclusive else k for k, g in enumerate(groups)], [len(g.labels) for g in groups])
    return np.where((group[:, None] == group) & (group >= 0), counts, 0)


def _pairs(result: Result) -> dict[str, list[tuple[str, str, int, float]]]:
    """Frequent confusions (true, said, photos, share), by name for exclusive groups, under "" for the free ones."""
    names, index = result.labels.names(), result.labels.index
    missed = ((result.targets == 1) & (result.decisions == 0)).sum(axis=0)
    parts = {"": (_co_errors(result), missed, names)}
    for group, found in result.scores.groups.items():
        parts[group] = (found.confusion, found.confusion.sum(axis=1), [names[index(label)] for label in found.ids])
    pairs = {}
    for part, (counts, whole, ids) in parts.items():
        off = counts * (1 - np.eye(len(counts), dtype=np.int64))
        top = [np.unravel_index(at, off.shape) for at in np.argsort(-off, axis=None, kind="stable")[:_MOST_PAIRS]]
        pairs[part] = [(ids[i], ids[j], int(off[i, j]), off[i, j] / whole[i]) for i, j in top if off[i, j]]
    return {part: rows for part, rows in pairs.items() if rows}


def _cards(result: Result, photos: Sequence[Path]) -> dict[str, list[dict[str, Any]]]:
    losses = np.array([mean_log_loss(*pair) for pair in zip(result.targets, result.probs, strict=True)])
    order = np.argsort(-losses, kind="stable")[: np.isfinite(losses).sum()]  # nan, nothing known, sorts last
    rows = {"worst": order[:_EACH_WAY], "best": order[_EACH_WAY:][::-1][:_EACH_WAY]}  # no photo is both
    return {way: [_card(photos[i], float(losses[i]), i, result) for i in chosen] for way, chosen in rows.items()}


def _card(photo: Path, loss: float, i: int, result: Result) -> dict[str, Any]:
    target, prob, said = result.targets[i], result.probs[i], result.decisions[i].astype(bool)
    true = target == 1
    kinds = {
        "right": true & said,
        "missed": true & ~said,
        "wrong": (target == 0) & said,
        "unknown": (target < 0) & said,
    }
    names, order = result.labels.names(), np.argsort(-prob, kind="stable")
    chips = {kind: [(names[k], float(prob[k])) for k in order if found[k]] for kind, found in kinds.items()}
    return {"name": Path(photo).name, "loss": loss, "thumbnail": thumbnail(photo, _THUMBNAIL), "chips": chips}


def _number(value: float | None) -> str:
    return "–" if value is None or math.isnan(value) else f"{value:.3f}"


def _page(**content: object) -> str:
    filters: dict[str, Callable[..., str]] = {"number": _number, "confusion_file": _confusion_file}
    return render("report.html.j2", filters, most_labels=MOST_LABELS, most_chips=_MOST_CHIPS, **content)


def report_evaluation(run: Run, evaluation: Evaluation) -> Path:
    """Write the report of an evaluation into `report-<split>` of its run folder; return the page's path."""
    part, recipe, history = evaluation.part, run.recipe, run.folder / "history.csv"
    stages = ", ".join(f"{stage.name} ({stage.epochs} epochs)" for stage in recipe.stages)
    facts = {
        "backbone": recipe.model.backbone,
        "recipe": f"{recipe.name}, seed {recipe.seed}",
        "stages": stages,
        "photos": f"{len(part)} of split '{evaluation.split}', {recipe.image.size} px, {recipe.image.mode}",
        "test-time augmentation": evaluation.views,
        "thresholds": evaluation.thresholds.source,
        "date": datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
    }
    notes = [f"{len(evaluation.failed)} photos could not be read and are left out."] if evaluation.failed else []
    notes += [DRAWN] if recipe.name == "demo" else []
    return write_report(
        run.folder / f"report-{evaluation.split}",
        title=f"{recipe.name}: {evaluation.split}",
        scores=evaluation.scores,
        targets=part.targets,
        probs=evaluation.probs,
        labels=run.labels,
        photos=[part.photo(k) for k in range(len(part))],
        thresholds=evaluation.thresholds,
        facts=facts,
        history=pl.read_csv(history).to_dicts() if history.is_file() else None,
        notes=notes,
    )
