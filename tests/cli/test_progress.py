"""What a person learns of work that takes long, in a terminal and in a log."""

import io
import itertools
import re
import threading

import pytest

from modiste.cli import progress
from modiste.cli.progress import Display, TerminalMonitor, Work, counting, doing, duration, fetching
from modiste.fetching.fetch import FetchState


class Log(io.StringIO):
    """No terminal; `lines` waits until so many lines have been written."""

    def __init__(self) -> None:
        super().__init__()
        self.more = threading.Condition()

    def write(self, text: str) -> int:
        with self.more:
            self.more.notify_all()
            return super().write(text)

    def lines(self, n: int = 0) -> list[str]:
        with self.more:
            assert self.more.wait_for(lambda: self.getvalue().count("\n") >= n, timeout=60)
            return self.getvalue().splitlines()


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def quiet_log(monkeypatch) -> Log:
    """Stderr as a file."""
    file = Log()
    monkeypatch.setattr(progress, "console", progress.Console(file=file, soft_wrap=True))
    return file


@pytest.fixture
def log(quiet_log, monkeypatch) -> Log:
    """Stderr as a file that gets a line every few milliseconds."""
    monkeypatch.setattr(progress, "EVERY", 0.01)
    return quiet_log


@pytest.fixture
def clock(monkeypatch) -> Clock:
    mine = Clock()
    monkeypatch.setattr(progress, "time", mine)
    return mine


@pytest.fixture
def bars(monkeypatch) -> io.StringIO:
    """Stderr as a terminal; what it shows last stands in its last lines."""
    file = io.StringIO()
    terminal = progress.Console(file=file, force_terminal=True, width=100, color_system=None, soft_wrap=True)
    monkeypatch.setattr(progress, "console", terminal)
    monkeypatch.setenv("TERM", "xterm")
    return file


def last(file: io.StringIO) -> str:
    """The last line that a terminal shows."""
    return re.sub(r"\x1b\[[\d?;]*\w", "", file.getvalue()).replace("\r", "\n").rstrip().rpartition("\n")[2]


def test_a_log_gets_lines_with_what_how_far_how_fast_and_how_long(log, clock):
    with counting("reading photos") as tell:
        clock.now += 10
        tell(50, 200)
        seen = len(log.lines())
        assert log.lines(seen + 2)[-1] == "reading photos: 50 of 200 photos, 5.0 photos/s, 30 s left"
        clock.now += 30
        tell(200, 200)
    assert log.lines()[-1] == "reading photos: 200 photos, 5.0 photos/s, 40 s"


def test_lines_come_every_thirty_seconds_and_none_of_short_work(quiet_log):
    assert progress.EVERY == 30
    with counting("tagging") as tell:
        tell(1, 2)
    assert quiet_log.getvalue() == ""


def test_work_that_does_not_get_on_is_shown_too(log):
    with doing() as tell:
        tell("tracing the network", 0, 1)
        assert log.lines(3)[-1] == "tracing the network"


def test_features_and_the_first_epoch_are_shown_in_a_log(log, clock):
    monitor = TerminalMonitor()
    monitor.start(3, 300, 0)
    assert log.lines(1)[0] == "training: 0 of 300 steps"
    clock.now += 100
    monitor.caching(1000, 4000)
    while "computing once: 1,000 of 4,000 photos" not in log.lines():
        log.lines(len(log.lines()) + 1)
    clock.now += 300
    monitor.caching(4000, 4000)
    assert any(line.startswith("computing once: 4,000 photos, ") for line in log.lines())
    clock.now += 10
    monitor.step(5, "head", 0.5, 1e-3, 32)
    expected = "training head: 5 of 300 steps, 16.0 photos/s, 10 min left, loss 0.5000, lr 1.0e-03"
    seen = len(log.lines())
    assert expected in log.lines(seen + 2)  # 5 steps of 32 photos in 10 s: what came before training doesn't count
    monitor.end()
    assert not monitor.display.running


def test_two_photos_at_once_have_no_rate(clock):
    work = Work("tagging")
    clock.now += 0.5
    work.tell(1, 2)
    clock.now += 0.0002
    work.tell(2, 2)
    assert work.rate is None
    clock.now += 5.4998
    assert work.rate == pytest.approx(2 / 6)
    work.end()
    assert work.rate is None  # and not ever less


def test_a_rate_is_of_the_last_minutes_and_of_what_was_done_now(clock):
    work = Work("tagging", done=1000, total=5000)
    for second in range(1, 301):
        clock.now += 1
        work.tell(1000 + min(second, 100), 5000)
    assert work.rate is None  # nothing came in the last 120 s
    for _ in range(200):
        clock.now += 1
        work.tell(work.done + 10, 5000)
    assert work.rate == pytest.approx(10)
    assert work.left == pytest.approx((5000 - 3100) / 10)


def test_a_second_round_begins_anew(clock):
    work = Work("asking the runs")
    clock.now += 10
    work.tell(100, 100)
    clock.now += 10
    work.tell(0, 100)
    clock.now += 10
    work.tell(20, 100)
    assert work.rate == pytest.approx(2)


def test_a_bar_ends_at_its_end(bars):
    with counting("tagging") as tell:  # a table was estimated by its lines, its header among them
        tell(3, 4)
    assert "tagging" in last(bars) and "3/3" in last(bars)
    with doing() as tell:  # as many as were needed, of as many as there might have been
        tell("trying blocks in float32", 3, 20)
    assert "3/3" in last(bars) and "photos" not in last(bars)


def test_a_bar_of_nothing_is_not_shown(bars):
    with counting("reading photos") as tell:
        tell(0, 0)
    with fetching() as tell:
        tell(FetchState(total=5, done=5, earlier=5))
    assert "reading" not in bars.getvalue() and "0/0" not in bars.getvalue()


def test_a_bar_stays_where_work_failed(bars):
    with pytest.raises(ValueError), counting("tagging") as tell:
        tell(3, 4)
        raise ValueError
    assert "3/4" in last(bars)


def test_a_fetch_names_failures(bars, clock):
    with fetching() as tell:
        state = FetchState(total=20, earlier=10, done=10)
        tell(state)
        clock.now += 4
        state.done, state.bytes = 18, 8_000_000
        state.failures["http 404"] += 2
        tell(state)
    assert all(words in last(bars) for words in ("8/8", "2.0 photos/s", "2.0 MB/s", "2 http 404"))


def test_what_is_computed_once_is_shown_where_nothing_is_trained():
    """A run that was killed between its last step and its scores is only scored when the comparison goes on."""
    monitor = TerminalMonitor()
    monitor.caching(0, 2)
    assert monitor.display.running
    monitor.caching(2, 2)
    assert not monitor.display.running
    monitor.start(1, 3, 0)
    monitor.caching(2, 2)
    assert monitor.display.running
    monitor.end()
    assert not monitor.display.running


def test_nothing_is_left_running(log):
    display = Display()
    before = threading.active_count()
    for name in "ab":
        display.add(Work(name))
    assert threading.active_count() == before + 1
    display.stop()
    assert threading.active_count() == before


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "0 s"), (99, "99 s"), (100, "2 min"), (5400, "90 min"), (6000, "1 h 40 min"), (86400, "24 h 0 min")],
)
def test_durations(seconds, words):
    assert duration(seconds) == words


def test_durations_rise():
    words = [duration(seconds) for seconds in range(0, 20_000, 7)]
    assert all(a == b or words.index(b) > words.index(a) for a, b in itertools.pairwise(words))
