"""Whether a keypose is meant to touch something: what keypose networks do not say and the executor needs to know."""

from __future__ import annotations

import numpy as np

from stvla_ros.geometry.cameras import depth_cloud
from stvla_ros.geometry.depths import without_specks
from stvla_ros.geometry.selfmask import robot_pixels
from stvla_ros.types import F64, Observation

NEAR_M = 0.025
"""Something seen this close to the tool centre point will be touched."""

ENOUGH_PX = 6
"""Fewer pixels are noise."""


def touches(observation: Observation, T_base_tcp: F64, gripper_open: bool) -> bool:
    """A keypose touches where the gripper acts on something, and where the tool ends on a surface.

    Args:
        observation: The guided frame and the state from which the keypose was predicted.
        T_base_tcp: (4, 4) predicted tool pose.
        gripper_open: Predicted gripper state after the move.
    """
    frame, robot, history = observation.guidance.frame, observation.robot, observation.history
    if history and history[-1].gripper_open != gripper_open and gripper_open:
        return True  # lets go of what it holds
    points = depth_cloud(frame.camera, without_specks(frame.depth_m))
    seen = ~robot_pixels(points, robot)
    gap = points - T_base_tcp[:3, 3, None, None].astype(np.float32)
    near = np.einsum("chw,chw->hw", gap, gap) < NEAR_M**2
    return int(np.count_nonzero(near & seen)) >= ENOUGH_PX
