"""The ``qwen3_vl`` planner."""

from __future__ import annotations

from dataclasses import dataclass

from stvla_ros.planning.dialogue import DialogueConfig, DialoguePlanner
from stvla_ros.planning.qwen3_vl.chat import LocalModelConfig, Qwen3VlChat


@dataclass(frozen=True)
class Qwen3VlConfig(DialogueConfig, LocalModelConfig):
    """Settings of the planner with a model on this machine."""

    @property
    def longest_plan_s(self) -> float:
        """The longest time for a plan [s]: an answer that was asked for just before the deadline is still waited for."""
        return self.deadline_s + self.reply_deadline_s


class Qwen3VlPlanner(DialoguePlanner):
    """Qwen3-VL on this machine, of any size, with or without a LoRA adapter; needs weights (docs/planners.md).

    Raises:
        ConfigError: No usable checkpoint or adapter, or no place for it; the message says what to do.
    """

    Config = Qwen3VlConfig  # type: ignore[assignment] # more settings than the base has

    def __init__(self, config: Qwen3VlConfig) -> None:
        self.model = Qwen3VlChat(config, "planner.qwen3_vl")
        super().__init__(self.model, config)
