"""Whether a keypose is meant to touch something. The executor needs to know, and keypose networks do not predict it."""

from __future__ import annotations

import numpy as np

from stvla_ros.geometry.se3 import inverse
from stvla_ros.policy.observation import hand_open
from stvla_ros.tabletop.self_filter import HELD_LOW_M, may_hold
from stvla_ros.types import F32, F64, Keypose, Observation, RobotState

NEAR_M = 0.025
"""Points this close to the tool centre point, or to what is held below it, will be touched."""

BETWEEN_M = (0.035, 0.04, 0.03)
"""Points this close to the tool centre point along the tool's axes are between open fingers, which will close on them."""

MIN_PX = 6
"""Fewer pixels are noise."""

SAME_PLACE_M = 0.05
"""Contacts closer together than this horizontally are at the same place."""


def touches(observation: Observation, seen_m: tuple[F32, F32], T_base_tcp: F64, gripper_open: bool) -> bool:
    """Whether a keypose touches: the gripper lets go of something or closes on something, or the tool, or what it holds,
    ends at a surface.

    Args:
        observation: What the keypose was predicted from.
        seen_m: Points of the scene, and of the robot (:func:`stvla_ros.policy.observation.seen_points`).
        T_base_tcp: (4, 4) predicted tool pose.
        gripper_open: Predicted gripper state after the move.
    """
    history = observation.history
    if history and history[-1].gripper_open != gripper_open and gripper_open:
        return True  # releases what it holds
    scene_m, robot_m = seen_m
    T = inverse(T_base_tcp).astype(np.float32)
    gap = scene_m @ T[:3, :3].T + T[:3, 3]
    if not gripper_open and hand_open(
        history, observation.robot
    ):  # the middle of a thick thing is far from its surface
        return int(np.count_nonzero((np.abs(gap) < BETWEEN_M).all(1))) >= MIN_PX
    gap[:, 2] -= gap[:, 2].clip(0.0, hangs_below_m(robot_m, observation.robot) or 0.0)
    return int(np.count_nonzero(np.einsum("nc,nc->n", gap, gap) < NEAR_M**2)) >= MIN_PX


def hangs_below_m(robot_m: F32, robot: RobotState) -> float | None:
    """How far what the hand holds is seen to reach below the tool centre point; None if nothing held is seen there.

    Args:
        robot_m: (M, 3) points of the robot and what it holds (:func:`stvla_ros.policy.observation.seen_points`).
        robot: Arm state of the same moment.
    """
    if not may_hold(robot):
        return None
    T = inverse(robot.T_base_tcp)
    x, y, z = T[:3, :3] @ robot_m.T + T[:3, 3:]
    held = z[(np.abs(x) < 0.03) & (np.abs(y) < robot.gripper_m / 2 - 0.003) & (z > 0.0) & (z < HELD_LOW_M)]
    return float(np.quantile(held, 0.97)) if len(held) >= 12 else None


def done_there(observation: Observation, keypose: Keypose) -> bool:
    """Whether a keypose would touch the path's end again, after the tool has touched there and moved away.

    Args:
        observation: What the keypose was predicted from.
        keypose: The prediction.
    """
    contacts = [k for k in observation.history if k.may_collide]
    if not keypose.may_collide or not contacts or observation.history[-1].may_collide:
        return False
    end = observation.guidance.trace.xyz_m[-1]
    return all(_beside(k.T_base_tcp, end) < SAME_PLACE_M for k in (contacts[-1], keypose))


def _beside(T_base_tcp: F64, place_m: np.ndarray) -> float:
    """Horizontal distance between a tool pose and a place, metres."""
    return float(np.hypot(*(T_base_tcp[:2, 3] - place_m[:2])))
