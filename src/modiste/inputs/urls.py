"""URLs -> the bytes behind them, fetched ahead of whoever reads them, in order."""

from __future__ import annotations

import asyncio
import tempfile
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

from modiste.errors import PhotoError
from modiste.fetching.config import FetchConfig
from modiste.inputs.arguments import InputPhoto, Url

_AHEAD = 2  # photos in line for each that is on its way, so that a slow one doesn't hold up the others at once
_LONGEST_WAIT = 30.0  # seconds: nobody waits longer for one photo's server


def fetched(items: Iterable[InputPhoto], config: FetchConfig) -> Iterator[InputPhoto]:
    """The same items, their Urls replaced by what lies behind them: bytes, or the PhotoError with the reason."""
    with _loop(config) as ask:
        waiting: deque[tuple[InputPhoto, Future[bytes | PhotoError] | None]] = deque()
        for item in items:
            waiting.append((item, ask(item.source.address) if isinstance(item.source, Url) else None))
            if len(waiting) > _AHEAD * config.workers or waiting[0][1] is None:
                yield _settled(*waiting.popleft())
        while waiting:
            yield _settled(*waiting.popleft())


def _settled(item: InputPhoto, answer: Future[bytes | PhotoError] | None) -> InputPhoto:
    return item if answer is None else item._replace(source=answer.result())


@contextmanager
def _loop(config: FetchConfig) -> Iterator[Any]:
    """A thread that fetches, started by the first URL: `ask(address)` gives a Future."""
    loop = asyncio.new_event_loop()
    thread = Thread(target=loop.run_forever, name="modiste-fetch", daemon=True)
    fetcher = _Fetcher(config)

    def ask(address: str) -> Future[bytes | PhotoError]:
        if not thread.is_alive():
            thread.start()
        return asyncio.run_coroutine_threadsafe(fetcher.get(address), loop)

    try:
        yield ask
    finally:
        if thread.is_alive():
            asyncio.run_coroutine_threadsafe(fetcher.close(), loop).result()
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
        loop.close()


class _Fetcher:
    """Requests of one loop: a limit of all and of each host."""

    def __init__(self, config: FetchConfig) -> None:
        self._config = config
        self._all = asyncio.Semaphore(config.workers)
        self._hosts: defaultdict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(config.per_host))
        self._session: Any = None
        self._closing: Any = None
        self._opening = asyncio.Lock()

    async def get(self, address: str) -> bytes | PhotoError:
        """What lies behind a URL."""
        from modiste.fetching.download import (  # imported by the first URL: it takes a third of a second
            Failure,
            check_url,
            pause,
            sentence,
        )

        attempts = 0
        while True:
            attempts += 1
            try:
                host = str(check_url(address).host)
                async with self._hosts[host], self._all:
                    return await self._once(address)
            except Failure as failure:
                wait = pause(failure, attempts, self._config.retries)
                if wait is None or (failure.wait or 0) > _LONGEST_WAIT:
                    return PhotoError(sentence(address, failure, "another URL"))
            await asyncio.sleep(wait)

    async def _once(self, address: str) -> bytes:
        from modiste.fetching.download import download, session

        async with self._opening:
            if self._session is None:
                self._closing = session(self._config)
                self._session = await self._closing.__aenter__()
        body = await download(self._session, address, self._config, Path(tempfile.gettempdir()))
        with body.file:
            body.file.seek(0)
            return body.file.read()

    async def close(self) -> None:
        """End all connections, and what is on its way."""
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        if self._closing is not None:
            await self._closing.__aexit__(None, None, None)
