"""``stvla release``: put down what the gripper holds, e.g. after a task was canceled in mid-carry."""

from __future__ import annotations

from argparse import Namespace

from rich.console import Console

from stvla_ros.commands.arguments import Parser
from stvla_ros.commands.exit_codes import of_outcome
from stvla_ros.commands.progress import LiveProgress, cancel_on_signal, show_outcome
from stvla_ros.errors import CancelToken

CONNECT_S = 5.0


def add_arguments(parser: Parser) -> None:
    pass


def run(arguments: Namespace) -> int:
    from stvla_ros.ros.client import release_object

    console, cancel = Console(), CancelToken()
    live = LiveProgress(console, "Put down what the gripper holds.")
    said = ""

    def tell(phase: str, elapsed_s: float) -> None:
        nonlocal said
        if phase != said:
            said = phase
            live.say(f"{elapsed_s:5.1f} s  {phase}")

    with live, cancel_on_signal(cancel, live):
        outcome = release_object(tell, cancel, CONNECT_S)
    show_outcome(console, outcome)
    return of_outcome(outcome.code)
