"""Training as the commands do it: settings in, progress in the terminal and TensorBoard, a run out."""

from __future__ import annotations

from pathlib import Path

from modiste import folds as cross_validation
from modiste.blends import BlendRun
from modiste.bundle import Run
from modiste.config import Recipe
from modiste.job import make_fabric
from modiste.manifest import Manifest
from modiste.monitor import Monitor, Monitors, TensorBoard
from modiste.terminal import TerminalMonitor, console
from modiste.training import resume, train


def begin(
    folder: Path,
    manifest: Path,
    recipe: str,
    changes: list[str],
    *,
    on: tuple[int | None, str] = (None, "auto"),
    folds: int | None = None,
) -> Run | BlendRun:
    """Train a new run of a recipe with changes, or one for each of several folds, shown in the terminal.

    Args:
        folder: to make.
        manifest: of the photos.
        recipe: name or file.
        changes: "section.key=value".
        on: devices and accelerator.
        folds: how many; None makes one run.
    """
    settings = Recipe.read(recipe).replace(changes)
    photos = Manifest.read(manifest, settings.data)
    if folds is None:
        return train(settings, photos, folder, fabric=make_fabric(settings, *on), monitor=_monitor(folder))
    cross_validation.begin(folder, settings, photos, folds)
    return go_on(folder, on)


def go_on(folder: Path, on: tuple[int | None, str] = (None, "auto")) -> Run | BlendRun:
    """Go on with a run, or with those of several folds, shown in the terminal."""
    if (folder / cross_validation.FILE).is_file():
        return cross_validation.cross_validate(folder, accelerator=on[1], watch=watch)
    return resume(folder, fabric=make_fabric(Run.read(folder).recipe, *on), monitor=_monitor(folder))


def watch(title: str) -> Monitor:
    """Show the training of one of several runs in the terminal, under a title."""
    console.print(title)
    return TerminalMonitor()


def _monitor(folder: Path) -> Monitor:
    return Monitors([TerminalMonitor(), TensorBoard(folder / "tensorboard")])
