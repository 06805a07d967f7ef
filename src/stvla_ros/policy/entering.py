"""Keyposes that carry an object into a cupboard: where the path ends sideways, the tool points along its last leg."""

from __future__ import annotations

import numpy as np

from stvla_ros.geometry.paths import arc_length
from stvla_ros.geometry.se3 import pose, rotation_distance
from stvla_ros.types import F64

LAST_LEG_M = 0.10
"""The direction of the path's end is that of this length."""

SIDEWAYS_RAD = 0.45
"""A last leg that is turned from straight down by more than this leads into something from the side."""

MAX_TILT_RAD = np.radians(65.0)
"""The tool is tilted at most this far: beyond, the arm has few postures."""


def way_in(path_m: F64) -> F64 | None:
    """(3,) direction of the last leg of a (N, 3) path; None where it leads down."""
    length = arc_length(path_m)
    if len(path_m) < 2 or length[-1] < LAST_LEG_M:
        return None
    before = np.array([np.interp(length[-1] - LAST_LEG_M, length, axis) for axis in path_m.T])
    leg = (path_m[-1] - before) / np.linalg.norm(path_m[-1] - before)
    tilt = float(np.arccos(np.clip(-leg[2], -1.0, 1.0)))
    if tilt < SIDEWAYS_RAD or np.hypot(leg[0], leg[1]) < 1e-3:
        return None
    aside = leg[:2] / np.hypot(leg[0], leg[1])
    tilt = min(tilt, float(MAX_TILT_RAD))
    return np.array([*(np.sin(tilt) * aside), -np.cos(tilt)])


def tilted(xyz_m: F64, axis: F64, T_now: F64) -> F64:
    """(4, 4) tool pose that points along an axis with level fingers; of the two, the one nearer to the present pose."""
    side = np.cross([0.0, 0.0, 1.0], axis)
    side /= np.linalg.norm(side)
    both = [pose(np.column_stack([np.cross(y, axis), y, axis]), xyz_m) for y in (side, -side)]
    return min(both, key=lambda T: rotation_distance(T[:3, :3], T_now[:3, :3]))


def is_tilted(T: F64) -> bool:
    """Whether a tool does not point down."""
    return bool(np.arccos(np.clip(-T[2, 2], -1.0, 1.0)) > SIDEWAYS_RAD)


def at(T: F64, T_wanted: F64, off_m: float, turned_rad: float) -> bool:
    """Whether a tool is at a pose."""
    near = np.linalg.norm(T[:3, 3] - T_wanted[:3, 3]) < off_m
    return bool(near and rotation_distance(T[:3, :3], T_wanted[:3, :3]) < turned_rad)
