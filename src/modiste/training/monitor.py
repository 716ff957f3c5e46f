"""Monitor: callbacks for what happens during training; the library itself never prints."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

EpochRow = dict[str, Any]  # one epoch: epoch, stage, lr, loss, val_loss, val_map, photos_per_second, seconds


class Monitor:
    """Listens and does nothing; override what you need."""

    def start(self, epochs: int, steps: int, step: int) -> None:
        """Training starts or resumes: epochs and steps in all, steps already done."""

    def step(self, step: int, stage: str, loss: float, lr: float, photos: int) -> None:
        """A step has ended: its number in the whole run from 1, its mean loss and global batch."""

    def epoch(self, row: EpochRow) -> None:
        """An epoch has ended and been validated."""

    def caching(self, done: int, total: int) -> None:
        """Photos are being computed or decoded beforehand: how many are done, and how many there are."""

    def note(self, words: str) -> None:
        """A sentence that a person should read."""

    def end(self) -> None:
        """Training has ended, well or not."""


class Monitors(Monitor):
    """Tells several monitors."""

    def __init__(self, monitors: Sequence[Monitor]) -> None:
        self.monitors = monitors

    def start(self, epochs: int, steps: int, step: int) -> None:
        """Tell all."""
        for monitor in self.monitors:
            monitor.start(epochs, steps, step)

    def step(self, step: int, stage: str, loss: float, lr: float, photos: int) -> None:
        """Tell all."""
        for monitor in self.monitors:
            monitor.step(step, stage, loss, lr, photos)

    def epoch(self, row: EpochRow) -> None:
        """Tell all."""
        for monitor in self.monitors:
            monitor.epoch(row)

    def caching(self, done: int, total: int) -> None:
        """Tell all."""
        for monitor in self.monitors:
            monitor.caching(done, total)

    def note(self, words: str) -> None:
        """Tell all."""
        for monitor in self.monitors:
            monitor.note(words)

    def end(self) -> None:
        """Tell all."""
        for monitor in self.monitors:
            monitor.end()


class TensorBoard(Monitor):
    """Writes scalars to `folder` for TensorBoard."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def start(self, epochs: int, steps: int, step: int) -> None:
        """Open the log; what a killed run wrote past `step` is superseded."""
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(self.folder), purge_step=step + 1)
        self.at = step

    def step(self, step: int, stage: str, loss: float, lr: float, photos: int) -> None:
        """Log loss and learning rate."""
        self.at = step
        self.writer.add_scalar("train/loss", loss, step)
        self.writer.add_scalar("train/lr", lr, step)

    def epoch(self, row: EpochRow) -> None:
        """Log the validation."""
        self.writer.add_scalar("val/loss", row["val_loss"], self.at)
        self.writer.add_scalar("val/map", row["val_map"], self.at)

    def end(self) -> None:
        """Close the log."""
        self.writer.close()
