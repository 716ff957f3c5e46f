"""Training as the commands do it: settings in, progress in the terminal and TensorBoard, a run out."""

from pathlib import Path

from modiste.bundle import Run
from modiste.config import Recipe
from modiste.job import make_fabric
from modiste.manifest import Manifest
from modiste.monitor import Monitor, Monitors, TensorBoard
from modiste.terminal import TerminalMonitor
from modiste.training import resume, train


def begin(
    folder: Path, manifest: Path, recipe: str, changes: list[str], on: tuple[int | None, str] = (None, "auto")
) -> Run:
    """Train a new run of a recipe with changes, shown in the terminal; `on` is devices and accelerator."""
    settings = Recipe.read(recipe).replace(changes)
    photos = Manifest.read(manifest, settings.data)
    return train(settings, photos, folder, fabric=make_fabric(settings, *on), monitor=_monitor(folder))


def go_on(folder: Path, on: tuple[int | None, str] = (None, "auto")) -> Run:
    """Go on with a run, shown in the terminal."""
    return resume(folder, fabric=make_fabric(Run.read(folder).recipe, *on), monitor=_monitor(folder))


def _monitor(folder: Path) -> Monitor:
    return Monitors([TerminalMonitor(), TensorBoard(folder / "tensorboard")])
