"""``stvla record``: record the running stack as rosbag2, goal by goal or from now to Ctrl-C."""

from __future__ import annotations

import subprocess
import sys
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stvla_ros import registry
from stvla_ros.commands.arguments import Parser, add_override_argument, folder, whole
from stvla_ros.config import EVERY_NODE, SHARED, ConfigError, build
from stvla_ros.description.robot import RobotConfig
from stvla_ros.ros.graph import KEEP, ROBOTS, default_parameters, guest_arguments


def add_arguments(parser: Parser) -> None:
    parser.add_argument(
        "--goals", type=whole(1, 100000), metavar="N", help="end after N recorded goals; default: at Ctrl-C"
    )
    parser.add_argument(
        "--keep", choices=KEEP, default=KEEP[0], help="all (default), or only the goals that do not end with OK"
    )
    parser.add_argument("--now", action="store_true", help="one bag from now to Ctrl-C instead, goals or not")
    parser.add_argument("--output", type=folder, metavar="DIR", help="folder of the recordings; default: record.root")
    parser.add_argument(
        "--topics", action="store_true", help="record nothing; print the topics, for ros2 bag record on a ROS machine"
    )
    parser.add_argument("--robot", choices=ROBOTS, help="as in stvla up; default: the parameter file's, or sim")
    parser.add_argument("--params", type=Path, metavar="FILE", help="ROS 2 parameter file; default config/stvla.yaml")
    add_override_argument(parser)


def run(arguments: Namespace) -> int:
    """The recorder's exit code."""
    if arguments.now and (arguments.goals or arguments.keep != KEEP[0]):
        raise ConfigError("--now records without goals: leave out --goals and --keep, or leave out --now.")
    changes = {**_values(arguments), **dict(arguments.overrides)}
    words = guest_arguments(arguments.params, changes)
    for name in changes:
        if name.split(".")[0] not in (SHARED, "record"):
            raise ConfigError(f"--set {name}: the recorder reads record.NAME and robot.NAME only: leave it out.")
    if arguments.topics:
        return _print_topics(arguments.params or default_parameters(), changes)
    return wait(subprocess.Popen([sys.executable, "-m", "stvla_ros.nodes.record", "--ros-args", *words]))


def _values(arguments: Namespace) -> dict[str, str]:
    """Parameters of the node, as YAML text."""
    values = {"record.when": "now" if arguments.now else "goals", "record.keep": arguments.keep}
    goals = {"record.goals": str(arguments.goals)} if arguments.goals else {}
    root = {"record.root": f'"{arguments.output.absolute()}"'} if arguments.output else {}
    kind = {f"{SHARED}.kind": arguments.robot} if arguments.robot else {}
    return {**values, **goals, **root, **kind}


def wait(node: subprocess.Popen[bytes]) -> int:
    """The exit code of a node. Ctrl-C reaches both processes; another signal to this one is passed on."""
    try:
        return node.wait()
    except KeyboardInterrupt:
        node.terminate()
        return node.wait()


def _print_topics(file: Path, changes: Mapping[str, str]) -> int:
    from stvla_ros.ros.frames import CameraConfig
    from stvla_ros.ros.recorded_topics import recorded_topics

    nodes = registry.read_nodes(file, overrides=changes)
    mine: dict[str, Any] = nodes.get("record", {})
    camera = build(CameraConfig, mine.get("camera", {}), f"{file}: record.camera")
    section = {**nodes.get(EVERY_NODE, {}).get(SHARED, {}), **mine.get(SHARED, {})}
    robot = build(RobotConfig, section, f"{file}: {SHARED}")
    print(*(topic.name for topic in recorded_topics(camera, robot)))
    return 0
