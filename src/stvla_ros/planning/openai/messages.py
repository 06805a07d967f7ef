"""Questions and answers in the form of OpenAI's chat completions."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.planning.chat import Turn
from stvla_ros.planning.openai.server import ServerConfig
from stvla_ros.types import U8

JPEG_QUALITY = 95


def question(
    config: ServerConfig, turns: Sequence[Turn], max_tokens: int, schema: Mapping[str, Any] | None
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
    """The text of a completion.

    Raises:
        StageError: REPLY_UNPARSABLE: no JSON, no completion, cut off, refused by the model, or without text.
    """
    choice = _choice(_json(body, host), host)
    message = choice.get("message")
    if not isinstance(message, dict):
        raise _unusable(host, "a completion without a message", body)
    text = _text(message.get("content"))
    reason = choice.get("finish_reason")
    if reason == "length":
        raise _unusable(host, "an answer that was cut off at its limit of tokens (raise max_tokens)", text)
    if isinstance(message.get("refusal"), str) and message["refusal"]:
        raise _unusable(host, "a refusal", message["refusal"])
    if reason not in (None, "stop", "eos"):
        raise _unusable(host, f"an answer that ended with {str(reason)[:40]!r}", text)
    if not text:
        raise _unusable(host, "an answer without text", body)
    return text


def _json(body: bytes, host: str) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:  # also numbers of thousands of digits, and nesting without end
        raise _unusable(host, f"no JSON ({type(error).__name__})", body) from error


def _choice(content: Any, host: str) -> dict[str, Any]:
    choices = content.get("choices") if isinstance(content, dict) else None
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise _unusable(host, "JSON that is no chat completion", json.dumps(content)[:1000])
    return choices[0]


def _text(content: Any) -> str:
    """Plain text, or the text parts of a list (some servers answer so)."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        texts = [part.get("text") for part in content if isinstance(part, dict) and part.get("type") == "text"]
        return "".join(text for text in texts if isinstance(text, str))
    return ""


def excerpt(text: str | bytes, most: int = 300) -> str:
    """One printable line of what a server said."""
    words = text[: 4 * most].decode("utf-8", "replace") if isinstance(text, bytes) else text[: 4 * most]
    line = " ".join("".join(c if c.isprintable() else " " for c in words).split())
    return line if len(line) <= most else f"{line[:most]}..."


def _unusable(host: str, what: str, text: str | bytes) -> StageError:
    return StageError(OutcomeCode.REPLY_UNPARSABLE, f"{host} sent {what}: '{excerpt(text, 500)}'")
