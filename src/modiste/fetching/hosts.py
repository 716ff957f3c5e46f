"""Whose turn it is: requests wait by host, so that no host gets too many and a slow one holds up no other."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections import defaultdict, deque
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Request = TypeVar("Request")


@dataclass
class _Host(Generic[Request]):
    waiting: deque[Request] = field(default_factory=deque)
    active: int = 0
    next: float = 0.0  # no request before this time, of the loop's clock
    queued: bool = False  # in the heap


class Hosts(Generic[Request]):
    """Jobs of many hosts, given out as soon as their host may be asked.

    Args:
        per_host: requests at once to one host.
        rate: requests a second to one host; None is no limit.
    """

    def __init__(self, per_host: int, rate: float | None) -> None:
        self._hosts: dict[str, _Host[Request]] = defaultdict(_Host)
        self._ready: list[tuple[float, int, str]] = []  # heap of hosts that have a request and room for it
        self._count = itertools.count()  # first come, first served between equal times
        self._changed = asyncio.Event()
        self._per_host = per_host
        self._gap = 0.0 if rate is None else 1 / rate
        self._closed = False
        self.waiting = 0  # jobs, those that wait out a delay among them

    def put(self, host: str, request: Request, delay: float = 0.0) -> None:
        """Let a request wait for its turn, after `delay` seconds."""
        self.waiting += 1
        if delay:
            asyncio.get_running_loop().call_later(delay, self._enter, host, request)
        else:
            self._enter(host, request)

    async def take(self) -> Request | None:
        """The next request whose host may be asked, None after `close`; call `release` when it has ended."""
        while not self._closed:
            while self._ready and self._ready[0][0] <= self._now():
                name = heapq.heappop(self._ready)[2]
                host = self._hosts[name]
                host.queued = False
                if host.next <= self._now():
                    return self._given(name, host)
                self._queue(name)  # paused since it was queued
            self._changed.clear()
            try:
                async with asyncio.timeout_at(self._ready[0][0] if self._ready else None):
                    await self._changed.wait()
            except TimeoutError:
                pass
        return None

    def close(self) -> None:
        """No more jobs will come."""
        self._closed = True
        self._changed.set()

    def _given(self, name: str, host: _Host[Request]) -> Request:
        host.active += 1
        host.next = max(host.next, self._now()) + self._gap
        self.waiting -= 1
        request = host.waiting.popleft()
        self._queue(name)
        return request

    def release(self, host: str) -> None:
        """A request to this host has ended."""
        self._hosts[host].active -= 1
        self._queue(host)
        self._forget(host)

    def _forget(self, name: str) -> None:
        """Drop a host that nothing is left of, as a list may name millions."""
        host = self._hosts.get(name)
        if host is None or host.active or host.waiting:
            return
        if host.next > self._now():
            asyncio.get_running_loop().call_at(host.next, self._forget, name)
        else:
            del self._hosts[name]

    def pause(self, host: str, seconds: float) -> None:
        """Ask this host nothing for a while."""
        self._hosts[host].next = max(self._hosts[host].next, self._now() + seconds)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _enter(self, host: str, request: Request) -> None:
        self._hosts[host].waiting.append(request)
        self._queue(host)

    def _queue(self, name: str) -> None:
        host = self._hosts[name]
        if host.waiting and not host.queued and host.active < self._per_host:
            host.queued = True
            heapq.heappush(self._ready, (host.next, next(self._count), name))
            self._changed.set()
