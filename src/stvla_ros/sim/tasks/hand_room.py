"""Whether the hand has room to grasp an item from above and the camera sees it: scenes without are drawn again."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stvla_ros.description.kinematics import tcp_pose
from stvla_ros.description.panda import HOME_Q_RAD
from stvla_ros.geometry.se3 import finger_yaw
from stvla_ros.sim.camera import TripodCameraConfig
from stvla_ros.sim.groceries import Grocery
from stvla_ros.types import F64

GRIP_M, LOWEST_M = 0.02, 0.012
"""Items are gripped this far below their top, but not lower than this above the table."""

HAND_ABOVE_M = 0.032
"""The hand's lower face is this far above the tool centre point, with some room."""

HAND_HALF_M, FINGERS_HALF_M = (0.104, 0.034), (0.064, 0.014)
"""Half of what hand and open fingers cover, along their opening and across."""

ROOM_M = 0.016
"""Free space around both, as the planner's cells of 1 cm need it."""

SIGHT_ROOM_M = 0.006
_HOME_YAW_RAD = finger_yaw(tcp_pose(HOME_Q_RAD))


def graspable(item: Grocery, others: Sequence[Grocery]) -> bool:
    """The open hand comes down on the item without touching another one.

    Round items are grasped as the hand is turned at home, others across their narrow side.
    """
    yaw = _HOME_YAW_RAD if item.ware.round else item.yaw_rad
    tool_m = max(item.ware.size_m[2] - GRIP_M, LOWEST_M)
    return not any(_in_the_way(other, item.xy_m, yaw, tool_m) for other in others)


def _in_the_way(other: Grocery, xy_m: tuple[float, float], yaw_rad: float, tool_m: float) -> bool:
    axes = np.array([[np.cos(yaw_rad), np.sin(yaw_rad)], [-np.sin(yaw_rad), np.cos(yaw_rad)]])
    local = np.abs((_outline(other) - xy_m) @ axes.T)
    for lowest, half in ((tool_m - 0.015, FINGERS_HALF_M), (tool_m + HAND_ABOVE_M, HAND_HALF_M)):
        if other.ware.size_m[2] > lowest and (local < np.add(half, ROOM_M)).all(axis=1).any():
            return True
    return False


def _outline(item: Grocery) -> F64:
    """(N, 2) points all over the place where an item stands."""
    across, along = item.ware.size_m[0] / 2, item.ware.size_m[1] / 2
    grid = np.stack(np.meshgrid(np.linspace(-1, 1, 7), np.linspace(-1, 1, 7)), axis=-1).reshape(-1, 2)
    if item.ware.round:
        grid = grid[np.hypot(*grid.T) <= 1.0]
    c, s = np.cos(item.yaw_rad), np.sin(item.yaw_rad)
    return np.asarray((grid * [across, along]) @ np.array([[c, s], [-s, c]]) + item.xy_m)


def visible(item: Grocery, others: Sequence[Grocery], camera: TripodCameraConfig) -> bool:
    """No other item hides the middle of its top, or the middle of the item, from the camera."""
    eye = np.array([camera.x_m, camera.y_m, camera.z_m])
    height = item.ware.size_m[2]
    starts = (np.array([*item.xy_m, z]) for z in (height, max(height - GRIP_M, LOWEST_M), height / 2))
    return not any(_hidden(start, eye, other) for start in starts for other in others)


def _hidden(start_m: F64, eye_m: F64, other: Grocery) -> bool:
    way = start_m + np.linspace(0.0, 0.35, 60)[:, None] * (eye_m - start_m)
    near = np.hypot(*(way[:, :2] - other.xy_m).T) < other.ware.radius_m + SIGHT_ROOM_M
    return bool((near & (way[:, 2] < other.ware.size_m[2] + SIGHT_ROOM_M)).any())
