"""The command compare."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from modiste.cli.options import (
    Accelerator,
    Assign,
    Delimiter,
    Encoding,
    GroupColumn,
    ImageColumn,
    Json,
    KeepAsLabel,
    LabelFile,
    Labels,
    MinPositives,
    NoCache,
    Output,
    PhotoList,
    RecipeName,
    Rename,
    Resume,
    Root,
    Sheet,
    SplitColumn,
    Weights,
    assignments,
    data_assignments,
    run_folder,
)
from modiste.cli.output import print_json
from modiste.cli.workflows import show_notes, show_summary
from modiste.errors import UsageError

if TYPE_CHECKING:
    from modiste.experiments.grid import Grid


def compare(
    manifest: PhotoList = None,
    output: Output = None,
    recipe: RecipeName = None,
    backbones: Annotated[str | None, typer.Option(help="timm models, comma separated. Default: the recipe's.")] = None,
    optimizers: Annotated[
        str | None, typer.Option(help="adam, adamw, sgd, comma separated, in all stages. Default: the recipe's.")
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(min=1, help="Training runs per candidate, three or more for intervals. Default: 3.")
    ] = None,
    grid: Annotated[
        Path | None,
        typer.Option(help="TOML file of candidates; replaces --recipe, --backbones, --optimizers, --seeds."),
    ] = None,
    resume: Resume = None,
    weights: Weights = None,
    assign: Assign = None,
    accelerator: Accelerator = "auto",
    no_cache: NoCache = False,
    labels: Labels = None,
    label_set: LabelFile = None,
    delimiter: Delimiter = None,
    rename: Rename = None,
    keep_as_label: KeepAsLabel = None,
    min_positives: MinPositives = None,
    image_column: ImageColumn = None,
    split_column: SplitColumn = None,
    group_column: GroupColumn = None,
    root: Root = None,
    encoding: Encoding = None,
    sheet: Sheet = None,
    as_json: Json = False,
) -> None:
    """Train backbones and optimisers with several seeds, and rank them with confidence intervals.

    Features of frozen layers are computed once and shared. Prints the paper's table with means, standard deviations
    and intervals, names a winner only where the difference exceeds chance over photos and seeds, and copies the best
    run, chosen on validation photos, to DIR/best. A killed comparison is resumed with `--resume DIR`.

    Examples:

        modiste compare photos.csv -o runs/table --backbones inception_v4,legacy_xception --optimizers adam,sgd

        modiste compare --resume runs/table
    """
    folder = run_folder(manifest, output, resume)
    words = {"delimiter": delimiter, "rename": rename, "keep_as_label": keep_as_label, "min_positives": min_positives}
    file = {"encoding": encoding, "sheet": sheet, "root": root}
    columns = {"image_column": image_column, "split_column": split_column, "group_column": group_column}
    data = data_assignments(labels, label_set=label_set, **words, **file, **columns)
    cache = "off" if no_cache else None
    changes = [*assignments({"model.weights": weights, "train.cache": cache}), *data, *(assign or [])]
    product = _Product(recipe, backbones, optimizers, seeds)
    if resume is not None and any([grid, output, *product, *changes]):
        raise UsageError.expected("--resume DIR alone", "settings beside it", "a new comparison with -o")
    if manifest is not None:
        _create(folder, manifest, _grid(grid, product, changes), accelerator)
    _show(folder, accelerator, as_json=as_json)


class _Product(NamedTuple):
    """Options that make candidates of every backbone with every optimiser; None is the default."""

    recipe: str | None
    backbones: str | None
    optimizers: str | None
    seeds: int | None


def _grid(file: Path | None, product: _Product, changes: list[str]) -> Grid:
    """The candidates, of a file or of options."""
    from modiste.config import DEFAULT_RECIPE
    from modiste.experiments.grid import Grid

    if file is not None and any(product):
        got = "--recipe, --backbones, --optimizers or --seeds beside it"
        raise UsageError.expected("--grid alone", got, "naming them in the file")
    if file is not None:
        return Grid.read(file).changed(changes)
    names = [text.split(",") if text else [] for text in (product.backbones, product.optimizers)]
    return Grid.product(product.recipe or DEFAULT_RECIPE, *names, seeds=product.seeds or 3, changes=changes)


def _create(folder: Path, manifest: Path, grid: Grid, accelerator: str) -> None:
    """Make the folder of a comparison."""
    from modiste.data.manifest import Manifest
    from modiste.experiments.compare import create_comparison
    from modiste.training.state import make_fabric

    _, first = next(grid.runs())
    make_fabric(first, 1, accelerator)  # refused before there is a folder
    photos = Manifest.read(manifest, first.data)
    show_summary(photos)
    show_notes(create_comparison(folder, grid, photos).notes())


def _show(folder: Path, accelerator: str, *, as_json: bool) -> None:
    """Run what is missing of a comparison, and show its table."""
    from modiste.cli.progress import console
    from modiste.cli.tables import print_ranking
    from modiste.cli.workflows import watch
    from modiste.experiments.compare import run_comparison as run

    found = run(folder, accelerator=accelerator, watch=watch)
    if as_json:
        print_json(found.to_dict())
    else:
        print_ranking(found)
    console.print(f"table: {folder / 'comparison.md'}, page: {folder / 'index.html'}")
