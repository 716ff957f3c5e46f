"""The command evaluate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from modiste.cli.options import (
    Delimiter,
    Encoding,
    GroupColumn,
    ImageColumn,
    Json,
    KeepAsLabel,
    Labels,
    Rename,
    Root,
    Sheet,
    SplitColumn,
    Thresholds,
    Views,
    data_config,
)
from modiste.cli.workflows import show_evaluation
from modiste.errors import UsageError

if TYPE_CHECKING:
    from modiste.evaluation.evaluate import Evaluation


def evaluate(
    run: Annotated[Path, typer.Argument(help="Run or blend folder.")],
    manifest: Annotated[
        Path | None, typer.Argument(help="Other photos with the same labels. Default: the run's own.")
    ] = None,
    split: Annotated[
        Literal["train", "val", "test", "all"],
        typer.Option(help="Photos to score; all takes every photo of the manifest."),
    ] = "test",
    views: Views = None,
    thresholds: Thresholds = None,
    against: Annotated[Path | None, typer.Option(help="Another run to compare with on the same photos.")] = None,
    labels: Labels = None,
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
    """Score a run on the photos of one split and write a report.

    Each score has a 95 % interval and stands beside two baselines that look at no photo. On the photos that
    thresholds were tuned on, scores are cross-fitted. Writes predictions, metrics.json and a report into the run
    folder; scores of other photos or thresholds are kept beside the model's own.

    Examples:

        modiste evaluate runs/coat

        modiste evaluate runs/coat --split val --views flip --json

        modiste evaluate runs/coat --against runs/older
    """
    from modiste.cli.progress import console, counting
    from modiste.data.manifest import Manifest
    from modiste.data.rare_labels import left_out
    from modiste.evaluation.evaluate import evaluate as measure
    from modiste.runs.load import open_run

    opened = open_run(run)
    if against is not None and open_run(against).label_set.ids != opened.label_set.ids:
        raise UsageError.expected(f"{against} to have the labels of {run}", "others", "models of one label set")
    photos = None
    if manifest is not None:
        given = data_config(
            labels,
            delimiter=delimiter,
            rename=rename,
            keep_as_label=keep_as_label,
            image_column=image_column,
            split_column=split_column,
        ).model_dump(exclude_none=True, exclude_defaults=True)
        file = {"encoding": encoding, "sheet": sheet, "root": root}
        training_only = {"group_column": group_column, "fold_column": None, "stratify_columns": (), **file}
        settings = opened.data.model_copy(update={**given, **training_only})
        photos = Manifest.read(manifest, settings, opened.label_set, left_out=left_out(opened.manifest()))
        for note in photos.notes:
            console.print(note)

    def judged(folder: Path) -> Evaluation:
        with counting(f"evaluating {folder} on {split}") as progress:
            return measure(folder, split, manifest=photos, views=views, thresholds=thresholds, progress=progress)

    evaluation = judged(run)
    beside = [] if against is None else [(str(against), judged(against))]
    show_evaluation(opened, evaluation, against=beside, as_json=as_json)
