"""The verb tag."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from modiste.cli.options import AllowPrivate, ImageColumn, Json, Models, Root, Thresholds, Views
from modiste.cli.output import name_failures, print_json
from modiste.errors import UsageError

if TYPE_CHECKING:
    from modiste.inference.predictor import BasePredictor
    from modiste.inference.writers import Format
    from modiste.inputs.arguments import InputPhoto, Inputs


def tag(
    photos: Annotated[list[str], typer.Argument(help="Files, folders, 'globs*.jpg' or tables.")],
    model: Models = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="File to write, or folder to fill; else stdout.")
    ] = None,
    kind: Annotated[
        Literal["text", "csv", "jsonl", "parquet", "jd"] | None,
        typer.Option("--format", help="jd is the challenge's submission. Default: by the file's ending."),
    ] = None,
    explain: Annotated[
        Path | None, typer.Option(help="Folder for heatmaps: where the evidence for each chosen label lies.")
    ] = None,
    views: Views = None,
    thresholds: Thresholds = None,
    shard: Annotated[str | None, typer.Option(help="Of a folder: 3/16 does the third of 16 shares.")] = None,
    image_column: ImageColumn = None,
    root: Root = None,
    allow_private: AllowPrivate = False,
    as_json: Json = False,
) -> None:
    """Tag photos with a trained model; a broken photo is named and never stops the rest.

    Without -m, garment types: modiste info says what that model is and can't do.

    A table may name photos by paths, URLs, or hold their bytes (Parquet). With a folder as -o, any number of photos
    are written as Parquet files of a thousand; a job that was killed goes on when it is started again.

    Examples:

        modiste tag street.jpg --explain why

        modiste tag catalogue/ -m coat.onnx -o tags.csv

        modiste tag millions.parquet -m coat.onnx -o tags/ --shard 3/16

        modiste tag test.txt --root photos -m runs/paper -o submission.txt --format jd
    """
    from modiste.fetching.config import FetchConfig
    from modiste.inputs.arguments import Inputs
    from modiste.inputs.urls import fetched
    from modiste.runs.load import BUNDLED, bundled_model, load

    if as_json and (kind or output):
        raise UsageError.expected("--json alone", "-o or --format beside it", "-o tags.jsonl without --json")
    _check_options(photos, explain, given=image_column or root)
    models = model or [bundled_model()]
    fetch = partial(fetched, config=FetchConfig(allow_private=allow_private))
    if output is not None and not output.suffix and kind is None:
        if explain is not None:
            raise UsageError.expected("--explain with a file as -o", f"the folder {output}", "-o tags.csv")
        predictor = load(models, views=views, thresholds=thresholds)
        _fill(output, photos, predictor, (models, thresholds, shard), (image_column, root), fetch)
        return
    if shard is not None:
        raise UsageError.expected("a folder as -o for --shard", output or "none", "-o tags, without --format")
    stock = Inputs.of(photos, image_column=image_column, root=root)
    names = [str(one) for one in model or (BUNDLED,)] if as_json else None
    _write(stock, load(models, views=views, thresholds=thresholds), output, (kind, explain), fetch, as_json=names)


def _check_options(photos: list[str], explain: Path | None, *, given: str | None) -> None:
    """Refuse what would be of no effect, or would tag its own heatmaps."""
    from modiste.inputs.arguments import is_table, named

    if given is not None and not any(is_table(Path(argument)) for argument in named(photos)):
        fix = "leaving out --image-column and --root"
        raise UsageError.expected(f"a table of photos that '{given}' is about", "none", fix)
    if explain is not None:
        for folder in filter(os.path.isdir, photos):
            if explain.resolve().is_relative_to(Path(folder).resolve()):
                want = f"--explain to be outside {folder}, whose photos are tagged"
                raise UsageError.expected(want, explain, "another folder")


def _write(
    stock: Inputs,
    predictor: BasePredictor,
    output: Path | None,
    how: tuple[Format | None, Path | None],
    fetch: Callable[[Iterable[InputPhoto]], Iterator[InputPhoto]],
    *,
    as_json: list[str] | None,
) -> None:
    """Tag into one file, or on stdout."""
    from modiste.cli.progress import counting
    from modiste.inference.tagging import passing, tagged
    from modiste.inference.writers import as_record, choose_format, write_tags

    kind, explain = how
    chosen = choose_format(kind, output)
    with counting("tagging") as progress:
        total = stock.count()
        photos = tagged(fetch(stock.items()), predictor, heatmaps=explain is not None)
        said = passing(photos, lambda done: progress(done, max(total, done)))
        if explain is not None:
            from modiste.inference.heatmaps import Explainer

            said = Explainer(explain, predictor).watch(said)
        if as_json is None:
            count, errors = write_tags(output, chosen, said, predictor.label_set)
        else:
            records = [as_record(photo.prediction, photo.id) for photo in said]
            count, errors = len(records), [record["error"] for record in records if record["error"]]
    if as_json is not None:
        print_json({"model": " + ".join(as_json), "photos": records})
    name_failures(errors, count)


def _fill(
    folder: Path,
    photos: list[str],
    predictor: BasePredictor,
    how: tuple[list[Path], str | None, str | None],
    table: tuple[str | None, str | None],
    fetch: Callable[[Iterable[InputPhoto]], Iterator[InputPhoto]],
) -> None:
    """Tag into a folder of parts."""
    from modiste.cli.progress import counting
    from modiste.cli.tables import print_words
    from modiste.inference.bulk import BulkJob, Shard
    from modiste.runs.load import model_key

    models, thresholds, asked = how
    shard = Shard.parse(asked or "1/1")
    known = {"models": [model_key(one) for one in models], "views": predictor.views, "thresholds": thresholds}
    job = BulkJob.open(folder, photos, known, image_column=table[0], root=table[1])
    with counting("tagging") as bar:
        total = job.stock.count() // shard.all
        done = job.run(predictor, shard, fetch=fetch, progress=lambda now, earlier: bar(now, max(total - earlier, now)))
    print_words(f"{folder}: {done.photos:,} photos in {done.parts:,} parts, {done.earlier:,} of them earlier")
    name_failures(done.errors, done.photos, failed=done.failed)
