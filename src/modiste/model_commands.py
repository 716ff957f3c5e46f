"""The verbs about models: train, evaluate, tag, demo; each a short function.

What a verb needs is imported when it runs, so that `--help` is quick.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from modiste.answers import first_process, name_failures, print_json
from modiste.errors import UsageError
from modiste.options import (
    Delimiter,
    Fold,
    FoldColumn,
    GroupColumn,
    ImageColumn,
    Json,
    LabelFile,
    Labels,
    Root,
    SplitColumn,
    Threshold,
    Views,
    assignments,
    data_assignments,
    run_folder,
)

if TYPE_CHECKING:
    from modiste.bundle import Run


def train(
    manifest: Annotated[
        Path | None, typer.Argument(help="Table, folder of class folders, or list of photos and labels.")
    ] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Run folder to make.")] = None,
    recipe: Annotated[str, typer.Option(help="A recipe that comes with modiste, or a TOML file.")] = "quick",
    resume: Annotated[Path | None, typer.Option(help="Run folder to go on with.")] = None,
    backbone: Annotated[str | None, typer.Option(help="Any timm model.")] = None,
    weights: Annotated[str | None, typer.Option(help="'hub', 'none' or a safetensors file.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of splits, augmentation and dropout.")] = None,
    assign: Annotated[
        list[str] | None, typer.Option("--set", help="Any recipe key: train.batch_size=32, stages.0.lr=1e-4.")
    ] = None,
    devices: Annotated[int | None, typer.Option(min=1, help="Processes; the global batch stays.")] = None,
    accelerator: Annotated[Literal["auto", "cpu", "cuda", "mps"], typer.Option(help="Kind of device.")] = "auto",
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
    """Train a run from a manifest of labelled photos, then score it on its validation photos.

    Splits are taken from the manifest or made: stratified over labels, grouped, by seed.
    A killed run goes on with `--resume RUN` and ends with the same numbers.

    Examples:

        modiste train photos.csv -o runs/coat

        modiste train photos.csv -o runs/paper --recipe jd2018 --devices 3

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
    changes = assignments({"model.backbone": backbone, "model.weights": weights, "seed": seed}) + data + (assign or [])
    if resume is not None and (changes or output or recipe != "quick"):
        raise UsageError.expected("--resume RUN alone", "settings beside it", "a new run with -o")
    from modiste.flows import begin, go_on

    on = (devices, accelerator)
    run = go_on(folder, on) if manifest is None else begin(folder, manifest, recipe, changes, on)
    if first_process():
        _finish(run, "val", as_json=as_json)


def evaluate(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    manifest: Annotated[
        Path | None, typer.Argument(help="Other photos with the same labels. Default: the run's own.")
    ] = None,
    split: Annotated[
        Literal["train", "val", "test", "all"], typer.Option(help="Which photos; all ignores splits.")
    ] = "test",
    views: Views = None,
    threshold: Threshold = None,
    labels: Labels = None,
    delimiter: Delimiter = None,
    image_column: ImageColumn = None,
    split_column: SplitColumn = None,
    root: Root = None,
    as_json: Json = False,
) -> None:
    """Score a run on the photos of one split and write a report.

    Each score stands beside what two answers that look at no photo would get.
    Writes predictions, metrics.json and a report into the run folder.

    Examples:

        modiste evaluate runs/coat

        modiste evaluate runs/coat --split val --views flip --json
    """
    from modiste.bundle import Run
    from modiste.manifest import Manifest

    opened = Run.read(run)
    photos = None
    if manifest is not None:
        data = data_assignments(
            labels,
            delimiter=delimiter,
            image_column=image_column,
            split_column=split_column,
            root=root,
        )
        training_only = {"group_column": None, "fold_column": None, "stratify_columns": (), "root": root}
        settings = opened.recipe.replace(data).data.model_copy(update=training_only)
        photos = Manifest.read(manifest, settings, opened.labels)
    _finish(opened, split, manifest=photos, views=views, threshold=threshold, as_json=as_json)


def tag(
    photos: Annotated[list[str], typer.Argument(help="Files, folders, 'globs*.jpg' or manifests.")],
    model: Annotated[Path, typer.Option("-m", "--model", help="Run folder.")],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="File to write; else stdout.")] = None,
    kind: Annotated[
        Literal["text", "csv", "jsonl", "parquet", "jd"] | None,
        typer.Option("--format", help="jd is the challenge's submission. Default: by the file's ending."),
    ] = None,
    views: Views = None,
    threshold: Threshold = None,
    image_column: ImageColumn = None,
    root: Root = None,
    as_json: Json = False,
) -> None:
    """Tag photos with a trained run; a broken photo is named and never stops the rest.

    Examples:

        modiste tag street.jpg -m runs/coat

        modiste tag catalogue/ -m runs/coat -o tags.parquet

        modiste tag test.txt --root photos -m runs/paper -o submission.txt --format jd
    """
    from modiste.config import DataConfig
    from modiste.loading import load
    from modiste.tag import as_record, choose_format, find_photos, write_tags
    from modiste.terminal import counting, watched

    if as_json and (kind or output):
        raise UsageError.expected("--json alone", "-o or --format beside it", "-o tags.jsonl without --json")
    chosen = choose_format(kind, output)
    predictor = load(model, views=views, threshold=threshold)
    config = DataConfig(image_column=image_column, root=root, label_columns=())  # labels are not read
    ids, paths = find_photos(photos, predictor.labels, config)
    with counting("tagging") as progress:
        predictions = watched(predictor.stream(paths), len(paths), progress)
        if as_json:
            records = [as_record(prediction, id_) for id_, prediction in zip(ids, predictions, strict=True)]
            errors = [record["error"] for record in records if record["error"]]
        else:
            errors = write_tags(output, chosen, ids, predictions, predictor.labels)
    if as_json:
        print_json({"model": str(model), "photos": records})
    name_failures(errors, len(paths))


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
    _finish(run, "test", as_json=as_json)
    for line in tag_some(output):
        console.print(line)


def _finish(run: Run, split: str, *, as_json: bool, **options: Any) -> None:
    """Score `run` on `split`, write the report, show both."""
    from modiste.evaluation import evaluate as measure
    from modiste.evaluation import summary
    from modiste.report import report_evaluation
    from modiste.terminal import console, counting, print_scores

    with counting(f"evaluating {split}") as progress:
        evaluation = measure(run.folder, split, progress=progress, **options)
    page = report_evaluation(run, evaluation)
    if as_json:
        print_json(summary(evaluation))
    else:
        print_scores(evaluation)
    console.print(f"report: {page}")
    name_failures([str(p.error) for p in evaluation.failed], len(evaluation.part) + len(evaluation.failed))
