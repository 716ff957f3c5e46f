"""A model card: what a model is, what it was made from, and how good it is, as Markdown for whoever gets the file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from modiste.decisions.decision import Decision
from modiste.labels import LabelSet
from modiste.runs.evaluations import ModelScores, SavedEvaluation

_MOST = 60  # labels that are listed
_SCORE_COLUMNS = ("photos", "score", "value", "95 % interval")


def model_card(
    name: str,
    label_set: LabelSet,
    decision: Decision,
    *,
    facts: Mapping[str, str],
    photos: Mapping[str, int],
    scores: ModelScores,
    words: str = "",
) -> str:
    """Write the card.

    Mitchell et al. 2019, "Model Cards for Model Reporting": what is known is filled in, and what only people know
    (where the photos come from, what the model must not be used for) is in `words`.

    Args:
        name: of the model.
        label_set: the labels it predicts.
        decision: how probabilities become decisions.
        facts: backbone, recipe and the like.
        photos: how many there are of each split.
        scores: measured on its own test photos as it is now, and the other evaluations.
        words: Markdown that a person wrote.
    """
    counts = ", ".join(f"{split} {count:,}" for split, count in photos.items())
    parts = [
        f"# {name}",
        words.strip(),
        "## Labels",
        _labels(label_set),
        "## Made from",
        markdown_table([("photos", counts), *facts.items()]),
        "## Scores",
        _own_test(scores.own_test),
        _others(scores.others),
        "## Decisions",
        _decision(decision),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _labels(label_set: LabelSet) -> str:
    lines = []
    for group in label_set.groups:
        names = [label.name() for label in group.labels]
        more = f" and {len(names) - _MOST} more" if len(names) > _MOST else ""
        kind = "exactly one of" if group.exclusive else "any of"
        lines.append(f"- {group.name}, {kind} {len(names)}: {', '.join(names[:_MOST])}{more}")
    return "\n".join(lines)


def _own_test(saved: SavedEvaluation | None) -> str:
    if saved is None:
        return "Not measured on its own test photos with the decision below."
    how = ", cross-fitted, since the decision was tuned on them" if saved.document["cross_fitted"] else ""
    rows = [("test", *row) for row in _score_rows(saved.document)]
    return f"On the model's own test photos, with the decision below{how}.\n\n" + markdown_table(
        rows, ("split", *_SCORE_COLUMNS)
    )


def _others(others: Sequence[tuple[str, SavedEvaluation]]) -> str:
    """Every other evaluation by its own name, so that none passes for the test score."""
    if not others:
        return ""
    rows = []
    for name, saved in others:
        known = saved.document
        how = f"{known.get('policy', 'unknown')}{', cross-fitted' if known.get('cross_fitted') else ''}"
        rows += [(name, how, *row) for row in _score_rows(known)]
    words = "None of these is the model's test score: other photos, another decision, or an unknown origin."
    return f"### Other evaluations\n\n{words}\n\n" + markdown_table(rows, ("photos of", "decision", *_SCORE_COLUMNS))


def _score_rows(one: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Photos, score, value and interval of each main score that could be measured."""
    found = {"mAP": ("map", one["map"]), "macro F2": ("macro.f2", one["macro"]["f2"])}
    for name, group in one.get("groups", {}).items():
        found[f"accuracy, {name}"] = (f"groups.{name}.accuracy", group["accuracy"])
        if group.get("coverage", 1) not in (None, 1):  # scores of an earlier version have none
            found[f"coverage, {name}"] = ("", group["coverage"])
            found[f"precision of what is said, {name}"] = ("", group["precision"])
    failed = len(one.get("failed", ()))
    photos = f"{one['photos']:,} of {one['photos'] + failed:,}" if failed else f"{one['photos']:,}"
    return [
        (photos, title, f"{value:.3f}", _interval(one.get("intervals", {}).get(key)))
        for title, (key, value) in found.items()
        if value is not None
    ]


def _interval(interval: Sequence[float] | None) -> str:
    return "" if interval is None else f"{interval[0]:.3f} to {interval[1]:.3f}"


def _decision(decision: Decision) -> str:
    known = decision.provenance
    lines = [f"Policy {decision.policy}; probabilities are {'' if decision.calibrated else 'not '}calibrated."]
    if known:
        lines.append(f"Tuned on {known['count']:,} photos of '{known['split']}' on {known['date'][:10]}.")
    for name, threshold in decision.thresholds.groups.items():
        if threshold:
            lines.append(f"{name} is said where its most probable value is above {threshold:.3f}, else unsure.")
    return " ".join(lines)


def markdown_table(rows: Sequence[Sequence[str]], header: Sequence[str] = ("", "")) -> str:
    """A table of GitHub's Markdown."""
    lines = [header, ["---"] * len(header), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
