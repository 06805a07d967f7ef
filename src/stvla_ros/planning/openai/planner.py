"""The ``openai`` planner."""

from __future__ import annotations

from dataclasses import dataclass

from stvla_ros.planning.dialogue import DialogueConfig, DialoguePlanner
from stvla_ros.planning.openai.chat import ServerChat
from stvla_ros.planning.openai.server import ServerConfig


@dataclass(frozen=True)
class OpenAiConfig(DialogueConfig, ServerConfig):
    """Settings of the planner with a model on a server."""

    @property
    def longest_plan_s(self) -> float:
        """Longest duration of a plan [s]: an answer requested just before the deadline is still awaited."""
        return self.deadline_s + self.reply_deadline_s


class OpenAiPlanner(DialoguePlanner):
    """Any model on an OpenAI-compatible server (vLLM, SGLang, hosted); needs a server (docs/planners.md).

    Raises:
        ConfigError: Address, model name, token or certificates are unusable; the message says which.
    """

    Config = OpenAiConfig  # type: ignore[assignment] # more settings than the base has

    def __init__(self, config: OpenAiConfig) -> None:
        self.model = ServerChat(config, "planner.openai")
        super().__init__(self.model, config)
