"""The ``openai`` planner."""

from __future__ import annotations

from dataclasses import dataclass

from stvla_ros.planning.dialogue import DialogueConfig, DialoguePlanner
from stvla_ros.planning.openai.chat import ServerChat
from stvla_ros.planning.openai.server import ServerConfig


@dataclass(frozen=True)
class OpenAiConfig(DialogueConfig, ServerConfig):
    """Settings of the planner with a model behind a server."""


class OpenAiPlanner(DialoguePlanner):
    """Any model behind an OpenAI-compatible server: vLLM, SGLang, hosted ones; needs a server (docs/planners.md).

    Raises:
        ConfigError: Address, model's name, token or certificates are of no use; the message says which.
    """

    Config = OpenAiConfig  # type: ignore[assignment] # more settings than the base has

    def __init__(self, config: OpenAiConfig) -> None:
        self.model = ServerChat(config, "planner.openai")
        super().__init__(self.model, config)
