"""A model behind a server of a test, and what a question to it ends in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from planning.openai.http_server import Server

from stvla_ros.errors import StageError
from stvla_ros.planning.chat import Turn
from stvla_ros.planning.openai.chat import ServerChat
from stvla_ros.planning.openai.server import ServerConfig

QUESTION = (Turn("user", "Which step is it?"),)


def chat(server: Server | None = None, **settings: Any) -> ServerChat:
    """With a deadline that ends nothing, unless the test sets one."""
    settings = {"base_url": server.url if server else "", "model": "qwen", "reply_deadline_s": 30.0} | settings
    return ServerChat(ServerConfig(**settings), "planner.openai")


def refused(model: ServerChat, turns: Sequence[Turn] = QUESTION, **more: Any) -> StageError:
    """What a question ends in: one line."""
    with pytest.raises(StageError) as error:
        model.reply(turns, 64, **more)
    assert "\n" not in error.value.sentence
    assert len(error.value.sentence) < 1000
    return error.value
