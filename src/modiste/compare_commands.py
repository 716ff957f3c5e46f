"""The verbs about many trainings: compare, and the cache that they share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from modiste.answers import print_json
from modiste.errors import UsageError
from modiste.options import (
    Accelerator,
    Assign,
    Delimiter,
    GroupColumn,
    ImageColumn,
    Json,
    LabelFile,
    Labels,
    NoCache,
    Output,
    PhotoList,
    Resume,
    Root,
    SplitColumn,
    Weights,
    assignments,
    data_assignments,
    run_folder,
)

cache_app = typer.Typer(
    no_args_is_help=True,
    help="What is computed once and kept: features of locked layers, decoded photos.\n\n"
    "It lies in MODISTE_CACHE, else ~/.cache/modiste, and grows to MODISTE_CACHE_GB, else half of the free disk; "
    "what was used longest ago goes first. Removing it costs time, never results.",
)


def compare(
    manifest: PhotoList = None,
    output: Output = None,
    recipe: Annotated[str | None, typer.Option(help="A recipe of modiste's, or a TOML file. Default: jd2018.")] = None,
    backbones: Annotated[str | None, typer.Option(help="timm models, comma separated. Default: the recipe's.")] = None,
    optimizers: Annotated[
        str | None, typer.Option(help="adam, adamw, sgd, comma separated, in all stages. Default: the recipe's.")
    ] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Trainings of each, best three or more. Default: 3.")] = None,
    grid: Annotated[
        Path | None, typer.Option(help="TOML file of candidates, in place of recipe, backbones, optimizers, seeds.")
    ] = None,
    resume: Resume = None,
    weights: Weights = None,
    assign: Assign = None,
    accelerator: Accelerator = "auto",
    no_cache: NoCache = False,
    labels: Labels = None,
    label_set: LabelFile = None,
    delimiter: Delimiter = None,
    image_column: ImageColumn = None,
    split_column: SplitColumn = None,
    group_column: GroupColumn = None,
    root: Root = None,
    as_json: Json = False,
) -> None:
    """Train backbones and optimisers with several seeds, and say which is best and how sure that is.

    What locked layers say of the photos is computed once and shared by all seeds, optimisers and stages. Prints the
    paper's table with means, spreads and intervals; names a winner only where the difference exceeds chance, over
    photos and seeds; keeps the best run in DIR/best. Validation photos choose, test photos judge. A killed
    comparison goes on with `--resume DIR`.

    Examples:

        modiste compare photos.csv -o runs/table --backbones inception_v4,legacy_xception --optimizers adam,sgd

        modiste compare photos.csv -o runs/mine --grid candidates.toml

        modiste compare --resume runs/table
    """
    folder = run_folder(manifest, output, resume)
    data = data_assignments(
        labels,
        label_set=label_set,
        delimiter=delimiter,
        image_column=image_column,
        split_column=split_column,
        group_column=group_column,
        root=root,
    )
    off = "off" if no_cache else None
    changes = assignments({"model.weights": weights, "train.cache": off}) + data + (assign or [])
    made = (recipe, backbones, optimizers, seeds)
    if resume is not None and any([grid, output, *made, *changes]):
        raise UsageError.expected("--resume DIR alone", "settings beside it", "a new comparison with -o")
    if manifest is not None:
        _begin(folder, manifest, (grid, *made), changes)
    _show(folder, accelerator, as_json=as_json)


def _begin(
    folder: Path,
    manifest: Path,
    asked: tuple[Path | None, str | None, str | None, str | None, int | None],
    changes: list[str],
) -> None:
    """Make the folder of a comparison from a grid in a file, or from names."""
    from modiste.comparing import begin
    from modiste.grid import Grid
    from modiste.manifest import Manifest

    grid, recipe, backbones, optimizers, seeds = asked
    if grid is not None and any(asked[1:]):
        got = "--recipe, --backbones, --optimizers or --seeds beside it"
        raise UsageError.expected("--grid alone", got, "naming them in the file")
    if grid is not None:
        wanted = Grid.read(grid).changed(changes)
    else:
        names = [text.split(",") if text else [] for text in (backbones, optimizers)]
        wanted = Grid.product(recipe or "jd2018", *names, seeds=seeds or 3, changes=changes)
    _, first = next(wanted.runs())
    begin(folder, wanted, Manifest.read(manifest, first.data))


def _show(folder: Path, accelerator: str, *, as_json: bool) -> None:
    """Run what is missing of a comparison, and show its table."""
    from modiste.comparing import compare as run
    from modiste.flows import watch
    from modiste.terminal import console, print_standings

    found = run(folder, accelerator=accelerator, watch=watch)
    if as_json:
        print_json(found.to_dict())
    else:
        print_standings(found)
    console.print(f"table: {folder / 'comparison.md'}, page: {folder / 'index.html'}")


@cache_app.command("ls")
def list_cache(as_json: Json = False) -> None:
    """List what is kept, the last used first."""
    from modiste.cache import budget, cache_folder, entries
    from modiste.terminal import print_table

    found = entries()
    total, limit = sum(entry.bytes for entry in found), budget()
    if as_json:
        kept = [
            {"folder": str(one.folder), "bytes": one.bytes, "used": one.used, "facts": dict(one.facts)} for one in found
        ]
        print_json({"folder": str(cache_folder()), "bytes": total, "budget": limit, "entries": kept})
        return
    rows = [(one.folder.name, one.words, f"{one.bytes / 1e6:,.1f}", one.age) for one in found]
    title = f"{cache_folder()}: {total / 1e9:.2f} of at most {limit / 1e9:.1f} GB"
    print_table(title, ["entry", "what", "MB", "used"], rows)


@cache_app.command("prune")
def prune_cache(
    to_gb: Annotated[float, typer.Option("--to-gb", min=0, help="Keep at most this much; 0 removes all.")] = 0.0,
    unused_days: Annotated[
        float | None, typer.Option("--unused-days", min=0, help="Only what was not used for so many days.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Remove what was used longest ago; what was used in the last ten minutes stays, since it may be in use.

    Examples:

        modiste cache prune

        modiste cache prune --to-gb 20

        modiste cache prune --unused-days 30
    """
    from modiste.cache import cache_folder, prune
    from modiste.terminal import print_words

    removed, kept = prune(int(min(to_gb, 1e9) * 1e9), 0.0 if unused_days is None else unused_days * 86400)
    freed = sum(entry.bytes for entry in removed)
    if as_json:
        print_json({"folder": str(cache_folder()), "removed": [one.folder.name for one in removed], "freed": freed})
        return
    in_use = sum(entry.in_use for entry in kept)
    beside = f"; {in_use} in use stay" if in_use else ""
    print_words(f"{len(removed)} entries removed from {cache_folder()}, {freed / 1e6:,.1f} MB freed{beside}")
