"""What has changed since photos were tagged: which to tag again, which have gone, and what became of their labels.

A photo stays in its part. New ones go where there is room, so that a part is rewritten only where something changed.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import count, groupby, islice
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from modiste.errors import PhotoError, RunError
from modiste.files import replacing
from modiste.inference.parts import SEEN, content_key, look, newest_proof, part_numbers, part_path, read_part, read_seen
from modiste.inputs.arguments import InputPhoto, Inputs, PhotoStream, Url, batches

NEW, CHANGED, GONE, AGAIN = "new", "changed photo", "gone", "other labels"
_CHUNK = 10_000  # photos that are listed as Python objects at a time
_PLACE = {"path": pl.Binary(), "url": pl.String(), "error": pl.String(), "source": pl.Int64(), "row": pl.Int64()}
_NOW = pl.Schema({"photo": pl.String(), **SEEN, **_PLACE})
_TAGGED = pl.Schema(
    {"photo": pl.String(), "before": pl.List(pl.String()), **SEEN, "part": pl.Int64(), "old_row": pl.Int64()}
)
PLAN = pl.Schema(
    {
        "part": pl.Int64(),
        **_NOW,
        "change": pl.String(),  # AGAIN: told only if its labels change; null: kept as it is
        "old_row": pl.Int64(),  # where its part has it; null: new
        "rewrite": pl.Boolean(),  # whether its part has to be written
        "before": pl.List(pl.String()),
    }
)


class Change(NamedTuple):
    """A row of changes.csv: a photo, what changed, its labels before and after joined by "|", and its error now."""

    photo: str
    change: str
    before: str
    after: str
    error: str


def make_plan(folder: Path, stock: Inputs, size: int, *, again: bool, paths: Mapping[str, str]) -> pl.DataFrame:
    """Compare photos with the parts that a finished job has of them.

    Args:
        folder: of the job.
        stock: the photos as they are now.
        size: photos a part.
        again: whether all photos are tagged again, as by another model.
        paths: absolute paths of photos by name, for parts that don't say what their photos were.

    Returns:
        A row a photo, columns PLAN: as they are to stand in the parts, then those that have gone.

    Raises:
        RunError: a part can't be read.
    """
    now, old = _numbered(_listed(stock)), _numbered(_tagged(folder, paths))
    both = now.join(old, on=["identity", "n"], how="left", suffix="_old", maintain_order="left")
    plan = _placed(_compared(both, again=again), size)
    gone = old.join(now, on=["identity", "n"], how="anti").with_columns(change=pl.lit(GONE), rewrite=True)
    plan = pl.concat([plan, gone], how="diagonal").select(PLAN.names()).cast(PLAN)
    _refuse_loss(folder, plan)
    plan = plan.sort("part", "old_row", nulls_last=True, maintain_order=True)  # new photos stay in their order
    written = plan.filter(pl.col("rewrite"))["part"].unique()
    return plan.with_columns(rewrite=pl.col("part").is_in(written.implode()))


def staying(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows of a plan whose photos are still there."""
    return rows.filter(pl.col("change").is_null() | (pl.col("change") != GONE))


def _refuse_loss(folder: Path, plan: pl.DataFrame) -> None:
    """Refuse a round in which no photo of the last one is left: a disk that isn't mounted, a table that is empty."""
    here = plan.filter(pl.col("change").is_null() | ~pl.col("change").is_in([GONE, NEW]))
    before = len(here) + int((plan["change"] == GONE).sum())
    unread = len(here) > 0 and bool((here["size"].is_null() & (here["change"] == CHANGED)).fill_null(False).all())
    if before and (unread or not len(here)):
        want = f"the photos of {folder} to be where they were last time"
        raise RunError.expected(want, f"none of {before:,}", "again once they are there, or another -o")


def items_of(stock: Inputs, rows: Sequence[dict[str, Any]]) -> Iterator[InputPhoto]:
    """The photos of some rows of a plan."""
    for (source, _), run in groupby(zip(rows, count(), strict=False), lambda pair: (pair[0]["source"], _start(*pair))):
        group = [row for row, _ in run]
        if source is None:
            yield from map(_item, group)
        else:
            load = stock.sources[source].rows
            assert load is not None
            yield from load(group[0]["row"], len(group))


def write_changes(path: Path, folder: Path, plan: pl.DataFrame, earlier: Sequence[Change] | None) -> int:
    """Write what a finished round changed, a row a photo: photo, change, labels before and after, error.

    Args:
        path: the table.
        folder: of the job.
        plan: of the round.
        earlier: the table of the round before, where nobody could see it yet: both are told as one.

    Returns:
        How many rows there are.
    """
    changed = _changes(folder, plan)
    return _write(path, changed if earlier is None else _joined(earlier, changed))


def write_all_new(path: Path, folder: Path) -> int:
    """As `write_changes`, of a first round: all photos are new."""
    parts = (read_part(part_path(folder, number), ["photo", "labels", "error"]) for number in part_numbers(folder))
    return _write(
        path,
        (Change(id_, NEW, "", "|".join(labels), error or "") for part in parts for id_, labels, error in part.rows()),
    )


def read_changes(path: Path) -> list[Change]:
    """What `write_changes` wrote."""
    with path.open(encoding="utf-8", newline="") as file:
        return [Change(*row) for row in islice(csv.reader(file), 1, None)]


def _write(path: Path, rows: Iterable[Change]) -> int:
    written = 0
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(Change._fields)
        for row in rows:
            out.writerow(row)
            written += 1
    return written


def _changes(folder: Path, plan: pl.DataFrame) -> Iterator[Change]:
    photo, gone = pl.struct("identity", "key"), pl.col("change").eq_missing(GONE)
    there = staying(plan).select(photo).to_series()
    plan = plan.filter(~gone | ~photo.is_in(there.implode()))  # an earlier version tagged a photo once a row
    for (number,), rows in plan.filter(pl.col("rewrite")).group_by("part", maintain_order=True):
        stays = staying(rows)
        part = read_part(part_path(folder, int(number)), ["photo", "labels", "error"])  # type: ignore[call-overload]
        for (change, before), (id_, labels, error) in zip(
            stays.select("change", "before").iter_rows(), part.iter_rows(), strict=True
        ):
            if change is not None and (change != AGAIN or (before or []) != labels):
                yield Change(id_, change, "|".join(before or []), "|".join(labels), error or "")
        for id_, before in rows.filter(gone).select("photo", "before").iter_rows():
            yield Change(id_, GONE, "|".join(before or []), "", "")


def _joined(earlier: Sequence[Change], later: Iterable[Change]) -> list[Change]:
    """Two tables of changes as one: from before the first to after the second."""
    found = {row.photo: row for row in earlier}
    for row in later:
        first = found.pop(row.photo, None)
        if first is None:
            found[row.photo] = row
        elif first.change == NEW and row.change != GONE:
            found[row.photo] = row._replace(change=NEW, before="")
        elif first.change != NEW:
            both = {first.change, row.change}
            change = GONE if row.change == GONE else AGAIN if both == {AGAIN} else CHANGED
            found[row.photo] = row._replace(change=change, before=first.before)
    return list(found.values())


def _listed(stock: Inputs) -> pl.DataFrame:
    """All photos as they are now."""
    rows = (row for number, source in enumerate(stock.sources) for row in _rows(number, source))
    chunks = [pl.DataFrame(chunk, schema=_NOW, orient="row") for chunk in batches(rows, _CHUNK)]
    return pl.concat(chunks) if chunks else pl.DataFrame(schema=_NOW)


def _rows(number: int, source: PhotoStream) -> Iterator[dict[str, Any]]:
    place = dict.fromkeys(_PLACE)
    for row, photo in enumerate(item for load in source.parts(1000) for item in load()):
        seen = look(photo, by_path=source.by_path)
        match photo.source:
            case Path() as path:
                where: dict[str, Any] = {"path": os.fsencode(path.absolute())}
            case Url(address):
                where = {"url": address}
            case PhotoError() as error:
                where = {"error": str(error)}
            case _:
                where = {"source": number, "row": row}
        yield {"photo": photo.id, **seen._asdict(), **place, **where}


def _tagged(folder: Path, paths: Mapping[str, str]) -> pl.DataFrame:
    """All photos as the parts have them."""
    parts = []
    for number in part_numbers(folder):
        path = part_path(folder, number)
        rows, seen = read_part(path, ["photo", "labels"]), read_seen(path)
        if seen is None or len(seen) != len(rows):
            names = [paths.get(name, name) for name in rows["photo"]]
            seen = pl.DataFrame({"identity": names}, schema_overrides=SEEN).with_columns(
                pl.lit(None, dtype).alias(name) for name, dtype in SEEN.items() if name != "identity"
            )
        place = (pl.lit(number, pl.Int64).alias("part"), pl.int_range(len(rows)).alias("old_row"))
        parts.append(pl.concat([rows.rename({"labels": "before"}), seen], how="horizontal").with_columns(place))
    return pl.concat(parts) if parts else pl.DataFrame(schema=_TAGGED)


def _numbered(photos: pl.DataFrame) -> pl.DataFrame:
    """With `n`: the same photo may be named twice."""
    return photos.with_columns(n=pl.int_range(pl.len()).over("identity"))


def _compared(both: pl.DataFrame, *, again: bool) -> pl.DataFrame:
    """What has changed of the photos of today, beside what they were, if they were there."""
    known, col = pl.col("key_old").is_not_null(), pl.col
    same_size = known & col("path").is_not_null() & col("size").eq(col("size_old"))
    both = both.with_columns(
        same_size=same_size.fill_null(value=False), same_time=col("mtime").eq_missing(col("mtime_old"))
    )
    doubtful = both["same_size"] & ~both["same_time"]
    read = [content_key(Path(os.fsdecode(path))) for path in both["path"].filter(doubtful)]
    hashed = pl.Series([None], dtype=pl.String).new_from_index(0, len(both)).scatter(doubtful.arg_true(), read)
    both = both.with_columns(
        pl.when("same_size")
        .then(pl.when("same_time").then("key_old").otherwise(hashed))  # of one size and time: not read again
        .otherwise("key")
        .alias("key"),
        pl.when(col("same_time") | (col("mtime") < newest_proof())).then("mtime").alias("mtime"),
    )
    same = col("key").eq_missing(col("key_old"))
    change = (
        pl.when(col("old_row").is_null())
        .then(pl.lit(NEW))
        .when(~known | (same & again))
        .then(pl.lit(AGAIN))
        .when(~same)
        .then(pl.lit(CHANGED))
    )
    stale = col("size").ne_missing(col("size_old")) | col("mtime").ne_missing(col("mtime_old"))  # learns the new time
    return both.with_columns(change=change, rewrite=change.is_not_null() | stale)


def _placed(photos: pl.DataFrame, size: int) -> pl.DataFrame:
    """Give each new photo a part: the first that has room."""
    filled = dict(photos.drop_nulls("part").group_by("part").len().iter_rows())
    rooms = (number for number in count() for _ in range(size - filled.get(number, 0)))
    new = photos["part"].is_null()
    places = pl.Series(list(islice(rooms, int(new.sum()))), dtype=pl.Int64)
    return photos.with_columns(part=photos["part"].scatter(new.arg_true(), places))


def _start(row: dict[str, Any], position: int) -> int:
    """Equal for rows that follow each other in a table."""
    return -1 if row["source"] is None else int(row["row"]) - position


def _item(row: dict[str, Any]) -> InputPhoto:
    if row["path"] is not None:
        return InputPhoto(row["photo"], Path(os.fsdecode(row["path"])))
    return InputPhoto(row["photo"], PhotoError(row["error"]) if row["url"] is None else Url(row["url"]))
