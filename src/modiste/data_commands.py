"""The verbs about manifests: check, split; each a short function.

What a verb needs is imported when it runs, so that `--help` is quick.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from modiste.answers import name_failures, print_json
from modiste.errors import PhotoError, UsageError
from modiste.options import (
    Delimiter,
    FoldColumn,
    GroupColumn,
    ImageColumn,
    Json,
    LabelFile,
    Labels,
    Root,
    SplitColumn,
    data_config,
    new_table,
)

if TYPE_CHECKING:
    from modiste.audit import Findings
    from modiste.fingerprints import Fingerprints
    from modiste.manifest import Manifest
    from modiste.neighbours import Alike

_MOST_NAMED = 20  # photos named on stderr; check.json has all
Stratify = Annotated[
    list[str] | None, typer.Option(help="A column whose values are to be spread evenly beside the labels.")
]
NearDuplicates = Annotated[
    bool, typer.Option("--near-duplicates/--no-near-duplicates", help="Keep photos that look alike together.")
]
Checked = Annotated[
    Path | None,
    typer.Option("--check", help="Report folder of `modiste check`, for what it kept of photos."),
]
Workers = Annotated[int | None, typer.Option(min=1, help="Photos decoded at once. Default: one a core.")]


def check(
    manifest: Annotated[Path, typer.Argument(help="Table, folder of class folders, or list of photos and labels.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Report folder. Default: MANIFEST's name with '-check'.")
    ] = None,
    fix: Annotated[
        Path | None, typer.Option(help="Write a cleaned manifest: .csv, .tsv, .parquet or .jsonl. No photo is touched.")
    ] = None,
    min_side: Annotated[
        int | None, typer.Option(min=1, help="Pixels; a photo with a shorter side is tiny. Default: 64.")
    ] = None,
    workers: Workers = None,
    labels: Labels = None,
    label_set: LabelFile = None,
    delimiter: Delimiter = None,
    image_column: ImageColumn = None,
    split_column: SplitColumn = None,
    group_column: GroupColumn = None,
    fold_column: FoldColumn = None,
    root: Root = None,
    as_json: Json = False,
) -> None:
    """Find what is wrong with the photos and labels of a manifest, before anything is trained on it.

    Missing and broken photos, copies and near copies, the same photo with other labels, photos that leak
    from train into test, rare and contradictory labels. Writes a page with thumbnails and check.json.
    A killed check goes on where it stopped.

    Examples:

        modiste check photos.csv

        modiste check photos.csv -o reports/photos --fix clean.csv

        modiste check train-k-fold.txt --root photos --json
    """
    from modiste.audit import MIN_SIDE, audit
    from modiste.manifest import Manifest

    config = data_config(
        labels,
        label_set=label_set,
        delimiter=delimiter,
        image_column=image_column,
        split_column=split_column,
        group_column=group_column,
        fold_column=fold_column,
        root=root,
    )
    cleaned = None if fix is None else new_table(fix)
    photos = Manifest.read(manifest, config, strict=False)
    folder = output or _report_folder(manifest)
    findings = audit(photos, *_look(photos, folder, workers), min_side=min_side or MIN_SIDE)
    _answer(photos, findings, folder, cleaned, as_json=as_json)


def split(
    manifest: Annotated[Path, typer.Argument(help="Table, folder of class folders, or list of photos and labels.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Manifest to write: .csv, .tsv, .parquet, .jsonl.")],
    folds: Annotated[int | None, typer.Option(help="Number this many folds instead; test photos stay out.")] = None,
    val: Annotated[float | None, typer.Option(min=0, max=1, help="Share of the photos. Default: 0.1.")] = None,
    test: Annotated[float | None, typer.Option(min=0, max=1, help="Share of the photos. Default: 0.1.")] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same split.")] = 0,
    stratify: Stratify = None,
    near_duplicates: NearDuplicates = True,
    checked: Checked = None,
    workers: Workers = None,
    labels: Labels = None,
    label_set: LabelFile = None,
    delimiter: Delimiter = None,
    image_column: ImageColumn = None,
    split_column: SplitColumn = None,
    group_column: GroupColumn = None,
    root: Root = None,
    as_json: Json = False,
) -> None:
    """Deal photos into train, val and test, or into folds, with equal shares of every label.

    Photos of one group, and photos that look alike, are never torn apart; the column `group` of the written
    manifest says what was kept together. Splits that MANIFEST names are made anew; with --folds its test and
    unused photos stay what they are, and only the others are numbered.

    Examples:

        modiste split photos.csv -o split.csv

        modiste split photos.csv -o split.csv --val 0.1 --test 0.2 --group-column product

        modiste split photos.csv -o folds.csv --folds 5 --stratify season
    """
    from modiste.manifest import Manifest

    if folds is not None and (val is not None or test is not None):
        raise UsageError.expected("--folds, or --val and --test", "both", "one of the two")
    config = data_config(
        labels,
        label_set=label_set,
        delimiter=delimiter,
        image_column=image_column,
        split_column=split_column,
        group_column=group_column,
        root=root,
    )
    new_table(output)
    photos = Manifest.read(manifest, config).without("fold")
    together = 0
    if near_duplicates:
        photos, together = _together(photos, checked or _report_folder(manifest), workers)
    if folds is not None:
        dealt = photos.with_folds(folds, seed, stratify or ())
    else:
        val = config.val_fraction if val is None else val
        test = config.test_fraction if test is None else test
        dealt = photos.without("split").with_split(val, test, seed, stratify or ())
    dealt.write(output)
    _print_evenness(output, dealt.without("split") if folds else dealt, together, seed, as_json=as_json)


def _answer(photos: Manifest, findings: Findings, folder: Path, cleaned: Path | None, *, as_json: bool) -> None:
    """Write the report and the cleaned manifest, show both, and name what is broken."""
    from modiste.audit import to_dict
    from modiste.audit_page import write_page
    from modiste.repair import repair
    from modiste.repair import to_dict as repair_dict
    from modiste.storage import write_text
    from modiste.terminal import console, print_table

    found, fixed = to_dict(photos, findings), None
    if cleaned is not None:
        fixed = repair(photos, findings)
        fixed.manifest.write(cleaned)
        found["fix"] = {"file": str(cleaned), **repair_dict(photos, fixed)}
    write_text(folder / "check.json", json.dumps(found, ensure_ascii=False, indent=1) + "\n")
    page = write_page(folder, photos, findings, fixed)
    if as_json:
        print_json(found)
    else:
        _print_findings(photos, findings)
        if fixed is not None:
            title = f"{cleaned}: {len(fixed.manifest):,} of {len(photos):,} photos"
            print_table(title, ["done", "photos"], fixed.counts().items() or [("nothing to do", 0)])
    console.print(f"report: {page}")
    _name_broken(photos, findings)


def _together(photos: Manifest, folder: Path, workers: int | None) -> tuple[Manifest, int]:
    """The photos with groups that keep look-alikes together, and how many clusters of those there are."""
    from modiste.evenness import keep_together
    from modiste.terminal import console

    prints, alike = _look(photos, folder, workers)
    if not prints.there.any():
        console.print("no photo is there, so near duplicates were not looked for")
    several = alike.any != range(len(photos))  # a cluster is numbered by its first photo
    return keep_together(photos, alike.any), len(set(alike.any[several].tolist()))


def _print_evenness(file: Path, photos: Manifest, together: int, seed: int, *, as_json: bool) -> None:
    """Show how even the written split is."""
    from modiste.evenness import evenness
    from modiste.terminal import console, print_table

    found = evenness(photos, photos.parts, seed)
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
        console.print(f"{together} clusters of photos that look alike were kept together")


def _report_folder(manifest: Path) -> Path:
    return Path(f"{manifest.absolute().stem}-check")


def _look(photos: Manifest, folder: Path, workers: int | None) -> tuple[Fingerprints, Alike]:
    """Fingerprint the photos and find those that look alike, shown in the terminal."""
    from modiste.fingerprints import fingerprint
    from modiste.neighbours import find_alike
    from modiste.terminal import counting

    paths = [photos.photo(k) if path else None for k, path in enumerate(photos.frame["path"])]
    threads = workers or os.cpu_count() or 1
    with counting("reading photos") as progress:
        prints = fingerprint(paths, folder, workers=threads, progress=progress)
    with counting("comparing") as progress:
        return prints, find_alike(prints, paths, folder, workers=threads, progress=progress)


def _print_findings(photos: Manifest, findings: Findings) -> None:
    from modiste.audit_page import summary
    from modiste.terminal import print_table, print_words

    title = f"{findings.photos:,} photos, {findings.there:,} of them on disk; {len(findings.labels)} labels"
    lines = summary(photos, findings)
    rows = [(line.name, line.count, line.meaning, "\n".join(line.examples)) for line in lines if line.count]
    print_table(title, ["finding", "how many", "what", "for example"], rows)
    clear = ", ".join(line.name for line in lines if not line.count)
    if clear:
        print_words(f"none: {clear}")


def _name_broken(photos: Manifest, findings: Findings) -> None:
    """Name what is missing or can't be read, and end with exit code 1 if there is any."""
    if not findings.there and not findings.unreadable:
        got = f"none of {findings.photos:,}"
        error = PhotoError.expected(f"photos of {photos.source} on disk", got, "--root with their folder")
        typer.echo(f"modiste: {error} Only the labels were checked.", err=True)
        raise typer.Exit(1)
    paths, ids, fix = photos.frame["path"], photos.frame["id"], "--root with their folder, or --fix"
    missing = [
        str(PhotoError.expected(f"'{photos.root / paths[k] if paths[k] else ids[k]}' to be a file", "none", fix))
        for k in findings.missing
    ]
    name_failures([*missing, *findings.unreadable.values()], findings.photos, most=_MOST_NAMED)
