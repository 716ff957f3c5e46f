"""The verbs about models: train, evaluate, tag, demo; each a short function.

What a verb needs is imported when it runs, so that `--help` is quick.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from modiste.answers import first_process
from modiste.errors import UsageError
from modiste.options import (
    Accelerator,
    Assign,
    Delimiter,
    Fold,
    FoldColumn,
    GroupColumn,
    ImageColumn,
    Json,
    LabelFile,
    Labels,
    NoCache,
    Output,
    PhotoList,
    RecipeName,
    Resume,
    Root,
    SplitColumn,
    Thresholds,
    Views,
    Weights,
    assignments,
    data_assignments,
    data_config,
    run_folder,
)
from modiste.results import evaluated, finish, judged

if TYPE_CHECKING:
    from modiste.blends import BlendRun
    from modiste.bundle import Run
    from modiste.evaluation import Evaluation


def train(
    manifest: PhotoList = None,
    output: Output = None,
    recipe: RecipeName = "quick",
    resume: Resume = None,
    backbone: Annotated[str | None, typer.Option(help="Any timm model.")] = None,
    weights: Weights = None,
    seed: Annotated[int | None, typer.Option(help="Of splits, augmentation and dropout.")] = None,
    assign: Assign = None,
    devices: Annotated[int | None, typer.Option(min=1, help="Processes; the global batch stays.")] = None,
    accelerator: Accelerator = "auto",
    no_cache: NoCache = False,
    folds: Annotated[int | None, typer.Option(min=2, help="Train a run for each of so many folds, and blend.")] = None,
    labels: Labels = None,
    label_set: LabelFile = None,
    delimiter: Delimiter = None,
    image_column: ImageColumn = None,
    split_column: SplitColumn = None,
    group_column: GroupColumn = None,
    fold_column: FoldColumn = None,
    fold: Fold = None,
    root: Root = None,
    as_json: Json = False,
) -> None:
    """Train a run from a manifest of labelled photos, then tune and score it on its validation photos.

    Splits are taken from the manifest or made: stratified over labels, grouped, by seed.
    A killed run goes on with `--resume RUN` and ends with the same numbers. What locked layers say of the photos
    is computed once and kept (modiste cache). With `--folds 5` there are five runs and an ensemble of them.

    Examples:

        modiste train photos.csv -o runs/coat

        modiste train photos.csv -o runs/paper --recipe jd2018 --devices 3

        modiste train photos.csv -o runs/folds --folds 5

        modiste train --resume runs/paper
    """
    folder = run_folder(manifest, output, resume)
    data = data_assignments(
        labels,
        label_set=label_set,
        delimiter=delimiter,
        image_column=image_column,
        split_column=split_column,
        group_column=group_column,
        fold_column=fold_column,
        fold=fold,
        root=root,
    )
    off = "off" if no_cache else None
    settings = {"model.backbone": backbone, "model.weights": weights, "seed": seed, "train.cache": off}
    changes = assignments(settings) + data + (assign or [])
    if resume is not None and (changes or output or folds or recipe != "quick"):
        raise UsageError.expected("--resume RUN alone", "settings beside it", "a new run with -o")
    run = _trained(folder, manifest, (recipe, changes, folds), (devices, accelerator))
    if first_process():
        finish(run, judged(run), as_json=as_json)


def _trained(
    folder: Path, manifest: Path | None, how: tuple[str, list[str], int | None], on: tuple[int | None, str]
) -> Run | BlendRun:
    """Train a new run, or one a fold, or go on where there is no manifest."""
    from modiste.flows import begin, go_on

    recipe, changes, folds = how
    if folds is not None and on[0] is not None:
        raise UsageError.expected("--folds on one device", f"--devices {on[0]}", "one of the two")
    if manifest is None:
        return go_on(folder, on)
    return begin(folder, manifest, recipe, changes, on=on, folds=folds)


def evaluate(
    run: Annotated[Path, typer.Argument(help="Run or blend folder.")],
    manifest: Annotated[
        Path | None, typer.Argument(help="Other photos with the same labels. Default: the run's own.")
    ] = None,
    split: Annotated[
        Literal["train", "val", "test", "all"], typer.Option(help="Which photos; all ignores splits.")
    ] = "test",
    views: Views = None,
    thresholds: Thresholds = None,
    against: Annotated[Path | None, typer.Option(help="Another run: is this one better on these photos?")] = None,
    labels: Labels = None,
    delimiter: Delimiter = None,
    image_column: ImageColumn = None,
    split_column: SplitColumn = None,
    group_column: GroupColumn = None,
    root: Root = None,
    as_json: Json = False,
) -> None:
    """Score a run on the photos of one split and write a report.

    Each score has a 95 % interval, and stands beside what two answers that look at no photo would get. On the
    photos that thresholds were tuned on, each photo is decided by what the others tuned.
    Writes predictions, metrics.json and a report into the run folder.

    Examples:

        modiste evaluate runs/coat

        modiste evaluate runs/coat --split val --views flip --json

        modiste evaluate runs/coat --against runs/older
    """
    from modiste.evaluation import evaluate as measure
    from modiste.loading import open_run
    from modiste.manifest import Manifest
    from modiste.terminal import counting

    opened = open_run(run)
    if against is not None and open_run(against).labels.ids != opened.labels.ids:
        raise UsageError.expected(f"{against} to have the labels of {run}", "others", "models of one label set")
    photos = None
    if manifest is not None:
        given = data_config(
            labels, delimiter=delimiter, image_column=image_column, split_column=split_column
        ).model_dump(exclude_none=True, exclude_defaults=True)
        training_only = {"group_column": group_column, "fold_column": None, "stratify_columns": (), "root": root}
        settings = opened.data.model_copy(update={**given, **training_only})
        photos = Manifest.read(manifest, settings, opened.labels)

    def judged(folder: Path) -> Evaluation:
        with counting(f"evaluating {folder} on {split}") as progress:
            return measure(folder, split, manifest=photos, views=views, thresholds=thresholds, progress=progress)

    evaluation = judged(run)
    beside = [] if against is None else [(str(against), judged(against))]
    finish(opened, evaluation, against=beside, as_json=as_json)


def demo(
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder to make.")] = Path("modiste-demo"),
    as_json: Json = False,
) -> None:
    """Draw garments, train on them, evaluate, tag and report: no data, no network, under 4 minutes.

    The pictures are drawn, not photographed; their 13 styles are as frequent, and as often together,
    as in the JD AI Fashion Challenge. Run again to go on where it stopped.
    """
    from modiste.demo import prepare, tag_some
    from modiste.flows import begin, go_on
    from modiste.report import DRAWN
    from modiste.terminal import console, counting

    console.print(DRAWN)
    with counting("drawing") as progress:
        manifest = prepare(output, progress)
    folder = output / "run"
    run = go_on(folder) if folder.exists() else begin(folder, manifest, "demo", [])
    judged(run)
    finish(run, evaluated(run, "test"), as_json=as_json)
    for line in tag_some(output):
        console.print(line)
