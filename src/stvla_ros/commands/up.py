"""``stvla up``: start the stack and keep it running until Ctrl-C."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import replace
from pathlib import Path

from stvla_ros.commands.arguments import MAX_SEED, Parser, add_stack_arguments, check_tasks, stack_options, whole
from stvla_ros.config import ConfigError
from stvla_ros.description.robot import SIMULATED
from stvla_ros.ros.graph import CAMERAS, KEEP, ROBOTS


def add_arguments(parser: Parser) -> None:
    parser.add_argument(
        "--robot",
        choices=ROBOTS,
        default=ROBOTS[0],
        help="sim (default): the simulated cell; real: franka_ros2 or another ros2_control robot; franka: a Franka without "
        "ros2_control; franka_sim: the same program in front of the simulated cell",
    )
    parser.add_argument(
        "--camera",
        choices=CAMERAS,
        default=CAMERAS[0],
        help="auto (default): the simulator's, or with a real robot a driver started elsewhere; "
        "recorded: replay camera.path; realsense: a RealSense camera; external: a driver started elsewhere",
    )
    parser.add_argument("--task", metavar="NAME", help="first scene of the simulator; default: the parameter file's")
    parser.add_argument("--seed", type=whole(0, MAX_SEED), metavar="N", help="seed of that scene")
    parser.add_argument(
        "--record",
        choices=KEEP,
        nargs="?",
        const=KEEP[0],
        help="record every goal (all, the default), or keep only those that fail; docs/recording.md",
    )
    parser.add_argument(
        "--console", action="store_true", help="also serve the operator console, a web page (docs/console.md)"
    )
    parser.add_argument("--logs", type=Path, metavar="DIR", help="also write a log file per process to DIR")
    add_stack_arguments(parser)


def run(arguments: Namespace) -> int:
    from stvla_ros.ros.up import up

    scene = {"sim.task": arguments.task, "sim.seed": arguments.seed}
    chosen = {name: str(value) for name, value in scene.items() if value is not None}
    if chosen and arguments.robot not in SIMULATED:
        raise ConfigError(
            f"--task and --seed choose a simulated scene; with --robot {arguments.robot} there is none: leave them out."
        )
    if arguments.task is not None:
        check_tasks(arguments.task)
    options = stack_options(arguments, arguments.robot, arguments.camera)
    changed = replace(
        options, overrides={**options.overrides, **chosen}, record=arguments.record, console=arguments.console
    )
    return up(changed, arguments.logs)
