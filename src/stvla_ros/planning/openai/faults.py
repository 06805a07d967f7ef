"""Errors of a server: what they mean, what to do, and whether waiting helps."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.planning.openai.server import ServerConfig

FEW = 3
"""Attempts when an answer was lost in transit: limited, in case the question itself crashes the server."""

ALWAYS = math.inf
"""Retry until the deadline: for conditions that end by themselves."""

GATEWAY = (502, 504, 520, 521, 522, 523, 524)
WAITING = (408, 409, 425, 429, 503, 529, *GATEWAY)
"""Statuses of a server that may answer later."""

_SHOWN = frozenset(
    {"message", "msg", "error", "errors", "detail", "details", "description", "reason", "title", "loc", "raw"}
    | {"error_msg", "error_message", "error_description", "status_msg"}
)
_PASSED_OVER = frozenset(("input", "ctx", "url", "id", "request_id", "user_id", "headers"))
_STATUS = frozenset(("code", "status", "status_code", "statuscode", "error_code", "http_status"))


class ServerFaultError(StageError):
    """SERVER_ERROR: the server failed, not the model.

    Attributes:
        tries: Number of attempts that are worth making: 1, :data:`FEW` or :data:`ALWAYS`.
        pause_s: Pause requested by the server [s]; 0: none.
    """

    def __init__(self, sentence: str, tries: float = 1, pause_s: float = 0.0) -> None:
        super().__init__(OutcomeCode.SERVER_ERROR, sentence)
        self.tries, self.pause_s = tries, pause_s


@dataclass(frozen=True)
class Refusal:
    """An error response of a server.

    Attributes:
        status: HTTP status, or the one named in an answer with status 200; 0: none.
        words: Text to show; may be empty.
        searched: Everything it said, including codes, in lower case: rules match this.
    """

    status: int
    words: str
    searched: str


@dataclass(frozen=True, eq=False)
class FailedRequest:
    """The request that a server refused.

    Attributes:
        config: Settings of the server.
        where: Name of the settings, for messages.
        path: Path of the address.
        body: The question.
        size: Its size, bytes.
    """

    config: ServerConfig
    where: str
    path: str
    body: Mapping[str, Any]
    size: int


@dataclass(frozen=True)
class Rule:
    """An explanation, and how to recognise its case: by status and by words, where given.

    Attributes:
        meaning: Template with ``{status}``, ``{where}`` and the other names of :meth:`explain`.
        statuses: Statuses; empty: any.
        words: Pattern; empty: any.
        tries: See :class:`ServerFaultError`.
        look: Ask the server for its models, to suggest a right name.
        needs: Applies only if in use: ``structured`` (the setting), ``schema`` (sent with the question).
    """

    meaning: str
    statuses: tuple[int, ...] = ()
    words: str = ""
    tries: float = 1
    look: bool = False
    needs: str = ""

    def fits(self, refusal: Refusal, asked: FailedRequest) -> bool:
        in_use = {"": True, "structured": asked.config.structured, "schema": "response_format" in asked.body}
        by_status = not self.statuses or refusal.status in self.statuses
        return (
            in_use[self.needs] and by_status and (not self.words or re.search(self.words, refusal.searched) is not None)
        )

    def explain(self, refusal: Refusal, asked: FailedRequest) -> str:
        """The explanation, without the server's own words."""
        config, where = asked.config, asked.where
        variable = config.token_variable
        to_variable = (
            f"set {where}.token_variable to the NAME of the environment variable that holds the server's token"
        )
        return self.meaning.format(
            status=f"status {refusal.status}" if refusal.status else "an error in its answer",
            where=where,
            model=config.model,
            token=f"check the token in {variable}" if variable else to_variable,
            image_format=config.image_format,
            other_format="jpeg" if config.image_format == "png" else "png",
            smaller=f"set {where}.image_format to jpeg, or " if config.image_format == "png" else "",
            token_limit=config.token_limit,
            other_limit="max_completion_tokens" if config.token_limit == "max_tokens" else "max_tokens",
            max_tokens=asked.body[config.token_limit],
            path=asked.path,
            size_kb=-(-asked.size // 1000),
        )


_LOADING = r"(?<!error )(?<!failed )(?<!unable )loading|starting|warm(ing)?[ -]?up|not (yet )?ready|initiali[sz]ing"
_BUSY = (
    r"overload|rate.?limit|too many requests|resource.?exhausted|try again|retry|temporar|unavailable|no healthy upstream"
    r"|upstream connect error|capacity|insufficient.?system.?resource|timed? ?out"
)
_NEVER_HELPS = r"insufficient.?(quota|credit|balance|funds)|credit balance|out of credit|payment required"
_NO_SCHEMA = (
    r"response_?format|json.?schema|json.?object|json.?mode|json_validate|grammar|guided.(json|decoding|regex|choice)"
    r"|structured.?output|outlines|(invalid|unsupported) schema|\bschema\b.{0,40}(support|invalid|compile|convert)"
)
_NOT_KNOWN = r"(unsupported|unknown|unrecogni[sz]ed|unexpected|extra|not (supported|permitted|allowed))"
_NO_PATH = (
    r"unexpected endpoint|invalid url|(no such|unknown) (endpoint|route|url)|(endpoint|route|path|url) .{0,60}not found"
    r"|cannot post"
)
_HAS_NO_PATH = "has no {path} ({status}): set {where}.base_url to its address up to the version, mostly /v1."
_STREAM_ONLY = (
    r"only supports? stream|stream\W{0,3}(mode )?(must be|should be|needs to be|is required)|enable the stream"
)
_BROKEN = (0, 500)

IS_LOADING = "is still loading ({status}): wait until it is ready."
IS_BUSY = "is too busy ({status}): ask again later, or raise its limits."

RULES = (
    Rule("has no credit left for this token ({status}): add credit, or use another server.", (402,)),
    Rule("has no credit left for this token ({status}): add credit, or use another server.", (), _NEVER_HELPS),
    Rule(
        "does not answer the proxy in front of it ({status}): check that it runs, and the timeout of the proxy.",
        GATEWAY,
        tries=ALWAYS,
    ),
    Rule(IS_LOADING, WAITING, _LOADING, ALWAYS),
    Rule(IS_BUSY, WAITING, tries=ALWAYS),
    Rule(
        "expects TLS and was contacted without it ({status}): set {where}.base_url to https://...",
        words=r"plain http request was sent to https|http request to an https server",
    ),
    Rule(
        "has no room for the question, its images and {max_tokens} tokens of answer ({status}): raise the model's "
        "context at the server (vLLM --max-model-len, llama.cpp --ctx-size, Ollama OLLAMA_CONTEXT_LENGTH), or lower "
        "{where}.max_tokens.",
        words=r"context.{0,9}(length|size|window)|context.{0,30}(overflow|exceed)|max_model_len|model length|n_ctx"
        r"|exceed.{0,60}\btokens\b|\btokens\b.{0,80}(exceed|too (large|long)|must be|maximum)|too many tokens"
        r"|at most \d{1,9}.{0,20} tokens|prompt is too long|token count",
    ),
    Rule(
        "accepts fewer images than the two that a plan sends ({status}): raise its limit "
        "(vLLM --limit-mm-per-prompt '{{\"image\": 2}}').",
        words=r"at most [1-9]\d{0,8} (image|multi)|limit.mm.per.prompt|too many images|multiple images|number of images"
        r"|(only|at most|maximum|max|up to)\b.{0,30}\b(one|single|[1-9]\d?) images?\b",
    ),
    Rule(
        "cannot read the images as {image_format} ({status}): set {where}.image_format to {other_format}.",
        words=r"(unsupported|invalid|unknown|unrecogni[sz]ed|corrupt\w{0,3}|cannot identify|(could not|failed to|unable to)"
        r" (load|process|decode|identify|open)|error (loading|processing|decoding)).{0,30}\b(images?|mime|media.type)\b"
        r"|\bimages?\b.{0,20}\b(format|mime|media.type)\b|must be a base64",
    ),
    Rule(
        "rejects the images as too large ({status}): {smaller}let the camera send smaller ones.",
        words=r"\bimages?\b.{0,60}(too (large|big|small)|exceed|larger than|smaller than|size limit|maximum)"
        r"|too large.{0,20}\bimages?\b",
    ),
    Rule(
        "accepts no images with this model ({status}): name a vision model in {where}.model, or load its vision part "
        "(llama.cpp --mmproj).",
        words=r"image input is not supported|not a (multi.?modal|vision)|not (support|accept|able to (see|process)).{0,40}"
        r"(image|vision|multi.?modal)|support image input|image_url.{0,20} is only supported|unknown variant .?image_url"
        r"|content\W.{0,40}(must be|should be|expected|valid) .{0,9}str|mmproj|required for image|at most 0 (image|multi)"
        r"|(image|vision|multi.?modal).{0,30}(not |un)support",
    ),
    Rule(
        "cannot constrain answers to a JSON schema ({status}): set {where}.structured to false.",
        (0, 400, 404, 415, 422, 500, 501),
        _NO_SCHEMA,
        needs="structured",
    ),
    Rule(
        "does not know {token_limit} ({status}): set {where}.token_limit to {other_limit}.",
        (0, 400, 422),
        rf"{_NOT_KNOWN}.{{0,80}}max_(completion_)?tokens|max_(completion_)?tokens.{{0,80}}{_NOT_KNOWN}",
    ),
    Rule(
        "does not accept this temperature ({status}): set {where}.temperature to -1 to send none.",
        (0, 400, 422),
        "temperature",
    ),
    Rule(
        "has no model '{model}' ({status}): set {where}.model to one of its models.",
        (0, 400, 403, 404, 422, 500),
        r"model.{0,120}(not found|not exist|not (a )?valid|not available|not loaded|not supported by|no longer|decommissioned)"
        r"|(unknown|invalid|no such|unsupported|nonexistent|not a valid) model|model.?not.?(found|exist)|try pulling"
        r"|no models? loaded|unable to (access|find) model|failed to load model|no endpoints found for",
        look=True,
    ),
    Rule("refused the token with {status}: {token}.", (401,)),
    Rule(
        "refused the token ({status}): {token}.", (0, 400, 500), r"api.?key|unauthenticated|unauthori[sz]ed|authenticat"
    ),
    Rule("refuses access with {status}: check that the token may use this model, and {token}.", (403, 407)),
    Rule(
        "has too little memory for the question ({status}): give it more, or send smaller images.",
        words="out of memory|resource limitations|outofmemory",
    ),
    Rule(IS_LOADING, _BROKEN, _LOADING, ALWAYS),
    Rule(IS_BUSY, _BROKEN, _BUSY, ALWAYS),
    Rule(_HAS_NO_PATH, words=_NO_PATH, look=True),
    Rule(_HAS_NO_PATH, (404, 410), r"(?s)^(?!.*model).*not found|^$", look=True),
    Rule("has no such model or nothing at {path} ({status}): check {where}.model and base_url.", (404, 410), look=True),
    Rule(
        "accepts no questions at {path} ({status}): another service is there; set {where}.base_url to the address of the model.",
        (405,),
    ),
    Rule(
        "or a proxy in front of it rejects a question of {size_kb} kB ({status}): {smaller}raise the limit "
        "(nginx client_max_body_size).",
        (413,),
    ),
    Rule(
        "rejected the question ({status}); if it does not support response_format, set {where}.structured to false.",
        (400, 422),
        needs="schema",
    ),
    Rule("rejected the question ({status}).", (400, 422)),
    Rule("answered with an error.", (0,)),
    Rule("answered with {status}."),
)
"""The first match applies. Statuses that mean "later" come before words: they are reliable, words are not."""


def meaning(refusal: Refusal, asked: FailedRequest) -> Rule:
    """The rule that explains a refusal."""
    return next(rule for rule in RULES if rule.fits(refusal, asked))


def wants_stream(refusal: Refusal) -> bool:
    """The server only answers as a stream."""
    return re.search(_STREAM_ONLY, refusal.searched) is not None


def refusal_of(status: int, content: Any, text: str) -> Refusal:
    """The refusal in a response.

    Args:
        status: HTTP status.
        content: Its JSON; None if there is none.
        text: Its text.
    """
    if content is None:
        words = plain(text)
        return Refusal(status if status != 200 else 0, words, words.lower())
    leaves = list(_leaves(content))
    named = next((int(v) for k, v in leaves if k in _STATUS and re.fullmatch(r"[45]\d\d", v, re.A)), 0)
    words = "; ".join(dict.fromkeys(v for k, v in leaves if k in _SHOWN and not v.isdigit())) or text
    searched = " ".join(v for _, v in leaves)[:8000].lower()
    if status in (200, 500):  # litellm and others wrap what another server refused in a 500
        status = named or (500 if status == 500 else 0)
    return Refusal(status, words, searched)


def has_error(content: Any) -> bool:
    """JSON with status 200 that is an error nevertheless."""
    if isinstance(content, list):
        return any(has_error(item) for item in content[:1])
    if not isinstance(content, dict):
        return False
    choices = content.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    if any(map(_is_set, (content.get("error"), content.get("errors"), isinstance(first, dict) and first.get("error")))):
        return True
    if choices:
        return False
    said = any(isinstance(content.get(key), str) for key in ("message", "msg", "error_msg"))
    named = "error" in (content.get("object"), content.get("type"))
    return said or named or bool(content.get("detail") or content.get("base_resp"))


def _is_set(error: Any) -> bool:
    """The error is not empty, as ``{"code": null, "message": ""}`` is."""
    return any(value not in ("0", "false") for _, value in _leaves(error, "error"))


def _leaves(value: Any, key: str = "", depth: int = 6) -> Iterator[tuple[str, str]]:
    """Key and text of all strings and numbers in JSON, except parts that echo the question."""
    if isinstance(value, Mapping) and depth:
        for name, inner in list(value.items())[:50]:
            if name.lower() not in _PASSED_OVER:
                yield from _leaves(inner, name.lower(), depth - 1)
    elif isinstance(value, list) and depth:
        for inner in value[:10]:
            yield from _leaves(inner, key, depth - 1)
    elif isinstance(value, str) and value.strip():
        yield key, value.strip()[:4000]
    elif isinstance(value, (int, float)) and value is not False:
        yield key, str(value)[:20].lower()


def plain(text: str) -> str:
    """Plain text of a web page or a text."""
    if not is_page(text):
        return text[:4000]
    title = re.search(r"<title[^>]{0,200}>([^<]{1,300})</title>", text[:20_000], re.I)
    if title:
        return title[1].strip()
    text = re.sub(r"<(script|style)\b.{0,4000}?</\1>|<[^>]{0,500}>", " ", text[:20_000], flags=re.I | re.S)
    return text.strip()[:4000]


def is_page(text: str) -> bool:
    """A web page."""
    return bool(re.match(r"\s{0,99}(<!doctype html|<html|<head|<\?xml)", text, re.I))


def says_busy(text: str) -> bool:
    """A line without JSON that asks to retry later, as proxies send it."""
    words = text.strip().lower()
    line = 0 < len(words) < 500 and not words.startswith(("{", "[", "data:", ":")) and not is_page(words)
    return line and re.search(f"{_LOADING}|{_BUSY}", words) is not None


def wanted_pause_s(headers: Mapping[str, str]) -> float:
    """The pause requested by a server [s]: ``Retry-After`` in seconds or as a date, ``retry-after-ms``; 0: none."""
    for name, scale in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        text = headers.get(name, "").strip()
        if re.fullmatch(r"\d{1,9}(\.\d{0,9})?", text, re.A):
            return float(text) * scale
    try:
        until = _date(headers.get("retry-after", ""))
    except (ValueError, OverflowError):
        return 0.0
    try:  # relative to the server's clock: this machine's may be wrong
        now = _date(headers.get("date", ""))
    except (ValueError, OverflowError):
        now = datetime.now(UTC)
    return max(0.0, (until - now).total_seconds())


def _date(text: str) -> datetime:
    """Raises ValueError or OverflowError for anything but an HTTP date."""
    date = parsedate_to_datetime(text)
    return date if date.tzinfo else date.replace(tzinfo=UTC)
