"""From two places on the image to a path: surface points from depth, the tool's way in 3D, and its image."""

from __future__ import annotations

import numpy as np

from stvla_ros.geometry.cameras import back_project, cloud, uv_to_px
from stvla_ros.planning.heatmap.route import carry, press
from stvla_ros.planning.route import draw
from stvla_ros.tabletop.start_depth import start_depth
from stvla_ros.types import F32, F64, Bool, RgbdFrame

STANDS_M = 0.012
"""What is higher over the table than this stands on it."""


def surface_point(frame: RgbdFrame, uv: F64) -> F64 | None:
    """(3,) point of the surface at (2,) uv in the base frame; None where the sensor has no depth there."""
    px = uv_to_px(uv, frame.camera)
    depth = start_depth(frame, px)
    return np.asarray(back_project(frame.camera, px, depth)) if np.isfinite(depth) else None


def standing(frame: RgbdFrame, robot: Bool | None = None) -> F32:
    """(N, 3) points that stand on the table around, without the robot's.

    Args:
        frame: With depth.
        robot: (H, W) pixels that show the robot or what it holds; None: none do.
    """
    points = cloud(frame)[:, ::2, ::2]
    inside = (points[2] > STANDS_M) & (points[2] < 0.5) & (np.abs(points[1]) < 0.55) & (points[0] > 0.25)
    if robot is not None:
        inside &= ~robot[::2, ::2]
    return points[:, inside].T


def draw_carry(
    frame: RgbdFrame, start_m: F64, goal_m: F64, obstacles_m: F32, *, held: bool
) -> tuple[F64, float, F64] | None:
    """The path of taking a block and setting it down.

    Args:
        frame: To draw on.
        start_m: (3,) middle of the block's top, or the tool where the block is held.
        goal_m: (3,) surface that it is set down on.
        obstacles_m: (N, 3) what stands on the table.
        held: The block is between the fingers.

    Returns:
        (8, 2) uv, start depth and (8,) offsets; None where the start has no depth.
    """
    return draw(carry(start_m, goal_m, obstacles_m, frame.camera, held=held), frame)


def draw_press(frame: RgbdFrame, cap_m: F64) -> tuple[F64, float, F64] | None:
    """The path of pressing a button; as :func:`draw_carry`."""
    return draw(press(cap_m), frame)
