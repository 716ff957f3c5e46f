"""Comparing as one function: photos and candidates in, a ranking out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from modiste.config import DEFAULT_RECIPE
from modiste.data.manifest import Manifest
from modiste.errors import RunError
from modiste.experiments.compare import GRID_FILE, Watch, create_comparison, run_comparison
from modiste.experiments.grid import Grid
from modiste.experiments.ranking import Ranking
from modiste.files import StrPath
from modiste.training.monitor import Monitor


def compare(
    manifest: Manifest | StrPath,
    folder: StrPath,
    *,
    recipe: StrPath = DEFAULT_RECIPE,
    backbones: Sequence[str] = (),
    optimizers: Sequence[str] = (),
    seeds: int = 3,
    changes: Sequence[str] = (),
    grid: Grid | StrPath | None = None,
    accelerator: str = "auto",
    watch: Watch = lambda _: Monitor(),
) -> Ranking:
    """Train backbones and optimisers with several seeds, and rank them with confidence intervals.

    Called again with the same candidates, it resumes a killed comparison, with the photos that it was started with.

    Args:
        manifest: the photos, or the file or folder that names them.
        folder: the comparison's folder, to make or to resume; the best run ends in its `best`.
        recipe: name or TOML file of the recipe that candidates change.
        backbones: timm models; none keeps the recipe's.
        optimizers: of adam, adamw, sgd; none keeps the recipe's.
        seeds: trainings of each candidate.
        changes: "section.key=value", for all candidates.
        grid: candidates of their own, or the TOML file that holds them, in place of the five before.
        accelerator: "auto", "cpu", "cuda" or "mps".
        watch: gives for a run's title the Monitor of its training.

    Raises:
        ManifestError: the split leaves nothing to train on, or photos are missing.
        RecipeError: there is no such recipe or backbone, or a change names no key.
        RunError: the folder holds something else, or another process is at it.
        UsageError: a name that can't be, or one twice.
    """
    folder = Path(folder)
    if grid is None:
        wanted = Grid.product(str(Path(recipe)), backbones, optimizers, seeds=seeds, changes=changes)
    else:
        wanted = grid if isinstance(grid, Grid) else Grid.read(Path(grid))
    if (folder / GRID_FILE).is_file():
        if list(Grid.read(folder / GRID_FILE).runs()) != list(wanted.runs()):
            raise RunError.expected(f"{folder} to hold a comparison of these candidates", "others", "another folder")
    else:
        _, first = next(wanted.runs())
        photos = manifest if isinstance(manifest, Manifest) else Manifest.read(manifest, first.data)
        create_comparison(folder, wanted, photos)
    return run_comparison(folder, accelerator=accelerator, watch=watch)
