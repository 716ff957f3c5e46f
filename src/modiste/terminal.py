"""What a person sees in the terminal: progress on the error stream, tables on the output."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from modiste.monitor import Monitor, Row
from modiste.policies import FEW
from modiste.weighted import flat

if TYPE_CHECKING:  # need torch, or the network
    from modiste.evaluation import Evaluation
    from modiste.fetched import Summary
    from modiste.fetching import FetchState
    from modiste.standings import Standings
    from modiste.tuning import Tuned

console = Console(stderr=True, highlight=False, soft_wrap=True)


class _Rate(ProgressColumn):
    """Photos a second."""

    def render(self, task: Task) -> Text:
        """Rate of `task`, scaled from steps to photos where it says how many a step has."""
        speed = task.finished_speed or task.speed
        scale = task.fields.get("photos", 1)
        return Text(
            "" if speed is None else f"{speed * scale:,.1f} photos/s", style="progress.data.speed", no_wrap=True
        )


def _bar() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=16),
        MofNCompleteColumn(),
        _Rate(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[words]}"),
        console=console,
        speed_estimate_period=120,
    )


@contextmanager
def counting(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar for work that tells (done, total)."""
    with _bar() as bar:
        task = bar.add_task(what, total=None, words="")
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def doing() -> Iterator[Callable[[str, int, int], None]]:
    """A bar for work of several kinds, one after the other, that tells (what, done, total)."""
    with _bar() as bar:
        task = bar.add_task("", total=None, words="", visible=False)
        shown = ""

        def show(what: str, done: int, total: int) -> None:
            nonlocal shown
            if what != shown:
                bar.reset(task, description=what, visible=True)
                shown = what
            bar.update(task, completed=done, total=total)

        yield show


@contextmanager
def fetching() -> Iterator[Callable[[FetchState], None]]:
    """A bar for a fetch: photos and megabytes a second, time left, failures by kind."""
    with _bar() as bar:
        task = bar.add_task("fetching", total=None, words="")
        begun = time.monotonic()
        shown, last = 0.0, None

        def show(state: FetchState) -> None:
            """Draw at most ten times a second."""
            nonlocal shown, last
            last = state
            if time.monotonic() < shown + 0.1:
                return
            shown = time.monotonic()
            draw(state, state.total)

        def draw(state: FetchState, total: int) -> None:
            failures = ", ".join(f"{count} {kind}" for kind, count in state.failures.most_common(4))
            words = f"{state.bytes / 1e6 / (time.monotonic() - begun):.1f} MB/s  {failures}"
            done = state.done - state.earlier  # what was there already says nothing about the rate
            bar.update(task, completed=done, total=max(total - state.earlier, done), words=words)

        yield show
        if last is not None:
            draw(last, last.done)


class TerminalMonitor(Monitor):
    """A bar over all steps with loss, rate and time left, and a line for each epoch."""

    def __init__(self) -> None:
        self.bar = _bar()
        self.cached: TaskID | None = None
        self.training = False

    def start(self, epochs: int, steps: int, step: int) -> None:
        """Show the bar."""
        self.epochs, self.training = epochs, True
        self.task = self.bar.add_task("training", total=steps, completed=step, words="", photos=1)
        self.bar.start()
        if step:
            console.print(f"going on after step {step} of {steps}")

    def step(self, step: int, stage: str, loss: float, lr: float, photos: int) -> None:
        """Move the bar."""
        words = f"loss {loss:.4f}  lr {lr:.1e}"
        self.bar.update(self.task, completed=step, description=stage, words=words, photos=photos)

    def epoch(self, row: Row) -> None:
        """Leave a line above the bar."""
        console.print(
            f"epoch {row['epoch']:>3}/{self.epochs}  {row['stage']:<10} loss {row['loss']:.4f}  "
            f"val loss {row['val_loss']:.4f}  val mAP {row['val_map']:.4f}  "
            f"{row['photos_per_second']:.1f} photos/s  {row['seconds']:.0f} s",
        )

    def caching(self, done: int, total: int) -> None:
        """Show a bar, during training a second one, while photos are computed once; before or after it too."""
        if self.cached is None or self.bar.tasks[-1].finished:
            self.cached = self.bar.add_task("computing once", total=total, words="")
        self.bar.start()  # nothing happens where it is there
        self.bar.update(self.cached, completed=done, total=total, visible=done < total)
        if done >= total and not self.training:
            self.bar.stop()

    def note(self, words: str) -> None:
        """Leave a line above the bar."""
        console.print(words)

    def end(self) -> None:
        """Take the bar away."""
        self.training = False
        self.bar.stop()


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
    title = f"{summary.fetched:,} of {summary.rows:,} photos, {summary.bytes / 1e6:,.1f} MB"
    rows = [(kind, count, summary.examples[kind]) for kind, count in summary.failures.most_common()]
    if rows:
        print_table(title, ["failure", "photos", "for example"], rows)
    else:
        print_words(title)


def print_standings(found: Standings) -> None:
    """The table of a comparison, and what it says, on stdout."""
    columns = ["candidate", "val mAP", "test mAP", "macro F2", "behind", "s", "ms"]
    rows = []
    for one in found.ranked:
        means, behind = (one.val_map, one.scores["map"], one.scores["macro.f2"]), found.behind(one.candidate)
        gap = "" if behind is None else f"{behind.value:.3f}\n{behind.interval.low:.3f} to {behind.interval.high:.3f}"
        spreads = [f"{mean.mean:.3f}\n± {mean.sd:.3f}" for mean in means]
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
    """A table of the scores with their intervals, beside their baselines, on stdout."""
    scores = evaluation.scores
    how = ", cross-fitted" if evaluation.cross_fitted else ""
    table = Table(title=f"{scores.photos} photos, views: {evaluation.views}, {evaluation.decision.policy}{how}")
    table.add_column("score")
    for name in (evaluation.split, "95 % interval", *scores.baselines):
        table.add_column(name, justify="right")
    values, baselines = flat(scores), [flat(baseline) for baseline in scores.baselines.values()]
    for title, name in _ROWS:
        beside = [f"{baseline[name]:.4f}" for baseline in baselines]
        table.add_row(title, f"{values[name]:.4f}", _range(evaluation, name), *beside)
    for group, result in scores.groups.items():
        name = f"groups.{group}.accuracy"
        beside = ["", f"{result.majority_accuracy:.4f}"]
        table.add_row(f"accuracy {group}", f"{result.accuracy:.4f}", _range(evaluation, name), *beside)
    Console().print(table)
    if scores.left_out:
        console.print(f"without positives, so left out: {', '.join(scores.left_out)}")
    few = [label for label, one in scores.labels.items() if 0 < one.positives < FEW]
    if few:
        console.print(f"fewer than {FEW} positives, so next to nothing can be said of: {', '.join(few)}")
    for note in evaluation.notes:
        console.print(note)


def _range(evaluation: Evaluation, name: str) -> str:
    return "{:.3f} to {:.3f}".format(*evaluation.intervals[name])


def print_tuned(tuned: Tuned) -> None:
    """What was tuned, and by how much it would flatter itself, on stdout."""
    labels, decision = tuned.evaluation.part.labels, tuned.decision
    rows = [
        (label, one.positives, f"{threshold:.3f}", one_map.method, f"{one.precision:.3f}", f"{one.recall:.3f}")
        for label, one, threshold, one_map in zip(
            labels.ids,
            tuned.evaluation.scores.labels.values(),
            decision.thresholds.values,
            decision.calibration.labels,
            strict=True,
        )
    ]
    columns = ["label", "positives", "threshold", "calibration", "precision", "recall"]
    how = "cross-fitted" if tuned.evaluation.cross_fitted else "on these photos"
    print_table(f"{decision.policy}, precision and recall {how}", columns, rows)
    table = Table(title="what to expect")
    for name in ("score", "above 0.5", f"{decision.policy}, {how}", "95 % interval", "on the photos tuned on"):
        table.add_column(name, justify="left" if name == "score" else "right")
    before, fitted, inside = (flat(one) for one in (tuned.before, tuned.evaluation.scores, tuned.in_sample))
    for title, name in (*_ROWS, ("macro precision", "macro.precision"), ("macro recall", "macro.recall")):
        cells = [f"{one[name]:.4f}" for one in (before, fitted, inside)]
        table.add_row(title, *cells[:2], _range(tuned.evaluation, name), cells[2])
    Console().print(table)
