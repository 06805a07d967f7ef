"""Tool paths for carrying and pressing, and their image."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from stvla_ros.geometry.cameras import project, px_to_uv
from stvla_ros.geometry.paths import distance
from stvla_ros.tabletop.start_depth import start_depth
from stvla_ros.types import F64, WAYPOINTS, Camera, RgbdFrame

CORRIDOR_M = 0.10
"""The tool passes over objects this close to the straight line from start to goal."""

MAX_HEIGHT_M = 0.42


def carry_route(
    start_m: F64, goal_m: F64, obstacles_m: npt.NDArray[np.floating], below_m: float, camera: Camera
) -> F64:
    """(8, 3) tool positions: up from the start, across above all obstacles, down to the goal.

    Args:
        start_m: (3,) where the tool grasps, or is.
        goal_m: (3,) where it releases.
        obstacles_m: (N, 3) points above the table.
        below_m: How far the carried object reaches below the tool.
        camera: The route stays in its view if that leaves room to pass.
    """
    min_top = max(start_m[2], goal_m[2] + 0.06)
    wanted = max(_top(start_m, goal_m, obstacles_m) + below_m + 0.06, goal_m[2] + 0.12, min_top)
    for top in np.arange(max(min(wanted, MAX_HEIGHT_M), min_top), min_top - 1e-6, -0.01):
        route = _arch(start_m, goal_m, float(top))
        if in_view(camera, route):
            return route
    return _arch(start_m, goal_m, min_top)


def press_route(cap_m: F64, hover_m: float = 0.12) -> F64:
    """(8, 3) tool positions: from the button, whose surface has depth, up and back down onto it."""
    lift = hover_m * np.array([0.0, 0.3, 0.6, 1.0, 1.0, 0.6, 0.3, 0.0])
    route = np.tile(cap_m, (WAYPOINTS, 1))
    route[:, 2] += lift
    return route


def _top(start_m: F64, goal_m: F64, obstacles_m: npt.NDArray[np.floating]) -> float:
    """Height of the obstacles near the straight line from start to goal, seen from above."""
    line = np.stack([start_m[:2], goal_m[:2]])
    near = obstacles_m[distance(obstacles_m[:, :2], line) < CORRIDOR_M]
    return float(np.quantile(near[:, 2], 0.995)) if len(near) else 0.0


def _arch(start_m: F64, goal_m: F64, top_m: float) -> F64:
    over_start, over_goal = np.array([*start_m[:2], max(top_m, start_m[2])]), np.array([*goal_m[:2], top_m])
    across = [over_start + t * (over_goal - over_start) for t in (1 / 3, 2 / 3)]
    return np.stack(
        [start_m, (start_m + over_start) / 2, over_start, *across, over_goal, (goal_m + over_goal) / 2, goal_m]
    )


def in_view(camera: Camera, points_m: F64) -> bool:
    """All points project into the image."""
    px, depth = project(camera, points_m)
    uv = px_to_uv(px, camera)
    return bool((depth > 0).all() and (uv >= 0).all() and (uv <= 1000).all())


def draw(route_m: F64, frame: RgbdFrame) -> tuple[F64, float, F64] | None:
    """The route in the form that the lifter expects.

    Returns:
        (8, 2) uv in 0..1000, the sensor's depth at the first waypoint, and (8,) offsets of the tool's depth from
        it; None when the sensor has no depth there or the start is outside the image.
    """
    px, depth = project(frame.camera, route_m)
    uv = px_to_uv(px, frame.camera)
    if not (np.isfinite(uv).all() and (uv[0] >= 0).all() and (uv[0] <= 1000).all()):
        return None
    start = start_depth(frame, px[0])
    if not np.isfinite(start):
        return None
    return np.clip(uv, 0, 1000), start, depth - start
