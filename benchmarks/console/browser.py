"""What a browser sends to the console's page and hears from it, without a browser: the messages of viser's websocket."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import Any

import msgspec
import viser
import zstandard
from viser import _messages
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

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


class Browser:
    """Looks at the page: a thread reads, and notes widgets, pictures and what is written on the page.

    Attributes:
        widgets: Label -> identifier, of widgets that take input.
        texts: Identifier -> HTML, of texts.
        pictures: Arrival [s] and caption of every picture.
    """

    def __init__(self, netloc: str) -> None:
        self.widgets: dict[str, str] = {}
        self.texts: dict[str, str] = {}
        self.pictures: list[tuple[float, str]] = []
        self._warnings: list[tuple[float, str]] = []
        self._images: set[str] = set()
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
        elif kind == "GuiImageMessage":
            self._images.add(message["uuid"])
        elif kind.startswith("Gui") and isinstance(props, dict) and "label" in props:
            self.widgets[props["label"]] = message["uuid"]
        elif kind == "GuiUpdateMessage":
            if message["uuid"] in self._images:
                self.pictures.append((time.monotonic(), self.caption()))
            elif "content" in message["updates"]:
                self.texts[message["uuid"]] = text = message["updates"]["content"]
                if "OLD" in text:
                    self._warnings.append((time.monotonic(), text))

    def warned(self, since_s: float, until_s: float) -> str:
        """The warnings of old pictures that came between two moments."""
        return "".join(text for at, text in self._warnings if since_s <= at <= until_s)

    def caption(self) -> str:
        """The line above the pictures."""
        return next((text for text in list(self.texts.values()) if "camera" in text and "joints" in text), "")

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
