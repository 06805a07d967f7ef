"""A model on a server, as a :class:`stvla_ros.planning.chat.ChatModel`."""

from __future__ import annotations

import asyncio
import contextlib
import difflib
import json
import logging
from collections.abc import Coroutine, Mapping, Sequence
from threading import Lock
from typing import Any, TypeVar
from urllib.parse import urljoin, urlsplit

from stvla_ros.errors import CancelToken, OutcomeCode, StageError
from stvla_ros.planning.chat import NotReadyError, Turn
from stvla_ros.planning.openai.connection import Connection, Received
from stvla_ros.planning.openai.faults import (
    ALWAYS,
    FailedRequest,
    ServerFaultError,
    has_error,
    meaning,
    refusal_of,
    says_busy,
    wanted_pause_s,
    wants_stream,
)
from stvla_ros.planning.openai.messages import answer, excerpt, question, read
from stvla_ros.planning.openai.server import COMPLETIONS, Address, ServerConfig, address

PAUSES_S = (0.5, 1.0, 2.0, 4.0, 5.0)
"""Pauses between attempts; the last one repeats."""

MODELS_SHOWN = 5
LOOKING_S, LISTING_S, MARGIN_S = 3.0, 10.0, 0.05
"""Time for asking a server for its models after a refusal, and when nothing else is asked; margin before the deadline,
to report the refusal."""

T = TypeVar("T")

_log = logging.getLogger(__name__)


class ServerChat:
    """Asks a server over one connection, kept open between questions.

    The deadline covers everything: name lookup, connection, TLS, sending the question, every byte of the answer, and
    pauses until a server is ready. A server that trickles bytes gets no extra time. Only the given host is contacted:
    no redirects, no proxies from the environment.

    Raises:
        ConfigError: A setting is unusable; the message says which.
    """

    def __init__(self, config: ServerConfig, where: str) -> None:
        self._config, self._where = config, where
        self._address: Address = address(config, where)
        self._lock = Lock()
        self._runner: asyncio.Runner | None = None
        self._connection: Connection | None = None
        self._streams = False

    @property
    def name(self) -> str:
        """Name of the model at the server."""
        return self._config.model

    def reply(
        self,
        turns: Sequence[Turn],
        max_tokens: int,
        schema: Mapping[str, Any] | None = None,
        cancel: CancelToken | None = None,
    ) -> str:
        """See :class:`stvla_ros.planning.chat.ChatModel`.

        A server that is starting, loading or overloaded is asked again within the deadline, after the pauses it
        requests.

        Raises:
            NotReadyError: It stayed so until the deadline, or requests a pause beyond it.
            StageError: SERVER_TIMEOUT for a late answer; SERVER_ERROR for no connection, a broken one, an error, or
                anything but a completion (the sentence says which, and what to do); REPLY_UNPARSABLE for an answer that
                is too long, cut off, or without text; the reason of ``cancel``, after the connection was closed, which
                makes servers stop computing.
        """
        if not self._lock.acquire(timeout=self._config.reply_deadline_s):
            raise StageError(
                OutcomeCode.SERVER_TIMEOUT,
                f"{self._named} was busy with another question for {self._config.reply_deadline_s:g} s.",
            )
        try:
            return self._call(question(self._config, turns, max_tokens, schema), cancel or CancelToken())
        finally:
            self._lock.release()

    def models(self) -> list[str] | None:
        """Names of the models that the server lists; None if it has no list of them.

        Raises:
            StageError: SERVER_TIMEOUT or SERVER_ERROR for no answer, or none that is HTTP.
        """
        with self._lock:
            if self._runner is None:
                self._runner = asyncio.Runner()
            try:
                return self._runner.run(self._list_models())
            except StageError as error:
                raise StageError(error.code, self._address.without_token(error.sentence)) from None

    async def _list_models(self) -> list[str] | None:
        connection = self._connected()
        try:
            async with asyncio.timeout(min(LISTING_S, self._config.reply_deadline_s)):
                return _listed(await connection.exchange("GET", f"{self._address.base}/models"))
        except TimeoutError:
            raise StageError(OutcomeCode.SERVER_TIMEOUT, connection.late(f"{LISTING_S:g} s")) from None

    def _connected(self) -> Connection:
        if self._connection is None:
            self._connection = Connection(self._address, self._named, self._where, self._config.max_reply_bytes)
        return self._connection

    def close(self) -> None:
        """Close the connection. The next question opens another one."""
        with self._lock:
            if self._runner is not None:
                if self._connection is not None:
                    self._runner.run(self._connection.aclose())
                self._runner.close()
            self._runner = self._connection = None

    def _call(self, body: Mapping[str, Any], cancel: CancelToken) -> str:
        cancel.raise_if_set()
        if self._runner is None:
            self._runner = asyncio.Runner()
        try:
            return self._runner.run(self._unless(cancel, self._until_answered(body)))
        except asyncio.CancelledError:
            cancel.raise_if_set()
            raise

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

    async def _until_answered(self, body: Mapping[str, Any]) -> str:
        """Ask again while that may help and time is left."""
        connection, clock = self._connected(), asyncio.get_running_loop().time
        begin, tries, lost, before = clock(), 0, 0, None
        end = begin + self._config.reply_deadline_s
        while True:
            asked, tries = clock() - begin, tries + 1
            try:
                async with asyncio.timeout_at(end):
                    return await self._once(connection, body, end - MARGIN_S)
            except TimeoutError:
                raise self._late(connection, before, asked) from None
            except ServerFaultError as error:
                fault = ServerFaultError(self._address.without_token(error.sentence), error.tries, error.pause_s)
            except StageError as error:
                raise StageError(error.code, self._address.without_token(error.sentence)) from None
            left, lost = end - clock(), lost + (fault.tries < ALWAYS)
            pause = min(PAUSES_S[min(tries, len(PAUSES_S)) - 1], left / 2)
            if fault.pause_s:
                pause = max(fault.pause_s, PAUSES_S[0])
            over = pause >= left or left < PAUSES_S[0]
            if lost >= fault.tries or (over and fault.tries < ALWAYS):
                raise StageError(fault.code, fault.sentence)
            if over:
                why = f"was asked {tries} times in {clock() - begin:.0f} s."
                if fault.pause_s:
                    why = f"wants a pause of {pause:.0f} s, and an answer has {left:.0f} s left."
                raise NotReadyError(fault.code, f"{fault.sentence} It {why}", pause)
            if tries == 1:
                _log.warning("%s It is asked again for up to %.0f s.", fault.sentence, left)
            before = fault
            await asyncio.sleep(pause)

    async def _once(self, connection: Connection, body: Mapping[str, Any], end: float) -> str:
        """One answer. Raises ServerFaultError, at ``end`` [s of the loop] at the latest, or REPLY_UNPARSABLE."""
        packed = json.dumps({**body, "stream": self._streams}).encode()
        came = await connection.exchange("POST", self._address.url, packed)
        if 300 <= came.status < 400:
            raise self._elsewhere(came)
        content, text = read(came.content), came.content.decode("utf-8", "replace")
        if came.status == 200 and not has_error(content) and not (content is None and says_busy(text)):
            return answer(came.content, self._named)
        refusal = refusal_of(came.status, content, text)
        if wants_stream(refusal) and not self._streams:
            self._streams = True
            return await self._once(connection, body, end)
        asked = FailedRequest(self._config, self._where, urlsplit(self._address.url).path, body, len(packed))
        rule = meaning(refusal, asked)
        what = rule.explain(refusal, asked)
        if rule.look:
            with contextlib.suppress(TimeoutError):  # then the refusal alone is reported
                async with asyncio.timeout_at(min(end, asyncio.get_running_loop().time() + LOOKING_S)):
                    what += await self._offered(connection)
        said = f" It says: '{excerpt(refusal.words)}'." if refusal.words else ""
        raise ServerFaultError(f"{self._named} {what}{said}", rule.tries, wanted_pause_s(came.headers))

    async def _offered(self, connection: Connection) -> str:
        """The server's own models or addresses that would be right."""
        base, url = self._address.base, urlsplit(self._address.base)
        models = await self._models(connection, base)
        if models:
            near = difflib.get_close_matches(self._config.model, models, n=3, cutoff=0.5) or models[:MODELS_SHOWN]
            more = f" and {len(models) - len(near)} more" if len(models) > len(near) else ""
            return f" It has {', '.join(excerpt(name, 80) for name in near)}{more}."
        for other in dict.fromkeys((f"{base}/v1", f"{url.scheme}://{url.netloc}/v1")):
            if models is None and other != base and await self._models(connection, other) is not None:
                return f" There are models at {other}."
        return ""

    async def _models(self, connection: Connection, base: str) -> list[str] | None:
        """Names of the models at an address; None if it has no list of them."""
        try:
            came = await connection.exchange("GET", f"{base}/models")
        except StageError:  # as above
            return None
        return _listed(came)

    def _elsewhere(self, came: Received) -> ServerFaultError:
        location = came.headers.get("location", "")
        to = urljoin(self._address.url, location)
        if location and to.endswith(COMPLETIONS):
            base = excerpt(to.removesuffix(COMPLETIONS))
            what = f"redirects to another address (status {came.status}): set {self._where}.base_url to {base}."
            return ServerFaultError(f"{self._named} {what}")
        return ServerFaultError(
            f"{self._named} redirects (status {came.status}) to '{excerpt(location)}', which is not {COMPLETIONS}: "
            f"set {self._where}.base_url to the right address; a login page means a wrong address or token."
        )

    def _late(self, connection: Connection, before: ServerFaultError | None, lost_s: float) -> StageError:
        """The deadline passed during an exchange."""
        limit = f"{self._config.reply_deadline_s:g} s (reply_deadline_s)"
        if before is None or before.tries < ALWAYS:
            return StageError(OutcomeCode.SERVER_TIMEOUT, connection.late(limit))
        sentence = (
            f"{before.sentence} This lasted {lost_s:.0f} s, and it gave no complete answer in the rest of {limit}."
        )
        return NotReadyError(OutcomeCode.SERVER_TIMEOUT, sentence, 0.0)

    @property
    def _named(self) -> str:
        """Name of the server in messages."""
        return f"{self._address.host} ({self._config.model})"


def _listed(came: Received) -> list[str] | None:
    """The names in an answer of ``/models``; None if it is another answer."""
    listed = read(came.content) if came.status == 200 else None
    models = listed.get("data") if isinstance(listed, dict) else None
    if not isinstance(models, list):
        return None
    return [m["id"] for m in models if isinstance(m, dict) and isinstance(m.get("id"), str)]
