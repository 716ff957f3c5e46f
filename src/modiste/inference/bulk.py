"""Bulk tagging into a folder: any number of photos, in parts that are there whole or not at all.

job.json               what is tagged by which model, in parts of what size, and how far it is
found-0.jsonl, ...     files of folders and patterns, as they were found at the beginning
plan.parquet           from the second round on: which photo stands in which part, and what has changed
part-000000.parquet    a row a photo, as `modiste tag -o tags.parquet` has them
changes.csv            what the last finished round changed
products.parquet       where products were asked for, a row a product, as of the last finished round

A job that is finished begins a new round when it is run again: what is new or has changed is tagged, and what has gone
is dropped. Within a round nothing moves, however often the job is killed and by however many processes: shard 3 of 16
has the parts 2, 18, 34, ...
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
from filelock import FileLock

from modiste.errors import UsageError
from modiste.files import WRITING, only_process
from modiste.inference.job_products import PRODUCTS, write_job_products
from modiste.inference.job_state import JobState, KnownJob
from modiste.inference.old_parts import complete_parts
from modiste.inference.parts import SEEN, Seen, look, part_path, part_round, read_part, settle, write_part
from modiste.inference.predictor import BasePredictor
from modiste.inference.rounds import PART, PLAN_FILE, JobPhotos, Round, open_round
from modiste.inference.tagging import passing, tagged
from modiste.inference.update import items_of, read_changes, staying, write_all_new, write_changes
from modiste.inference.writers import Tagged, as_frame
from modiste.inputs.arguments import InputPhoto, LoadPart, TableOptions, named

CHANGES = "changes.csv"
_NAMED = 20  # photos that fail are named, the others counted
_STALE = 3600  # seconds: no part is being written for so long

Fetch = Callable[[Iterable[InputPhoto]], Iterator[InputPhoto]]
Told = Callable[[int, int], None]


class Shard(NamedTuple):
    """One of several processes that share a job: `number` from 1 to `all`."""

    number: int
    all: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read "3/16".

        Raises:
            UsageError: it is no such thing.
        """
        number, _, count = text.partition("/")
        if number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count):
            return cls(int(number), int(count))
        raise UsageError.expected("--shard to be NUMBER/COUNT, from 1/COUNT to COUNT/COUNT", f"'{text}'", "--shard 1/4")

    def has(self, part: int) -> bool:
        """Whether a part, counted from 0, is this shard's."""
        return part % self.all == self.number - 1


@dataclass(frozen=True)
class Done:
    """What a shard has tagged, in this run and in earlier ones.

    Attributes:
        photos: how many.
        failed: how many of them could not be read.
        parts: files they are in.
        earlier: photos that needed nothing now.
        errors: why the first of them could not be read; the parts have all.
        changes: rows of changes.csv; None while other shards are missing, or where there is no such table.
        products: rows of products.parquet; likewise.
    """

    photos: int
    failed: int
    parts: int
    earlier: int
    errors: tuple[str, ...]
    changes: int | None = None
    products: int | None = None


class _Work(NamedTuple):
    """A part of the round: photos that are to be tagged, and the rows of the plan that it has, if there is one."""

    number: int
    load: Callable[[], Iterator[tuple[InputPhoto, Seen]]]
    rows: pl.DataFrame | None = None


@dataclass(frozen=True)
class BulkJob:
    """A folder that is being filled.

    Attributes:
        folder: the folder.
        round: what it is to tag now.
    """

    folder: Path
    round: Round

    @classmethod
    def open(
        cls,
        folder: Path,
        arguments: Sequence[str],
        model: dict[str, Any],
        *,
        image_column: str | None = None,
        root: str | None = None,
        encoding: str | None = None,
        sheet: str | None = None,
        product_column: str | None = None,
        size: int = PART,
        stdin: Sequence[InputPhoto] = (),
    ) -> BulkJob:
        """Begin a job, resume it, or begin its next round.

        Args:
            folder: new, empty, or this very job's.
            arguments: what names the photos, as for `Inputs.of`.
            model: what tags them, as plain data that changes where predictions would.
            image_column, root, encoding, sheet, product_column, stdin: as for `Inputs.of`.
            size: photos a part; of a job that is there, as it was started.

        Raises:
            RunError: the folder holds something else, or was begun with other photos, or its round with another model.
            UsageError, ManifestError: as `Inputs.of`.
            StorageError: the folder can't be written.
        """
        tables = TableOptions(image_column, root and str(Path(root).absolute()), encoding, sheet, product_column)
        return cls(folder, open_round(folder, JobPhotos(named(arguments), tables, stdin), model, size))

    def run(
        self,
        predictor: BasePredictor,
        shard: Shard = Shard(1, 1),  # noqa: B008 (frozen)
        *,
        fetch: Fetch,
        progress: Told = lambda *_: None,
    ) -> Done:
        """Tag what this shard has not tagged yet, and finish the round where it is the last one.

        Args:
            predictor: what tags.
            shard: which parts to do.
            fetch: gives Items whose Urls are fetched.
            progress: told (photos tagged now, photos that earlier runs tagged).

        Raises:
            RunError: another process is at the same shard.
            StorageError: the folder can't be written.
        """
        share = f"{shard.number}/{shard.all}"
        lock = self.folder / f"shard-{share.replace('/', '-of-')}.lock"
        with only_process(lock, f"shard {share} of {self.folder} to be tagged", "another --shard"):
            self._remove_stale()
            complete_parts(self.folder, shard.has, predictor)
            done = self._run(predictor, shard, fetch, progress)
            return self._finish(share, done, predictor)

    def count(self) -> int:
        """How many photos there are; of text tables, how many lines."""
        plan = self.round.plan
        return self.round.stock.count() if plan is None else len(staying(plan))

    def _run(self, predictor: BasePredictor, shard: Shard, fetch: Fetch, progress: Told) -> Done:
        photos = failed = parts = earlier = 0
        errors: list[str] = []
        for work in self._works():
            if not shard.has(work.number):
                continue
            path = part_path(self.folder, work.number)
            if self._is_done(work):
                why = read_part(path, ["error"])["error"]
                earlier += len(why)
                progress(photos + len(why) - earlier, earlier)
            else:
                told = partial(_told, progress, photos - earlier, earlier)
                frame, kept = self._tag(work, predictor, fetch, told)
                earlier += kept
                why = frame["error"]
            photos, parts = photos + len(why), parts + 1
            why = why.drop_nulls()
            failed += len(why)
            errors += why.head(_NAMED - len(errors)).to_list()
        return Done(photos, failed, parts, earlier, tuple(errors))

    def _tag(
        self, work: _Work, predictor: BasePredictor, fetch: Fetch, told: Callable[[int], None]
    ) -> tuple[pl.DataFrame, int]:
        """Write a part, and return its rows and how many of them were there."""
        path = part_path(self.folder, work.number)
        looked: deque[tuple[InputPhoto, Seen]] = deque()
        seen: list[Seen] = []

        def watched() -> Iterator[InputPhoto]:
            for photo, state in work.load():
                looked.append((photo, state))
                yield photo

        def settled() -> Iterator[Tagged]:
            for photo in passing(tagged(fetch(watched()), predictor), told):
                original, state = looked.popleft()
                seen.append(settle(state, original, failed=photo.prediction.error is not None))
                yield photo

        frame = as_frame(settled(), predictor.label_set)
        states = pl.DataFrame(seen, schema=SEEN, orient="row")
        kept = 0
        if work.rows is not None:
            stays = staying(work.rows)
            old = stays.filter(pl.col("change").is_null())
            kept = len(old)
            if kept:
                places = pl.concat(
                    [
                        stays.with_row_index("at").filter(pl.col("change").is_null() == there)["at"]
                        for there in (True, False)
                    ]
                )
                order = places.arg_sort()
                frame = pl.concat([read_part(path)[old["old_row"]], frame])[order]
                states = pl.concat([old.select(SEEN.names()), states])[order]
        write_part(path, frame, states, self.round.number)
        return frame, kept

    def _works(self) -> Iterator[_Work]:
        """All parts of the round."""
        if self.round.plan is not None:
            for (number,), rows in self.round.plan.group_by("part", maintain_order=True):
                yield _Work(int(number), partial(self._planned, staying(rows)), rows)  # type: ignore[call-overload]
            return
        numbers = count()
        for source in self.round.stock.sources:
            for load in source.parts(self.round.size):
                yield _Work(next(numbers), partial(_looked, load, by_path=source.by_path))

    def _planned(self, rows: pl.DataFrame) -> Iterator[tuple[InputPhoto, Seen]]:
        """The photos of a part that are to be tagged."""
        wanted = rows.filter(pl.col("change").is_not_null()).to_dicts()
        for photo, row in zip(items_of(self.round.stock, wanted), wanted, strict=True):
            yield photo, look(photo, by_path=False)._replace(identity=row["identity"])

    def _is_done(self, work: _Work) -> bool:
        """Whether a part needs nothing in this round."""
        path = part_path(self.folder, work.number)
        if work.rows is None or not path.is_file():
            return path.is_file()
        return not work.rows["rewrite"][0] or part_round(path) == self.round.number

    def _finish(self, share: str, done: Done, predictor: BasePredictor) -> Done:
        """Note that a shard is done; where it is the last one, write what changed, and products."""
        with FileLock(self.folder / "job.lock"):
            known = KnownJob.read(self.folder)
            if known is None or known.state.round != self.round.number or known.state.finished:
                return done
            state = replace(known.state, shards=tuple(sorted({*known.state.shards, share})))
            if state.covered():
                done = replace(done, changes=self._write_changes(state), products=self._write_products(predictor))
                state = replace(state, finished=True, unseen=self.round.resumed and share == "1/1")
            replace(known, state=state).write(self.folder)
            if state.finished:
                (self.folder / PLAN_FILE).unlink(missing_ok=True)
            return done

    def _write_changes(self, state: JobState) -> int | None:
        path = self.folder / CHANGES
        if state.since == "nothing":
            return write_all_new(path, self.folder)
        if self.round.plan is None:
            return None
        earlier = read_changes(path) if state.since == "both" and path.is_file() else None
        return write_changes(path, self.folder, self.round.plan, earlier)

    def _write_products(self, predictor: BasePredictor) -> int | None:
        if not self.round.by_product:
            (self.folder / PRODUCTS).unlink(missing_ok=True)  # of a round that was asked for them
            return None
        return write_job_products(self.folder, self.round.stock, predictor)

    def _remove_stale(self) -> None:
        """What processes that were killed long ago were writing; another shard's is younger."""
        for old in self.folder.glob(f"{WRITING}part-*"):
            with suppress(FileNotFoundError):  # the other shard has just finished it
                if time.time() - old.stat().st_mtime > _STALE:
                    old.unlink()


def _looked(load: LoadPart, *, by_path: bool) -> Iterator[tuple[InputPhoto, Seen]]:
    yield from ((photo, look(photo, by_path=by_path)) for photo in load())


def _told(progress: Told, before: int, earlier: int, done: int) -> None:
    progress(before + done, earlier)
