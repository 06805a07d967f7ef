"""What a browser sends to the console's page and hears from it, without a browser: the messages of viser's websocket."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import msgspec
import viser
import zstandard
from viser import _messages
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from stvla_ros.console.marks import DRIFT

CAMERA = _messages.ViewerCameraMessage(
    (1.0, 0.0, 0.0, 0.0), (1.0, 1.0, 1.0), 1.0, 0.01, 100.0, 600, 800, (0.0, 0.0, 0.0), (0.0, 0.0, 1.0)
)


def encoded(message: Any) -> bytes:
    """A message as a browser sends it."""
    return msgspec.msgpack.encode(message.as_serializable_dict([]))


def dial(netloc: str, origin: Any = None, **more: Any) -> ClientConnection:
    """A connection as viser's page makes it; origin: another page's."""
    protocol: Any = f"viser-v{viser.__version__}"
    site = origin or f"http://{netloc}"
    return connect(f"ws://{netloc}", subprotocols=[protocol], origin=site, max_size=None, compression=None, **more)


def messages(window: bytes) -> list[dict[str, Any]]:
    """What one frame from the server holds."""
    length = int.from_bytes(window[8:16], "little")
    return list(msgspec.msgpack.decode(zstandard.ZstdDecompressor().decompress(window[16 : 16 + length]))["messages"])


@dataclass(frozen=True)
class Seen:
    """A picture that came. Times are monotonic, of one computer.

    Attributes:
        arrived_s: When.
        taken_s: When the camera took it, as the console says.
        marked_s: When the browser draws a warning on it, if nothing newer comes.
    """

    arrived_s: float
    taken_s: float
    marked_s: float


_MARK = re.compile(r'data-sent="([\d.]+)" data-left="([\d.]+)"')
_TAKEN = re.compile(r'data-taken="([\d.]+)"')


class Browser:
    """Looks at the page: a thread reads, and notes widgets, pictures and what is written on the page.

    Attributes:
        widgets: Label -> identifier, of widgets that take input.
        texts: Identifier -> HTML, of texts.
        pictures: Every one with the camera's image in it.
    """

    def __init__(self, netloc: str) -> None:
        self.widgets: dict[str, str] = {}
        self.texts: dict[str, str] = {}
        self.pictures: list[Seen] = []
        self._fastest_s = float("inf")
        self.socket = dial(netloc, ping_interval=None)
        self.socket.send(encoded(CAMERA))
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        try:
            while True:
                window = self.socket.recv()
                assert isinstance(window, bytes)
                for message in messages(window):
                    self._hear(message)
        except ConnectionClosed:
            return

    def _hear(self, message: dict[str, Any]) -> None:
        kind, props = message["type"], message.get("props")
        if kind == "GuiHtmlMessage":
            self.texts[message["uuid"]] = props["content"]
        elif kind.startswith("Gui") and isinstance(props, dict) and "label" in props:
            self.widgets[props["label"]] = message["uuid"]
        elif kind == "GuiUpdateMessage" and "content" in message["updates"]:
            self.texts[message["uuid"]] = text = message["updates"]["content"]
            if found := _MARK.search(text):
                self._count_down(text, float(found[1]), float(found[2]))

    def _count_down(self, text: str, sent_s: float, left_s: float) -> None:
        """What the page's custom element does (:mod:`stvla_ros.console.marks`), for the mark on the camera's image."""
        now = time.monotonic()
        self._fastest_s = min(now - sent_s, self._fastest_s + DRIFT)
        left_s -= now - sent_s - self._fastest_s
        if taken := _TAKEN.search(text):
            self.pictures.append(Seen(now, float(taken[1]), now + max(0.0, left_s)))

    def gone(self) -> bool:
        """Whether the console has ended the connection."""
        return not self._thread.is_alive()

    def wait(self, label: str, timeout_s: float = 30.0) -> str:
        """The identifier of a widget, once it is there. Raises TimeoutError."""
        until = time.monotonic() + timeout_s
        while label not in self.widgets:
            if time.monotonic() > until:
                raise TimeoutError(f"The page has no '{label}': {sorted(self.widgets)}")
            time.sleep(0.01)
        return self.widgets[label]

    def set(self, label: str, value: Any) -> None:
        """Write into a widget, or press it."""
        self.socket.send(encoded(_messages.GuiUpdateMessage(self.wait(label), {"value": value})))

    def click(self, label: str) -> None:
        """Press a button."""
        self.set(label, True)

    def sign_in(self, name: str, token: str) -> None:
        """Get a role."""
        self.set("Name", name)
        self.set("Token", token)
        self.click("Sign in")

    def close(self) -> None:
        """Leave."""
        with suppress(OSError):
            self.socket.close()
        self._thread.join(5.0)


def unmarked_s(pictures: Sequence[Seen]) -> list[float]:
    """How old [s] each picture, but the last, was before a warning was drawn on it or a newer one came."""
    following = [later.arrived_s for later in pictures[1:]]
    return [
        max(0.0, min(picture.marked_s, then) - picture.taken_s) if picture.marked_s > picture.arrived_s else 0.0
        for picture, then in zip(pictures, following, strict=False)
    ]
