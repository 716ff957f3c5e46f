"""The command split."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from modiste.cli.options import (
    Delimiter,
    Encoding,
    GroupColumn,
    ImageColumn,
    Json,
    KeepAsLabel,
    LabelFile,
    Labels,
    Overwrite,
    Rename,
    Root,
    Sheet,
    SplitColumn,
    data_config,
    new_table,
)
from modiste.cli.output import print_json
from modiste.cli.workflows import show_summary
from modiste.errors import UsageError

if TYPE_CHECKING:
    from modiste.data.manifest import Manifest
from modiste.cli.check import Workers, look_at, report_folder
from modiste.words import counted

Stratify = Annotated[list[str] | None, typer.Option(help="Further column to stratify by; may be repeated.")]


NearDuplicates = Annotated[
    bool, typer.Option("--near-duplicates/--no-near-duplicates", help="Keep near duplicates in one split.")
]


Checked = Annotated[
    Path | None,
    typer.Option("--check", help="Report folder of `modiste check`, to reuse its thumbnails."),
]


def split(
    manifest: Annotated[Path, typer.Argument(help="Table, folder of class folders, or list of photos and labels.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Manifest to write: .csv, .tsv, .parquet, .jsonl.")],
    overwrite: Overwrite = False,
    folds: Annotated[
        int | None, typer.Option(help="Write this many fold numbers instead; test photos get none.")
    ] = None,
    val: Annotated[
        float | None, typer.Option(min=0, max=1, help="Share of photos to validate on. Default: 0.1.")
    ] = None,
    test: Annotated[float | None, typer.Option(min=0, max=1, help="Share of photos to test on. Default: 0.1.")] = None,
    seed: Annotated[int, typer.Option(help="Random seed of the split.")] = 0,
    stratify: Stratify = None,
    near_duplicates: NearDuplicates = True,
    checked: Checked = None,
    workers: Workers = None,
    labels: Labels = None,
    label_set: LabelFile = None,
    delimiter: Delimiter = None,
    rename: Rename = None,
    keep_as_label: KeepAsLabel = None,
    image_column: ImageColumn = None,
    split_column: SplitColumn = None,
    group_column: GroupColumn = None,
    root: Root = None,
    encoding: Encoding = None,
    sheet: Sheet = None,
    as_json: Json = False,
) -> None:
    """Split photos into train, val and test, or into folds, stratified by label.

    Photos of one group and near duplicates stay in one split; the column `group` of the written manifest names what
    was kept together. Splits that MANIFEST names are replaced; with --folds, its test and unused photos stay as they
    are, and the others get fold numbers.

    Examples:

        modiste split photos.csv -o split.csv --val 0.1 --test 0.2 --group-column product

        modiste split photos.csv -o folds.csv --folds 5 --stratify season
    """
    from modiste.audit.split import deal
    from modiste.data.manifest import Manifest

    if folds is not None and (val is not None or test is not None):
        raise UsageError.expected("--folds, or --val and --test", "both", "one of the two")
    words = {"delimiter": delimiter, "rename": rename, "keep_as_label": keep_as_label}
    file = {"encoding": encoding, "sheet": sheet, "root": root}
    columns = {"image_column": image_column, "split_column": split_column, "group_column": group_column}
    config = data_config(labels, label_set=label_set, **words, **file, **columns)
    new_table(output, manifest, overwrite=overwrite)
    photos = Manifest.read(manifest, config).without("fold")
    show_summary(photos)
    together = 0
    if near_duplicates:
        photos, together = _together(photos, checked or report_folder(manifest), workers)
    dealt = deal(photos, val=val, test=test, folds=folds, seed=seed, stratify=stratify or ())
    dealt.write(output)
    _print_evenness(output, dealt.without("split") if folds else dealt, together, seed, as_json=as_json)


def _together(photos: Manifest, folder: Path, workers: int | None) -> tuple[Manifest, int]:
    """The photos with groups that keep look-alikes together, and how many clusters of those there are."""
    from modiste.cli.progress import console
    from modiste.data.groups import keep_together

    thumbnails, alike = look_at(photos, folder, workers)
    if not thumbnails.there.any():
        console.print("no photo is there, so near duplicates were not looked for")
    several = alike.any != range(len(photos))  # a cluster is numbered by its first photo
    return keep_together(photos, alike.any), len(set(alike.any[several].tolist()))


def _print_evenness(file: Path, photos: Manifest, together: int, seed: int, *, as_json: bool) -> None:
    """Show how even the written split is."""
    from modiste.audit.split_balance import measure_balance
    from modiste.cli.progress import console
    from modiste.cli.tables import print_table

    found = measure_balance(photos, photos.parts, seed)
    if as_json:
        print_json({"manifest": str(file), "kept_together": together, **asdict(found)})
        return
    print_table(f"{file}, seed {seed}", ["part", "photos"], found.sizes.items())
    rows = [("largest", found.largest, found.random_largest), ("mean", found.mean, found.random_mean)]
    print_table(
        "difference of a label's frequency between parts",
        ["over the labels", "this split", "random, mean of 20"],
        [(name, f"{ours:.4f}", f"{random:.4f}") for name, ours, random in rows],
    )
    if together:
        were = "was" if together == 1 else "were"
        console.print(f"{counted(together, 'cluster')} of photos that look alike {were} kept together")
