"""One connection to a server, kept open between questions, and in words what becomes of it."""

from __future__ import annotations

import socket
import ssl
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit
from urllib.request import getproxies_environment

import httpx2

from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.planning.openai.faults import ALWAYS, FEW, ServerFaultError
from stvla_ros.planning.openai.messages import STREAM_END, excerpt
from stvla_ros.planning.openai.server import HERE, Address

IDLE_S = 300.0
"""An idle connection is closed after this time."""

NO_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG", "UNKNOWN_PROTOCOL")
NOT_YET, EXPIRED, OTHER_NAME = 9, 10, (62, 64)
"""Of OpenSSL's ``x509_vfy.h``: certificate not yet valid, expired; for another host name, for another IP address."""

LARGE = 500_000
"""Bytes of a question for which servers may close the connection instead of answering 413."""

PACKED = ("gzip", "x-gzip", "deflate")


@dataclass(frozen=True)
class Received:
    """A response: ``headers`` with lower-case names, ``content`` uncompressed."""

    status: int
    headers: Mapping[str, str]
    content: bytes


class Connection:
    """A connection of one event loop. It contacts no other host: no redirects, no proxies from the environment.

    Args:
        address: Address of the server.
        named: Name of the server in messages.
        where: Name of its settings, for messages.
        max_bytes: Largest answer.
    """

    def __init__(self, address: Address, named: str, where: str, max_bytes: int) -> None:
        self._address, self._named, self._max_bytes = address, named, max_bytes
        self._base_url, self._ca_file = f"{where}.base_url", f"{where}.ca_file"
        self._phase, self._answers, self._size = "", False, 0
        limits = httpx2.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=IDLE_S)
        tls = address.tls or ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # without TLS, a context that trusts nobody
        self._client = httpx2.AsyncClient(
            verify=tls, timeout=None, limits=limits, trust_env=False, follow_redirects=False
        )

    async def aclose(self) -> None:
        await self._client.aclose()

    async def exchange(self, method: str, url: str, body: bytes | None = None) -> Received:
        """Send a request and return the response.

        Raises:
            ServerFaultError: No connection, a broken one, or an answer that cannot be uncompressed.
            StageError: REPLY_UNPARSABLE for an answer that is too long.
        """
        self._phase, self._answers, self._size = "", False, len(body or b"")
        extensions = {"trace": self._follow}
        try:
            async with self._client.stream(
                method, url, content=body, headers=self._headers(), extensions=extensions
            ) as sent:
                return Received(sent.status_code, sent.headers, await self._content(sent))
        except httpx2.HTTPError as error:
            raise self._lost(error) from error

    def late(self, limit: str) -> str:
        """How far an abandoned exchange got, and what to do. ``limit``: the time limit, in words."""
        if self._phase in ("", "connection.connect_tcp.started"):
            what = f"accepted no connection within {limit}: is {self._base_url} right, and does a firewall block it?"
            return f"{self._named} {what}{self._no_proxy}"
        if self._phase == "connection.start_tls.started":
            return f"{self._named} did not start TLS within {limit}: if it does not use TLS, set {self._base_url} to http://..."
        return f"{self._named} gave no complete answer within {limit}: raise the limit if the model needs longer, or use a faster one."

    async def _follow(self, event: str, _: Mapping[str, object]) -> None:
        if event.endswith(".started") and "response_closed" not in event:  # not the events caused by giving up
            self._phase = event
        self._answers |= event.startswith("http11.receive_response_body")

    def _headers(self) -> dict[str, str]:
        headers = {"Content-Type": "application/json", "Accept": "application/json", "Accept-Encoding": "identity"}
        return headers | ({"Authorization": f"Bearer {self._address.token}"} if self._address.token else {})

    async def _content(self, sent: httpx2.Response) -> bytes:
        packing = sent.headers.get("content-encoding", "").lower() or "identity"
        if packing not in ("identity", *PACKED):
            raise self._fault(
                f"compresses its answers as '{excerpt(packing, 20)}' although not asked to: turn that off in the proxy in front of it."
            )
        unpack = zlib.decompressobj(wbits=47) if packing in PACKED else None  # 47: gzip or zlib, as its head says
        parts, size = [], 0
        try:
            async for part in sent.aiter_raw():
                parts.append(unpack.decompress(part, self._max_bytes + 1) if unpack else part)
                size += len(parts[-1])
                if size > self._max_bytes:
                    what = (
                        f"{self._named} sent an answer that is longer than {self._max_bytes} bytes (max_reply_bytes)."
                    )
                    raise StageError(OutcomeCode.REPLY_UNPARSABLE, what)
        except zlib.error:
            raise self._fault(f"sent an answer that is not {packing}, although its header says so.", FEW) from None
        except httpx2.RemoteProtocolError:
            if not b"".join(parts).rstrip().endswith(STREAM_END):  # a stream that says that it is complete
                raise
        token = self._address.token.encode()
        return b"".join(parts).replace(token, b"***") if token else b"".join(parts)

    def _lost(self, error: httpx2.HTTPError) -> ServerFaultError:
        causes = list(_causes(error))
        words = excerpt(str(causes[-1])) or type(error).__name__
        for cause in causes:
            if isinstance(cause, ssl.SSLCertVerificationError):
                return self._fault(f"cannot be trusted ({words}): {self._mistrust(cause)}.")
            if isinstance(cause, ssl.SSLError) and cause.reason in NO_TLS:
                return self._fault(f"does not use TLS ({words}): set {self._base_url} to http://...")
            if isinstance(cause, ssl.SSLError) and not isinstance(cause, ssl.SSLEOFError):
                return self._fault(
                    f"and this machine share no TLS version or cipher ({words}): check the TLS settings of the server."
                )
            if isinstance(cause, socket.gaierror) and cause.errno != socket.EAI_AGAIN:
                return self._fault(f"is an unknown host name ({words}): is {self._base_url} right?{self._no_proxy}")
        if self._phase.startswith("connection.start_tls"):
            return self._fault(
                f"closed the connection when TLS started ({words}): if it does not use TLS, set {self._base_url} to http://...",
                FEW,
            )
        if isinstance(error, (httpx2.ConnectError, httpx2.ConnectTimeout)):
            tried = "" if urlsplit(self._address.base).port else f" (it names no port: {self._port} was tried)"
            return self._fault(
                f"cannot be reached ({words}): is the server running, and is {self._base_url} right{tried}?{self._no_proxy}",
                ALWAYS,
            )
        if str(error).startswith("illegal"):  # h11's word for bytes that are not a response header
            other = "" if self._address.tls else ", or https://... if it uses TLS"
            return self._fault(f"does not speak HTTP ({words}): set {self._base_url} to the server's port{other}.")
        wants = "" if self._address.tls else ", and whether it wants https://..."
        takes = (
            f", and the largest question it accepts (this one has {self._size // 1000} kB)"
            if self._size > LARGE
            else ""
        )
        more = "" if self._answers else wants + takes
        return self._fault(f"closed the connection ({words}): check the log of the server{more}.", FEW)

    def _fault(self, what: str, tries: float = 1) -> ServerFaultError:
        return ServerFaultError(f"{self._named} {what}", tries)

    @property
    def _no_proxy(self) -> str:
        scheme, host = urlsplit(self._address.base)[0], urlsplit(self._address.base).hostname
        proxied = host not in HERE and scheme in getproxies_environment()
        return f" The proxy in {scheme}_proxy is not used." if proxied else ""

    @property
    def _port(self) -> int:
        return 443 if self._address.tls else 80

    def _mistrust(self, error: ssl.SSLCertVerificationError) -> str:
        if error.verify_code in (NOT_YET, EXPIRED):
            return "renew its certificate, or set this machine's clock"
        if error.verify_code in OTHER_NAME:
            return f"its certificate is for another name; set {self._base_url} to that name"
        return f"set {self._ca_file} to the authority that signed its certificate"


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error and its causes."""
    yield error
    if isinstance(error, BaseExceptionGroup):
        yield from _causes(error.exceptions[0])
    elif (cause := error.__cause__ or error.__context__) is not None:
        yield from _causes(cause)
