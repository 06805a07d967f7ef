"""Where and how to grasp an object from above, from the points that a camera sees of it."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from stvla_ros.geometry.se3 import wrap
from stvla_ros.geometry.spheres import fit_sphere
from stvla_ros.tabletop.regions import min_area_rectangle
from stvla_ros.types import F32, F64

FINGER_M = (0.040, 0.062)
"""Distance from the tool's axis to the inner and outer face of an open finger, along the opening."""

FINGER_HALF_WIDTH_M = 0.013
NEAR_M = 0.035
WIDE_M = 0.075
"""A top that goes on beyond :data:`NEAR_M` is followed this far from the start."""

FACE_M = 0.007
LINK_M = 0.006
"""Points of one top are no further apart."""

ROUND_SHARE = 0.77
"""A top is round that fills more of the circle around it: a square fills 0.64, and less where a stray point widens the
circle; a disc of 50 points about 0.85."""

MAX_GRIP_M = 0.070
EASY_GRIP_M = 0.060
"""The open fingers pass a thing of this width with 1 cm on both sides; a wider grasp is for what is nowhere narrower."""

MAX_ROOM_M = 0.02
"""More free space than this around the fingers does not improve a grasp."""


@dataclass(frozen=True, eq=False)
class Grasp:
    """A grasp from above.

    Attributes:
        xyz_m: (3,) centre of the object's top in the base frame.
        yaw_rad: Direction of the finger opening in the base frame's x-y plane.
        room_m: Free space around the open fingers, at most :data:`MAX_ROOM_M`.
    """

    xyz_m: F64
    yaw_rad: float
    room_m: float


def find_grasp(points_m: F32, start_m: F64, yaw_now_rad: float) -> Grasp | None:
    """The best grasp of the object at the start of a path.

    Args:
        points_m: (N, 3) points of the guided frame without the robot.
        start_m: (3,) start of the path, on or in the object.
        yaw_now_rad: Current direction of the finger opening; among equal grasps the one that turns least wins.

    Returns:
        None if no object is there.
    """
    beside = np.hypot(points_m[:, 0] - start_m[0], points_m[:, 1] - start_m[1])
    own = points_m[(beside < NEAR_M) & (np.abs(points_m[:, 2] - start_m[2]) < 0.04) & (points_m[:, 2] > 0.012)]
    if len(own) < 8:
        return None
    top = float(np.quantile(own[:, 2], 0.95))
    face = own[own[:, 2] > top - FACE_M]
    if top < start_m[2] - 0.03 or len(face) < 5:
        return None
    if np.hypot(*(face[:, :2] - start_m[:2]).T).max() > NEAR_M - LINK_M / 2:
        face = _whole_face(points_m, start_m, top)
    centre, size, angle = min_area_rectangle(face[:, :2])
    if _is_round(face[:, :2]):
        angle = yaw_now_rad  # every direction is as good: none turns less
    others = _neighbours(points_m, centre, size, angle, top)
    widest = EASY_GRIP_M if min(size) < EASY_GRIP_M else MAX_GRIP_M
    options = []
    for edge, turn in ((size[0], 0.0), (size[1], np.pi / 2)):
        yaw = yaw_now_rad + wrap(angle + turn - yaw_now_rad, np.pi)
        if edge < widest:
            options.append(Grasp(np.array([*centre, top]), yaw, _room(others, centre, yaw)))
    return max(options, key=lambda g: (round(g.room_m / 0.004), -abs(g.yaw_rad - yaw_now_rad)), default=None)


def _whole_face(points_m: F32, start_m: F64, top_m: float) -> F32:
    """(N, 3) points of a top that is larger than what is looked at first, without what lies apart from it."""
    offset = points_m[:, :2] - start_m[:2].astype(np.float32)
    level = (np.abs(points_m[:, 2] - top_m) < FACE_M) & (np.abs(offset).max(axis=1) < WIDE_M)
    face, cells = points_m[level], np.floor((offset[level] + WIDE_M) / LINK_M).astype(int)
    grid = np.zeros([int(2 * WIDE_M / LINK_M) + 1] * 2, np.uint8)
    grid[cells[:, 0], cells[:, 1]] = 1
    _, parts = cv2.connectedComponents(grid, connectivity=8)
    part, beside = parts[cells[:, 0], cells[:, 1]], np.hypot(*offset[level].T)
    return np.asarray(face[part == part[int(np.argmin(beside))]])


def _is_round(xy_m: F32) -> bool:
    hull = cv2.convexHull(np.ascontiguousarray(xy_m * 1000.0, dtype=np.float32))
    _, radius = cv2.minEnclosingCircle(hull)
    return bool(cv2.contourArea(hull) > ROUND_SHARE * np.pi * radius**2)


def round_centre(points_m: F32, start_m: F64, radius_m: float = NEAR_M) -> F64 | None:
    """(2,) place of the axis of a round thing that stands or lies upright at the start of a path.

    The middle of its top if that is a wide disc; otherwise of the sphere that fits its points best, because a camera
    sees only one side of a sphere.

    Args:
        points_m: (N, 3) points of the guided frame without the robot.
        start_m: (3,) start of the path, in the thing.
        radius_m: Points this far beside the start belong to it.

    Returns:
        None if there is no such thing.
    """
    away = points_m - start_m.astype(np.float32)
    own = points_m[(np.hypot(away[:, 0], away[:, 1]) < radius_m) & (away[:, 2] > -0.01) & (away[:, 2] < 0.05)]
    if len(own) < 12:
        return None
    face = own[own[:, 2] > np.quantile(own[:, 2], 0.95) - FACE_M / 2]
    centre, size, _ = min_area_rectangle(face[:, :2])
    if min(size) > 0.045:
        return np.asarray(centre)
    fitted, _ = fit_sphere(own)
    return fitted[:2] if np.hypot(*(fitted - start_m)[:2]) < radius_m / 2 else None


def _neighbours(points_m: F32, centre: F64, size: F64, angle: float, top_m: float) -> F64:
    """(N, 2) points that the fingers could touch, relative to the object's centre, without the object's own."""
    relative = points_m[:, :2].astype(np.float64) - centre
    near = (np.abs(relative).max(axis=1) < 0.12) & (points_m[:, 2] > top_m - 0.032) & (points_m[:, 2] < top_m + 0.06)
    relative = relative[near]
    axes = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    outside = (np.abs(relative @ axes.T) > size / 2 + 0.008).any(axis=1)
    return relative[outside]


def _room(others: F64, centre: F64, yaw_rad: float) -> float:
    """Distance between the nearest neighbouring point and the two open fingers."""
    if not len(others):
        return MAX_ROOM_M
    opening = np.array([np.cos(yaw_rad), np.sin(yaw_rad)])
    along, across = np.abs(others @ opening), np.abs(others @ [-opening[1], opening[0]])
    past = np.maximum(np.maximum(FINGER_M[0] - along, along - FINGER_M[1]), 0.0)
    aside = np.maximum(across - FINGER_HALF_WIDTH_M, 0.0)
    return float(min(np.hypot(past, aside).min(), MAX_ROOM_M))
