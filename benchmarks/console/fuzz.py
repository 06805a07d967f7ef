"""Malformed messages, wrong tokens, foreign paths and readers that never read, against a console in a process of its own.

The console there has tokens and a stack that counts what it is asked. Some connections have no role, some may only view: so
nothing but a stop may reach the stack. Its pictures go on all the time.
"""

from __future__ import annotations

import contextlib
import http.client
import multiprocessing
import os
import random
import socket
import struct
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import numpy as np
import viser
from viser import _messages
from websockets.exceptions import ConnectionClosed
from websockets.protocol import State

from benchmarks.console.browser import CAMERA, Browser, dial, encoded

OPERATE, VIEW = "operate-0123456789abcdef", "view-0123456789abcdef"
PICTURE_S = 0.2
VIEWERS = 0.005
"""Share of the messages: each time that a viewer comes again, the page is built anew."""

MB = 1 << 20


@dataclass(frozen=True)
class Count:
    """What the console noted so far.

    Attributes:
        asked: Act -> how often the stack was asked for it.
        seen: Messages that it looked at.
        passed: Of these, those that viser got.
        thrown_out: Connections that it refused or closed.
        people: With a role.
        connections: At this moment.
    """

    asked: dict[str, int]
    seen: int
    passed: int
    thrown_out: int
    people: int
    connections: int


def serve(pipe: Connection, folder: Path) -> None:
    """The process of the console: says its address, then what the stack was asked, whenever it is asked."""
    from stvla_ros.console import gate
    from stvla_ros.console.access import Access, TokenConfig
    from stvla_ros.console.audit import AuditLog
    from stvla_ros.console.page import Page
    from stvla_ros.console.session import Session
    from stvla_ros.console.views import CLOUD, GUIDED, JOINTS, RAW, Cloud, Views
    from stvla_ros.description.kinematics import tcp_pose
    from stvla_ros.description.panda import HOME_Q_RAD
    from stvla_ros.types import RobotState

    log = os.open(folder / "log", os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    os.dup2(log, sys.stdout.fileno())
    os.dup2(log, sys.stderr.fileno())
    asked, seen, check = {"goal": 0, "answer": 0, "stop": 0, "release": 0}, [0, 0], gate.check

    def counted(raw: object) -> bool:
        seen[0] += 1
        passed = check(raw)
        seen[1] += passed
        return passed

    gate.check = counted

    class Counting:
        def __getattr__(self, name: str) -> Callable[..., Any]:
            def count(*_: Any) -> Any:
                asked[name] += 1
                raise ConnectionError("This stack only counts.")

            return (lambda: asked.update(stop=asked["stop"] + 1)) if name == "stop" else count

    config = TokenConfig(operate_variable="OPERATE", view_variable="VIEW")
    access = Access("127.0.0.1", config, {"OPERATE": OPERATE, "VIEW": VIEW})
    stack: Any = Counting()
    views, session = Views(), Session(stack, access, AuditLog(folder / "audit.jsonl"))
    page = Page(session, access, views, "127.0.0.1", 0)
    rng = np.random.default_rng(0)
    views.put(JOINTS, RobotState(np.array(HOME_Q_RAD), np.zeros(7), tcp_pose(HOME_Q_RAD), 0.04, 0))
    pipe.send(page.address)
    while True:
        picture = rng.integers(0, 255, (480, 640, 3), np.uint8)
        views.put(RAW, picture)
        views.put(GUIDED, picture)
        views.put(CLOUD, Cloud(rng.normal(size=(5000, 3)).astype(np.float32), picture.reshape(-1, 3)[:5000]))
        if not pipe.poll(PICTURE_S):
            continue
        try:
            pipe.recv()
        except EOFError:
            return
        connections = len(page._server._websock_server._live_connections)
        pipe.send(Count(asked, seen[0], seen[1], page.gate.refused, len(session.shown().people), connections))


class Server:
    """That process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs, folder), daemon=True)
        self._process.start()
        theirs.close()
        try:
            self.netloc = urlsplit(self._pipe.recv()).netloc
        except EOFError as error:
            raise ConnectionError(f"The console does not start: {(folder / 'log').read_text()}") from error

    def count(self) -> Count:
        """What it noted so far. Raises ConnectionError: the console is dead."""
        self._pipe.send(None)
        if not self._pipe.poll(30.0):
            raise ConnectionError("The console does not answer.")
        noted: Count = self._pipe.recv()
        return noted

    def rss_mb(self) -> float:
        """Memory of the process."""
        pages = int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / MB

    def log_mb(self) -> float:
        """What it has written to its output and into the audit log."""
        return sum(file.stat().st_size for file in self.folder.iterdir()) / MB

    def close(self) -> None:
        """End it."""
        self._pipe.close()
        self._process.join(10.0)
        self._process.kill()


@contextlib.contextmanager
def running() -> Iterator[Server]:
    """A console while it is attacked."""
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder))
        try:
            yield server
        finally:
            server.close()


def _valid(rng: random.Random, uuids: list[str]) -> dict[str, Any]:
    uuid = rng.choice(uuids) if uuids else "?"
    some: list[Any] = [
        CAMERA,
        _messages.GuiUpdateMessage(uuid, {"value": rng.choice([True, 3, 0.5, "text", [1, 2], ""])}),
        _messages.CommandTriggerMessage(uuid),
        _messages.TransformControlsUpdateMessage("/path", (1.0, 0.0, 0.0, 0.0), (0.0, 0.0, 0.0)),
    ]
    return dict(msgspec.msgpack.decode(encoded(rng.choice(some))))


WRONG: list[Any] = [
    None,
    True,
    -1,
    2**63,
    1e308,
    float("nan"),
    "x",
    b"\xff",
    [],
    {},
    [[[]]],
    {"a": {"b": 1}},
    "y" * 999,
]
FOREIGN = [
    "ShareUrlRequest", "ShareUrlDisconnect", "GuiFormDirtyMessage", "GuiFormSubmitMessage", "FileTransferStartUpload",
    "FileTransferPart", "GetRenderResponseMessage", "LocalStorageGetItemResponseMessage", "RunJavascriptMessage",
    "GuiRemoveMessage", "ResetGuiMessage", "NoSuchMessage", "Message", "__class__",
]  # fmt: skip
ATTRIBUTES = ["update_cb", "sync_cb", "removed", "gui_api", "uuid", "__class__", "props", "label", "nothing"]


def malformed(kind: str, rng: random.Random, uuids: list[str]) -> bytes:
    """A message that no browser sends (or, by chance, one that it may)."""
    valid = _valid(rng, uuids)
    pack = msgspec.msgpack.encode
    if kind == "random bytes":
        return rng.randbytes(rng.randrange(2000))
    if kind == "truncated":
        raw = pack(valid)
        return raw[: rng.randrange(len(raw))]
    if kind == "flipped bits":
        damaged = bytearray(pack(valid))
        for _ in range(rng.randrange(1, 8)):
            damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
        return bytes(damaged)
    if kind == "wrong types":
        valid[rng.choice([*valid, "type", "more"])] = rng.choice(WRONG)
        return pack(valid)
    if kind == "wrong values":
        return pack(_update(rng, uuids, {"value": rng.choice(WRONG)}))
    if kind == "attributes":
        return pack(_update(rng, uuids, {rng.choice(ATTRIBUTES): rng.choice(WRONG)}))
    if kind == "foreign messages":
        return pack({"type": rng.choice(FOREIGN), "uuid": rng.randbytes(8).hex(), "owner": "", "content": b"x" * 1000})
    if kind == "huge fields":
        return pack(_update(rng, uuids, {"value": "z" * rng.choice([60_000, 65_000, 70_000, 3_000_000])}))
    if kind == "deep":
        return b"\x91" * rng.choice([500, 60_000])
    if kind == "claimed lengths":  # text, array, map and bytes of 4 GB, of which nothing comes
        return rng.choice([b"\xdb", b"\xdd", b"\xdf", b"\xc6"]) + b"\xff\xff\xff\xff" + rng.randbytes(10)
    raise ValueError(kind)


def _update(rng: random.Random, uuids: list[str], updates: dict[str, Any]) -> dict[str, Any]:
    return {"type": "GuiUpdateMessage", "uuid": rng.choice(uuids) if uuids else "?", "updates": updates}


KINDS = (
    "random bytes", "truncated", "flipped bits", "wrong types", "wrong values", "attributes", "foreign messages",
    "huge fields", "deep", "claimed lengths",
)  # fmt: skip


class Raw:
    """A connection without a library, which would take more time than the console; messages are sent as they are."""

    def __init__(self, netloc: str) -> None:
        host, port = netloc.rsplit(":", 1)
        self._socket = socket.create_connection((host, int(port)), 20.0)
        self._number = 0
        request = (
            f"GET / HTTP/1.1\r\nHost: {netloc}\r\nOrigin: http://{netloc}\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n"
            f"Sec-WebSocket-Protocol: viser-v{viser.__version__}\r\n\r\n"
        )
        self._socket.sendall(request.encode())
        self._file = self._socket.makefile("rb")
        while self._file.readline().strip():  # the answer's head
            pass

    def send(self, message: bytes) -> bool:
        """A message and a ping; False: the connection was closed."""
        self._number += 1
        mark = b"mark%04d" % (self._number % 10000)
        self._socket.sendall(frame(0x82, message) + frame(0x89, mark))
        while True:
            first, payload = self._frame()
            if first == 0x88:
                return False
            if first == 0x8A and payload == mark:
                return True

    def _frame(self) -> tuple[int, bytes]:
        """The next frame from the console. Raises OSError: the connection is gone."""
        first, size = self._read(2)
        size = (
            int.from_bytes(self._read(2), "big")
            if size == 126
            else int.from_bytes(self._read(8), "big")
            if size == 127
            else size
        )
        return first, self._read(size)

    def _read(self, size: int) -> bytes:
        if (found := self._file.read(size)) is None or len(found) < size:
            raise ConnectionError("closed")
        return found

    def close(self) -> None:
        """Without a farewell."""
        self._file.close()
        self._socket.close()


def frame(first: int, payload: bytes) -> bytes:
    """A masked frame (RFC 6455, section 5.2); the mask is 0."""
    size = len(payload)
    short = size if size < 126 else 126 if size < 1 << 16 else 127
    more = b"" if size < 126 else struct.pack("!H", size) if size < 1 << 16 else struct.pack("!Q", size)
    return bytes([first, 0x80 | short]) + more + bytes(4) + payload


class Attacker:
    """Sends malformed messages; comes again whenever it is thrown out.

    Args:
        netloc: Where the console is.
        seed: Of the messages.
        role: Whether it has the viewers' token and widgets, and sends them what they do not take.
    """

    def __init__(self, netloc: str, seed: int, role: bool = False) -> None:
        self._netloc, self._rng, self._role = netloc, random.Random(seed), role
        self._browser: Browser | None = None
        self._raw: Raw | None = None
        self._kinds = KINDS[4:8] if role else KINDS
        self.connections = 0

    def send(self) -> None:
        """One message, and wait until the console has it."""
        kind = self._rng.choice(self._kinds)
        try:
            if self._raw is None and self._browser is None:
                self._come()
            if self._browser is not None:
                self._browser.socket.send(malformed(kind, self._rng, list(self._browser.widgets.values())))
                alive = self._heard(self._browser.socket)
            else:
                assert self._raw is not None
                alive = self._raw.send(malformed(kind, self._rng, []))
        except (ConnectionClosed, OSError):
            alive = False
        if not alive:
            self.leave()

    def _heard(self, connection: Any) -> bool:
        heard, until = connection.ping(), time.monotonic() + 10.0
        while not heard.wait(0.002) and time.monotonic() < until:
            if connection.protocol.state is not State.OPEN:
                return False
        return True

    def _come(self) -> None:
        self.connections += 1
        if not self._role:
            self._raw = Raw(self._netloc)
            return
        self._browser = Browser(self._netloc)
        self._browser.sign_in("Eve", VIEW)
        self._browser.wait("Approve")

    def leave(self) -> None:
        """Close the connection, if there is one."""
        for connection in (self._browser, self._raw):
            if connection is not None:
                connection.close()
        self._raw = self._browser = None


def gigabyte(netloc: str) -> bool:
    """A frame that claims 1 GB, and 10 MB of it: whether the console closes the connection."""
    with dial(netloc) as connection:
        head = bytes([0x82, 0xFF]) + struct.pack("!Q", 1 << 30) + bytes(4)
        try:
            for part in [head, *[bytes(MB)] * 10]:
                connection.socket.sendall(part)
            until = time.monotonic() + 20.0
            while (left_s := until - time.monotonic()) > 0:
                connection.recv(timeout=left_s)  # the page, if it was sent before
        except TimeoutError:
            return False
        except (ConnectionClosed, OSError):
            return True
    return False


PATHS = [
    "/../../../../etc/passwd", "/%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd", "//etc/passwd", "/..%5c..%5cetc/passwd",
    "/assets/../../../../../../etc/passwd", "/%252e%252e/etc/passwd", "/....//....//etc/passwd", "/etc/passwd%00.html",
    "/" + "a" * 7000, "/audit.jsonl", "/.git/config", "file:///etc/passwd", "/?token=" + OPERATE,
]  # fmt: skip


def foreign_paths(server: Server, requests: int) -> dict[str, int]:
    """Ask for files that are not the page's; status -> how often. Raises AssertionError when one is given away."""
    page = _get(server, "/")[1]
    found: dict[str, int] = {}
    for number in range(requests):
        status, body = _get(server, PATHS[number % len(PATHS)])
        assert status != 200 or body == page, PATHS[number % len(PATHS)]
        found[str(status)] = found.get(str(status), 0) + 1
    return found


def _get(server: Server, path: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(server.netloc, timeout=30.0)
    try:
        connection.putrequest("GET", path, skip_accept_encoding=True)
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, answer.read()
    except (OSError, http.client.HTTPException):
        return 0, b""  # thrown out without an answer
    finally:
        connection.close()


def wrong_tokens(server: Server, tokens: int) -> int:
    """Try so many tokens; how many gave a role."""
    browser, given = Browser(server.netloc), 0
    for number in range(tokens):
        browser.sign_in("Mallory", f"{OPERATE[:-1]}{number}")
    time.sleep(1.0)
    given = int("Approve" in browser.widgets)
    browser.close()
    return given


def slow_readers(server: Server, readers: int, seconds: float) -> float:
    """Viewers that never read; the console's memory when they have stood there so long, less that at their beginning [MB]."""
    sockets = []
    for _ in range(readers):
        browser = Browser(server.netloc)
        browser.sign_in("Sloth", VIEW)
        browser.wait("Approve")
        browser.socket.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        halted = threading.Event()
        browser._hear = lambda _, halted=halted: halted.wait()  # type: ignore[method-assign,misc]
        sockets.append((browser, halted))
    time.sleep(min(5.0, seconds / 4))
    before = server.rss_mb()
    time.sleep(seconds)
    grown = server.rss_mb() - before
    for browser, halted in sockets:
        halted.set()
        browser.close()
    return grown


def attack(server: Server, messages: int, viewers: float, seed: int) -> int:
    """Until the console has looked at so many messages, a share of them from viewers; the connections that it took."""
    attackers = [Attacker(server.netloc, seed), Attacker(server.netloc, seed + 1, role=True)]
    end = server.count().seen + messages
    for attacker, until in zip(attackers, (end - int(viewers * messages), end), strict=True):
        while (left := until - server.count().seen) > 0:
            for _ in range(min(left, 200)):
                attacker.send()
        attacker.leave()
    return sum(a.connections for a in attackers)


def run(messages: int, seconds: float, seed: int = 0) -> dict[str, Any]:
    """All of it."""
    with running() as server:
        attack(server, 200, 0.2, seed)  # whatever is loaded or cached once is there
        before, begun = server.rss_mb(), time.monotonic()
        connections = attack(server, messages // 2, VIEWERS, seed + 2)
        middle = server.rss_mb()
        connections += attack(server, messages // 2, VIEWERS, seed + 4)
        thrown_out = [gigabyte(server.netloc) for _ in range(max(1, messages // 1000))]
        took_s, after = time.monotonic() - begun, server.rss_mb()
        paths = foreign_paths(server, max(len(PATHS), messages // 100))
        grown = slow_readers(server, 8, seconds)
        tokens = wrong_tokens(server, 100)
        until = time.monotonic() + 30.0
        while server.count().connections and time.monotonic() < until:
            time.sleep(0.1)
        last = server.count()
        return {
            "benchmark": "console fuzz",
            "seconds": round(took_s, 1),
            "connections": connections,
            "frames_of_1_GB": len(thrown_out),
            "frames_of_1_GB_thrown_out": sum(thrown_out),
            "rss_mb": {"before": round(before, 1), "middle": round(middle, 1), "after": round(after, 1)},
            "rss_grown_by_slow_readers_mb": round(grown, 1),
            "rss_mb_at_the_end": round(server.rss_mb(), 1),
            "log_mb": round(server.log_mb(), 2),
            "tokens_that_gave_a_role": tokens,
            "answers_to_foreign_paths": paths,
            "console": asdict(last),
        }
