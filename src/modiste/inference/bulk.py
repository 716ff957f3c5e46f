"""Bulk tagging into a folder: any number of photos, in parts that are there whole or not at all.

job.json               what is tagged by which model, in parts of what size
found-0.jsonl, ...     files of folders and patterns, as they were found at the beginning
part-000000.parquet    a row a photo, as `modiste tag -o tags.parquet` has them

A part holds the same photos whenever the job is resumed, so that each photo is tagged exactly once, however often the
job is killed and by however many processes: shard 3 of 16 has the parts 2, 18, 34, ...
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
from filelock import FileLock

from modiste.errors import RunError, UsageError
from modiste.files import WRITING, make_folder, only_process, replacing, write_text
from modiste.inference.predictor import BasePredictor
from modiste.inference.tagging import passing, tagged
from modiste.inference.writers import as_frame
from modiste.inputs.arguments import InputPhoto, Inputs, PhotoStream, grouped, is_table, named, write_found

JOB = "job.json"
_NAMED = 20  # photos that fail are named, the others counted
_STALE = 3600  # seconds: no part is being written for so long
PART = 1000  # photos: minutes of work at most, in files that are read with ease


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
    """

    photos: int
    failed: int
    parts: int
    earlier: int
    errors: tuple[str, ...]


@dataclass(frozen=True)
class BulkJob:
    """A folder that is being filled.

    Attributes:
        folder: the folder.
        stock: the photos, as they were when the job began.
        size: photos a part.
    """

    folder: Path
    stock: Inputs
    size: int

    @classmethod
    def open(
        cls,
        folder: Path,
        arguments: Sequence[str],
        model: dict[str, Any],
        *,
        image_column: str | None = None,
        root: str | None = None,
        size: int = PART,
    ) -> BulkJob:
        """Begin a job, or resume it.

        Args:
            folder: new, empty, or this very job's.
            arguments: what names the photos, as for `Inputs.of`.
            model: what tags them, as plain data that changes where predictions would.
            image_column, root: as for `Inputs.of`.
            size: photos a part; of a job that is resumed, as it was started.

        Raises:
            RunError: the folder holds something else, or was begun with other photos or another model.
            UsageError, ManifestError: as `Inputs.of`.
            StorageError: the folder can't be written.
        """
        root, arguments = root and str(Path(root).absolute()), named(arguments)
        given = {"photos": _photos(arguments), "image_column": image_column, "root": root, "model": model}
        groups = list(grouped(arguments))
        begun = (folder / JOB).is_file()  # then it knows its files, which may be gone
        stocks = {
            k: Inputs.of(group, image_column=image_column, root=root)
            for k, (table, group) in enumerate(groups)
            if table or not begun
        }
        make_folder(folder)
        if _foreign(folder):
            raise RunError.expected(f"{folder} to be a new folder or a job's", "another one", "another -o")
        with FileLock(folder / "job.lock"):  # of several shards that begin together, one writes down what there is
            if not (folder / JOB).is_file():
                for k, (table, group) in enumerate(groups):
                    if not table:
                        write_found(folder / f"found-{k}.jsonl", group)
                write_text(folder / JOB, json.dumps({**given, "size": size}, indent=1) + "\n")
        size = _same(folder, given)
        sources: list[PhotoStream] = []
        for k, (table, _) in enumerate(groups):
            sources += (stocks[k] if table else Inputs.found(folder / f"found-{k}.jsonl")).sources
        return cls(folder, Inputs(sources), size)

    def run(
        self,
        predictor: BasePredictor,
        shard: Shard = Shard(1, 1),  # noqa: B008 (frozen)
        *,
        fetch: Callable[[Iterable[InputPhoto]], Iterator[InputPhoto]],
        progress: Callable[[int, int], None] = lambda *_: None,
    ) -> Done:
        """Tag what this shard has not tagged yet.

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
            return self._run(predictor, shard, fetch, progress)

    def _run(
        self,
        predictor: BasePredictor,
        shard: Shard,
        fetch: Callable[[Iterable[InputPhoto]], Iterator[InputPhoto]],
        progress: Callable[[int, int], None],
    ) -> Done:
        photos = failed = parts = earlier = 0
        errors: list[str] = []
        for number, load in enumerate(self.stock.parts(self.size)):
            if not shard.has(number):
                continue
            path = self.folder / f"part-{number:06d}.parquet"
            if path.exists():
                frame = _errors(path)
                earlier += len(frame)
                progress(photos + len(frame) - earlier, earlier)
            else:

                def told(done: int, earlier: int = earlier) -> None:
                    progress(done, earlier)

                passed = passing(tagged(fetch(load()), predictor), told, photos - earlier)
                frame = as_frame(passed, predictor.label_set)
                with replacing(path, pl.exceptions.ComputeError) as temporary:
                    frame.write_parquet(temporary)
            photos, parts = photos + len(frame), parts + 1
            why = frame["error"].drop_nulls()
            failed += len(why)
            errors += why.head(_NAMED - len(errors)).to_list()
        return Done(photos, failed, parts, earlier, tuple(errors))

    def _remove_stale(self) -> None:
        """What processes that were killed long ago were writing; another shard's is younger."""
        for old in self.folder.glob(f"{WRITING}part-*"):
            with suppress(FileNotFoundError):  # the other shard has just finished it
                if time.time() - old.stat().st_mtime > _STALE:
                    old.unlink()


def _same(folder: Path, given: dict[str, Any]) -> int:
    """Photos a part, of a job that was begun with just this.

    Raises:
        RunError: it was begun with something else.
    """
    try:
        known = dict(json.loads((folder / JOB).read_text(encoding="utf-8")))
        size = int(known.pop("size"))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise RunError.expected(f"{folder / JOB} to tell of a job", f"'{error}'", "another -o") from error
    for key, value in given.items():
        if json.loads(json.dumps(value)) != known.get(key):
            want = f"{folder} to be resumed with the {key.replace('_', ' ')} that it was begun with"
            raise RunError.expected(want, "another", "what it was begun with, or another -o")
    return size


def _errors(path: Path) -> pl.DataFrame:
    """The column of errors of a part."""
    try:
        return pl.read_parquet(path, columns=["error"], glob=False)
    except (OSError, pl.exceptions.PolarsError) as error:
        reason = str(error).split("\n", maxsplit=1)[0]
        raise RunError.expected(f"{path} to be a part that this job wrote", f"'{reason}'", "removing it") from error


def _photos(arguments: Sequence[str]) -> list[list[Any]]:
    """What names the photos, so that a table that was changed since is noticed."""
    named: list[list[Any]] = []
    for argument in arguments:
        path = Path(argument)
        state = path.stat() if is_table(path) else None
        named.append([str(path.absolute()), *([state.st_size, state.st_mtime_ns] if state else [])])
    return named


def _foreign(folder: Path) -> bool:
    """Whether a folder holds anything but a job, or what one left that was killed before it was written down."""
    names = {path.name for path in folder.iterdir()}
    return JOB not in names and not all(name.startswith((WRITING, "found-", "job.lock")) for name in names)
