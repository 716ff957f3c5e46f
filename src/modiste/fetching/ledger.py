"""What has become of each photo of a fetch, kept in one SQLite file: a killed fetch resumes from it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from operator import attrgetter
from pathlib import Path
from typing import Any, Self

from modiste.errors import RunError
from modiste.files import make_folder, not_written


@dataclass(frozen=True, slots=True)
class FetchRecord:
    """What became of one photo.

    Attributes:
        name: of its file, without suffix.
        url: as the list names it.
        failure: the kind of failure, such as "http 404"; "" where it was fetched.
        error: one sentence; "" where it was fetched.
        http: status code of the last response; 0 where there was none.
        final_url: after redirects.
        place: the file it lies in, from the folder of the fetch.
        sha256: of the stored file, hexadecimal.
        width: pixels, upright.
        height: likewise.
        bytes: of the stored file.
    """

    name: str
    url: str
    failure: str = ""
    error: str = ""
    http: int = 0
    final_url: str = ""
    place: str = ""
    sha256: str = ""
    width: int = 0
    height: int = 0
    bytes: int = 0


_FIELDS = tuple(field.name for field in fields(FetchRecord))
_COLUMNS = ", ".join(_FIELDS)
_values = attrgetter(*_FIELDS)  # dataclasses.astuple copies every value
_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS settings (text TEXT);
CREATE TABLE IF NOT EXISTS photos ({_COLUMNS}, run INTEGER, PRIMARY KEY (name)) WITHOUT ROWID;
"""


class Ledger:
    """Outcomes by name. Only one process can have a ledger open."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.run = 1 + (connection.execute("SELECT max(run) FROM photos").fetchone()[0] or 0)

    @classmethod
    @contextmanager
    def open(cls, path: Path, settings: dict[str, Any]) -> Iterator[Self]:
        """Open or make the ledger of a fetch with these settings.

        Raises:
            RunError: another process has it open, or it was made with other settings.
            StorageError: the folder can't be written, or the disk is full.
        """
        make_folder(path.parent)
        try:
            # The loop that uses it may run in another thread, while this one waits.
            connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        except sqlite3.Error as error:
            raise not_written(path, error) from error
        try:
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")  # until closed or killed
            connection.execute("PRAGMA journal_mode = WAL")  # a commit survives kill -9 without waiting for the disk
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.executescript(_SCHEMA)
            _check_settings(connection, path, settings)
            yield cls(connection)
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                got = "another fetch that is writing there"
                raise RunError.expected(f"{path.parent} to be free", got, "waiting for it, or another -o") from error
            raise not_written(path, error) from error
        except sqlite3.DatabaseError as error:
            raise RunError.expected(f"{path} to be a fetch's ledger", f"'{error}'", "another -o") from error
        finally:
            connection.close()

    def record(self, outcomes: Iterable[FetchRecord]) -> None:
        """Write outcomes, in place of earlier ones of the same names, at once or not at all."""
        marks = ", ".join("?" * (len(_FIELDS) + 1))
        rows = [(*_values(outcome), self.run) for outcome in outcomes]
        self._execute(f"INSERT OR REPLACE INTO photos ({_COLUMNS}, run) VALUES ({marks})", rows)

    def touch(self, names: Sequence[str]) -> None:
        """Note that this run's list has these photos."""
        self._execute("UPDATE photos SET run = ? WHERE name = ?", [(self.run, name) for name in names])

    def find(self, names: Sequence[str]) -> dict[str, tuple[FetchRecord, bool]]:
        """The outcomes that are there of these names, and whether each was written or touched by this run."""
        marks = ", ".join("?" * len(names))
        query = f"SELECT {_COLUMNS}, run FROM photos WHERE name IN ({marks})"
        found = (tuple(row) for row in self._connection.execute(query, list(names)))
        return {row[0]: (FetchRecord(*row[:-1]), row[-1] == self.run) for row in found}

    def last_place(self) -> str:
        """The last file that holds fetched photos, in alphabetical order; "" where there is none."""
        return str(self._connection.execute("SELECT max(place) FROM photos").fetchone()[0] or "")

    def _execute(self, statement: str, rows: list[tuple[Any, ...]]) -> None:
        if not rows:
            return
        self._connection.execute("BEGIN")
        try:
            self._connection.executemany(statement, rows)
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")


def _check_settings(connection: sqlite3.Connection, path: Path, settings: dict[str, Any]) -> None:
    kept = connection.execute("SELECT text FROM settings").fetchone()
    if kept is None:
        connection.execute("INSERT INTO settings VALUES (?)", (json.dumps(settings),))
        return
    for key, value in json.loads(kept[0]).items():
        if settings.get(key) != value:
            raise RunError.expected(
                f"{path.parent} to be resumed with {key} {value}",
                settings.get(key),
                "the settings it was started with, or another -o",
            )
