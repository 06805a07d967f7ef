"""A model behind a server, as a :class:`stvla_ros.planning.chat.ChatModel`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine, Mapping, Sequence
from threading import Lock
from typing import Any, TypeVar

import httpx2

from stvla_ros.errors import CancelToken, OutcomeCode, StageError
from stvla_ros.planning.chat import Turn
from stvla_ros.planning.openai.messages import answer, excerpt, question
from stvla_ros.planning.openai.server import Address, ServerConfig, address

IDLE_S = 300.0
"""A connection without a question for so long is closed."""

BUSY = (429, 503)

T = TypeVar("T")


class ServerChat:
    """Asks a server; one connection, kept open between questions.

    The deadline is for everything together: name look-up, connection, TLS, the question's way, every byte of the
    answer. A server that sends a byte now and then does not get more time. Nothing is sent to another address than the one
    given: no redirects, no proxies from the environment.

    Raises:
        ConfigError: The settings are of no use; the message says which.
    """

    def __init__(self, config: ServerConfig, where: str) -> None:
        self._config, self._where = config, where
        self._address: Address = address(config, where)
        self._lock = Lock()
        self._runner: asyncio.Runner | None = None
        self._client: httpx2.AsyncClient | None = None

    @property
    def name(self) -> str:
        """Of the model at the server."""
        return self._config.model

    def reply(
        self,
        turns: Sequence[Turn],
        max_tokens: int,
        schema: Mapping[str, Any] | None = None,
        cancel: CancelToken | None = None,
    ) -> str:
        """See :class:`stvla_ros.planning.chat.ChatModel`.

        Raises:
            StageError: SERVER_TIMEOUT for what comes too late; SERVER_ERROR for no connection, a broken one, or a status that is an
                error (the sentence says which, and what to do); REPLY_UNPARSABLE for an answer that is too long, cut off, or no completion;
                the reason of ``cancel``: the connection is closed, at which servers stop thinking.
        """
        if not self._lock.acquire(timeout=self._config.reply_deadline_s):
            raise self._no_answer(
                OutcomeCode.SERVER_TIMEOUT, f"was busy with another question for {self._config.reply_deadline_s:g} s."
            )
        try:
            body = json.dumps(question(self._config, turns, max_tokens, schema)).encode()
            status, content = self._call(body, cancel or CancelToken())
        finally:
            self._lock.release()
        try:
            if status != 200:
                raise self._no_answer(OutcomeCode.SERVER_ERROR, self._meaning(status, content))
            return answer(content, self._address.host)
        except StageError as error:
            raise StageError(error.code, self._address.without_token(error.sentence)) from None

    def close(self) -> None:
        """Close the connection; the next question opens another one."""
        with self._lock:
            if self._runner is not None:
                if self._client is not None:
                    self._runner.run(self._client.aclose())
                self._runner.close()
            self._runner = self._client = None

    def _call(self, body: bytes, cancel: CancelToken) -> tuple[int, bytes]:
        """Status and content of one exchange."""
        cancel.raise_if_set()
        if self._runner is None:
            self._runner = asyncio.Runner()
        try:
            return self._runner.run(self._unless(cancel, self._exchange(body)))
        except asyncio.CancelledError:
            cancel.raise_if_set()
            raise
        except TimeoutError:
            wanted = self._config.reply_deadline_s
            raise self._no_answer(
                OutcomeCode.SERVER_TIMEOUT, f"gave no whole answer within {wanted:g} s (reply_deadline_s)."
            ) from None
        except httpx2.HTTPError as error:
            raise self._no_answer(OutcomeCode.SERVER_ERROR, self._lost(error)) from error

    async def _unless(self, cancel: CancelToken, exchange: Coroutine[Any, Any, T]) -> T:
        task = asyncio.ensure_future(exchange)
        loop = asyncio.get_running_loop()

        def stop() -> None:
            loop.call_soon_threadsafe(task.cancel)

        release = cancel.on_cancel(stop)
        try:
            return await task
        finally:
            release()

    async def _exchange(self, body: bytes) -> tuple[int, bytes]:
        async with asyncio.timeout(self._config.reply_deadline_s):
            try:
                return await self._once(body)
            except (httpx2.RemoteProtocolError, httpx2.ReadError, httpx2.WriteError):
                return await self._once(body)  # a kept connection that the server had given up meanwhile; once

    async def _once(self, body: bytes) -> tuple[int, bytes]:
        async with self._connection().stream("POST", self._address.url, content=body, headers=self._headers()) as sent:
            return sent.status_code, await self._content(sent)

    async def _content(self, sent: httpx2.Response) -> bytes:
        """All bytes of an answer, as they came."""
        most, parts, size = self._config.max_reply_bytes, [], 0
        if sent.headers.get("content-encoding", "identity").lower() != "identity":
            raise self._refused("packed, though that was not asked for")
        async for part in sent.aiter_raw():
            size += len(part)
            if size > most:
                raise self._refused(f"longer than {most} bytes (max_reply_bytes)")
            parts.append(part)
        return b"".join(parts)

    def _connection(self) -> httpx2.AsyncClient:
        if self._client is None:
            limits = httpx2.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=IDLE_S)
            tls = self._address.tls if self._address.tls is not None else True
            self._client = httpx2.AsyncClient(
                verify=tls, timeout=None, limits=limits, trust_env=False, follow_redirects=False
            )
        return self._client

    def _headers(self) -> dict[str, str]:
        headers = {"Content-Type": "application/json", "Accept": "application/json", "Accept-Encoding": "identity"}
        return headers | ({"Authorization": f"Bearer {self._address.token}"} if self._address.token else {})

    def _refused(self, what: str) -> StageError:
        return StageError(OutcomeCode.REPLY_UNPARSABLE, f"{self._address.host} sent an answer that is {what}.")

    def _no_answer(self, code: OutcomeCode, what: str) -> StageError:
        sentence = f"{self._address.host} ({self._config.model}) {what}"
        return StageError(code, self._address.without_token(sentence))

    def _meaning(self, status: int, content: bytes) -> str:
        """What a status says, and what to do."""
        said = f" It says: '{excerpt(content)}'"
        if status in (401, 403):
            variable = self._config.token_variable
            todo = f"check the token in {variable}" if variable else f"set {self._where}.token_variable"
            return f"refused the token with status {status}: {todo}."
        if status == 404:
            return f"has no such model or address (status 404): check {self._where}.model and base_url.{said}"
        if status in BUSY:
            return f"is too busy (status {status}): ask again later, or raise its limits.{said}"
        if 300 <= status < 400:
            return f"wants to send us elsewhere (status {status}): set {self._where}.base_url to where it really is."
        if status in (400, 422) and self._config.structured:
            return f"did not take the question (status {status}); if it knows no response_format, set structured to false.{said}"
        return f"answered with status {status}.{said}"

    def _lost(self, error: httpx2.HTTPError) -> str:
        words = excerpt(str(error)) or type(error).__name__
        if isinstance(error, httpx2.ConnectError):
            return f"cannot be reached ({words}): is the server running, and is {self._where}.base_url right?"
        return f"broke the connection off ({words})."
