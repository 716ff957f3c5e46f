"""Tables and sentences on standard output."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from modiste.decisions.fit_thresholds import FEW
from modiste.metrics.bootstrap import spoken
from modiste.metrics.weighted import flat_scores

if TYPE_CHECKING:  # need torch, or the network
    from modiste.evaluation.evaluate import Evaluation
    from modiste.evaluation.products import ProductScores
    from modiste.evaluation.tune import Tuned
    from modiste.experiments.ranking import Ranking
    from modiste.fetching.manifest import Summary
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modiste.cli.progress import console
from modiste.words import counted

if TYPE_CHECKING:  # needs torch
    from modiste.exporting.export import Written


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table on stdout; whole numbers stand to the right."""
    print_words(title)  # a table's own title breaks where the table ends
    table = Table()
    rows = list(rows)
    for k, column in enumerate(columns):
        numbers = bool(rows) and all(isinstance(row[k], int | float) for row in rows)
        table.add_column(column, justify="right" if numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(*(f"{value:,}" if isinstance(value, int) else escape(str(value)) for value in row))
    Console().print(table)


def print_fetched(summary: Summary) -> None:
    """What came, and what failed and why, on stdout."""
    title = f"{summary.fetched:,} of {counted(summary.rows, 'photo')}, {summary.bytes / 1e6:,.1f} MB"
    rows = [(kind, count, summary.examples[kind]) for kind, count in summary.failures.most_common()]
    if rows:
        print_table(title, ["failure", "photos", "for example"], rows)
    else:
        print_words(title)


def print_ranking(found: Ranking) -> None:
    """The table of a comparison and its conclusion, on stdout."""
    columns = ["candidate", "val mAP", "test mAP", "macro F2", "behind", "s", "ms"]
    rows = []
    for one in found.ranked:
        means, behind = (one.val_map, one.scores["map"], one.scores["macro.f2"]), found.behind(one.candidate)
        gap = "" if behind is None else f"{behind.value:.3f}\n{behind.interval.low:.3f} to {behind.interval.high:.3f}"
        spreads = [f"{mean.mean:.3f}" + ("" if math.isnan(mean.sd) else f"\n± {mean.sd:.3f}") for mean in means]
        rows.append([one.candidate, *spreads, gap, f"{one.seconds:,.0f}", f"{one.ms_a_photo:.1f}"])
    print_table("± spread over seeds; behind the leader in test mAP; s to train; ms to tag a photo", columns, rows)
    print_words(found.sentence)


def print_words(words: str) -> None:
    """A line on stdout."""
    Console(highlight=False, soft_wrap=True).print(escape(words))


_ROWS = (
    ("mAP", "map"),
    ("macro F2", "macro.f2"),
    ("macro F1", "macro.f1"),
    ("micro F1", "micro.f1"),
    ("per-photo F1", "sample.f1"),
)


def print_scores(evaluation: Evaluation) -> None:
    """The verdict, then a table of the scores with their intervals beside their baselines, on stdout."""
    scores = evaluation.scores
    verdict = evaluation.verdict
    for sentence in (verdict.sentence, *verdict.unsure, *verdict.guesses):
        print_words(sentence)
    how = ", cross-fitted" if evaluation.cross_fitted else ""
    words = f"{counted(scores.photos, 'photo')}, views: {evaluation.views}, {evaluation.decision.policy}{how}"
    table = Table(title=f"{escape(evaluation.name)}: {words}")
    table.add_column("score")
    for name in (evaluation.split, "95 % interval", *scores.baselines):
        table.add_column(name, justify="right")
    values, baselines = flat_scores(scores), [flat_scores(baseline) for baseline in scores.baselines.values()]
    for title, name in _ROWS:
        beside = [f"{baseline[name]:.4f}" for baseline in baselines]
        table.add_row(title, f"{values[name]:.4f}", _range(evaluation, name), *beside)
    for group, result in scores.groups.items():
        name = f"groups.{group}.accuracy"
        beside = ["", f"{result.majority_accuracy:.4f}"]
        table.add_row(escape(f"accuracy {group}"), f"{result.accuracy:.4f}", _range(evaluation, name), *beside)
        if result.abstains or evaluation.decision.thresholds.groups.get(group):
            table.add_row(escape(f"coverage {group}"), f"{result.coverage:.4f}")
            table.add_row(escape(f"precision {group}"), f"{result.precision:.4f}")
    Console().print(table)
    if evaluation.products is not None:
        print_products(evaluation.products)
    if scores.left_out:
        console.print(f"without positives, so left out of the means: {', '.join(scores.left_out)}")
    few = [label for label, one in scores.labels.items() if 0 < one.positives < FEW]
    if few:
        console.print(f"fewer than {FEW} positives, so these scores say next to nothing: {', '.join(few)}")
    for note in evaluation.notes:
        console.print(note)


def print_products(products: ProductScores) -> None:
    """A table of the scores of whole products beside those of their photos, on stdout."""
    table = Table(title=escape(products.sentence))
    for name in ("score", "a photo", "a product", "95 % interval", "gain", "95 % of the gain"):
        table.add_column(name, justify="left" if name == "score" else "right")
    for gain in products.gains:
        own, gained = products.intervals[gain.name], gain.interval
        of_product = f"{gain.second:.4f}", f"{own.low:.3f} to {own.high:.3f}"
        of_gain = f"{gain.difference:+.4f}", f"{gained.low:+.3f} to {gained.high:+.3f}"
        table.add_row(escape(spoken(gain.name)), f"{gain.first:.4f}", *of_product, *of_gain)
    Console().print(table)


def _range(evaluation: Evaluation, name: str) -> str:
    return "{:.3f} to {:.3f}".format(*evaluation.intervals[name])


def print_tuned(tuned: Tuned) -> None:
    """What was tuned, and by how much it would flatter itself, on stdout."""
    label_set, decision = tuned.evaluation.part.label_set, tuned.decision
    rows = [
        (label, one.positives, _threshold(threshold), one_map.method, f"{one.precision:.3f}", f"{one.recall:.3f}")
        for label, one, threshold, one_map in zip(
            label_set.ids,
            tuned.evaluation.scores.labels.values(),
            decision.thresholds.deciding(label_set),
            decision.calibration.labels,
            strict=True,
        )
    ]
    columns = ["label", "positives", "threshold", "calibration", "precision", "recall"]
    how = "cross-fitted" if tuned.evaluation.cross_fitted else "on these photos"
    print_table(f"{decision.policy}, precision and recall {how}", columns, rows)
    print_tuned_groups(tuned, how)
    table = Table(title="what to expect")
    for name in ("score", "above 0.5", f"{decision.policy}, {how}", "95 % interval", "on the photos tuned on"):
        table.add_column(name, justify="left" if name == "score" else "right")
    before, fitted, inside = (flat_scores(one) for one in (tuned.before, tuned.evaluation.scores, tuned.in_sample))
    for title, name in (*_ROWS, ("macro precision", "macro.precision"), ("macro recall", "macro.recall")):
        cells = [f"{one[name]:.4f}" for one in (before, fitted, inside)]
        table.add_row(title, *cells[:2], _range(tuned.evaluation, name), cells[2])
    Console().print(table)


def print_tuned_groups(tuned: Tuned, how: str) -> None:
    """What was tuned for exclusive groups that may be unsure, on stdout."""
    thresholds, scores = tuned.decision.thresholds.groups, tuned.evaluation.scores.groups
    rows = []
    for name, threshold in thresholds.items():
        one = scores[name]
        shares = (f"{share:.3f}" for share in (one.accuracy, one.coverage, one.precision))
        rows.append((name, one.n, f"{threshold:.3f}", *shares))
    if rows:
        columns = ["group", "photos", "threshold", "accuracy", "coverage", "precision of said"]
        print_table(
            f"exclusive groups, said where the most probable value is above the threshold, {how}", columns, rows
        )


def _threshold(value: float) -> str:
    return "most probable" if math.isnan(value) else f"{value:.3f}"


def print_model(name: str, facts: Mapping[str, Any]) -> None:
    """What a model is, on stdout."""
    thresholds, groups = facts["decision"]["thresholds"], facts["decision"].get("groups") or {}
    calibration = facts["decision"]["calibration"] or {}
    top = str(facts["decision"]["policy"]).startswith("top")
    rows = []
    for group in facts["labels"]["groups"]:
        for label in group["labels"]:
            id_, names = label["id"], ", ".join(label["names"].values())
            rule = "the most probable" if group["exclusive"] or top else f"above {thresholds[id_]:.3f}"
            if group["exclusive"] and groups.get(group["name"]):
                rule += f", above {groups[group['name']]:.3f}"
            rows.append((id_, names, group["name"], rule, calibration.get(id_, {}).get("method", "none")))
    image = facts["image"]
    print_words(
        f"{name}: {', '.join(facts['backbones'])}, {facts['precision']}, {image['size']} px ({image['mode']}), "
        f"views {facts['views']}, {facts['bytes'] / 1e6:.1f} MB, {facts['ms_per_photo']:.1f} ms a photo here"
    )
    print_table(f"{facts['decision']['policy']}", ["label", "names", "group", "chosen where", "calibration"], rows)
    print_words(facts["card"])


def print_export(path: Path, written: Written) -> None:
    """What an exported file is like, on stdout."""
    parity, rounded = written.parity, written.rounded
    print_words(
        f"compared on {counted(parity.photos, 'photo')}: probabilities differ by {parity.largest:.1e} at most, "
        f"{counted(parity.flipped, 'decision')} {'differs' if parity.flipped == 1 else 'differ'}"
    )
    if rounded is not None:
        rows = []
        for cost in rounded.costs:
            scores = f"{cost.map_before:.4f}", f"{cost.map_after:.4f}", f"{cost.lost:+.2f}"
            rows.append((cost.split, cost.photos, *scores, f"{cost.flipped:,} of {cost.decisions:,}"))
        title = f"int8, {rounded.kept} of {counted(rounded.blocks, 'block')} in float32"
        print_table(title, ["split", "photos", "mAP", "in int8", "points lost", "decisions that differ"], rows)
        speeds = f"{rounded.ms_before:.1f} ms a photo in float32, {rounded.ms_after:.1f} in int8"
        why = "not faster here" if not rounded.faster else "" if rounded.close else "loses too much"
        print_words(speeds + (f": {why}, so the file stays in float32" if why else ""))
    print_words(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
