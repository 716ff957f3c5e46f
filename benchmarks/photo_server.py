"""A loopback server of real photos with realistic latency, for `fetch.py`: it costs little CPU itself.

    python benchmarks/photo_server.py FOLDER PORT

GET /<k>.jpg answers with photo k modulo the number of photos, after 20 ms; one in 100 after 500 ms, one in 100
with 404, and one in 100 with 503 the first time. GET /tiny/<k>.jpg answers at once with a photo of 16 x 16 pixels.
"""

import asyncio
import io
import sys
from pathlib import Path
from typing import Any, ClassVar

from PIL import Image

LATENCY, SLOW = 0.020, 0.500  # seconds
HEAD = b"HTTP/1.1 %d %s\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n"


def tiny() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (16, 16), (200, 30, 60)).save(file, "JPEG")
    return file.getvalue()


class Server(asyncio.Protocol):
    photos: ClassVar[list[bytes]] = []
    tiny: ClassVar[bytes] = tiny()
    asked: ClassVar[set[int]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport
        self.buffer = b""

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while b"\r\n\r\n" in self.buffer:
            request, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
            self.answer(request.split(b" ", 2)[1].decode())

    def answer(self, path: str) -> None:
        number = int(path.rpartition("/")[2].removesuffix(".jpg"))
        if path.startswith("/tiny/"):
            self.send(200, b"OK", self.tiny)
            return
        kind = number % 100
        body, status = self.photos[number % len(self.photos)], (200, b"OK")
        if kind == 7:
            status, body = (404, b"Not Found"), b""
        elif kind == 13 and number not in self.asked:
            self.asked.add(number)
            status, body = (503, b"Busy"), b""
        later = SLOW if kind == 3 else LATENCY
        asyncio.get_running_loop().call_later(later, self.send, *status, body)

    def send(self, code: int, words: bytes, body: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(HEAD % (code, words, len(body)) + body)


async def serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Server, "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    Server.photos = [path.read_bytes() for path in sorted(Path(sys.argv[1]).glob("*.jpg"))]
    asyncio.run(serve(int(sys.argv[2])))
