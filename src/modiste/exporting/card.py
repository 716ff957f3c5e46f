"""A model card: what a model is, what it was made from, and how good it is, as Markdown for whoever gets the file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from modiste.decisions.decision import Decision
from modiste.labels import LabelSet

_MOST = 60  # labels that are listed


def model_card(
    name: str,
    label_set: LabelSet,
    decision: Decision,
    *,
    facts: Mapping[str, str],
    photos: Mapping[str, int],
    metrics: Mapping[str, Any],
    words: str = "",
) -> str:
    """Write the card.

    Mitchell et al. 2019, "Model Cards for Model Reporting": what is known is filled in, and what only people know
    (where the photos come from, what the model must not be used for) is in `words`.

    Args:
        name: of the model.
        label_set: what it says.
        decision: how probabilities become decisions.
        facts: backbone, recipe and the like.
        photos: how many there are of each split.
        metrics: of each split that was evaluated, as metrics.json has them.
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
        _scores(metrics),
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


def _scores(metrics: Mapping[str, Any]) -> str:
    if not metrics:
        return "Not measured."
    rows = []
    for split, one in metrics.items():
        found = {"mAP": ("map", one["map"]), "macro F2": ("macro.f2", one["macro"]["f2"])}
        found |= {f"accuracy, {g}": (f"groups.{g}.accuracy", v["accuracy"]) for g, v in one.get("groups", {}).items()}
        for title, (key, value) in found.items():
            interval = one.get("intervals", {}).get(key)
            if value is not None:
                rows.append((split, f"{one['photos']:,}", title, f"{value:.3f}", _interval(interval)))
    return markdown_table(rows, ("split", "photos", "score", "value", "95 % interval"))


def _interval(interval: Sequence[float] | None) -> str:
    return "" if interval is None else f"{interval[0]:.3f} to {interval[1]:.3f}"


def _decision(decision: Decision) -> str:
    known = decision.provenance
    lines = [f"Policy {decision.policy}; probabilities are {'' if decision.calibrated else 'not '}calibrated."]
    if known:
        lines.append(f"Tuned on {known['count']:,} photos of '{known['split']}' on {known['date'][:10]}.")
    return " ".join(lines)


def markdown_table(rows: Sequence[Sequence[str]], header: Sequence[str] = ("", "")) -> str:
    """A table of GitHub's Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
