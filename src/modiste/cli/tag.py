"""The verb tag."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

import typer

from modiste.cli.options import (
    AllowPrivate,
    Encoding,
    ImageColumn,
    Json,
    Models,
    Overwrite,
    Root,
    Sheet,
    Thresholds,
    Views,
    new_file,
)
from modiste.cli.output import name_failures, print_json
from modiste.cli.tag_products import ProductAnswer, check_product_options, write_by_product
from modiste.errors import UsageError
from modiste.words import counted

if TYPE_CHECKING:
    from modiste.inference.bulk import BulkJob, Done, Shard
    from modiste.inference.predictor import BasePredictor
    from modiste.inference.predictor import Views as ViewsName
    from modiste.inference.writers import Format
    from modiste.inputs.arguments import InputPhoto, Inputs, TableOptions


PhotoArguments = Annotated[
    list[str], typer.Argument(help="Files, folders, 'globs*.jpg', URLs or tables; - is standard input.")
]
OutputOption = Annotated[
    Path | None, typer.Option("-o", "--output", help="File or folder to write. Default: standard output.")
]
FormatName = Literal["text", "csv", "jsonl", "parquet", "jd"]
FormatOption = Annotated[
    FormatName | None,
    typer.Option("--format", help="Output format; jd is the challenge's submission. Default: by the suffix of -o."),
]
Explain = Annotated[
    Path | None, typer.Option(help="Folder for heatmaps that show the evidence for each predicted label.")
]
By = Annotated[
    str | None,
    typer.Option(metavar="COLUMN", help="Column of products in a table: photos of one product give one answer."),
]
ShardOption = Annotated[
    str | None, typer.Option("--shard", help="With a folder as -o: 3/16 tags the third of 16 shares.")
]


def tag(
    photos: PhotoArguments,
    model: Models = None,
    output: OutputOption = None,
    kind: FormatOption = None,
    explain: Explain = None,
    overwrite: Overwrite = False,
    views: Views = None,
    thresholds: Thresholds = None,
    shard: ShardOption = None,
    by: By = None,
    image_column: ImageColumn = None,
    root: Root = None,
    encoding: Encoding = None,
    sheet: Sheet = None,
    allow_private: AllowPrivate = False,
    as_json: Json = False,
) -> None:
    """Tag photos with a trained model; a broken photo is reported by name, and the others are tagged.

    Without -m the bundled model tags garment types; modiste info shows its labels, scores and limitations.

    A table names photos by path or URL, or holds their bytes (Parquet). With a folder as -o, any number is tagged into
    Parquet files of a thousand rows; run again, a killed job resumes, a finished one tags what is new or has changed.

    Examples:

        modiste tag street.jpg --explain why

        modiste tag catalogue/ -m coat.onnx -o tags.csv

        modiste tag catalogue.csv -m coat.onnx --by product_id -o products.csv

        modiste tag millions.parquet -m coat.onnx -o tags/ --shard 3/16

        modiste tag test.txt --root photos -m runs/paper -o submission.txt --format jd
    """
    from modiste.inputs.arguments import TableOptions

    if as_json and (kind or output):
        raise UsageError.expected("--json alone", "-o or --format beside it", "-o tags.jsonl without --json")
    tables = TableOptions(image_column, root, encoding, sheet, by)
    _check_options(photos, explain, tables)
    tagger = _Model(model, views, thresholds)
    in_folder = output is not None and not output.suffix and kind is None
    if by is not None:
        check_product_options(photos, kind, explain=explain, in_folder=in_folder)
    if output is not None and in_folder:
        if explain is not None or overwrite:
            option = "--explain" if explain is not None else "--overwrite"
            raise UsageError.expected(f"{option} with a file as -o", f"the folder {output}", "-o tags.csv")
        _fill(output, _Photos.of(photos, tables), tagger, shard=shard, allow_private=allow_private)
        return
    if shard is not None:
        raise UsageError.expected("a folder as -o for --shard", output or "none", "-o tags, without --format")
    answer = _Answer.of(output, kind, explain, [*photos, *map(str, model or ())], overwrite=overwrite, as_json=as_json)
    if by is not None:
        _write_products(_Photos.of(photos, tables), tagger, answer, allow_private=allow_private)
    else:
        _write(_Photos.of(photos, tables), tagger, answer, allow_private=allow_private)


class _Photos(NamedTuple):
    """What names the photos, how tables do, and what came on standard input."""

    arguments: list[str]
    tables: TableOptions
    stdin: list[InputPhoto]

    @classmethod
    def of(cls, arguments: list[str], tables: TableOptions) -> _Photos:
        """With what came on standard input, where it is asked for."""
        from modiste.cli.workflows import show_notes
        from modiste.inputs.arguments import STDIN, named
        from modiste.inputs.standard_input import read_stdin

        if STDIN not in named(arguments):
            return cls(arguments, tables, [])
        found = read_stdin(sys.stdin.buffer, tables)
        _refuse_unused(arguments, tables, stdin_is_table=found.is_table)
        show_notes(found.notes)
        return cls(arguments, tables, found.photos)

    def inputs(self) -> Inputs:
        """Look at them."""
        from modiste.inputs.arguments import Inputs

        return Inputs.of(self.arguments, **self.tables._asdict(), stdin=self.stdin)


class _Model(NamedTuple):
    """What tags, with its options."""

    paths: list[Path] | None
    views: ViewsName | None
    thresholds: str | None

    @property
    def name(self) -> str:
        """For people."""
        from modiste.runs.load import BUNDLED

        return " + ".join(map(str, self.paths)) if self.paths else BUNDLED

    @property
    def files(self) -> list[Path]:
        """Run folders or exported files."""
        from modiste.runs.load import bundled_model

        return self.paths or [bundled_model()]

    def open(self) -> BasePredictor:
        """Load it."""
        from modiste.runs.load import load

        return load(self.files, views=self.views, thresholds=self.thresholds)


class _Answer(NamedTuple):
    """Where predictions go, and how."""

    output: Path | None
    kind: Format
    explain: Path | None
    as_json: bool

    @classmethod
    def of(
        cls,
        output: Path | None,
        kind: FormatName | None,
        explain: Path | None,
        inputs: list[str],
        *,
        overwrite: bool,
        as_json: bool,
    ) -> _Answer:
        """Refuse a file that is there, or that is one of the inputs."""
        from modiste.inference.writers import choose_format
        from modiste.inputs.arguments import named

        if output is not None:
            new_file(output, named(inputs), overwrite=overwrite)
        return cls(output, choose_format(kind, output), explain, as_json)


def _check_options(photos: list[str], explain: Path | None, tables: TableOptions) -> None:
    """Refuse what would be of no effect, or would tag its own heatmaps."""
    _refuse_unused(photos, tables, stdin_is_table=True)  # it may be one
    if explain is not None:
        from modiste.inference.heatmaps import read_heatmaps

        read_heatmaps(explain)
        for folder in filter(os.path.isdir, photos):
            if explain.resolve().is_relative_to(Path(folder).resolve()):
                want = f"--explain to be outside {folder}, whose photos are tagged"
                raise UsageError.expected(want, explain, "another folder")


def _refuse_unused(photos: list[str], tables: TableOptions, *, stdin_is_table: bool) -> None:
    """Refuse options of tables where there is none."""
    from modiste.inputs.arguments import STDIN, is_table, named

    given = next(filter(None, tables._replace(product_column=None)), None)
    every = [] if given is None else named(photos)
    if given is not None and not any(stdin_is_table if one == STDIN else is_table(Path(one)) for one in every):
        fix = "leaving out --image-column, --root, --encoding and --sheet"
        raise UsageError.expected(f"a table of photos that '{given}' is about", "none", fix)


def _write(photos: _Photos, tagger: _Model, answer: _Answer, *, allow_private: bool) -> None:
    """Tag into one file, or on stdout."""
    from modiste.cli.progress import counting
    from modiste.cli.workflows import show_notes
    from modiste.inference.tagging import passing, tagged
    from modiste.inference.writers import as_record, write_tags

    inputs = photos.inputs()
    predictor = tagger.open()
    fetch = _fetching(allow_private=allow_private)
    with counting("tagging") as progress:
        total = inputs.count()
        show_notes(inputs.notes())
        stream = tagged(fetch(inputs.items()), predictor, heatmaps=answer.explain is not None)
        said = passing(stream, lambda done: progress(done, max(total, done)))
        if answer.explain is not None:
            from modiste.inference.heatmaps import Explainer

            said = Explainer(answer.explain, predictor).watch(said)
        if answer.as_json:
            records = [as_record(photo.prediction, photo.id) for photo in said]
            count, errors = len(records), [record["error"] for record in records if record["error"]]
        else:
            count, errors = write_tags(answer.output, answer.kind, said, predictor.label_set)
    if answer.as_json:
        print_json({"model": tagger.name, "photos": records})
    name_failures(errors, count)


def _write_products(photos: _Photos, tagger: _Model, answer: _Answer, *, allow_private: bool) -> None:
    """Tag into a row a product."""
    answered = ProductAnswer(answer.output, answer.kind, tagger.name if answer.as_json else None)
    write_by_product(photos.inputs(), tagger.open(), answered, _fetching(allow_private=allow_private))


def _fill(folder: Path, photos: _Photos, tagger: _Model, *, shard: str | None, allow_private: bool) -> None:
    """Tag into a folder of parts; where a killed job is resumed, look for new photos behind it."""
    from modiste.cli.tables import print_words
    from modiste.inference.bulk import BulkJob, Shard
    from modiste.runs.load import model_key

    predictor, share, fetch = tagger.open(), Shard.parse(shard or "1/1"), _fetching(allow_private=allow_private)
    models = [model_key(one) for one in tagger.files]
    known = {"models": models, "views": predictor.views, "thresholds": tagger.thresholds}
    begin = partial(BulkJob.open, folder, photos.arguments, known, **photos.tables._asdict())
    job = begin(stdin=photos.stdin)
    done = _round(job, predictor, share, fetch)
    tagged = done.photos - done.earlier
    if job.round.resumed and share.all == 1:
        done = _round(begin(stdin=photos.stdin), predictor, share, fetch)
        tagged += done.photos - done.earlier
    parts = f"{counted(done.photos, 'photo')} in {counted(done.parts, 'part')}"
    print_words(f"{folder}: {parts}, {max(0, done.photos - tagged):,} of them earlier")
    if done.changes is not None:
        print_words(f"{folder}/changes.csv: {counted(done.changes, 'change')} since the last time")
    if done.products is not None:
        print_words(f"{folder}/products.parquet: {counted(done.products, 'product')}")
    if done.changes is None and share.all > 1:
        print_words(f"{folder}: other shards are missing; photos that come meanwhile are tagged in the next round")
    name_failures(done.errors, done.photos, failed=done.failed)


def _round(
    job: BulkJob,
    predictor: BasePredictor,
    share: Shard,
    fetch: Callable[[Iterable[InputPhoto]], Iterator[InputPhoto]],
) -> Done:
    """Do a shard's part of one round of a job."""
    from modiste.cli.progress import counting
    from modiste.cli.workflows import show_notes

    show_notes(job.round.notes)
    with counting("tagging") as bar:
        total = job.count() // share.all
        return job.run(predictor, share, fetch=fetch, progress=lambda now, earlier: bar(now, max(total - earlier, now)))


def _fetching(*, allow_private: bool) -> Callable[[Iterable[InputPhoto]], Iterator[InputPhoto]]:
    """Fetches the photos among others that are named by URLs."""
    from modiste.fetching.config import FetchConfig
    from modiste.inputs.urls import fetched

    return partial(fetched, config=FetchConfig(allow_private=allow_private))
