"""Fetch photos: a list of URLs in, verified photos and a manifest out.

One loop asks the servers; threads decode, shrink and write. A photo's row in the ledger is written once its
file is complete, so that a fetch that is killed at any moment resumes with what is missing.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from modiste.data.table import empty
from modiste.errors import ManifestError, PhotoError, UsageError
from modiste.fetching.config import OPTED_OUT, TOO_LARGE, FetchConfig
from modiste.fetching.download import Body, Failure, check_url, download, pause, sentence, session
from modiste.fetching.hosts import Hosts
from modiste.fetching.ledger import FetchRecord, Ledger
from modiste.fetching.listing import ListedPhoto, Listing
from modiste.fetching.manifest import DUPLICATE, MANIFEST, WAITING, Summary, write_fetched
from modiste.fetching.stores import Files, PhotoStore, Shards, examine
from modiste.files import StrPath, remove_unfinished

_AHEAD = 20_000  # rows that wait for their host, about 10 MB: they keep others busy while one is slow
_CHUNK = 500  # rows that are looked up in the ledger together; SQLite takes at least 999 parameters
_FIXES = {OPTED_OUT: "asking its owner, then --ignore-opt-out", TOO_LARGE: "a larger --max-bytes with --retry-failed"}
_LONGEST_WAIT = 300.0  # seconds: a server that asks for more counts as failed for now


@dataclass
class FetchState:
    """What a fetch has done so far.

    Attributes:
        total: rows of the list, about.
        done: rows that are settled, those of earlier fetches among them.
        earlier: rows that needed nothing.
        fetched: photos that came whole.
        bytes: of all bodies.
        failures: photos by kind of failure.
    """

    total: int
    done: int = 0
    earlier: int = 0
    fetched: int = 0
    bytes: int = 0
    failures: Counter[str] = field(default_factory=Counter)


@dataclass
class _Request:
    """A photo that is being fetched, and how often that has been tried."""

    name: str
    url: str
    host: str
    attempts: int = 0


def fetch(
    listing: Listing | StrPath,
    folder: StrPath,
    config: FetchConfig = FetchConfig(),  # noqa: B008 (frozen)
    *,
    retry_failed: bool = False,
    progress: Callable[[FetchState], None] = lambda _: None,
) -> Summary:
    """Fetch every photo of a list that `folder` does not have yet, and write `folder/manifest.csv`.

    Args:
        listing: what to fetch; a path is opened as `Listing.open` does it.
        folder: made if missing; photos, ledger and manifest go there and nowhere else.
        config: all settings; size and output must be those that the folder was begun with.
        retry_failed: fetch what failed in earlier runs, and nothing else. What earlier settings refused and
            `config` allows is fetched again without it too.
        progress: told of every photo.

    Returns:
        What the manifest says, by count.

    Raises:
        ManifestError: the list has no rows, or one that can't be read.
        UsageError: the list is the manifest that would be written.
        RunError: another process fetches into the folder, or it was begun with other settings.
        StorageError: the folder can't be written, or the disk is full.
    """
    folder = Path(folder)
    listing = listing if isinstance(listing, Listing) else Listing.open(listing)
    if listing.path.resolve() == (folder / MANIFEST).resolve():
        got = f"{listing.path}, which this fetch writes itself"
        raise UsageError.expected("the list that the folder was begun with", got, "that list, or another -o")
    with Ledger.open(folder / "fetch.sqlite", {"size": config.size, "format": config.output}) as ledger:
        remove_unfinished(folder)
        state = FetchState(listing.estimate())
        work = _Fetch(ledger, _shelf(folder, config, ledger), folder, config, state, progress, retry_failed)
        try:
            _complete(work.run(listing.rows()))
        except BaseExceptionGroup as group:  # a full disk met by several tasks at once
            raise group.exceptions[0] from None
        except ManifestError:
            work.finish()
            raise
        except KeyboardInterrupt:
            work.finish()
            write_fetched(listing, ledger, folder)
            raise
        work.finish()
        if not state.done:
            raise empty(listing.path)
        return write_fetched(listing, ledger, folder)


def _complete(work: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine to its end; in a thread of its own where an event loop runs already, as in notebooks."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        asyncio.run(work)
        return
    started: Future[asyncio.AbstractEventLoop] = Future()

    def run() -> None:
        with asyncio.Runner() as runner:
            started.set_result(runner.get_loop())
            runner.run(work)

    with ThreadPoolExecutor(1, "modiste-fetch") as thread:
        done = thread.submit(run)
        try:
            done.result()
        except KeyboardInterrupt:  # the thread is waited for as the pool is left
            loop = started.result()
            loop.call_soon_threadsafe(lambda: [task.cancel() for task in asyncio.all_tasks(loop)])
            raise


def _shelf(folder: Path, config: FetchConfig, ledger: Ledger) -> PhotoStore:
    if config.output == "files":
        return Files(folder)
    return Shards(folder, config.shard_size, ledger.last_place(), config.output)


@dataclass
class _Fetch:
    """One run: what waits, what is on its way, what is settled."""

    ledger: Ledger
    shelf: PhotoStore
    folder: Path
    config: FetchConfig
    state: FetchState
    progress: Callable[[FetchState], None]
    retry_failed: bool
    closed: dict[str, tuple[float, Failure]] = field(default_factory=dict)  # host -> until when, and why
    pending: dict[str, str] = field(default_factory=dict)  # name -> URL of what waits and of what is on its way

    async def run(self, rows: Iterator[ListedPhoto]) -> None:
        """Give every row its turn; ends when all are settled."""
        self.hosts: Hosts[_Request] = Hosts(self.config.per_host, self.config.rate)
        self.more = True
        free = asyncio.Semaphore(self.config.workers)
        with ThreadPoolExecutor(1 + (os.cpu_count() or 1), thread_name_prefix="decode") as self.pool:
            async with session(self.config) as self.session, asyncio.TaskGroup() as tasks:
                while True:
                    if self.more and self.hosts.waiting < _AHEAD:
                        self._feed(rows)
                        await asyncio.sleep(0)  # a long list of photos that are there must not stop what is on its way
                        if self.more and not self.hosts.waiting:
                            continue
                    await free.acquire()
                    request = await self.hosts.take()
                    if request is None:
                        return
                    tasks.create_task(self._try(request)).add_done_callback(lambda _: free.release())

    def _feed(self, rows: Iterator[ListedPhoto]) -> None:
        """Put the next rows in line, but for those that are settled."""
        chunk = list(islice(rows, _CHUNK))
        known = self.ledger.find([row.name for row in chunk])
        first = {name: outcome.url for name, (outcome, seen) in known.items() if seen} | self.pending
        settled = []
        for row in chunk:
            outcome = known[row.name][0] if row.name in known else None
            if row.name in first:  # it stands twice; the first row has its turn
                self._settle("" if first[row.name] == row.url else DUPLICATE)
            elif self._is_due(row, outcome):
                self._enter(row)
            elif outcome is None or outcome.url != row.url:
                self._settle(WAITING)
            else:
                settled.append(row.name)
                self.state.earlier += 1
                self._settle(outcome.failure)
            first.setdefault(row.name, row.url)
        self.ledger.touch(settled)
        self.more = bool(chunk)
        self._close_if_done()

    def _is_due(self, row: ListedPhoto, outcome: FetchRecord | None) -> bool:
        if outcome is None or outcome.url != row.url:
            return not self.retry_failed
        if outcome.failure:
            return self.retry_failed or outcome.failure in self.config.allowed
        return not self.retry_failed and not self._is_there(outcome)

    def _is_there(self, outcome: FetchRecord) -> bool:
        try:
            size = (self.folder / outcome.place).stat().st_size
        except OSError:
            return False
        return self.config.output != "files" or size == outcome.bytes

    def _enter(self, row: ListedPhoto) -> None:
        try:
            host = str(check_url(row.url).host)
        except Failure as failure:
            self._fail(row.name, row.url, failure)
            return
        self.pending[row.name] = row.url
        self.hosts.put(host, _Request(row.name, row.url, host))

    async def _try(self, request: _Request) -> None:
        """One attempt at one photo."""
        request.attempts += 1
        try:
            await self._fetch(request)
        except Failure as failure:
            wait = self._wait(request, failure)
            if wait is not None:
                if failure.wait is not None:
                    self.hosts.pause(request.host, failure.wait)
                self.hosts.put(request.host, request, wait)
                self.hosts.release(request.host)
                return
            self._fail(request.name, request.url, failure)
        else:
            self.state.fetched += 1
            self._settle()
        self.hosts.release(request.host)
        del self.pending[request.name]
        self._close_if_done()

    async def _fetch(self, request: _Request) -> None:
        loop = asyncio.get_running_loop()
        until, refusal = self.closed.get(request.host, (0.0, None))
        if refusal is not None and until > loop.time():
            raise refusal
        body = await download(self.session, request.url, self.config, self.folder)
        self.state.bytes += body.size
        try:
            await loop.run_in_executor(self.pool, _keep, self.shelf, self.config.size, request, body)
        except PhotoError as error:
            failure = Failure("not a photo", error.got, heals="truncated" in error.got)
            failure.http, failure.final_url = body.http, body.final_url
            raise failure from None
        self.ledger.record(self.shelf.placed())

    def _wait(self, request: _Request, failure: Failure) -> float | None:
        """Seconds until the next attempt; None where there is none."""
        if failure.wait is not None and failure.wait > _LONGEST_WAIT:
            self.closed.setdefault(request.host, (asyncio.get_running_loop().time() + failure.wait, failure))
            return None
        return pause(failure, request.attempts, self.config.retries)

    def _fail(self, name: str, url: str, failure: Failure) -> None:
        fix = _FIXES.get(failure.kind, "--retry-failed" if failure.heals else "another URL")
        error = sentence(url or name, failure, fix)
        outcome = FetchRecord(name, url, failure.kind, error, failure.http, failure.final_url)
        self.ledger.record([outcome])
        self._settle(failure.kind)

    def _settle(self, failure: str = "") -> None:
        self.state.done += 1
        if failure:
            self.state.failures[failure] += 1
        self.progress(self.state)

    def _close_if_done(self) -> None:
        if not self.more and not self.pending:
            self.hosts.close()

    def finish(self) -> None:
        """Write the shard that is open; also where the fetch was stopped."""
        self.shelf.close()
        self.ledger.record(self.shelf.placed())


def _keep(shelf: PhotoStore, size: int | None, request: _Request, body: Body) -> None:
    """Decode and put away, in a thread."""
    with body.file:
        body.file.seek(0)
        data = body.file.read()
    photo = examine(data, request.url, size)
    outcome = FetchRecord(request.name, request.url, http=body.http, final_url=body.final_url, **photo.facts())
    shelf.put(outcome, photo)
