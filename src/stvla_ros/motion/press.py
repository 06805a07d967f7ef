"""How deep a closed hand presses: by the surface that the camera sees, because a policy is some millimetres off.

A press that is too deep ends at a hard stop, and the robot stops itself.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from stvla_ros.description.panda import FINGERTIP_M
from stvla_ros.geometry.cameras import cloud
from stvla_ros.geometry.se3 import backed_off
from stvla_ros.motion.collision import on_robot
from stvla_ros.types import F64, Keypose, RgbdFrame, RobotState

FOOTPRINT_M = 0.01
"""Half the width of the closed fingertips."""

BEFORE_M, BEHIND_M = 0.04, 0.03
"""Surface that is so far before or behind the fingertips' goal, along the tool's axis, is what they press."""

LEAST = 12
"""Fewer points than this are no surface."""

_ROBOT_MARGIN_M = 0.02


def limited(keypose: Keypose, frame: RgbdFrame, robot: RobotState, press_m: float) -> Keypose:
    """The keypose of a press, backed off along the tool's axis if it is deeper than allowed.

    Args:
        keypose: Where the closed hand shall press.
        frame: Image of the scene.
        robot: The arm at about the image's time, which is no surface.
        press_m: The fingertips end at most so far behind the surface.

    Returns:
        The same keypose where it is not too deep, or where no surface is seen.
    """
    T = keypose.T_base_tcp
    surface_m = _surface(T, frame, robot)
    too_deep_m = FINGERTIP_M - surface_m - press_m
    return replace(keypose, T_base_tcp=backed_off(T, too_deep_m)) if too_deep_m > 0.0 else keypose


def _surface(T: F64, frame: RgbdFrame, robot: RobotState) -> float:
    """Where the tool's axis meets the surface, from the tool centre point on [m]; infinite where none is seen."""
    points = cloud(frame).reshape(3, -1).T
    local = (points - T[:3, 3]) @ T[:3, :3]
    beside, along = np.hypot(local[:, 0], local[:, 1]), local[:, 2] - FINGERTIP_M
    near = (beside < FOOTPRINT_M) & (along > -BEFORE_M) & (along < BEHIND_M)
    near[near] = ~on_robot(points[near], robot, _ROBOT_MARGIN_M)
    return float(np.percentile(local[near, 2], 20)) if near.sum() >= LEAST else np.inf
