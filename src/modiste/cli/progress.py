"""What a person sees in the terminal: progress on the error stream, tables on the output."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
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
from rich.text import Text

from modiste.training.monitor import EpochRow, Monitor

if TYPE_CHECKING:  # need torch, or the network
    from modiste.fetching.fetch import FetchState

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

    def epoch(self, row: EpochRow) -> None:
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
