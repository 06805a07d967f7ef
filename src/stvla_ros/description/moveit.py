"""Parameters of MoveIt's ``move_group`` for the Panda and the FR3, written from the project's own tables.

The model is the one of the other motion planners: the same kinematics, hulls, limits and allowed pairs of links. Only
what has no table here (planning pipelines, solver settings) is in files: ``config/moveit``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from stvla_ros.description.panda import FINGER_JOINTS, HAND_LINK, HOME_Q_RAD, MAX_WIDTH_M
from stvla_ros.description.robot import RobotConfig
from stvla_ros.description.urdf import ALLOWED_PAIRS, urdf

CHECK_STEP_RAD = 0.01
"""Spacing of MoveIt's collision checks on an edge, as ``check_step_rad`` of the motion planners."""

FINGER_SPEED_M_S, FINGER_ACCELERATION_M_S2 = 0.05, 1.0


def robot_description(robot: RobotConfig) -> str:
    """URDF with the robot's prefix and limits. Meshes are URLs, as MoveIt's loader wants them."""
    text = re.sub(r"<mujoco>.*?</mujoco>\n", "", urdf("panda", limits=robot.limits))
    return _prefixed(text.replace('filename="/', 'filename="file:///'), robot)


def semantic_description(robot: RobotConfig) -> str:
    """SRDF: groups ``PREFIX_arm`` and ``PREFIX_hand``, the hand as end effector, named states, allowed pairs."""
    arm, fingers = zip(_joints(), HOME_Q_RAD.tolist(), strict=True), FINGER_JOINTS
    lines = [
        '<?xml version="1.0"?>',
        '<robot name="panda">',
        '<group name="panda_arm"><chain base_link="panda_link0" tip_link="panda_hand_tcp"/></group>',
        f'<group name="panda_hand">{"".join(_joint(name) for name in fingers)}</group>',
        f'<end_effector name="panda_hand" parent_link="{HAND_LINK}" group="panda_hand" parent_group="panda_arm"/>',
        f'<group_state name="ready" group="panda_arm">{"".join(_joint(name, q) for name, q in arm)}</group_state>',
    ]
    for state, width_m in (("open", MAX_WIDTH_M), ("close", 0.0)):
        values = "".join(_joint(name, width_m / 2) for name in fingers)
        lines.append(f'<group_state name="{state}" group="panda_hand">{values}</group_state>')
    lines += [f'<disable_collisions link1="{a}" link2="{b}" reason="Adjacent"/>' for a, b in ALLOWED_PAIRS]
    return _prefixed("\n".join([*lines, "</robot>"]) + "\n", robot)


def joint_limits(robot: RobotConfig) -> dict[str, Any]:
    """Limits of every joint as MoveIt's ``robot_description_planning.joint_limits``."""
    limits, every = robot.limits, {}
    rows = zip(
        robot.arm_joints, limits.q_min_rad.tolist(), limits.q_max_rad.tolist(), limits.velocity.tolist(),
        limits.acceleration.tolist(), limits.jerk.tolist(), strict=True,
    )  # fmt: skip
    for name, low, high, velocity, acceleration, jerk in rows:
        every[name] = {
            "has_position_limits": True, "min_position": low, "max_position": high,
            "has_velocity_limits": True, "max_velocity": velocity,
            "has_acceleration_limits": True, "max_acceleration": acceleration,
            "has_jerk_limits": True, "max_jerk": jerk,
        }  # fmt: skip
    for name in robot.finger_joints:
        every[name] = {
            "has_velocity_limits": True, "max_velocity": FINGER_SPEED_M_S,
            "has_acceleration_limits": True, "max_acceleration": FINGER_ACCELERATION_M_S2,
        }  # fmt: skip
    return {"default_velocity_scaling_factor": 1.0, "default_acceleration_scaling_factor": 1.0, "joint_limits": every}


def move_group_parameters(robot: RobotConfig, files: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """All parameters of ``move_group``, nested.

    Args:
        robot: Model and prefix.
        files: Contents of ``config/moveit``: ``move_group``, ``kinematics``, ``ompl``, ``pilz`` and ``pilz_limits``.
            Settings of the group are under ``arm``, which becomes ``PREFIX_arm``.
    """
    group = f"{robot.prefix}_arm"
    extent_rad = float(np.linalg.norm(robot.limits.q_max_rad - robot.limits.q_min_rad))
    ompl = {key: value for key, value in files["ompl"].items() if key != "arm"}
    ompl[group] = {**files["ompl"]["arm"], "longest_valid_segment_fraction": CHECK_STEP_RAD / extent_rad}
    return {
        **files["move_group"],
        "robot_description": robot_description(robot),
        "robot_description_semantic": semantic_description(robot),
        "robot_description_kinematics": {group: dict(files["kinematics"]["arm"])},
        "robot_description_planning": {**joint_limits(robot), **files["pilz_limits"]},
        "ompl": ompl,
        "pilz_industrial_motion_planner": dict(files["pilz"]),
    }


def _joints() -> tuple[str, ...]:
    return RobotConfig(model="panda").arm_joints


def _joint(name: str, value: float | None = None) -> str:
    return f'<joint name="{name}"/>' if value is None else f'<joint name="{name}" value="{value:.12g}"/>'


def _prefixed(xml: str, robot: RobotConfig) -> str:
    """Names of joints, links and groups with the robot's prefix in place of ``panda``."""
    return re.sub(r'="panda(_\w+)?"', lambda match: f'="{robot.prefix}{match[1] or ""}"', xml)
