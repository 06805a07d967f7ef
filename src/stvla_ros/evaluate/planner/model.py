"""The model of a planner, to be asked by itself."""

from __future__ import annotations

from typing import cast

from stvla_ros import registry
from stvla_ros.config import ConfigError
from stvla_ros.evaluate.stack import StackSettings
from stvla_ros.planning.chat import ChatModel


def chat_model(settings: StackSettings) -> ChatModel:
    """The ChatModel of the planner in some settings (its attribute ``model``).

    Raises:
        ConfigError: The planner cannot be made, or has no model that can be asked questions.
    """
    name = settings.backends["planner"]
    planner = registry.create("planner", name, settings.sections.get("planner", {}))
    model = getattr(planner, "model", None)
    if not callable(getattr(model, "reply", None)):
        raise ConfigError(
            f"planner '{name}' draws paths and answers no questions: choose one with a language model behind it "
            "(`stvla backends` lists them)."
        )
    return cast(ChatModel, model)
