"""The ``remote`` policy: asks a server of ``stvla serve``."""

from __future__ import annotations

import os
import time
import weakref
from contextlib import ExitStack
from dataclasses import dataclass
from typing import cast

from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI
from websockets.sync.client import ClientConnection, connect
from websockets.uri import parse_uri

from stvla_ros.config import ConfigError, param
from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.policy.remote import wire
from stvla_ros.policy.remote.messages import PROTOCOL, Fields, plain_observation, read_answer
from stvla_ros.policy.remote.wire import WireError
from stvla_ros.tokens import is_loopback, read_token
from stvla_ros.types import Keypose, Observation

ANSWER_BYTES = 1 << 20

CLOSE_S = 0.5
"""How long the other side may take to agree to an end."""


@dataclass(frozen=True)
class RemotePolicyConfig:
    """Settings of a policy on a server."""

    url: str = param("ws://127.0.0.1:8000", "address of a server of `stvla serve`; wss:// where TLS ends before it")
    token_file: str = param("", "file with the server's token, mode 600")
    token_variable: str = param("", "NAME of the environment variable with it")
    deadline_s: float = param(10.0, "an answer later than this is SERVER_TIMEOUT [s]", ge=0.05, le=60.0)


def authorization(url: str, token: bytes, where: str) -> dict[str, str]:
    """Headers of a connection to a policy server.

    Args:
        url: Its address.
        token: Its token; empty: it has none.
        where: Setting of the address, for errors.

    Raises:
        ConfigError: It is no address of a websocket, or the token would travel unencrypted to another computer.
    """
    try:
        address = parse_uri(url)
    except InvalidURI as error:
        raise ConfigError(f"{where}: wanted ws://HOST:PORT or wss://..., got '{url}'.") from error
    if token and not address.secure and not is_loopback(address.host):
        raise ConfigError(
            f"{where}: {url} would carry the token unencrypted over the network: use wss://, or a tunnel "
            "(`ssh -L 8000:127.0.0.1:8000 HOST`) and 127.0.0.1."
        )
    return {"Authorization": f"Api-Key {token.decode()}"} if token else {}


class RemotePolicy:
    """Sends observations to a policy server and gives its keyposes. It connects when it is first asked, and anew when the
    connection is gone."""

    Config = RemotePolicyConfig

    def __init__(self, config: RemotePolicyConfig) -> None:
        where = "policy.remote"
        token = read_token(
            (f"{where}.token_file", config.token_file), (f"{where}.token_variable", config.token_variable), os.environ
        )
        self._headers = authorization(config.url, token, f"{where}.url")
        self._url, self._deadline_s = config.url, config.deadline_s
        self._open, self._connection = ExitStack(), cast(ClientConnection | None, None)
        weakref.finalize(self, self._open.close)  # stages have no end of their own, and the server serves one at a time

    def predict(self, observation: Observation) -> Keypose | None:
        """See :class:`stvla_ros.interfaces.Policy`.

        Raises:
            StageError: The server's policy's own; SERVER_TIMEOUT: no answer in time; SERVER_ERROR: the server cannot be
                reached, refuses, fails, or is none of ours.
        """
        end, request = time.monotonic() + self._deadline_s, wire.pack(plain_observation(observation))
        known = self._connection is not None
        try:
            try:
                answer = self._ask(request, end)
            except ConnectionClosed:
                if not known:
                    raise
                answer = self._ask(request, end)  # it had ended since the last question, as with a new server
            return read_answer(answer)
        except TimeoutError as error:
            self.close()
            raise StageError(
                OutcomeCode.SERVER_TIMEOUT,
                f"The policy server at {self._url} did not answer within {self._deadline_s:g} s: see whether it runs and "
                "what it computes on, or raise policy.remote.deadline_s.",
            ) from error
        except (OSError, InvalidHandshake, ConnectionClosed, WireError) as error:
            self.close()
            raise StageError(OutcomeCode.SERVER_ERROR, f"The policy server at {self._url}: {_said(error)}") from error

    def close(self) -> None:
        """End the connection."""
        self._connection = None
        self._open.close()

    def _ask(self, request: bytes, end: float) -> object:
        try:
            connection = self._connected(end)
            connection.send(request)
            raw = connection.recv(max(0.0, end - time.monotonic()))
        except ConnectionClosed:
            self.close()
            raise
        if isinstance(raw, str):
            raise WireError(raw[:300])
        return wire.unpack(raw)

    def _connected(self, end: float) -> ClientConnection:
        if self._connection is None:
            left_s = max(0.001, end - time.monotonic())
            opening = connect(
                self._url, additional_headers=self._headers, compression=None, max_size=ANSWER_BYTES, proxy=None,
                open_timeout=left_s, close_timeout=CLOSE_S,
            )  # fmt: skip
            self._connection = self._open.enter_context(opening)
            first = self._connection.recv(max(0.0, end - time.monotonic()))
            if isinstance(first, str):
                raise WireError(first[:300])
            fields = Fields(wire.unpack(first)).fields
            if fields.get("protocol") != PROTOCOL:
                raise WireError(f"wanted a server of {PROTOCOL}, got one of {str(fields.get('protocol'))[:40]!r}.")
        return self._connection


def _said(error: Exception) -> str:
    """Why there was no answer, in a sentence."""
    if isinstance(error, InvalidStatus) and error.response.status_code == 401:
        return "it wants another token: set policy.remote.token_file or token_variable."
    if isinstance(error, ConnectionRefusedError):
        return "nobody serves there: start `stvla serve`, or correct policy.remote.url."
    if isinstance(error, ConnectionClosed):
        reason = error.rcvd.reason if error.rcvd is not None else ""
        return f"it ended the connection{': ' + reason if reason else '.'}"
    text = " ".join(str(error).split()) or type(error).__name__
    return text if text.endswith(".") else f"{text}."
