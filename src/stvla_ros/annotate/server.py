"""The annotation tool over HTTP: the page, images by number, and JSON. What a client may send is decided here.

==========================================  ===============================================================
``GET  /api/me``                            who asks, templates
``POST /api/login``                         ``token`` -> a cookie that scripts of the page cannot read
``GET  /api/videos``                        a page of videos: ``after``, ``state``, ``search``
``GET  /api/videos/ID``                     camera, annotation, state, version
``PUT  /api/videos/ID``                     ``version``, ``operation``, ``document`` -> the newest; 409 with it if stale
``POST /api/videos/ID/restore``             ``version``, ``old``: an older revision becomes the newest
``POST /api/videos/ID/move``                ``version``, ``verb``, ``reason``; an auditor's own ``document``
``POST /api/videos/ID/audit``               ``version``, ``document``: how far the annotation is from the auditor's own
``GET  /api/videos/ID/revisions``           who did what
``GET  /api/videos/ID/frames/N.jpg``        colour; ``thumb`` small
``GET  /api/videos/ID/depth/N.png``         depth as PNG with 16 bits
``GET  /api/videos/ID/depth/N``             depth as little-endian numbers of 16 bits
``GET  /api/plan``                          the plan of a batch of all audited actions: ``wanted``, ``confidence``, ``usual``
``GET  /api/batches``, ``POST``             batches; draw one by the plan that was shown
``POST /api/batches/ID/verdict``            ``video``, ``action``, ``good``, ``reason``
``GET  /api/export``                        a zip of ``info.json`` of all accepted videos
==========================================  ===============================================================

Errors are JSON with an ``error`` in one sentence. Paths of files never come from a client: videos and frames are numbers.
"""

from __future__ import annotations

import json
import math
import socket
from collections.abc import Awaitable, Callable, Mapping
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from typing import Any

from stvla_ros.annotate import export, videos
from stvla_ros.annotate.document import forms
from stvla_ros.annotate.review import Person, RefusedError, Role, State
from stvla_ros.annotate.store import FullError, StaleError, Store, UnknownError
from stvla_ros.annotate.videos import ImageError
from stvla_ros.config import ConfigError
from stvla_ros.console.access import origin_refusal
from stvla_ros.data.st_human.plain import FormatError
from stvla_ros.files import said
from stvla_ros.tokens import is_loopback

try:
    import uvicorn
    from starlette.applications import Starlette
    from starlette.concurrency import run_in_threadpool
    from starlette.exceptions import HTTPException
    from starlette.requests import Request
    from starlette.responses import JSONResponse, Response
    from starlette.routing import Mount, Route
    from starlette.staticfiles import StaticFiles
    from starlette.types import ASGIApp, Receive, Scope, Send
except ImportError as error:
    raise ConfigError(
        "The annotation tool needs the Python packages 'starlette' and 'uvicorn' (the extra 'annotate'): "
        "pip install --no-deps starlette uvicorn anyio click h11 idna typing_extensions."
    ) from error

PAGE = Path(__file__).with_name("page")
"""What ``make web`` builds from ``web/annotate``."""

MOST_BYTES = 4 << 20
"""Of a request's body; an annotation of 5 actions has 100 kB."""

MOST_CLIENTS = 128
"""Requests at a time; more are answered with 503."""

COOKIE = "stvla_annotate"

ALONE = Person("you", Role.ADMIN, alone=True)
"""Whoever reaches a page that is served to this computer only and has no people."""

_HEADERS = [
    (b"content-security-policy", b"default-src 'self'; img-src 'self' blob: data:; style-src 'self' 'unsafe-inline'; "
     b"frame-ancestors 'none'; base-uri 'none'; form-action 'self'"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
]  # fmt: skip
_FOREVER = {"cache-control": "private, max-age=31536000, immutable"}
_STATUS: tuple[tuple[type[Exception], int], ...] = (
    (RefusedError, 403), (UnknownError, 404), (IndexError, 404), (FullError, 507), (FormatError, 422), (ImageError, 500),
)  # fmt: skip


class Gate:
    """Stands before all requests: address, origin, size of the body, headers of the answer.

    Args:
        app: What is behind it.
        loopback: Whether the page is served to this computer only.
    """

    def __init__(self, app: ASGIApp, loopback: bool) -> None:
        self._app, self._loopback = app, loopback

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def answer(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *_HEADERS]
            await send(message)

        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        host, origin = headers.get(b"host", ""), headers.get(b"origin")
        try:
            refusal = origin_refusal(f"http://{host}" if origin is None else origin, host, self._loopback)
            length = int(headers.get(b"content-length", "0"))
        except ValueError:
            refusal, length = "Header Host, Origin or Content-Length cannot be read.", 0
        if refusal is not None:
            await _error(403, refusal)(scope, receive, answer)
        elif length > MOST_BYTES:
            await _error(413, f"A request has at most {MOST_BYTES} bytes.")(scope, receive, answer)
        else:
            await self._app(scope, receive, answer)


def make_app(store: Store, host: str) -> Gate:
    """The application for one address.

    Args:
        store: Of the videos.
        host: Address that it is served at.

    Raises:
        ConfigError: Other computers reach the address, and nobody has a token.
    """
    loopback = is_loopback(host)
    if not loopback and not store.people():
        raise ConfigError(
            f"--host: {host} can be reached from other computers, and nobody has a token: whoever reaches the page could "
            "change annotations. Add people with --add NAME:ROLE first, or use 127.0.0.1."
        )
    tool = _Tool(store, loopback)
    routes = [
        Route("/api/me", tool.me),
        Route("/api/login", tool.login, methods=["POST"]),
        Route("/api/videos", tool.listed),
        Route("/api/videos/{video:int}", tool.opened),
        Route("/api/videos/{video:int}", tool.save, methods=["PUT"]),
        Route("/api/videos/{video:int}/restore", tool.restore, methods=["POST"]),
        Route("/api/videos/{video:int}/move", tool.move, methods=["POST"]),
        Route("/api/videos/{video:int}/audit", tool.audit, methods=["POST"]),
        Route("/api/videos/{video:int}/revisions", tool.revisions),
        Route("/api/videos/{video:int}/frames/{frame:int}.jpg", tool.frame),
        Route("/api/videos/{video:int}/depth/{frame:int}.png", tool.depth_png),
        Route("/api/videos/{video:int}/depth/{frame:int}", tool.depth),
        Route("/api/plan", tool.plan),
        Route("/api/batches", tool.batches),
        Route("/api/batches", tool.draw, methods=["POST"]),
        Route("/api/batches/{batch:int}/verdict", tool.verdict, methods=["POST"]),
        Route("/api/export", tool.exported),
        Mount("/", StaticFiles(directory=PAGE, html=True, check_dir=False)),
    ]
    handlers = {HTTPException: _http_error}
    return Gate(Starlette(routes=routes, exception_handlers=handlers), loopback)  # type: ignore[arg-type]


class _Tool:
    """The handlers. Each one asks who it is first; work on the store and on images is done in threads."""

    def __init__(self, store: Store, loopback: bool) -> None:
        self._store, self._loopback = store, loopback
        self._infos: dict[int, tuple[Path, Any]] = {}

    async def me(self, request: Request) -> Response:
        async def work(person: Person) -> Response:
            return JSONResponse({"name": person.name, "role": person.role, "alone": person.alone, "templates": forms()})

        return await self._answer(request, work)

    async def login(self, request: Request) -> Response:
        body = await _body(request)
        token = body.get("token")
        person = self._store.person(token) if isinstance(token, str) and len(token) <= 200 else None
        if person is None:
            return _error(401, "This is nobody's token: ask the administrator for one.")
        answer = JSONResponse({"name": person.name, "role": person.role})
        answer.set_cookie(COOKIE, str(token), max_age=30 * 86400, httponly=True, samesite="strict", path="/")
        return answer

    async def listed(self, request: Request) -> Response:
        async def work(_: Person) -> Response:
            query = request.query_params
            after, state = _number(query.get("after", "0")), query.get("state", "")
            if state and state not in tuple(State):
                raise FormatError(f"state: wanted one of {', '.join(State)}.")
            chosen = State(state) if state else None
            return JSONResponse(
                await run_in_threadpool(self._store.listed, after, chosen, _text(query.get("search", "")))
            )

        return await self._answer(request, work)

    async def opened(self, request: Request) -> Response:
        async def work(_: Person) -> Response:
            return JSONResponse(await run_in_threadpool(self._store.opened, request.path_params["video"]))

        return await self._answer(request, work)

    async def save(self, request: Request) -> Response:
        async def work(person: Person) -> Response:
            body = await _body(request)
            operation = body.get("operation")
            if operation is not None and not (isinstance(operation, str) and len(operation) <= 80):
                raise FormatError("operation: wanted text of at most 80 characters.")
            version, video = _whole(body, "version"), request.path_params["video"]
            return JSONResponse(
                await run_in_threadpool(self._store.save, person, video, version, operation, body.get("document"))
            )

        return await self._answer(request, work)

    async def restore(self, request: Request) -> Response:
        async def work(person: Person) -> Response:
            body = await _body(request)
            version, old = _whole(body, "version"), _whole(body, "old")
            return JSONResponse(
                await run_in_threadpool(self._store.restore, person, request.path_params["video"], version, old)
            )

        return await self._answer(request, work)

    async def move(self, request: Request) -> Response:
        async def work(person: Person) -> Response:
            body = await _body(request)
            version, verb, reason = _whole(body, "version"), body.get("verb"), _reason(body)
            if not isinstance(verb, str):
                raise FormatError("verb: wanted text.")
            video, own = request.path_params["video"], body.get("document")
            return JSONResponse(await run_in_threadpool(self._store.move, person, video, version, verb, reason, own))

        return await self._answer(request, work)

    async def audit(self, request: Request) -> Response:
        async def work(person: Person) -> Response:
            body = await _body(request)
            video, version = request.path_params["video"], _whole(body, "version")
            return JSONResponse(
                await run_in_threadpool(self._store.distances, person, video, version, body.get("document"))
            )

        return await self._answer(request, work)

    async def revisions(self, request: Request) -> Response:
        async def work(_: Person) -> Response:
            return JSONResponse(await run_in_threadpool(self._store.revisions, request.path_params["video"]))

        return await self._answer(request, work)

    async def frame(self, request: Request) -> Response:
        async def work(_: Person) -> Response:
            read = videos.thumbnail if "thumb" in request.query_params else videos.jpeg
            data = await run_in_threadpool(self._image, request, read)
            return Response(data, media_type="image/jpeg", headers=_FOREVER)

        return await self._answer(request, work)

    async def depth_png(self, request: Request) -> Response:
        async def work(_: Person) -> Response:
            data = await run_in_threadpool(self._image, request, videos.depth_png)
            return Response(data, media_type="image/png", headers=_FOREVER)

        return await self._answer(request, work)

    async def depth(self, request: Request) -> Response:
        async def work(_: Person) -> Response:
            data = await run_in_threadpool(self._image, request, videos.depth_gzip)
            return Response(
                data, media_type="application/octet-stream", headers={**_FOREVER, "content-encoding": "gzip"}
            )

        return await self._answer(request, work)

    def _image(self, request: Request, read: Callable[..., bytes]) -> bytes:
        video = request.path_params["video"]
        if video not in self._infos:
            entry = self._store.entry(video)
            if len(self._infos) > 1000:
                self._infos.clear()
            self._infos[video] = entry.folder, entry.info
        return read(*self._infos[video], request.path_params["frame"])

    async def plan(self, request: Request) -> Response:
        async def work(_: Person) -> Response:
            query = request.query_params
            wanted, confidence = _share(query.get("wanted", "0.95")), _share(query.get("confidence", "0.95"))
            usual = _share(query["usual"]) if query.get("usual") else None
            return JSONResponse(await run_in_threadpool(self._store.plan, wanted, confidence, usual))

        return await self._answer(request, work)

    async def batches(self, request: Request) -> Response:
        async def work(_: Person) -> Response:
            return JSONResponse(await run_in_threadpool(self._store.batches))

        return await self._answer(request, work)

    async def draw(self, request: Request) -> Response:
        async def work(person: Person) -> Response:
            body = await _body(request)
            for name in ("wanted", "confidence"):
                body[name] = _share(body.get(name))
            body["usual"] = None if body.get("usual") is None else _share(body["usual"])
            return JSONResponse({"id": await run_in_threadpool(self._store.draw, person, body)})

        return await self._answer(request, work)

    async def verdict(self, request: Request) -> Response:
        async def work(person: Person) -> Response:
            body = await _body(request)
            action, good = body.get("action"), body.get("good")
            if not isinstance(action, str) or not isinstance(good, bool):
                raise FormatError("verdict: wanted 'action' (text) and 'good' (true or false).")
            batch, video = request.path_params["batch"], _whole(body, "video")
            return JSONResponse(
                await run_in_threadpool(self._store.judge, person, batch, video, action, good, _reason(body))
            )

        return await self._answer(request, work)

    async def exported(self, request: Request) -> Response:
        async def work(person: Person) -> Response:
            if not person.role.includes(Role.ADMIN):
                raise RefusedError(f"The export needs the role {Role.ADMIN}: {person.name} is {person.role}.")
            data = await run_in_threadpool(export.zipped, self._store)
            how = {"content-disposition": 'attachment; filename="st_human.zip"'}
            return Response(data, media_type="application/zip", headers=how)

        return await self._answer(request, work)

    async def _answer(self, request: Request, work: Callable[[Person], Awaitable[Response]]) -> Response:
        person = self._person(request)
        if person is None:
            return _error(401, "Give your token first.")
        try:
            return await work(person)
        except StaleError as stale:
            return JSONResponse({"error": str(stale), "newest": stale.newest}, 409)
        except OverflowError:
            return _error(404, "There is no such number here.")
        except tuple(kind for kind, _ in _STATUS) as error:
            return _error(next(code for kind, code in _STATUS if isinstance(error, kind)), str(error))

    def _person(self, request: Request) -> Person | None:
        if self._loopback and not self._store.people():
            return ALONE
        given = request.headers.get("authorization", "")
        token = given.removeprefix("Bearer ") if given.startswith("Bearer ") else _cookie(request)
        return self._store.person(token) if 0 < len(token) <= 200 else None


def _cookie(request: Request) -> str:
    try:
        found = SimpleCookie(request.headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return ""
    return found.value if found else ""


async def _body(request: Request) -> dict[str, Any]:
    """The JSON object of a request, with numbers and text that JSON can hold. Raises HTTPException."""
    data = bytearray()
    async for part in request.stream():
        data += part
        if len(data) > MOST_BYTES:
            raise HTTPException(413, f"A request has at most {MOST_BYTES} bytes.")
    try:
        value = json.loads(bytes(data))
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError):
        raise HTTPException(400, "The request is not JSON.") from None
    if not isinstance(value, dict):
        raise HTTPException(400, "The request is not a JSON object.")
    return value


def _whole(body: Mapping[str, Any], name: str) -> int:
    value = body.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**62:
        raise FormatError(f"{name}: wanted a whole number.")
    return value


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise FormatError("after: wanted a whole number.")
    return int(text)


def _share(value: Any) -> float:
    try:
        share = float(value)
    except (TypeError, ValueError):
        share = math.nan
    if not 0.0 < share < 1.0:
        raise FormatError("plan: wanted shares between 0 and 1.")
    return share


def _text(text: str) -> str:
    return text.encode(errors="replace").decode()[:80]


def _reason(body: Mapping[str, Any]) -> str | None:
    reason = body.get("reason")
    if reason is not None and not isinstance(reason, str):
        raise FormatError("reason: wanted text.")
    return reason


def _error(status: int, sentence: str) -> JSONResponse:
    return JSONResponse({"error": sentence}, status)


async def _http_error(_: Request, error: HTTPException) -> Response:
    return JSONResponse({"error": error.detail}, error.status_code, headers=error.headers)


def serve(app: Gate, host: str, port: int, ready: Callable[[str], None]) -> None:
    """Serve until Ctrl-C.

    Args:
        app: Of :func:`make_app`.
        host: Address.
        port: Its port; 0: a free one.
        ready: Gets the page's address when it answers.

    Raises:
        ConfigError: The address cannot be used.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.socket(family)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
    except OSError as error:
        raise ConfigError(f"--host, --port: {host} port {port} cannot be used ({said(error)}).") from error
    name = f"[{host}]" if ":" in host else host
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, limit_concurrency=MOST_CLIENTS, server_header=False
    )
    server = _Server(config, lambda: ready(f"http://{name}:{listening.getsockname()[1]}"))
    server.run(sockets=[listening])


class _Server(uvicorn.Server):
    """uvicorn that says when it answers."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()
