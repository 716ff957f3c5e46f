"""The command train."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from modiste.cli.options import (
    Accelerator,
    Assign,
    Delimiter,
    Encoding,
    Fold,
    FoldColumn,
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
from modiste.cli.output import first_process, one_voice
from modiste.cli.workflows import Hardware, Plan, resume_training, show_evaluation, start_training, tune_and_evaluate
from modiste.errors import UsageError

if TYPE_CHECKING:
    from modiste.runs.blend_run import BlendRun
    from modiste.runs.run import Run


Devices = Annotated[int | None, typer.Option(min=1, help="Number of processes; the global batch size stays the same.")]
Epochs = Annotated[int | None, typer.Option(min=1, help="Epochs of the recipe's last stage.")]
Size = Annotated[int | None, typer.Option(min=16, max=4096, help="Pixels a side, in all stages and in tagging.")]
Folds = Annotated[int | None, typer.Option(min=2, help="Cross-validate: train one run per fold, and blend them.")]


def train(
    manifest: PhotoList = None,
    output: Output = None,
    recipe: RecipeName = None,
    resume: Resume = None,
    backbone: Annotated[str | None, typer.Option(help="Name of a timm model. Default: the recipe's.")] = None,
    weights: Weights = None,
    seed: Annotated[int | None, typer.Option(help="Random seed of splits, augmentation and dropout.")] = None,
    epochs: Epochs = None,
    size: Size = None,
    assign: Assign = None,
    devices: Devices = None,
    accelerator: Accelerator = "auto",
    no_cache: NoCache = False,
    folds: Folds = None,
    labels: Labels = None,
    label_set: LabelFile = None,
    delimiter: Delimiter = None,
    rename: Rename = None,
    keep_as_label: KeepAsLabel = None,
    min_positives: MinPositives = None,
    image_column: ImageColumn = None,
    split_column: SplitColumn = None,
    group_column: GroupColumn = None,
    fold_column: FoldColumn = None,
    fold: Fold = None,
    root: Root = None,
    encoding: Encoding = None,
    sheet: Sheet = None,
    as_json: Json = False,
) -> None:
    """Train a run from a manifest of labelled photos, then tune and score it on its validation photos.

    Splits come from the manifest; missing ones are made, stratified by label, with groups kept whole. A killed run
    is resumed with `--resume RUN` and ends with the same numbers. `--folds 5` trains five runs and blends them.

    Examples:

        modiste train photos.csv -o runs/coat

        modiste train photos.csv -o runs/paper --recipe jd2018 --devices 3

        modiste train photos.csv -o runs/folds --folds 5

        modiste train --resume runs/paper
    """
    columns = {"image_column": image_column, "split_column": split_column, "group_column": group_column}
    words = {"delimiter": delimiter, "rename": rename, "keep_as_label": keep_as_label, "min_positives": min_positives}
    file = {"encoding": encoding, "sheet": sheet, "root": root, "fold_column": fold_column, "fold": fold}
    data = data_assignments(labels, label_set=label_set, **columns, **words, **file)
    settings = {"model.backbone": backbone, "model.weights": weights, "seed": seed}
    settings["train.cache"] = "off" if no_cache else None
    changes = assignments(settings) + data + (assign or [])
    given = bool(changes or output or folds or recipe or epochs or size)
    plan = Plan(recipe, changes, size, epochs)
    with one_voice():
        folder = _folder(manifest, output, resume, given=given)
        run = _train(folder, manifest, plan, hardware=Hardware(devices, accelerator), folds=folds)
        if first_process():
            show_evaluation(run, tune_and_evaluate(run), as_json=as_json)


def _folder(manifest: Path | None, output: Path | None, resume: Path | None, *, given: bool) -> Path:
    """The run to make, or the one to resume, which takes no other settings."""
    folder = run_folder(manifest, output, resume)
    if resume is not None and given:
        raise UsageError.expected("--resume RUN alone", "settings beside it", "a new run with -o")
    return folder


def _train(
    folder: Path,
    manifest: Path | None,
    plan: Plan,
    *,
    hardware: Hardware,
    folds: int | None,
) -> Run | BlendRun:
    """Train a new run, or one a fold, or resume where there is no manifest."""
    if folds is not None and hardware.devices is not None:
        raise UsageError.expected("--folds on one device", f"--devices {hardware.devices}", "one of the two")
    if manifest is None:
        return resume_training(folder, hardware)
    return start_training(folder, manifest, plan, hardware=hardware, folds=folds)
