"""Serves a policy over a WebSocket: the first message says what it is, then each request gets one answer.

The framing is that of openpi's policy server, so that its client can ask: MessagePack without compression, the token as
``Authorization: Api-Key TOKEN``, a text message before the connection is closed when something is wrong with it,
``GET /healthz``. What is in a request is ours (:mod:`stvla_ros.policy.remote.messages`), or openpi's examples' with our
fields besides (:mod:`stvla_ros.policy.remote.clients`).
"""

from __future__ import annotations

import hmac
import http
import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.sync.server import Server, ServerConnection, serve

from stvla_ros.config import ConfigError
from stvla_ros.errors import StageError
from stvla_ros.interfaces import Policy
from stvla_ros.policy.remote import wire
from stvla_ros.policy.remote.clients import client_of, translated
from stvla_ros.policy.remote.messages import PROTOCOL, plain_answer, plain_failure, read_observation
from stvla_ros.policy.remote.wire import WireError
from stvla_ros.tokens import is_loopback

REQUEST_BYTES = 64 << 20
"""Of one request; one with 1280 x 720 pixels has 7 MB."""

OPEN_S, PING_S = 10.0, 20.0
"""Time limits of a handshake, and of an answer to a ping: who does not answer has gone."""

WRONG, FAILED, BUSY = 1008, 1011, 1013
"""Codes that a connection is closed with (RFC 6455, section 7.4)."""

log = logging.getLogger(__name__)


class PolicyServer:
    """A policy that one robot at a time may ask. Policies remember a step's start, so that two would mix them up.

    Args:
        policy: What is served.
        name: Its backend, for clients.
        host: Address to serve at.
        port: 0: a free one.
        token: Wanted of clients; empty: none.
        tell: Called with a sentence whenever a robot comes or goes.

    Raises:
        ConfigError: The address cannot be used, or others than this computer reach it and there is no token.
    """

    def __init__(
        self,
        policy: Policy,
        name: str,
        host: str,
        port: int,
        token: bytes = b"",
        tell: Callable[[str], None] = log.info,
    ) -> None:
        if not token and not is_loopback(host):
            raise ConfigError(
                f"--host: {host} can be reached from other computers, and there is no token: whoever reaches it could use "
                "the model. Set --token-file or --token-variable, or use 127.0.0.1."
            )
        self._policy, self._name, self._token, self._tell = policy, name, token, tell
        self._one = threading.Lock()
        try:
            self._server: Server = serve(
                self._talk, host, port, compression=None, max_size=REQUEST_BYTES, origins=[None],  # no page of a browser
                process_request=self._admit, open_timeout=OPEN_S, ping_interval=PING_S, ping_timeout=PING_S,
            )  # fmt: skip
        except OSError as error:
            raise ConfigError(f"--host, --port: {host}:{port}: cannot be served at ({error.strerror}).") from error

    @property
    def port(self) -> int:
        """That it is served at."""
        return int(self._server.socket.getsockname()[1])

    def run(self) -> None:
        """Serve until :meth:`close`."""
        self._server.serve_forever()

    def close(self) -> None:
        """Accept nobody any more, and close all connections."""
        self._server.shutdown()

    def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        """An answer in place of a connection."""
        if request.path == "/healthz":
            return connection.respond(http.HTTPStatus.OK, "OK\n")
        given = request.headers.get("Authorization", "").removeprefix("Api-Key ").encode(errors="replace")
        if self._token and not hmac.compare_digest(given, self._token):
            return connection.respond(
                http.HTTPStatus.UNAUTHORIZED, "Wanted the header 'Authorization: Api-Key TOKEN'.\n"
            )
        return None

    def _talk(self, connection: ServerConnection) -> None:
        where = ":".join(map(str, connection.remote_address[:2]))
        if not self._one.acquire(blocking=False):
            _end(connection, BUSY, "Another robot is served: end its connection, or start another server.")
            return
        try:
            self._tell(f"{where}: here.")
            connection.send(wire.pack({"protocol": PROTOCOL, "policy": self._name}))
            while True:
                raw, start = connection.recv(), time.monotonic()
                connection.send(wire.pack(self._answer(raw, start)))
        except ConnectionClosed:
            self._tell(f"{where}: gone.")
        except WireError as error:
            self._tell(f"{where}: {error}")
            _end(connection, WRONG, str(error))
        except Exception:  # a defect of the policy: its traceback is for this side, and the robot must hear of it
            log.exception("%s: the policy failed", where)
            _end(connection, FAILED, "The policy failed: its server's log says how.")
        finally:
            self._one.release()

    def _answer(self, raw: bytes | str, start: float) -> Mapping[str, Any]:
        message = wire.unpack(raw)
        client = client_of(message)
        try:
            asked = translated(message, client) if client else message
            answer = plain_answer(self._policy.predict(read_observation(asked)))
            if client:  # there actions are deltas or joint velocities: nobody may run a pose as those
                del answer["actions"]
        except StageError as error:
            answer = plain_failure(error)
        return {**answer, "server_timing": {"infer_ms": 1e3 * (time.monotonic() - start)}}


def _end(connection: ServerConnection, code: int, sentence: str) -> None:
    """Say why and close: openpi's client takes a text for a failure."""
    try:
        connection.send(sentence)
        connection.close(code, sentence[:120])
    except ConnectionClosed:
        pass
