"""From two image points to a path: surface points from depth, the tool path in 3D, and its image.

Training uses the same functions to make the true paths.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from stvla_ros.geometry.cameras import back_project, cloud, uv_to_px
from stvla_ros.planning.route import carry_route, draw, press_route
from stvla_ros.tabletop.start_depth import start_depth
from stvla_ros.types import F32, F64, Bool, Camera, RgbdFrame

GRIP_M = 0.02
"""Blocks are gripped this far below their top."""

REACH_M = 0.02
"""A grasped block reaches this far below the tool."""

DROP_M = 0.003
"""A block is released this high above its support."""

MIN_HEIGHT_M = 0.012
"""Points higher than this above the table belong to objects."""


def surface_point(frame: RgbdFrame, uv: F64) -> F64 | None:
    """(3,) point of the surface at (2,) uv in the base frame; None where the sensor has no depth there."""
    px = uv_to_px(uv, frame.camera)
    depth = start_depth(frame, px)
    return np.asarray(back_project(frame.camera, px, depth)) if np.isfinite(depth) else None


def obstacle_points(frame: RgbdFrame, robot: Bool | None = None) -> F32:
    """(N, 3) points of objects on the table, without the robot.

    Args:
        frame: With depth.
        robot: (H, W) pixels of the robot and its held object; None: none.
    """
    points = cloud(frame)[:, ::2, ::2]
    inside = (points[2] > MIN_HEIGHT_M) & (points[2] < 0.5) & (np.abs(points[1]) < 0.55) & (points[0] > 0.25)
    if robot is not None:
        inside &= ~robot[::2, ::2]
    return points[:, inside].T


def draw_carry(
    frame: RgbdFrame, start_m: F64, goal_m: F64, obstacles_m: F32, *, held: bool
) -> tuple[F64, float, F64] | None:
    """The path of picking up a block and placing it.

    Args:
        frame: The frame to draw on.
        start_m: (3,) centre of the block's top, or the tool position if the block is held.
        goal_m: (3,) point of the surface to place it on.
        obstacles_m: (N, 3) points of objects on the table.
        held: The block is between the fingers.

    Returns:
        (8, 2) uv, start depth and (8,) offsets; None if the start has no depth.
    """
    return draw(carry_path(start_m, goal_m, obstacles_m, frame.camera, held=held), frame)


def draw_press(frame: RgbdFrame, cap_m: F64) -> tuple[F64, float, F64] | None:
    """The path of pressing a button; as :func:`draw_carry`."""
    return draw(press_path(cap_m), frame)


def carry_path(start_m: F64, goal_m: F64, obstacles_m: npt.NDArray[np.floating], camera: Camera, *, held: bool) -> F64:
    """(8, 3) tool positions for picking up a block and placing it.

    Args:
        start_m: (3,) centre of the block's top, or the tool position if the block is held.
        goal_m: (3,) point of the surface to place it on.
        obstacles_m: (N, 3) points of objects on the table.
        camera: The path should stay in its view.
        held: The block is between the fingers.
    """
    start = start_m if held else np.subtract(start_m, (0.0, 0.0, min(GRIP_M, max(start_m[2] - 0.012, 0.0))))
    end = np.add(goal_m, (0.0, 0.0, REACH_M + DROP_M))
    return carry_route(np.asarray(start, np.float64), np.asarray(end, np.float64), obstacles_m, REACH_M, camera)


def press_path(cap_m: F64) -> F64:
    """(8, 3) tool positions of pressing a button: up from its cap and down on it."""
    return press_route(np.asarray(cap_m, np.float64))
