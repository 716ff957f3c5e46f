"""job.json: what a bulk job tags by which model, in parts of what size, and how far it is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from modiste.data.cells import REMOTE
from modiste.errors import RunError
from modiste.files import WRITING, write_text
from modiste.inputs.arguments import STDIN, is_table

JOB = "job.json"


@dataclass(frozen=True)
class JobState:
    """How far a job is.

    Attributes:
        round: counts from 1: each time that the job is run after it was finished, a new one begins.
        finished: whether all shards are done with it.
        shards: those that are done with it, as "3/16".
        since: what its changes are compared with: "nothing" (all photos are new), "round" (the round before), "both"
            (what the round before had been compared with), or "" where they aren't known.
        unseen: whether it was finished by a command that goes on with the next one, which tells its changes too.
    """

    round: int = 1
    finished: bool = False
    shards: tuple[str, ...] = ()
    since: str = ""
    unseen: bool = False

    def next(self) -> JobState:
        """The round after this one."""
        since = {"nothing": "nothing", "": "round"}.get(self.since, "both") if self.unseen else "round"
        return JobState(self.round + 1, since=since)

    def covered(self) -> bool:
        """Whether the shards that are done are all of some count."""
        counts = {int(share.partition("/")[2]) for share in self.shards}
        return any(all(f"{k}/{count}" in self.shards for k in range(1, count + 1)) for count in counts)


@dataclass(frozen=True)
class KnownJob:
    """What job.json says.

    Attributes:
        given: what was tagged, and how, as plain data.
        size: photos a part.
        state: how far it is; of a job that an earlier version began, round 1.
    """

    given: dict[str, Any]
    size: int
    state: JobState

    @classmethod
    def read(cls, folder: Path) -> KnownJob | None:
        """The job in a folder, or None where there is none yet.

        Raises:
            RunError: job.json can't be read.
        """
        path = folder / JOB
        if not path.is_file():
            return None
        try:
            said = dict(json.loads(path.read_text(encoding="utf-8")))
            size = int(said.pop("size"))
            state = {field.name: said.pop(field.name) for field in fields(JobState) if field.name in said}
            return cls(said, size, JobState(**{**state, "shards": tuple(state.get("shards", ()))}))
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise RunError.expected(f"{path} to tell of a job", f"'{error}'", "another -o") from error

    def write(self, folder: Path) -> None:
        """Write job.json."""
        said = {**self.given, "size": self.size, **asdict(self.state)}
        write_text(folder / JOB, json.dumps(said, indent=1) + "\n")

    def refuse_other(self, folder: Path, given: dict[str, Any]) -> None:
        """Refuse to go on with something else; once finished, tables, the model and the column of products may differ.

        Raises:
            RunError: it was begun with something else.
        """
        for key, value in given.items():
            value, known = json.loads(json.dumps(value)), self.given.get(key)  # noqa: PLW2901
            if self.state.finished and key in ("model", "product_column"):
                continue
            if self.state.finished and key == "photos" and isinstance(known, list):
                value, known = [one[:1] for one in value], [one[:1] for one in known]  # noqa: PLW2901
            if value != known:
                what = key.replace("_", " ")
                want = f"{folder} to be resumed with the {what} that it was begun with"
                unfinished = "" if self.state.finished or key not in ("model", "photos") else ", to finish it first"
                raise RunError.expected(want, "another", f"what it was begun with{unfinished}, or another -o")


def names_of(arguments: Sequence[str]) -> list[list[Any]]:
    """What names the photos, so that a table that was changed since is noticed."""
    named: list[list[Any]] = []
    for argument in arguments:
        path = Path(argument)
        state = path.stat() if is_table(path) else None
        name = argument if argument == STDIN or REMOTE.match(argument) else str(path.absolute())
        named.append([name, *([state.st_size, state.st_mtime_ns] if state else [])])
    return named


def is_foreign(folder: Path) -> bool:
    """Whether a folder holds anything but a job, or what one left that was killed before it was written down."""
    names = {path.name for path in folder.iterdir()}
    return JOB not in names and not all(name.startswith((WRITING, "found-", "job.lock")) for name in names)
