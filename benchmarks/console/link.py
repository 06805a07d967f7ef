"""A slow link between a person and the console."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time

ROUND_S, DELAY_S, ROUND_BYTES = 1.0, 0.3, 1 << 20
"""What the console sends comes once per second, at most so much; both ways take the delay."""

HELD_BYTES = 1 << 16
"""More the link does not hold: a sender has to wait."""


class Link:
    """A slow link in front of the console, in a thread."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.forwarded_s = 0.0
        """When the last bytes of a client reached the console."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        started = asyncio.start_server(self._serve, "127.0.0.1", 0)
        self._server = asyncio.run_coroutine_threadsafe(started, self._loop).result(10.0)
        self.netloc = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

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
        while chunk := await reader.read(1 << 16):
            await asyncio.sleep(DELAY_S)
            writer.write(chunk)
            self.forwarded_s = time.monotonic()
        writer.close()

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
