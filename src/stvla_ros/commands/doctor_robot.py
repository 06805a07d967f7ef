"""``stvla doctor robot``: looks at a running robot, moves nothing, and says which parameter to set."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from rich.console import Console

from stvla_ros import registry
from stvla_ros.commands import doctor_report
from stvla_ros.config import EVERY_NODE, SHARED, build
from stvla_ros.description.robot import RobotConfig

LISTEN_S = 4.0
"""Time for discovery, for several messages of a slow gripper (15 Hz), and for the static transforms."""


def run(arguments: Namespace) -> int:
    """0: nothing is wrong; 1: something is. Raises ConfigError for a wrong parameter file."""
    from stvla_ros.ros.backends.ros2_control import Ros2ControlConfig
    from stvla_ros.ros.frames import CameraConfig
    from stvla_ros.ros.graph import default_parameters
    from stvla_ros.ros.robot_checks import check_robot
    from stvla_ros.ros.robot_view import look_at_robot

    file = arguments.params or default_parameters()
    nodes = registry.read_nodes(file, {}, dict(arguments.overrides))
    section: dict[str, Any] = {"kind": arguments.robot, **nodes.get(EVERY_NODE, {}).get(SHARED, {})}
    robot = build(RobotConfig, section, f"{file}: {SHARED}")
    executor = nodes.get("executor", {})
    controllers = build(Ros2ControlConfig, executor.get("controllers", {}), f"{file}: executor.controllers")
    camera = build(CameraConfig, executor.get("camera", {}), f"{file}: executor.camera")
    console = Console(highlight=False, soft_wrap=True, quiet=arguments.json)
    console.print(f"Looking at the robot ({robot.kind}, {robot.model}) for {LISTEN_S:g} s ...")
    manager = controllers.recovery.controller_manager
    view = look_at_robot(robot, controllers.goal_tolerance_rad, camera, LISTEN_S, manager)
    return doctor_report.code(doctor_report.show("robot", check_robot(view), arguments.json, console))
