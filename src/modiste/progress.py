"""Progress callbacks: the library calls them, and the command line draws bars or lines of a log."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int], None]  # done, total
StepProgress = Callable[[str, int, int], None]  # what is being done, done, total
