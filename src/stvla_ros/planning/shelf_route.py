"""Tool paths that carry an object into a cupboard: up, across, and in from the front with the tool tilted."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from stvla_ros.geometry.paths import distance
from stvla_ros.planning.route import CORRIDOR_M, in_view
from stvla_ros.types import F64, Camera

TILT_RAD = np.radians(50.0)
"""Of the tool from straight down, towards the inside. The Panda reaches a cupboard beside its table at 30 to 60 degrees;
straight down, the hand would run into the cupboard's top."""

DEPTH_M = 0.10
"""How far behind the front the tool lets go."""

FRONT_M = 0.22
"""The tool is tilted this far before its last place, along its own axis: outside, with the object below the top board."""

MAX_HEIGHT_M = 0.45

LOWEST_M = 0.012
"""The tool grasps at least this high above the table."""

DROP_M = 0.010
"""A tilted item is let go this high above the shelf: it rolls over its edge anyway."""


def tool_axis(yaw_rad: float) -> F64:
    """(3,) direction in which the tool points and moves into a cupboard whose inside lies in direction ``yaw_rad``."""
    across = np.sin(TILT_RAD)
    return np.array([across * np.cos(yaw_rad), across * np.sin(yaw_rad), -np.cos(TILT_RAD)])


def release_point(front_m: F64, yaw_rad: float, below_m: float, wide_m: float, drop_m: float) -> F64:
    """(3,) tool position at which a carried object is let go.

    Args:
        front_m: (3,) middle of the bottom shelf's front edge.
        yaw_rad: Direction that points in.
        below_m: How far the object reaches beyond the tool, along its axis.
        wide_m: Its extent across that, in the plane in which the tool is tilted.
        drop_m: Free height left below it.
    """
    lowest = below_m * np.cos(TILT_RAD) + wide_m / 2 * np.sin(TILT_RAD)
    inwards = np.array([np.cos(yaw_rad), np.sin(yaw_rad), 0.0])
    return np.asarray(front_m + DEPTH_M * inwards + [0.0, 0.0, lowest + drop_m])


def item_grasp(top_m: F64, grip_m: float) -> F64:
    """(3,) tool position for grasping a grocery item this far below the (3,) middle of its top."""
    return np.array([*top_m[:2], max(top_m[2] - grip_m, LOWEST_M)])


def item_route(
    start_m: F64,
    size_m: tuple[float, float, float],
    grip_m: float,
    front_m: F64,
    yaw_rad: float,
    obstacles_m: npt.NDArray[np.floating],
    camera: Camera,
) -> F64:
    """(8, 3) tool positions for putting a grocery item in a cupboard; how far it reaches follows from its size.

    Args:
        start_m: (3,) where the tool grasps, or is.
        size_m: The item's shorter edge, its longer one, and its height.
        grip_m: It is gripped this far below its top.
        front_m: (3,) middle of the bottom shelf's front edge.
        yaw_rad: Direction that points in.
        obstacles_m: (N, 3) points above the table, without the cupboard.
        camera: The route stays in its view if that leaves room to pass.
    """
    _, wide, high = size_m
    below = high - grip_m if high > grip_m + LOWEST_M else LOWEST_M
    end = release_point(front_m, yaw_rad, below, wide, DROP_M)
    return shelf_route(start_m, end, yaw_rad, obstacles_m, below, camera)


def shelf_route(
    start_m: F64, end_m: F64, yaw_rad: float, obstacles_m: npt.NDArray[np.floating], below_m: float, camera: Camera
) -> F64:
    """(8, 3) tool positions: up from the start, across to the cupboard's front, and in along the tilted tool's axis.

    Args:
        start_m: (3,) where the tool grasps, or is.
        end_m: (3,) where it lets go, of :func:`release_point`.
        yaw_rad: Direction that points in.
        obstacles_m: (N, 3) points above the table, without the cupboard.
        below_m: How far the carried object reaches below the tool.
        camera: The route stays in its view if that leaves room to pass.
    """
    front = end_m - FRONT_M * tool_axis(yaw_rad)
    line = np.stack([start_m[:2], front[:2]])
    near = obstacles_m[distance(obstacles_m[:, :2], line) < CORRIDOR_M]
    highest = float(np.quantile(near[:, 2], 0.995)) if len(near) else 0.0
    least = max(start_m[2], front[2] - 0.05)
    wanted = max(min(highest + below_m + 0.05, MAX_HEIGHT_M), least)
    routes = (_over(start_m, top, front, end_m) for top in np.arange(wanted, least - 1e-6, -0.01))
    return next((route for route in routes if in_view(camera, route)), _over(start_m, least, front, end_m))


def _over(start_m: F64, top_m: float, front_m: F64, end_m: F64) -> F64:
    over = np.array([*start_m[:2], top_m])
    across = [over + t * (front_m - over) for t in (1 / 3, 2 / 3)]
    return np.stack([start_m, (start_m + over) / 2, over, *across, front_m, (front_m + end_m) / 2, end_m])
