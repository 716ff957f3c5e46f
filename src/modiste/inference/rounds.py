"""Rounds of a bulk job: begun, resumed, or planned anew from what the last one left."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
from filelock import FileLock

from modiste.errors import RunError
from modiste.files import make_folder, replacing
from modiste.inference.job_state import JobState, KnownJob, is_foreign, names_of
from modiste.inference.parts import part_path, part_round, read_part
from modiste.inference.update import AGAIN, make_plan
from modiste.inputs.arguments import (
    InputPhoto,
    Inputs,
    Kind,
    TableOptions,
    grouped,
    printable,
    refuse_missing,
    refuse_no_products,
    sources,
)
from modiste.inputs.found import read_found, write_found

PLAN_FILE = "plan.parquet"
PART = 1000  # photos: minutes of work at most, in files that are read with ease


@dataclass(frozen=True)
class Round:
    """What a job is to tag.

    Attributes:
        stock: the photos, as they were when it began.
        size: photos a part.
        number: counts from 1.
        plan: what stands in which part; None in the first round, where photos stand as they come.
        resumed: whether it was begun earlier, so that photos that came since wait for the next one.
        notes: what was left out, a sentence each.
        by_product: whether photos say which product they show, so that products are written too.
    """

    stock: Inputs
    size: int
    number: int = 1
    plan: pl.DataFrame | None = None
    resumed: bool = False
    notes: tuple[str, ...] = ()
    by_product: bool = False


class JobPhotos(NamedTuple):
    """What names the photos of a job, how its tables are read, and what standard input held."""

    arguments: Sequence[str]
    tables: TableOptions
    stdin: Sequence[InputPhoto]

    def given(self) -> dict[str, Any]:
        """What job.json keeps of it."""
        tables = self.tables
        given = {"photos": names_of(self.arguments), "image_column": tables.image_column, "root": tables.root}
        given["product_column"] = tables.product_column
        later = {"encoding": tables.encoding, "sheet": tables.sheet}
        return given | {key: value for key, value in later.items() if value is not None}

    def groups(self) -> list[_Group]:
        """The arguments by their kind."""
        return [_Group(kind, group, self.tables, self.stdin) for kind, group in grouped(self.arguments)]


def open_round(folder: Path, photos: JobPhotos, model: dict[str, Any], size: int) -> Round:
    """Begin a job, resume its round, or begin the next one; arguments and errors as of `BulkJob.open`."""
    given, groups = {**photos.given(), "model": model}, photos.groups()
    known = KnownJob.read(folder)
    if known is None:
        refuse_missing(photos.arguments)
    refuse_no_products(photos.arguments, photos.tables.product_column)
    begins = known is None or known.state.finished  # else it knows its files, which may be gone
    stocks = [group.inputs() if begins or group.kind == "table" else None for group in groups]
    make_folder(folder)
    if is_foreign(folder):
        raise RunError.expected(f"{folder} to be a new folder or a job's", "another one", "another -o")
    notes: list[str] = []
    with FileLock(folder / "job.lock"):  # of several shards that begin together, one writes down what there is
        known = KnownJob.read(folder)
        if known is not None:
            known.refuse_other(folder, given)
        resumed = known is not None and not known.state.finished
        if known is None:
            notes = [note for k, group in enumerate(groups) for note in group.write_found(folder, k, stocks[k])]
            known = KnownJob(given, size, JobState(since="nothing"))
        elif known.state.finished:
            stock = _joined([stock or group.inputs() for stock, group in zip(stocks, groups, strict=True)])
            notes = _plan_round(folder, stock, known, again=known.given["model"] != json.loads(json.dumps(model)))
            known = KnownJob(given, known.size, known.state.next())
        if not resumed:
            known.write(folder)
        plan = read_part(folder / PLAN_FILE) if known.state.round > 1 else None
    found = [
        stock if stock is not None and group.kind == "table" else read_found(folder / f"found-{k}.jsonl")
        for k, (stock, group) in enumerate(zip(stocks, groups, strict=True))
    ]
    by_product = photos.tables.product_column is not None
    return Round(_joined(found), known.size, known.state.round, plan, resumed, tuple(notes), by_product)


class _Group(NamedTuple):
    """Arguments of one kind that follow each other, and what is known of their tables."""

    kind: Kind
    arguments: list[str]
    tables: TableOptions
    stdin: Sequence[InputPhoto]

    def inputs(self) -> Inputs:
        """Look at what they name."""
        return Inputs(sources(self.kind, self.arguments, self.tables, self.stdin))

    def write_found(self, folder: Path, k: int, stock: Inputs | None) -> list[str]:
        """Write down what they name, but for tables, which are `stock` -> what was left out."""
        if self.kind == "table":
            return stock.notes() if stock is not None else []
        return write_found(folder / f"found-{k}.jsonl", self.arguments, self.stdin)


def _plan_round(folder: Path, stock: Inputs, known: KnownJob, *, again: bool) -> list[str]:
    """Write the plan of the next round -> what is to be said of it."""
    plan = make_plan(folder, stock, known.size, again=again, paths=_found_paths(folder))
    with replacing(folder / PLAN_FILE, pl.exceptions.ComputeError) as temporary:
        plan.write_parquet(temporary)
    notes, unknown = stock.notes(), int((plan["change"] == AGAIN).sum())
    if again:
        notes.append(f"Another model or other settings than last time: all {unknown:,} photos are tagged again.")
    elif unknown:
        notes.append(f"{unknown:,} photos are tagged again: it isn't known what they were last time.")
    return notes


def _found_paths(folder: Path) -> dict[str, str]:
    """Absolute paths of photos by name, where the first part doesn't say them: an earlier version wrote it."""
    first = part_path(folder, 0)
    if first.is_file() and part_round(first):
        return {}
    lists = [read_found(path) for path in sorted(folder.glob("found-*.jsonl"))]
    return {photo.id: printable(str(photo.source)) for stock in lists for photo in stock.items()}


def _joined(stocks: Sequence[Inputs]) -> Inputs:
    return Inputs([source for stock in stocks for source in stock.sources])
