"""The parameter files for a Franka: the stack accepts its own, and the doctor finds nothing wrong with franka_ros2's."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from stvla_ros import registry
from stvla_ros.config import EVERY_NODE, SHARED, build
from stvla_ros.description.robot import RobotConfig
from stvla_ros.doctor.finding import State
from stvla_ros.ros.robot_checks import check_robot
from stvla_ros.ros.robot_view import GRIPPER, TRAJECTORY, RobotView

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "config"


@pytest.mark.parametrize("model", ["fr3", "panda"])
def test_the_stack_accepts_its_parameter_files(model: str) -> None:
    nodes = registry.read_nodes(CONFIG / f"franka_{model}.yaml")
    robot = build(RobotConfig, {"kind": "real", **nodes[EVERY_NODE][SHARED]}, model)
    assert robot.model == robot.prefix == model
    assert nodes["executor"]["roboplan"]["velocity_scale"] == 0.1


def flat(tree: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", value


def test_the_doctor_likes_the_settings_for_franka_ros2() -> None:
    nodes = registry.read_nodes(CONFIG / "franka_fr3.yaml")
    robot = build(RobotConfig, {"kind": "real", **nodes[EVERY_NODE][SHARED]}, "fr3")
    arm = yaml.safe_load((CONFIG / "franka_ros2_controllers.yaml").read_text())["/**"]
    gripper = yaml.safe_load((CONFIG / "franka_ros2_gripper.yaml").read_text())["/**"]
    view = RobotView(
        robot,
        nodes["executor"]["controllers"]["goal_tolerance_rad"],
        actions={robot.arm_action: TRAJECTORY, robot.gripper_action: GRIPPER},
        arm=dict(flat(arm["fr3_arm_controller"]["ros__parameters"])),
        gripper=dict(flat(gripper["ros__parameters"])),
        publishers=("joint_state_broadcaster",),
    )
    assert [finding for finding in check_robot(view) if finding.state is State.WRONG] == []
    judged = [finding.name for finding in check_robot(view) if finding.state is State.OK]
    assert {"Gains", "Braking at a cancel", "Path tolerance", "Time limit at a goal", "Grasps of any width"} <= set(
        judged
    )
    controllers = arm["controller_manager"]["ros__parameters"]
    assert controllers["fr3_arm_controller"]["type"] == "joint_trajectory_controller/JointTrajectoryController"


def test_the_launch_file_names_files_that_exist() -> None:
    source = (ROOT / "launch" / "franka_ros2.launch.py").read_text()
    texts = [node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant)]
    files = [text for text in texts if isinstance(text, str) and text.endswith(".yaml") and "/" not in text]
    assert len(files) == 3
    assert all((CONFIG / file).is_file() for file in files)
    assert "stvla.launch.py" in texts
