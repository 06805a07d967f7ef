"""Robot self-filter: pixels that show the robot or the object it holds."""

from __future__ import annotations

import cv2
import numpy as np

from stvla_ros.description.body import robot_distance
from stvla_ros.geometry.se3 import inverse
from stvla_ros.types import F32, Bool, RobotState

HOLDING_M = (0.004, 0.076)
"""Finger distances between which the gripper may hold something: neither fully closed nor fully open."""

HELD_LOW_M, HELD_HIGH_M = 0.035, 0.045
"""A held object reaches at most this far below and above the tool centre point."""

LARGE_PX = 200_000
"""In an image of this many pixels the thinnest part of the arm is more than ten pixels wide."""


def may_hold(robot: RobotState) -> bool:
    """The finger distance allows an object between the fingers."""
    return HOLDING_M[0] < robot.gripper_m < HOLDING_M[1]


def robot_mask(points_m: F32, robot: RobotState, margin_m: float = 0.012) -> Bool:
    """(H, W) True where a pixel shows the arm, the hand or an object between the fingers.

    Every second pixel in both directions (every fourth in large images) is tested against the arm's hulls and the
    result spread to the pixels between. Pixels along the outline are tested one by one.

    Args:
        points_m: (3, H, W) cloud in the base frame, NaN where unknown.
        robot: Arm state at the image's stamp.
        margin_m: Points this close to the hulls count as the arm (calibration error, depth noise).
    """
    _, h, w = points_m.shape
    step = 2 if h * w < LARGE_PX else 4
    coarse = points_m[:, ::step, ::step]
    near = _near_arm(coarse, _within_reach(coarse, robot), robot, margin_m).astype(np.uint8)
    spread = cv2.resize(near, (coarse.shape[2] * step, coarse.shape[1] * step), interpolation=cv2.INTER_NEAREST)[:h, :w]
    kernel = np.ones((2 * step + 1, 2 * step + 1), np.uint8)
    sure = cv2.erode(spread, kernel).astype(bool)
    outline = cv2.dilate(spread, kernel).astype(bool) & ~sure & np.isfinite(points_m[2])
    mask: Bool = sure | _near_arm(points_m, outline, robot, margin_m)
    if may_hold(robot):
        mask |= held_object_mask(points_m, robot)
    return mask


def _near_arm(points_m: F32, candidates: Bool, robot: RobotState, margin_m: float) -> Bool:
    """(H, W) candidates on the arm or within its margin."""
    where = np.flatnonzero(candidates)
    mask = np.zeros(candidates.shape, dtype=bool)
    distance = robot_distance(points_m.reshape(3, -1).take(where, axis=1).T, robot.q_rad, robot.gripper_m, margin_m)
    mask.reshape(-1)[where[distance <= margin_m]] = True
    return mask


def _within_reach(points_m: F32, robot: RobotState) -> Bool:
    """Points that could be the arm: above the table and not much further from the base than the tool."""
    x, y, z = points_m
    reach = max(float(np.hypot(*robot.T_base_tcp[:2, 3])), 0.5) + 0.25
    return np.asarray((z > 0.002) & (x * x + y * y < reach * reach))


def held_object_mask(points_m: F32, robot: RobotState) -> Bool:
    """(H, W) True in the box between and just below the fingers. The finger distance sets its width."""
    T = inverse(robot.T_base_tcp).astype(np.float32)
    x, y, z = points_m
    mask = np.zeros(x.shape, dtype=bool)
    centre = robot.T_base_tcp[:3, 3]
    near = np.flatnonzero(
        (np.abs(x - centre[0]) < 0.08) & (np.abs(y - centre[1]) < 0.08) & (np.abs(z - centre[2]) < 0.08)
    )
    local = T[:3, :3] @ points_m.reshape(3, -1)[:, near] + T[:3, 3:]
    inside = (np.abs(local[0]) < 0.04) & (np.abs(local[1]) < robot.gripper_m / 2 + 0.006)
    inside &= (local[2] < HELD_LOW_M) & (local[2] > -HELD_HIGH_M)
    mask.reshape(-1)[near[inside]] = True
    return mask
