"""How fast the model's server of the planner ``openai`` answers, and whether it serves the model."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np

from stvla_ros.config import ConfigError
from stvla_ros.doctor.finding import Finding, ok, warning, wrong
from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.planning.chat import Turn
from stvla_ros.planning.openai.chat import ServerChat
from stvla_ros.planning.openai.server import ServerConfig

WHERE = "planner.openai"
MODEL, ANSWER = "Planner's model", "Planner's answer"

SLOW_S = 5.0
"""A plan takes two to four answers, longer ones than that of :data:`QUESTION`."""

QUESTION, TOKENS = "Reply with the single word: ok", 16
SHOWN = 5


def check_server(config: ServerConfig, ask: bool = True) -> Iterator[Finding]:
    """Ask the server for its models, then (``ask``) for a short answer about an image, and say how long both took."""
    try:
        chat = ServerChat(config, WHERE)
    except ConfigError as error:
        yield wrong(MODEL, str(error).rstrip("."), "set it in the parameter file, or with --set")
        return
    try:
        start = time.perf_counter()
        models = chat.models()
        yield _served(config.model, models, time.perf_counter() - start)
        if ask:
            yield _answer(chat, config)
    except StageError as error:
        yield wrong(MODEL, error.sentence.rstrip("."), f"start the server, or set {WHERE}.base_url")
    finally:
        chat.close()


def _served(model: str, models: list[str] | None, seconds: float) -> Finding:
    took = f"after {seconds * 1e3:.0f} ms"
    if models is None:
        return warning(
            MODEL, f"the server lists no models, {took}", f"if it answers nothing either, set {WHERE}.base_url"
        )
    if model in models:
        return ok(MODEL, f"{model} is served, {took}", value=seconds, unit="s")
    shown = ", ".join(models[:SHOWN]) or "none"
    figure = f"{model} is not served: the server has {shown}"
    return wrong(MODEL, figure, f"set {WHERE}.model to one of them, or start the server with it", seconds, "s")


def _answer(chat: ServerChat, config: ServerConfig) -> Finding:
    picture = np.full((480, 640, 3), 127, np.uint8)
    start = time.perf_counter()
    try:
        chat.reply([Turn("user", QUESTION, (picture,))], TOKENS)
    except StageError as error:
        if error.code is not OutcomeCode.REPLY_UNPARSABLE:  # what it says does not matter here
            return wrong(ANSWER, error.sentence.rstrip("."), "docs/troubleshooting.md, Planner behind a server")
    seconds = time.perf_counter() - start
    figure = f"{seconds:.2f} s for {TOKENS} tokens about an image; at most {config.reply_deadline_s:g} s are allowed"
    if seconds > min(SLOW_S, config.reply_deadline_s / 2):
        remedy = (
            "a smaller or quantised model, a faster GPU, image_format: jpeg on a slow network, or raise planner.openai.deadline_s "
            "and task.deadlines.plan_s"
        )
        return warning(ANSWER, f"{figure}: slow", remedy, seconds, "s")
    return ok(ANSWER, figure, value=seconds, unit="s")
