"""What comes in over the console's sockets, before viser acts on it: whose connection, how much, how often, which messages.

viser serves pages to people who trust each other. Of itself it would keep and pass on to everybody what a browser without
a role sends (forms), collect uploads, set any attribute of a widget, and open a tunnel that shows the page to the internet
(``ShareUrlRequest``). A message that a browser does not send to this page ends here.
"""

from __future__ import annotations

import asyncio
import math
import socket
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, NoReturn

from stvla_ros.console.access import Access

MOST_CLIENTS = 32
"""Connections at a time. ``stvla stop`` needs none."""

MESSAGE_BYTES = 1 << 16
"""Of one message; a goal has some hundred, a camera's pose 200."""

MESSAGES_BURST, MESSAGES_PER_S = 400.0, 200.0
"""Of one connection: so many at once, then so many per second. More wait in its own sender."""

MESSAGES = (
    "ViewerCameraMessage", "GuiUpdateMessage", "GuiButtonHoldMessage", "CommandTriggerMessage", "ScenePointerMessage",
    "SceneNodeClickMessage", "SceneNodeDragMessage", "TransformControlsUpdateMessage",
    "TransformControlsDragStartMessage", "TransformControlsDragEndMessage",
)  # fmt: skip
"""That people's hands cause. All others are dropped."""

SENT_BYTES = 1 << 16
"""What the system holds of what was sent and not yet received, per connection; Linux doubles it. Of itself it holds 4 MB,
which over a slow link is a page of half a minute ago. What waits here is replaced by what is newer."""

TRIALS = 30
"""The fastest of so many newest messages says how fast a connection is."""

POLICY, LATER = 1008, 1013
"""Codes that a connection is closed with (RFC 6455, section 7.4)."""


class MalformedError(Exception):
    """A message is not one of viser's, and why."""


def check(raw: object) -> bool:
    """Whether viser may see a message.

    Raises:
        MalformedError: No browser sends that.
    """
    import msgspec
    from viser import _messages

    if not isinstance(raw, bytes):
        raise MalformedError("text")
    try:
        fields = msgspec.msgpack.decode(raw)
        if not isinstance(fields, dict) or not isinstance(kind := fields.pop("type", None), str):
            raise MalformedError("no type")
        if kind not in MESSAGES:
            if not hasattr(_messages, kind):
                raise MalformedError("no such message")
            return False
        known = getattr(_messages, kind)
        if not fields.keys() <= known.__dataclass_fields__.keys():
            raise MalformedError(f"{kind} with unknown fields")
        msgspec.convert(fields, known)
    except (msgspec.MsgspecError, RecursionError, UnicodeError) as error:
        raise MalformedError(str(error)[:100]) from error
    if kind == "GuiUpdateMessage":
        _check_update(fields["updates"])
    return True


def _check_update(updates: Mapping[str, Any]) -> None:
    """Only a widget's value is a person's to change."""
    if updates.keys() != {"value"}:
        raise MalformedError("an update of something other than a value")
    value = updates["value"]
    for part in value if isinstance(value, list) else [value]:
        if not isinstance(part, bool | int | float | str) or (isinstance(part, float) and not math.isfinite(part)):
            raise MalformedError("a value of no widget")


class Link:
    """How long messages take to one client. Its trials are messages that tell the client the console's clock.

    Args:
        buffer: viser's, of what is to be sent to the client.
        clock: Seconds, monotonic.
    """

    def __init__(self, buffer: Any, clock: Callable[[], float] = time.monotonic) -> None:
        self._buffer, self._clock = buffer, clock
        self._trial: tuple[int, float] | None = None  # the message's number, when it was queued
        self._asked = False
        self._took_s: deque[float] = deque(maxlen=TRIALS)

    @contextmanager
    def trial(self) -> Iterator[None]:
        """Queue a message in here whose way is measured. Of several that wait to be sent, the newest is."""
        self._trial, now = None, self._clock()
        yield
        self._trial = self._buffer.message_counter - 1, now

    def gone(self) -> float | None:
        """When the trial was queued, if it has just been sent and nobody asked for an answer yet; else None."""
        with self._buffer.buffer_lock:
            trial, oldest = self._trial, next(iter(self._buffer.message_from_id), None)
        if trial is None or self._asked or (oldest is not None and oldest <= trial[0]):
            return None
        self._trial, self._asked = None, True
        return trial[1]

    def answered(self, queued_s: float, pong: asyncio.Future[float]) -> None:
        """The client has what was queued then."""
        self._asked = False
        if not pong.cancelled() and pong.exception() is None:
            self._took_s.append(self._clock() - queued_s)

    @property
    def latency_s(self) -> float:
        """Upper bound [s] of what the fastest message took; infinite before it was measured."""
        return min(self._took_s, default=math.inf)


class Gate:
    """Stands in front of one server.

    Args:
        server: viser's socket server.
        access: Which connections are refused.
        clock: Seconds, monotonic.
    """

    def __init__(self, server: Any, access: Access, clock: Callable[[], float] = time.monotonic) -> None:
        self._server, self._access, self._clock = server, access, clock
        self.refused = 0
        """Connections that were refused, or closed for what they sent."""
        self._links: dict[int, Link] = {}
        server.on_client_connect(self._admit)
        server.on_client_disconnect(lambda client: self._links.pop(client.client_id, None))
        for early in list(server._live_connections.values()):  # came before the gate stood: its browser comes again
            asyncio.run_coroutine_threadsafe(early.close(LATER), server.get_message_buffer().event_loop)

    async def _admit(self, client: Any) -> None:
        """Called by the server for each connection, before it reads from it."""
        connections = self._server._live_connections  # viser 1.1 tells it nowhere else
        connection = connections[client.client_id]
        headers, receive = connection.request.headers, connection.recv
        connection.recv = self._checked(connection, receive)
        if refusal := self._access.refusal(headers.get("Origin"), headers.get("Host")):
            connection.recv = partial(_discard, receive)  # what came before the connection is closed, too
            await self._close(connection, POLICY, refusal)
        elif len(connections) > MOST_CLIENTS:
            connection.recv = partial(_discard, receive)
            await self._close(connection, LATER, f"{MOST_CLIENTS} people look at the console already.")
        connection.protocol.max_message_size = MESSAGE_BYTES
        with suppress(OSError):  # it is gone already
            connection.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SENT_BYTES)
        link = self._links[client.client_id] = Link(client.get_message_buffer(), self._clock)
        connection.send = self._timed(connection, link)

    def link(self, number: int) -> Link | None:
        """What is known of a client's connection; None when it has ended."""
        return self._links.get(number)

    def _timed(self, connection: Any, link: Link) -> Callable[[Any], Awaitable[None]]:
        send = connection.send

        async def timed(window: Any) -> None:
            await send(window)
            if (queued_s := link.gone()) is not None:  # the pong comes after it (RFC 6455, section 5.5.2)
                (await connection.ping()).add_done_callback(partial(link.answered, queued_s))

        return timed

    async def _close(self, connection: Any, code: int, why: str) -> None:
        self.refused += 1
        while len(why.encode()) > 120:  # a close frame has room for 123 bytes
            why = why[:-1]
        await connection.close(code, why)

    def _checked(self, connection: Any, receive: Callable[[], Any]) -> Callable[[], Any]:
        left, at = MESSAGES_BURST, self._clock()

        async def checked() -> bytes:
            nonlocal left, at
            while True:
                raw: bytes = await receive()
                now = self._clock()
                left, at = min(MESSAGES_BURST, left + (now - at) * MESSAGES_PER_S) - 1.0, now
                if left < 0.0:
                    await asyncio.sleep(-left / MESSAGES_PER_S)
                try:
                    if check(raw):
                        return raw
                except MalformedError as error:
                    await self._close(connection, POLICY, f"Not a message of this page: {error}")
                    await _discard(receive)

        return checked


async def _discard(receive: Callable[[], Awaitable[object]]) -> NoReturn:
    """Hear nothing of what still comes. Ends with the connection, by its exception."""
    while True:
        await receive()
