"""The subcommands of ``stvla``, one module each."""

from __future__ import annotations

from argparse import Namespace
from importlib import import_module
from typing import Protocol, cast

import stvla_ros.evaluate  # noqa: F401 - names the planner 'oracle'
from stvla_ros.commands.arguments import Parser

COMMANDS = {
    "up": "start the stack and keep it running until Ctrl-C",
    "run": "give the running stack an instruction",
    "stop": "stop the arm now, and refuse motion until `stvla stop --release`",
    "release": "put down what the gripper holds, at a free place on the table",
    "demo": "start everything in simulation, carry out one task, judge it, leave a film",
    "evaluate": "run many seeded episodes in simulation and print success rates",
    "evaluate-planner": "ask a planner's model questions with known answers (also `stvla evaluate planner`)",
    "collect": "collect successful episodes in simulation, for training",
    "guide": "show what guidance does to a recording or a simulated scene: film, pictures, decisions",
    "train": "train a policy on collected episodes: a named experiment, resumable, with curves",
    "scenes": "render simulated scenes with true answers, for training and testing small planners",
    "train-planner": "train a small planner of our own on such scenes: heatmap or nano, resumable, with curves",
    "sft": "fine-tune a Qwen3-VL planner with LoRA: a named experiment, resumable, with curves",
    "policy": "inspect a policy checkpoint, or convert a released one",
    "backends": "list the backends that can be chosen",
    "doctor": "check this machine's set-up and say what is missing",
}
"""Name -> one line of help."""


class Command(Protocol):
    """What a module of this package offers."""

    def add_arguments(self, parser: Parser) -> None: ...

    def run(self, arguments: Namespace) -> int:
        """The exit code. Raises ConfigError for what the user can mend, ConnectionError when no stack answers."""
        ...


def load(name: str) -> Command:
    """The module of a subcommand."""
    return cast(Command, import_module(f"{__name__}.{name.replace('-', '_')}"))
