"""How far long work is, on stderr: bars in a terminal, elsewhere a line every 30 seconds."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from modiste.training.monitor import EpochRow, Monitor

if TYPE_CHECKING:  # need torch, or the network
    from modiste.fetching.fetch import FetchState

console = Console(stderr=True, highlight=False, soft_wrap=True)

EVERY = 30.0  # seconds between two lines where stderr is no terminal
_WINDOW = 120.0  # seconds that a rate is taken over
_SHORT = 1.0  # seconds: a rate over less is noise


class Work:
    """A piece of work: how much of it is done, how fast it goes, how long the rest will take.

    Args:
        what: what is being done, as words.
        unit: what its rate counts; "" for no rate.
        counts: what `done` and `total` count, where that is not the unit.
        done: how much was done before.
        total: of how much; None where that is not known yet.
    """

    def __init__(
        self, what: str, unit: str = "photos", *, counts: str | None = None, done: int = 0, total: int | None = None
    ) -> None:
        self.what, self.unit, self.counts = what, unit, unit if counts is None else counts
        self.done, self.total, self.words = done, total, ""
        self.scale = 1  # units of the rate in each that is counted
        self.ended = False
        self._begun = time.monotonic()
        self.restart()

    def restart(self) -> None:
        """Take rates from here on."""
        self._at = time.monotonic()
        self._seen = deque([(self._at, self.done)])

    def tell(self, done: int, total: int | None, words: str = "") -> None:
        """Note how far it is; where that is less than before, it is another round of the same work."""
        again = done < self.done
        self.done, self.total, self.words = done, total, words
        if again:
            self.restart()
        self._at = time.monotonic()
        if self._at - self._seen[-1][0] >= _SHORT:
            self._seen.append((self._at, done))
        while len(self._seen) > 2 and self._seen[1][0] <= self._at - _WINDOW:
            self._seen.popleft()

    def end(self) -> None:
        """Note that it has ended well: what was expected besides, there was not."""
        self.ended, self.total = True, self.done

    @property
    def empty(self) -> bool:
        """Whether there is nothing to do, or was nothing."""
        return self.total == 0

    @property
    def rate(self) -> float | None:
        """Units a second, over the last two minutes; None where it can't be told yet."""
        then, before = self._seen[0]
        seconds = (self._at if self.ended else time.monotonic()) - then
        return (self.done - before) * self.scale / seconds if seconds >= _SHORT and self.done > before else None

    @property
    def left(self) -> float | None:
        """Seconds until it is done, about."""
        if self.ended or self.total is None or not self.rate:
            return None
        return (self.total - self.done) * self.scale / self.rate

    def facts(self, *, full: bool = True) -> str:
        """Rate, time and further words; `full` also names what is counted and how far it is."""
        single = self.total == 1 and not self.counts  # one thing, such as tracing a network
        parts = [] if self.total is None or single else [self._progress(full=full)]
        if self.rate is not None and self.unit:
            parts.append(f"{self.rate:,.1f} {self.unit}/s")
        if self.ended:
            parts.append(duration(self._at - self._begun))
        elif self.left is not None:
            parts.append(f"{duration(self.left)} left")
        return ", ".join([*parts, *filter(None, [self.words])])

    def _progress(self, *, full: bool) -> str:
        if not full:
            return f"{self.done:,}/{self.total:,}"
        done = f"{self.done:,} of {self.total:,}" if self.done != self.total else f"{self.done:,}"
        return f"{done} {self.counts}".rstrip()

    def line(self) -> str:
        """All of it in one line."""
        facts = self.facts()
        return f"{self.what}: {facts}" if facts else self.what


def duration(seconds: float) -> str:
    """Seconds in words: "40 s", "12 min", "3 h 5 min"."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


class Display:
    """Shows pieces of work, from the first that is added until it is stopped."""

    def __init__(self) -> None:
        self.works: list[Work] = []
        self._live: Live | None = None
        self._lines: _Lines | None = None

    @property
    def running(self) -> bool:
        """Whether it shows anything."""
        return self._live is not None or self._lines is not None

    def add(self, work: Work) -> Work:
        """Show one more."""
        self.works.append(work)
        if self.running:
            return work
        if console.is_terminal and not console.is_dumb_terminal:
            self._live = Live(get_renderable=self._bars, console=console, refresh_per_second=10)
            self._live.start()
        else:
            self._lines = _Lines(self.works)
            self._lines.start()
        return work

    def end(self, work: Work) -> None:
        """Note that one has ended well; its bar stays, at its end."""
        work.end()
        if self._lines is not None:
            self._lines.ended(work)

    def remove(self, work: Work) -> None:
        """Show one less."""
        self.works.remove(work)
        if not self.works:
            self.stop()

    def stop(self) -> None:
        """Show nothing any more."""
        if self._live is not None:
            self._live.stop()
        if self._lines is not None:
            self._lines.stop()
        self._live = self._lines = None
        self.works.clear()

    def _bars(self) -> Table:
        table = Table.grid(padding=(0, 1))
        for work in [work for work in self.works if not work.empty]:
            bar = ProgressBar(total=work.total, completed=work.done, width=16, pulse=work.total is None)
            table.add_row(work.what, bar, Text(work.facts(full=False), no_wrap=True))
        return table


class _Lines:
    """Prints a line for each piece of work every 30 seconds, whether it has got on or not."""

    def __init__(self, works: list[Work]) -> None:
        self._works, self._printed = works, set[Work]()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="modiste-progress", daemon=True)

    def start(self) -> None:
        """Begin to wait."""
        self._thread.start()

    def stop(self) -> None:
        """Print nothing any more."""
        self._stopped.set()
        self._thread.join()

    def ended(self, work: Work) -> None:
        """Print a last line of work that had lines before."""
        if work in self._printed:
            console.print(work.line(), markup=False)

    def _run(self) -> None:
        while not self._stopped.wait(EVERY):
            for work in [work for work in self._works if not work.empty and not work.ended]:
                self._printed.add(work)
                console.print(work.line(), markup=False)


@contextmanager
def _displayed() -> Iterator[Display]:
    display = Display()
    try:
        yield display
    finally:
        display.stop()


@contextmanager
def counting(what: str, unit: str = "photos") -> Iterator[Callable[[int, int], None]]:
    """Show work that tells (done, total)."""
    with _displayed() as display:
        work = display.add(Work(what, unit))
        yield work.tell
        display.end(work)


@contextmanager
def doing() -> Iterator[Callable[[str, int, int], None]]:
    """Show work of several kinds, one after the other, that tells (what, done, total)."""
    with _displayed() as display:

        def show(what: str, done: int, total: int) -> None:
            if not display.works or display.works[-1].what != what:
                if display.works:
                    display.end(display.works[-1])
                display.add(Work(what, ""))
            display.works[-1].tell(done, total)

        yield show
        if display.works:
            display.end(display.works[-1])


@contextmanager
def fetching() -> Iterator[Callable[[FetchState], None]]:
    """Show a fetch: photos and megabytes a second, time left, failures by kind."""
    with _displayed() as display:
        work, begun = display.add(Work("fetching")), time.monotonic()

        def show(state: FetchState) -> None:
            failures = ", ".join(f"{count:,} {kind}" for kind, count in state.failures.most_common(4))
            speed = f"{state.bytes / 1e6 / max(time.monotonic() - begun, _SHORT):.1f} MB/s"
            done = state.done - state.earlier  # what was there already doesn't count for the rate
            work.tell(done, max(state.total - state.earlier, done), f"{speed}, {failures}" if failures else speed)

        yield show
        display.end(work)


class TerminalMonitor(Monitor):
    """Shows all steps with loss, rate and time left, what is computed beforehand, and a line for each epoch."""

    def __init__(self) -> None:
        self.display = Display()
        self._steps: Work | None = None
        self._caching: Work | None = None

    def start(self, epochs: int, steps: int, step: int) -> None:
        """Show the steps."""
        self._epochs = epochs
        self._steps = self.display.add(Work("training", counts="steps", done=step, total=steps))
        if step:
            console.print(f"resuming after step {step} of {steps}")

    def step(self, step: int, stage: str, loss: float, lr: float, photos: int) -> None:
        """Note a step."""
        if self._steps is not None:
            self._steps.what, self._steps.scale = f"training {stage}", photos
            self._steps.tell(step, self._steps.total, f"loss {loss:.4f}, lr {lr:.1e}")

    def epoch(self, row: EpochRow) -> None:
        """Leave a line."""
        console.print(
            f"epoch {row['epoch']:>3}/{self._epochs}  {row['stage']:<10} loss {row['loss']:.4f}  "
            f"val loss {row['val_loss']:.4f}  val mAP {row['val_map']:.4f}  "
            f"{row['photos_per_second']:.1f} photos/s  {row['seconds']:.0f} s",
        )

    def caching(self, done: int, total: int) -> None:
        """Show what is computed or decoded beforehand, as long as it takes."""
        if self._caching is None:
            self._caching = self.display.add(Work("computing once"))
        self._caching.tell(done, total)
        if done >= total:
            self.display.end(self._caching)
            self.display.remove(self._caching)
            self._caching = None
            if self._steps is not None:
                self._steps.restart()  # the rate of training is another

    def note(self, words: str) -> None:
        """Leave a line."""
        console.print(words)

    def end(self) -> None:
        """Show nothing any more."""
        self._steps = self._caching = None
        self.display.stop()
