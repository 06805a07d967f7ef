"""``stvla stop``: the arm stops now, and nothing moves it until ``stvla stop --release``.

This is a software stop. It asks executor, task node and the robot's controllers, each of which can stop the arm alone.
No program replaces the robot's emergency stop.
"""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from stvla_ros.commands.arguments import Parser
from stvla_ros.commands.exit_codes import UNREACHABLE, of_outcome
from stvla_ros.config import ConfigError
from stvla_ros.errors import OutcomeCode

if TYPE_CHECKING:
    from stvla_ros.description.robot import RobotConfig
    from stvla_ros.ros.operator_stop import StopResult

TIMEOUT_S = 5.0


def add_arguments(parser: Parser) -> None:
    parser.add_argument("--release", action="store_true", help="allow motion again")
    parser.add_argument(
        "--params",
        type=Path,
        metavar="FILE",
        help="ROS 2 parameter file with the names of the robot's controllers; default config/stvla.yaml",
    )
    parser.epilog = (
        "A software stop: keep the robot's emergency stop within reach.\n"
        "Exit codes: 0 the arm stands still and the stop is kept; 3 no node keeps the\n"
        f"stop (is a stack running?); 47 standstill is not confirmed: use the robot's\n"
        f"emergency stop.\n\n{parser.epilog}"
    )


def run(arguments: Namespace) -> int:
    from stvla_ros.ros.operator_stop import release_arm, stop_arm

    if arguments.release:
        print(release_arm(TIMEOUT_S))
        return 0
    return report(stop_arm(_robots(arguments.params), TIMEOUT_S, _say), TIMEOUT_S)


def report(stopped: StopResult, timeout_s: float) -> int:
    """Print what is wrong, if anything; return the exit code."""
    for sentence in stopped.complaints(timeout_s):
        _say(sentence)
    if stopped.answered and not stopped.standstill:
        return of_outcome(OutcomeCode.CANCEL_UNCONFIRMED)
    return 0 if stopped.kept else UNREACHABLE


def _robots(file: Path | None) -> tuple[RobotConfig, ...]:
    """The robots that the parameter file may mean. If it cannot be used: the usual names, because a stop must go on."""
    from stvla_ros.ros.graph import default_parameters
    from stvla_ros.ros.operator_stop import USUAL, robots

    try:
        return robots(file or default_parameters())
    except ConfigError as error:
        _say(f"{error} The controllers are looked for by their usual names.")
        return USUAL


def _say(text: str) -> None:
    try:
        print(text, flush=True)
    except OSError:  # a closed output changes neither the stop nor the exit code
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
