"""A loopback server whose answers a test chooses; it counts what it was asked."""

import asyncio
import threading
from collections import Counter
from collections.abc import Awaitable, Callable

Answer = Callable[[asyncio.StreamWriter, int], Awaitable[None]]


class Web:
    """Serves while it is used in a `with` block.

    `pages` gives an answer for a path: a coroutine function of the writer and how often the path was asked before.
    """

    def __init__(self, pages: Callable[[str], Answer]) -> None:
        self.pages = pages
        self.asked: Counter[str] = Counter()
        self.whole: Counter[str] = Counter()  # answers that were sent to their end

    def __enter__(self):
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.started = threading.Event()
        self.thread.start()
        self.started.wait()
        return self

    def __exit__(self, *_):
        self.loop.call_soon_threadsafe(self.stopped.set)
        self.thread.join()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}/{path}"

    def _run(self):
        self.loop.run_until_complete(self._serve())
        self.loop.close()

    async def _serve(self):
        self.stopped = asyncio.Event()
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self.started.set()
        await self.stopped.wait()
        server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _connected(self, reader, writer):
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                path = head.split(b" ", 2)[1].decode().lstrip("/")
                before = self.asked[path]
                self.asked[path] += 1
                await self.pages(path)(writer, before)
                await writer.drain()
                self.whole[path] += 1
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()


def answer(body: bytes = b"", status: int = 200, length: int | None = None, **headers: str) -> Answer:
    """A plain answer; underscores in header names stand for hyphens."""

    async def send(writer, _):
        fields = {"Content-Length": len(body) if length is None else length, "Content-Type": "image/jpeg", **headers}
        lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items())
        writer.write(f"HTTP/1.1 {status} So\r\n{lines}\r\n".encode() + body)

    return send
