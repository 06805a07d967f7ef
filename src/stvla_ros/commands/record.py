"""``stvla record``: record the running stack as a rosbag2, now or goal by goal."""

from __future__ import annotations

import subprocess
import sys
from argparse import ArgumentTypeError, Namespace
from collections.abc import Mapping
from pathlib import Path

from stvla_ros import registry
from stvla_ros.commands.arguments import Parser, add_override_argument, folder, whole
from stvla_ros.config import EVERY_NODE, SHARED, ConfigError, build
from stvla_ros.ros.graph import KEEP, recorder_arguments


def add_arguments(parser: Parser) -> None:
    parser.add_argument(
        "--goals",
        type=whole(0, 100000),
        nargs="?",
        const=0,
        metavar="N",
        help="one bag per goal, until N are recorded or until Ctrl-C; default: one bag from now to Ctrl-C",
    )
    parser.add_argument("--seconds", type=_seconds, default=0.0, metavar="S", help="end after this time")
    parser.add_argument(
        "--keep", choices=KEEP, default=KEEP[0], help="with --goals: all (default), or only those that fail"
    )
    parser.add_argument(
        "--output", type=folder, metavar="DIR", help="folder that keeps the recordings; default: record.root, runs/"
    )
    parser.add_argument(
        "--topics", action="store_true", help="print the topics instead, for `ros2 bag record` on a ROS machine"
    )
    parser.add_argument("--params", type=Path, metavar="FILE", help="ROS 2 parameter file; default config/stvla.yaml")
    add_override_argument(parser)


def run(arguments: Namespace) -> int:
    changes = {**dict(arguments.overrides), **_values(arguments)}
    for name in changes:
        if (node := name.split(".")[0]) not in (SHARED, "record"):
            raise ConfigError(f"{name}: the recorder reads no settings of '{node}': set record.NAME or robot.NAME.")
    words = recorder_arguments(arguments.params, changes)
    if arguments.topics:
        return _print_topics(arguments.params, changes)
    # not execv: the folder of the parameter file lives as long as this process
    return subprocess.call([sys.executable, "-m", "stvla_ros.nodes.record", "--ros-args", *words])


def _values(arguments: Namespace) -> dict[str, str]:
    """Parameters of the node, as text."""
    if arguments.goals is None and arguments.keep != KEEP[0]:
        raise ConfigError("--keep failures needs --goals: without goals there is nothing that could fail.")
    values = {
        "record.when": "now" if arguments.goals is None else "goals",
        "record.keep": arguments.keep,
        "record.seconds": str(float(arguments.seconds)),
        "record.goals": str(arguments.goals or 0),
    }
    return {**values, **({"record.root": str(arguments.output.absolute())} if arguments.output else {})}


def _print_topics(params: Path | None, changes: Mapping[str, str]) -> int:
    from stvla_ros.nodes.record import RecordConfig
    from stvla_ros.ros.graph import default_parameters
    from stvla_ros.ros.recorded_topics import recorded_topics

    nodes = registry.read_nodes(params or default_parameters(), overrides=changes)
    values = {**nodes.get(EVERY_NODE, {}), **nodes.get("record", {})}
    config = build(RecordConfig, {k: v for k, v in values.items() if not registry.of_rclpy(k)}, "record")
    print(*(topic.name for topic in recorded_topics(config.camera, config.robot)), sep="\n")
    return 0


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ArgumentTypeError(f"wanted a number of seconds, got '{text}'") from None
    if not value > 0:
        raise ArgumentTypeError(f"wanted more than 0 seconds, got {text}")
    return value
