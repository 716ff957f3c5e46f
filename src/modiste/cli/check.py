"""The command check."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from modiste.cli.options import (
    Delimiter,
    Encoding,
    FoldColumn,
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
from modiste.cli.output import name_failures, print_json, shown_path
from modiste.cli.workflows import show_summary
from modiste.errors import PhotoError, UsageError
from modiste.words import counted

if TYPE_CHECKING:
    from modiste.audit.check import Looks
    from modiste.audit.findings import Findings
    from modiste.config import DataConfig
    from modiste.data.manifest import Manifest


_MOST_NAMED = 20  # photos named on stderr; check.json has all


Workers = Annotated[int | None, typer.Option(min=1, help="Photos decoded concurrently. Default: one per core.")]


def check(
    manifest: Annotated[Path, typer.Argument(help="Table, folder of class folders, or list of photos and labels.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Report folder. Default: MANIFEST's name with '-check'.")
    ] = None,
    fix: Annotated[
        Path | None,
        typer.Option(help="Write a cleaned manifest: .csv, .tsv, .parquet or .jsonl. Photos stay as they are."),
    ] = None,
    write: Annotated[
        Path | None, typer.Option(help="Write what was understood, as a manifest: .csv, .tsv, .parquet or .jsonl.")
    ] = None,
    overwrite: Overwrite = False,
    min_side: Annotated[
        int | None, typer.Option(min=1, help="Photos with a shorter side, in pixels, count as tiny. Default: 64.")
    ] = None,
    workers: Workers = None,
    labels: Labels = None,
    label_set: LabelFile = None,
    delimiter: Delimiter = None,
    rename: Rename = None,
    keep_as_label: KeepAsLabel = None,
    image_column: ImageColumn = None,
    split_column: SplitColumn = None,
    group_column: GroupColumn = None,
    fold_column: FoldColumn = None,
    root: Root = None,
    encoding: Encoding = None,
    sheet: Sheet = None,
    as_json: Json = False,
) -> None:
    """Find what is wrong with the photos and labels of a manifest, before anything is trained on it.

    Finds missing and broken photos, exact and near duplicates, duplicates with different labels, photos that leak
    from train into test, rare and contradictory labels. Writes a page with thumbnails and check.json.
    A killed check resumes when the command is run again.

    Examples:

        modiste check photos.csv

        modiste check photos.csv -o reports/photos --fix clean.csv

        modiste check train-k-fold.txt --root photos --json
    """
    words = {"delimiter": delimiter, "rename": rename, "keep_as_label": keep_as_label}
    file = {"encoding": encoding, "sheet": sheet, "root": root}
    columns = {"image_column": image_column, "split_column": split_column, "group_column": group_column}
    config = data_config(labels, label_set=label_set, fold_column=fold_column, **words, **file, **columns)
    if overwrite and fix is None and write is None:
        fix_it = "--fix clean.csv, or without it"
        raise UsageError.expected("--overwrite with --fix or --write", "--overwrite alone", fix_it)
    for path in filter(None, (write, fix)):
        new_table(path, manifest, overwrite=overwrite)
    photos, folder = _read(manifest, config, write), output or report_folder(manifest)
    _answer(photos, _found(photos, folder, workers, min_side), folder, fix, as_json=as_json)


def _read(manifest: Path, config: DataConfig, understood: Path | None) -> Manifest:
    """Read the manifest, show what it was understood to be, and write that where it is asked for."""
    from modiste.data.manifest import Manifest

    photos = Manifest.read(manifest, config, strict=False)
    show_summary(photos)
    if understood is not None:
        photos.write(understood)
    return photos


def _found(photos: Manifest, folder: Path, workers: int | None, min_side: int | None) -> Findings:
    """Look at the photos, shown in the terminal."""
    from modiste.audit.findings import MIN_SIDE, audit

    return audit(photos, *look_at(photos, folder, workers), min_side=min_side or MIN_SIDE)


def _answer(photos: Manifest, findings: Findings, folder: Path, cleaned: Path | None, *, as_json: bool) -> None:
    """Write the report and the cleaned manifest, show both, and name what is broken."""
    from modiste.audit.findings import findings_to_dict
    from modiste.audit.page import write_check_page
    from modiste.audit.repair import repair, repair_to_dict
    from modiste.cli.progress import console
    from modiste.cli.tables import print_table
    from modiste.files import write_text

    found, fixed = findings_to_dict(photos, findings), None
    if cleaned is not None:
        fixed = repair(photos, findings)
        fixed.manifest.write(cleaned)
        found["fix"] = {"file": str(cleaned), **repair_to_dict(photos, fixed)}
    write_text(folder / "check.json", json.dumps(found, ensure_ascii=False, indent=1) + "\n")
    page = write_check_page(folder, photos, findings, fixed)
    if as_json:
        print_json(found)
    else:
        _print_findings(photos, findings)
        if fixed is not None:
            title = f"{cleaned}: {len(fixed.manifest):,} of {counted(len(photos), 'photo')}"
            print_table(title, ["done", "photos"], fixed.counts().items() or [("nothing to do", 0)])
    console.print(f"report: {shown_path(page)}")
    _name_broken(photos, findings)


def report_folder(manifest: Path) -> Path:
    """Where a manifest's report goes unless another folder is named: beside the caller."""
    return Path(f"{manifest.absolute().stem}-check")


def look_at(photos: Manifest, folder: Path, workers: int | None) -> Looks:
    """Make thumbnails and find near duplicates, shown in the terminal."""
    from modiste.audit.check import look
    from modiste.cli.progress import doing

    with doing() as progress:
        return look(photos, folder, workers=workers, progress=progress)


def _print_findings(photos: Manifest, findings: Findings) -> None:
    from modiste.audit.page import summary_lines
    from modiste.cli.tables import print_table, print_words

    labels = counted(len(findings.labels), "label")
    title = f"{counted(findings.photos, 'photo')}, {findings.there:,} of them on disk; {labels}"
    lines = summary_lines(photos, findings)
    rows = [(line.name, line.count, line.meaning, "\n".join(line.examples)) for line in lines if line.count]
    print_table(title, ["finding", "how many", "what", "for example"], rows)
    clear = ", ".join(line.name for line in lines if not line.count)
    if clear:
        print_words(f"none: {clear}")


def _name_broken(photos: Manifest, findings: Findings) -> None:
    """Name what is missing or can't be read, and end with exit code 1 if there is any."""
    if not findings.there and not findings.unreadable:
        got = f"none of {findings.photos:,}"
        fix = "modiste fetch again with --retry-failed" if findings.reasons else "--root with their folder"
        error = PhotoError.expected(f"photos of {photos.source} on disk", got, fix)
        typer.echo(f"modiste: {error} Only the labels were checked.", err=True)
        raise typer.Exit(1)
    paths, ids, fix = photos.frame["path"], photos.frame["id"], "--root with their folder, or --fix"
    missing = [
        findings.reasons[k]
        if k in findings.reasons
        else str(PhotoError.expected(f"'{photos.root / paths[k] if paths[k] else ids[k]}' to be a file", "none", fix))
        for k in findings.missing
    ]
    name_failures([*missing, *findings.unreadable.values()], findings.photos, most=_MOST_NAMED)
