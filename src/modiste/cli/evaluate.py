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
    from modiste.config import DataConfig
    from modiste.data.manifest import Manifest
    from modiste.evaluation.evaluate import Evaluation
    from modiste.runs.blend_run import BlendRun
    from modiste.runs.run import Run


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
    from modiste.cli.progress import counting
    from modiste.evaluation.evaluate import evaluate as measure
    from modiste.runs.load import open_run

    opened = open_run(run)
    if against is not None and open_run(against).label_set.ids != opened.label_set.ids:
        raise UsageError.expected(f"{against} to have the labels of {run}", "others", "models of one label set")
    words = {"delimiter": delimiter, "rename": rename, "keep_as_label": keep_as_label}
    given = data_config(labels, **words, image_column=image_column, split_column=split_column)
    own = {"group_column": group_column, "encoding": encoding, "sheet": sheet, "root": root}
    if manifest is None and (given != type(given)() or any(own.values())):
        got = "none, and options that say how to read one"
        raise UsageError.expected("MANIFEST, a table of other photos", got, "modiste evaluate RUN photos.csv with them")
    photos = None if manifest is None else _read(manifest, opened, given, own)

    def judged(folder: Path) -> Evaluation:
        with counting(f"evaluating {folder} on {split}") as progress:
            return measure(folder, split, manifest=photos, views=views, thresholds=thresholds, progress=progress)

    evaluation = judged(run)
    beside = [] if against is None else [(str(against), judged(against))]
    show_evaluation(opened, evaluation, against=beside, as_json=as_json)


def _read(manifest: Path, opened: Run | BlendRun, given: DataConfig, own: dict[str, str | None]) -> Manifest:
    """Other photos with the labels of a run, read as its own were but for what is given, and what was guessed."""
    from modiste.cli.workflows import show_notes
    from modiste.data.manifest import Manifest
    from modiste.data.rare_labels import left_out

    changes = given.model_dump(exclude_none=True, exclude_defaults=True)
    changes["rename"] = tuple((dict(opened.data.rename) | dict(given.rename)).items())  # the run's hold as well
    changes["keep_as_label"] = (*opened.data.keep_as_label, *given.keep_as_label)
    inherited = opened.data.model_copy(update={"fold_column": None, "stratify_columns": ()})
    if manifest.is_dir():  # it has no columns of anyone's naming
        inherited = inherited.model_copy(update=dict.fromkeys(("label_columns", "image_column", "split_column")))
    settings = inherited.model_copy(update={**changes, **own})
    photos = Manifest.read(manifest, settings, opened.label_set, left_out=left_out(opened.manifest()), asked=given)
    show_notes(photos.notes)
    return photos
