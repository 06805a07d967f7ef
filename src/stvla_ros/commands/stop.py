"""``stvla stop``: the operator's word. The arm stops now, and nothing moves it until ``stvla stop --release``.

A software stop: executor, task node and the robot's controllers are all asked, and each can stop the arm alone, but
no program replaces the robot's emergency stop.
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
EMERGENCY = "use the robot's emergency stop"


def add_arguments(parser: Parser) -> None:
    parser.add_argument("--release", action="store_true", help="allow motion again")
    parser.add_argument(
        "--params",
        type=Path,
        metavar="FILE",
        help="ROS 2 parameter file with the robot's names; default config/stvla.yaml",
    )
    parser.epilog = (
        "Exit codes: 0 the arm stands still and the stop is kept; 3 nobody keeps it (no stack?); 47 it is not confirmed\n"
        f"that the arm stands still: {EMERGENCY}."
    )


def run(arguments: Namespace) -> int:
    from stvla_ros.ros.operator_stop import release_arm, stop_arm

    if arguments.release:
        print(release_arm(TIMEOUT_S))
        return 0
    return conclude(stop_arm(_robots(arguments.params), TIMEOUT_S, _say), TIMEOUT_S)


def conclude(stopped: StopResult, timeout_s: float) -> int:
    """Say what is not as it should be; the exit code."""
    if not stopped.answered:
        _say(f"Nobody answered within {timeout_s:g} s: is a stack running? If the arm moves, {EMERGENCY}.")
        return UNREACHABLE
    if stopped.silent:
        _say(f"No answer within {timeout_s:g} s: {', '.join(stopped.silent)}.")
    if not stopped.standstill:
        why = "it still moves" if stopped.heard_joints else "no joint states came"
        _say(f"Not confirmed that the arm stands still ({why}): {EMERGENCY}.")
        return of_outcome(OutcomeCode.CANCEL_UNCONFIRMED)
    if not stopped.kept:
        _say("Nobody keeps the stop: a stack that is started now may move the arm.")
        return UNREACHABLE
    return 0


def _robots(file: Path | None) -> tuple[RobotConfig, ...]:
    """Where the robot is; with a file that cannot be used the usual places, for nothing may hold up a stop."""
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
    except OSError:  # whether it can be read does not matter to the stop, nor to the exit code
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
