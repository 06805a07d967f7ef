"""Writes the parameter file of MoveIt's ``move_group`` for the robot of our own parameter file.

``launch/move_group.launch.py`` does this and starts it. Without ``launch``::

    python -m stvla_ros.ros.move_group move_group.yaml     # prints the command that starts move_group with it
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from stvla_ros.config import EVERY_NODE, SHARED, build
from stvla_ros.description.moveit import move_group_parameters
from stvla_ros.description.robot import LIMITS, RobotConfig
from stvla_ros.files import written
from stvla_ros.rcl_yaml import PARAMETERS_KEY
from stvla_ros.registry import read_nodes
from stvla_ros.ros.graph import default_parameters, moveit_config

FILES = ("move_group", "kinematics", "ompl", "pilz", "pilz_limits")


def read_robot(params: Path | None = None, model: str = "") -> RobotConfig:
    """The robot of a parameter file (default ``config/stvla.yaml``), or of another model.

    Raises:
        ConfigError: The file is wrong.
    """
    section = read_nodes(params or default_parameters()).get(EVERY_NODE, {}).get(SHARED, {})
    robot = build(RobotConfig, section, SHARED)
    return replace(RobotConfig(kind=robot.kind, model=model)) if model and model != robot.model else robot


def write_parameters(robot: RobotConfig, file: Path) -> None:
    """Write a ROS 2 parameter file for ``move_group``. Raises ConfigError: it cannot be written."""
    folder = moveit_config()
    files = {name: yaml.safe_load((folder / f"{name}.yaml").read_text()) for name in FILES}
    content = {"/**": {PARAMETERS_KEY: move_group_parameters(robot, files)}}
    with written(file) as part:
        part.write_text(yaml.dump(content, Dumper=_Plain, sort_keys=False))


class _Plain(yaml.SafeDumper):
    """Without aliases, which rcl's reader does not know."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def remappings(robot: RobotConfig) -> list[tuple[str, str]]:
    """Topics of move_group -> those of the robot."""
    return [("joint_states", robot.joint_states)]


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="stvla_ros.ros.move_group", description=__doc__.split("\n")[0])
    parser.add_argument("file", type=Path, help="file to write")
    parser.add_argument("--params", type=Path, help="our parameter file; default config/stvla.yaml")
    parser.add_argument("--model", choices=tuple(LIMITS), default="", help="in place of robot.model")
    arguments = parser.parse_args()
    robot = read_robot(arguments.params, arguments.model)
    write_parameters(robot, arguments.file)
    maps = " ".join(f"-r {a}:={b}" for a, b in remappings(robot))
    print(f"ros2 run moveit_ros_move_group move_group --ros-args --params-file {arguments.file} {maps}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
