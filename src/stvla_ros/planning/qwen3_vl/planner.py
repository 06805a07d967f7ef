"""The ``qwen3_vl`` planner."""

from __future__ import annotations

from dataclasses import dataclass

from stvla_ros.planning.dialogue import DialogueConfig, DialoguePlanner
from stvla_ros.planning.qwen3_vl.chat import LocalModelConfig, Qwen3VlChat


@dataclass(frozen=True)
class Qwen3VlConfig(DialogueConfig, LocalModelConfig):
    """Settings of the planner with a local model."""

    @property
    def longest_plan_s(self) -> float:
        """Longest duration of a plan [s]: an answer requested just before the deadline is still awaited."""
        return self.deadline_s + self.reply_deadline_s


class Qwen3VlPlanner(DialoguePlanner):
    """Qwen3-VL of any size on this machine, with or without a LoRA adapter; needs weights (docs/planners.md).

    Raises:
        ConfigError: No usable checkpoint or adapter, or too little memory; the message says what to do.
    """

    Config = Qwen3VlConfig  # type: ignore[assignment] # more settings than the base has

    def __init__(self, config: Qwen3VlConfig) -> None:
        self.model = Qwen3VlChat(config, "planner.qwen3_vl")
        super().__init__(self.model, config)
