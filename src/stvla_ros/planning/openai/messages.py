"""Requests and responses of OpenAI's chat completions."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.planning.chat import Turn
from stvla_ros.planning.openai.faults import FEW, ServerFaultError, has_error, is_page, plain
from stvla_ros.planning.openai.server import ServerConfig
from stvla_ros.types import U8

JPEG_QUALITY = 95
STREAM_END = b"[DONE]"

COMPLETE = frozenset(
    {"", "none", "null", "stop", "eos", "eos_token", "stop_token", "stop_sequence", "end_turn", "end"}
    | {"done", "complete", "completed", "finished"}
)
"""Finish reasons of a complete answer, in lower case."""

CUT_OFF = frozenset(
    {"length", "max_tokens", "max_new_tokens", "max_output_tokens", "max_length", "model_length", "token_limit"}
    | {"model_context_window_exceeded"}
)
FILTERED = frozenset(("content_filter", "content_filtered", "safety", "recitation", "prohibited_content", "blocklist"))
CALLS = frozenset(("tool_calls", "tool_call", "tool_use", "function_call", "malformed_function_call"))
BROKEN_OFF = frozenset(("error", "abort", "aborted", "cancelled", "canceled", "network_error", "timeout"))
BROKEN_OFF |= {"insufficient_system_resource", NO_END := "stream without end"}


def question(
    config: ServerConfig,
    turns: Sequence[Turn],
    max_tokens: int,
    schema: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """The body of a request."""
    body: dict[str, Any] = {
        "model": config.model,
        "messages": [_message(turn, config.image_format) for turn in turns],
        config.token_limit: max_tokens,
        "stream": False,
    }
    if config.temperature >= 0:
        body["temperature"] = config.temperature
    if schema is not None and config.structured:
        named = {"name": "reply", "strict": True, "schema": dict(schema)}
        body["response_format"] = {"type": "json_schema", "json_schema": named}
    return body


def _message(turn: Turn, image_format: str) -> dict[str, Any]:
    if not turn.images:
        return {"role": turn.role, "content": turn.text}
    images = [{"type": "image_url", "image_url": {"url": data_uri(image, image_format)}} for image in turn.images]
    return {"role": turn.role, "content": [*images, {"type": "text", "text": turn.text}]}


def data_uri(rgb: U8, image_format: str) -> str:
    """An image (H, W, 3) as a ``data:`` address: PNG without loss, or JPEG."""
    png = image_format == "png"
    quality = [cv2.IMWRITE_PNG_COMPRESSION, 1] if png else [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    done, packed = cv2.imencode(".png" if png else ".jpg", np.ascontiguousarray(rgb[..., ::-1]), quality)
    if not done:
        raise ValueError(f"an image of {rgb.shape} could not be packed")
    return f"data:image/{image_format};base64,{base64.b64encode(packed.tobytes()).decode()}"


def answer(body: bytes, host: str) -> str:
    """The text of a completion: JSON, or a stream of chunks.

    Raises:
        ServerFaultError: Not a completion, or one that the server did not finish.
        StageError: REPLY_UNPARSABLE: cut off, refused by the model, or without text.
    """
    choice = _choice(read(body), body, host)
    message = choice.get("message")
    if not isinstance(message, dict):
        raise _no_answer(host, "a completion without a message", body)
    text = _text(message.get("content"))
    _check_end(choice.get("finish_reason"), message, text, host)
    if not text.strip():
        raise _unusable(host, "an answer without text", body)
    return text.encode("utf-8", "replace").decode()  # a lone surrogate cannot be sent on


def _check_end(reason: Any, message: dict[str, Any], text: str, host: str) -> None:
    """Raise for an incomplete answer. An unknown finish reason may mean half an answer."""
    if isinstance(reason, dict):  # SGLang: {"type": "stop", "matched": 151645}
        reason = reason.get("type")
    end = str(reason).strip().casefold() if reason is None or isinstance(reason, str) else f"{reason!r}"
    if not text.strip() and any(message.get(key) for key in ("reasoning", "reasoning_content", "thinking")):
        cut = end in CUT_OFF
        used = "used all its tokens for thoughts: raise max_tokens, or" if cut else "sent thoughts, no answer:"
        raise StageError(
            OutcomeCode.REPLY_UNPARSABLE,
            f"{host} {used} turn thinking off at the server "
            "(vLLM --default-chat-template-kwargs '{\"enable_thinking\": false}', llama.cpp --reasoning-budget 0).",
        )
    if end in CUT_OFF:
        raise _unusable(host, "an answer that was cut off at its limit of tokens (raise max_tokens)", text)
    refusal = message.get("refusal")
    if isinstance(refusal, str) and refusal:
        raise _unusable(host, "a refusal", refusal)
    if end in BROKEN_OFF:
        raise _no_answer(host, f"an answer that it broke off ({end})", text)
    if end in CALLS:
        raise _unusable(host, f"a call of a tool ({end}) instead of an answer: turn tools off at the server", text)
    if end in FILTERED:
        raise _unusable(host, f"an answer that its filter stopped ({end})", text)
    if end not in COMPLETE:
        raise _unusable(host, f"an answer that ended with {end[:40]!r}, which is not known to be a whole one", text)


def _choice(content: Any, body: bytes, host: str) -> dict[str, Any]:
    choices = content.get("choices") if isinstance(content, dict) else None
    if isinstance(choices, list) and choices and isinstance(choices[0], dict):
        return next((c for c in choices if isinstance(c, dict) and c.get("index") == 0), choices[0])
    text = body.decode("utf-8", "replace").strip()
    if is_page(text):
        raise ServerFaultError(
            f"{host} sent a web page, not an API answer: '{excerpt(plain(text))}': set base_url to the address of the API."
        )
    if not text:
        raise ServerFaultError(f"{host} sent an empty answer.", FEW)
    if content is None:
        what = "JSON that is cut off or damaged" if text[0] in "{[" else "neither JSON nor a whole stream"
        raise _no_answer(host, what, body)
    tries = FEW if "choices" in text else 1
    raise ServerFaultError(f"{host} sent JSON that is not a chat completion: '{excerpt(body)}'", tries)


def _text(content: Any) -> str:
    """Plain text, or the text parts of a list (some servers send one), never reasoning."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        parts = [p for p in content if isinstance(p, dict) and p.get("type") in (None, "text", "output_text")]
        return "".join(p["text"] for p in parts if isinstance(p.get("text"), str))
    return ""


def read(body: bytes) -> Any:
    """The JSON of an answer, plain or assembled from a stream; None: neither, or damaged.

    A stream consists of `server-sent events <https://html.spec.whatwg.org/multipage/server-sent-events.html>`_.
    """
    content = _json(body)
    if content is not None:
        return content
    try:
        lines = re.split(r"\r\n|\n|\r", body.decode("utf-8-sig"))
    except UnicodeDecodeError:
        return None
    if all(line.startswith(_FIELDS) for line in lines if line.strip()):
        return _joined(list(_events(lines)))
    return _json("\n".join(line for line in lines if not line.startswith(":")).encode())


_FIELDS = (":", "data:", "event:", "id:", "retry:")


def _json(text: str | bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):  # also numbers of thousands of digits, and nesting without end
        return None


def _events(lines: Sequence[str]) -> Iterator[str]:
    """The data of each event. An empty line ends an event, but some servers omit it."""
    data: list[str] = []
    for line in (*lines, ""):
        if line.startswith("data:"):
            data.append(line[5:].strip())
        elif not line and data:
            whole = "\n".join(data)
            yield from data if _json(whole) is None else [whole]
            data = []


def _joined(events: Sequence[str]) -> Any:
    """One completion assembled from the chunks of a stream; its error, if any; None if a chunk is damaged."""
    message: dict[str, Any] = {"content": ""}
    reason, over = None, False
    for event in events:
        if event == STREAM_END.decode():
            over = True
            continue
        chunk = _json(event)
        if not isinstance(chunk, dict) or has_error(chunk):
            return chunk
        choices = chunk.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            if not isinstance(choice, dict) or choice.get("index") not in (0, None):
                continue
            piece = choice.get("delta") or choice.get("message") or {}
            for key in ("content", "reasoning", "reasoning_content", "refusal"):
                text = _text(piece.get(key)) if isinstance(piece, dict) else ""
                message[key] = message.get(key, "") + text
            reason = choice.get("finish_reason") or reason
    if not events:
        return None
    end = reason or (None if over else NO_END)
    return {"choices": [{"index": 0, "message": message, "finish_reason": end}]}


def excerpt(text: str | bytes, max_chars: int = 300) -> str:
    """One printable line of what a server said."""
    words = text[: 4 * max_chars].decode("utf-8", "replace") if isinstance(text, bytes) else text[: 4 * max_chars]
    line = " ".join("".join(c if c.isprintable() else " " for c in words).split())
    return line if len(line) <= max_chars else f"{line[:max_chars]}..."


def _unusable(host: str, what: str, text: str | bytes) -> StageError:
    return StageError(OutcomeCode.REPLY_UNPARSABLE, f"{host} sent {what}: '{excerpt(text, 500)}'")


def _no_answer(host: str, what: str, text: str | bytes) -> ServerFaultError:
    return ServerFaultError(f"{host} sent {what}: '{excerpt(text, 500)}'", FEW)
