"""A real HTTP server that answers as a test tells it to, and remembers what it was asked."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Behaviour = Callable[["Exchange"], None]


@dataclass
class Exchange:
    """One request, and the way back."""

    line: str
    headers: dict[str, str]
    body: bytes
    pipe: socket.socket
    over: threading.Event

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def send(self, body: bytes | str, status: str = "200 OK", headers: str = "") -> None:
        """A whole answer; the connection stays open."""
        content = body.encode() if isinstance(body, str) else body
        head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n{headers}\r\n"
        self.pipe.sendall(head.encode() + content)


def completion(text: Any, finish_reason: Any = "stop", **message: Any) -> str:
    """A chat completion as servers send it."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text, **message}, "finish_reason": finish_reason}
    return json.dumps({"id": "x", "object": "chat.completion", "choices": [choice], "usage": {"total_tokens": 3}})


def says(text: Any, finish_reason: Any = "stop", **message: Any) -> Behaviour:
    return lambda exchange: exchange.send(completion(text, finish_reason, **message))


@dataclass
class Server:
    """Listens on a port of this machine, in threads; ``behaviours`` are used up one per request, the last one stays."""

    behaviours: list[Behaviour]
    tls: ssl.SSLContext | None = None
    host: str = "127.0.0.1"
    port: int = 0
    asked: list[Exchange] = field(default_factory=list)
    connections: int = 0

    def __enter__(self) -> Server:
        self._over = threading.Event()
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        self._socket = socket.create_server((self.host, self.port), family=family)
        self.port = self._socket.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._socket.close()

    @property
    def url(self) -> str:
        return f"http{'s' if self.tls else ''}://127.0.0.1:{self.port}/v1"

    def _accept(self) -> None:
        while not self._over.is_set():
            try:
                pipe, _ = self._socket.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(pipe,), daemon=True).start()

    def _serve(self, pipe: socket.socket) -> None:
        try:
            if self.tls is not None:
                pipe = self.tls.wrap_socket(pipe, server_side=True)
            with pipe:
                while (exchange := self._read(pipe)) is not None:
                    self.asked.append(exchange)
                    (self.behaviours.pop(0) if len(self.behaviours) > 1 else self.behaviours[0])(exchange)
        except OSError:
            pass  # the other end has gone, which is what some tests want

    def _read(self, pipe: socket.socket) -> Exchange | None:
        data = b""
        while b"\r\n\r\n" not in data:
            part = pipe.recv(65536)
            if not part:
                return None
            data += part
        head, _, body = data.partition(b"\r\n\r\n")
        line, *rest = head.decode().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (r.partition(":") for r in rest)}
        while len(body) < int(headers.get("content-length", 0)):
            body += pipe.recv(65536)
        return Exchange(line, headers, body, pipe, self._over)


def self_signed(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that nobody vouches for, and its key."""
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    command = [
        "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
        "-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate),
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True, timeout=30)
    return certificate, key
