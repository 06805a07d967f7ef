"""Paths that a person changes: from waypoints on the image to points in space, and back."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from stvla_ros.geometry.cameras import back_project, project, px_to_uv, uv_to_px
from stvla_ros.tabletop.start_depth import start_depth
from stvla_ros.types import F64, Camera, RgbdFrame, TracePlan


@dataclass(frozen=True, eq=False)
class Drawn:
    """A plan and where its waypoints are.

    Attributes:
        plan: As drawn.
        points_m: (8, 3) its waypoints in the base frame.
    """

    plan: TracePlan
    points_m: F64


def place(plan: TracePlan, start_m: F64, camera: Camera) -> Drawn:
    """Where a plan's waypoints are.

    Args:
        plan: As drawn.
        start_m: (3,) where its lifted path begins: its depth is the measured one, to which the offsets are relative.
        camera: That it was drawn with.
    """
    _, depth_m = project(camera, np.atleast_2d(start_m))
    px = uv_to_px(plan.uv, camera)
    return Drawn(plan, back_project(camera, px, float(depth_m[0]) - plan.depth_offset_m[0] + plan.depth_offset_m))


def drawn_through(plan: TracePlan, points_m: F64, frame: RgbdFrame) -> TracePlan:
    """The plan whose waypoints are at points in space, for lifting on a frame.

    The lifter measures the depth at the first waypoint and adds the offsets. They are therefore relative to what the
    frame shows there, which need not be what the plan was drawn on: the hand or a lifted object may have moved.

    Args:
        plan: The plan that was changed; its id stays.
        points_m: (8, 3) in the base frame. Points outside the image or behind the camera are for the lifter to refuse.
        frame: What the camera shows now.
    """
    px, depth_m = project(frame.camera, points_m)
    measured_m = start_depth(frame, px[0]) if np.isfinite(px[0]).all() else np.nan
    start_m = measured_m if np.isfinite(measured_m) else float(depth_m[0])
    return replace(
        plan,
        uv=px_to_uv(px, frame.camera),
        start_depth_m=start_m,
        depth_offset_m=depth_m - start_m,
        image_stamp_ns=frame.stamp_ns,
    )
