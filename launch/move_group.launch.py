"""MoveIt's ``move_group`` with our model, limits and pipelines, for the motion planner ``moveit``. It moves nothing.

Examples::

    ros2 launch stvla_ros move_group.launch.py
    ros2 launch stvla_ros move_group.launch.py model:=fr3
    ros2 launch stvla_ros move_group.launch.py params:=/path/to/cell.yaml
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from stvla_ros.config import ConfigError
from stvla_ros.description.robot import LIMITS
from stvla_ros.ros.move_group import read_robot, remappings, write_parameters


def generate_launch_description() -> LaunchDescription:
    """Two arguments and one node."""
    return LaunchDescription(
        [
            DeclareLaunchArgument("params", default_value="", description="parameter file; empty: config/stvla.yaml"),
            DeclareLaunchArgument(
                "model", default_value="", choices=["", *LIMITS], description="model of the arm; empty: robot.model"
            ),
            OpaqueFunction(function=_move_group),
        ]
    )


def _move_group(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    params = LaunchConfiguration("params").perform(context)
    try:
        robot = read_robot(Path(params).expanduser() if params else None, LaunchConfiguration("model").perform(context))
    except ConfigError as error:
        raise RuntimeError(str(error)) from error
    file = Path(tempfile.mkdtemp(prefix="stvla_move_group_")) / "move_group.yaml"
    write_parameters(robot, file)
    return [
        Node(
            package="moveit_ros_move_group",
            executable="move_group",
            parameters=[str(file)],
            remappings=remappings(robot),
            output="screen",
        )
    ]
