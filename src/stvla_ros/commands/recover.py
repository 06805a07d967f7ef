"""``stvla recover``: make a robot ready again that has stopped itself, or was stopped by its own button.

The arm does not move. The next goal begins with a fresh image and plan, and its first motion leads out of whatever the
robot may still touch.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path

from stvla_ros.commands.arguments import Parser
from stvla_ros.commands.exit_codes import of_outcome
from stvla_ros.errors import OutcomeCode

CONNECT_S = 5.0


def add_arguments(parser: Parser) -> None:
    parser.add_argument(
        "--again", action="store_true", help="then give the last instruction again, as `stvla run` does; the arm moves"
    )
    parser.epilog = (
        "Look at the robot first: what did it touch, is anybody near it?\n"
        "Exit codes: 0 recovered; 3 no executor answers; 20 + n the outcome code of the\n"
        f"step that failed; with --again those of `stvla run`.\n\n{parser.epilog}"
    )


def run(arguments: Namespace) -> int:
    from stvla_ros.ros.client import last_instruction, recover_robot

    code, sentence = recover_robot(CONNECT_S)
    if code is not OutcomeCode.OK:
        print(f"stvla: {code.name}: {sentence}", file=sys.stderr)
        return of_outcome(code)
    print(sentence)
    if not arguments.again:
        return 0
    if not (instruction := last_instruction(CONNECT_S)):
        print("stvla: No task has run that could be given again: use `stvla run`.", file=sys.stderr)
        return of_outcome(OutcomeCode.INVALID_GOAL)
    from stvla_ros.commands import run as run_command

    return run_command.run(Namespace(instruction=instruction, runs=Path("runs"), no_film=False))
