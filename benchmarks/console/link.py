"""A slow link between a person and the console."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Generator

from websockets.frames import Frame, Opcode
from websockets.streams import StreamReader

ROUND_S, DELAY_S, ROUND_BYTES = 1.0, 0.3, 1 << 20
"""What the console sends comes once per second, at most so much; both ways take the delay."""

HELD_BYTES = 1 << 16
"""More the link does not hold: a sender has to wait."""


class Messages:
    """Counts the messages in a client's part of a websocket connection. Pings and pongs are none."""

    def __init__(self) -> None:
        self._heard, self._count = StreamReader(), 0
        self._parser = self._parse()
        next(self._parser)

    def feed(self, chunk: bytes) -> int:
        """How many messages end in the next bytes."""
        before = self._count
        self._heard.feed_data(chunk)
        next(self._parser)
        return self._count - before

    def _parse(self) -> Generator[None, None, None]:
        while (yield from self._heard.read_line(ROUND_BYTES)).strip():
            pass  # the request's head
        while True:
            frame = yield from Frame.parse(self._heard.read_exact, mask=True)
            self._count += frame.opcode is Opcode.BINARY


class Link:
    """A slow link in front of the console, in a thread."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._crossings: list[tuple[float, float]] = []  # when the link got each message, and when the console did
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        started = asyncio.start_server(self._serve, "127.0.0.1", 0)
        self._server = asyncio.run_coroutine_threadsafe(started, self._loop).result(10.0)
        self.netloc = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def arrived_s(self, since_s: float) -> float:
        """When the first message that a client sent since then reached the console.

        A client's connection also answers pings, at any moment: the newest bytes need not be its message.

        Raises:
            LookupError: None has arrived yet.
        """
        for sent_s, arrived_s in self._crossings:
            if sent_s >= since_s:
                return arrived_s
        raise LookupError("No message of a client has crossed the link since then.")

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        narrow = socket.socket()
        narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, HELD_BYTES)  # of itself the system keeps several MB
        narrow.setblocking(False)
        await self._loop.sock_connect(narrow, ("127.0.0.1", self._port))
        console_reader, console_writer = await asyncio.open_connection(sock=narrow, limit=ROUND_BYTES // 2)
        with contextlib.suppress(OSError):
            await asyncio.gather(self._up(reader, console_writer), self._down(console_reader, writer))
        writer.close()
        console_writer.close()

    async def _up(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        messages = Messages()

        def forward(chunk: bytes, got_s: float, count: int) -> None:
            writer.write(chunk)
            self._crossings += [(got_s, time.monotonic())] * count

        while chunk := await reader.read(1 << 16):  # each takes the delay from when it came, not from the one before
            self._loop.call_later(DELAY_S, forward, chunk, time.monotonic(), messages.feed(chunk))
        self._loop.call_later(DELAY_S, writer.close)

    async def _down(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(ROUND_BYTES):
            await asyncio.sleep(DELAY_S)
            writer.write(chunk)
            await writer.drain()
            await asyncio.sleep(ROUND_S - DELAY_S)
        writer.close()

    def close(self) -> None:
        """End the thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5.0)
