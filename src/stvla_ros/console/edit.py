"""Paths that a person changes: from waypoints on the image to points in space, and back."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.geometry.cameras import back_project, project, px_to_uv, uv_in_view, uv_to_px
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


def pixel_of(direction: npt.ArrayLike, camera: Camera) -> F64:
    """(2,) pixel into whose direction (3,) of the base frame a camera looks.

    Raises:
        StageError: INVALID_GOAL when the camera's image does not show that direction.
    """
    ray = np.asarray(direction, dtype=np.float64)
    uv = uv_in_view(camera, camera.T_base_camera[:3, 3] + ray) if np.isfinite(ray).all() else None
    if uv is None:
        raise StageError(OutcomeCode.INVALID_GOAL, "No waypoint was moved: click on the camera's picture.")
    return uv_to_px(uv, camera)


def placed(points_m: F64, waypoint: int, px: F64, frame: RgbdFrame) -> F64:
    """Where a waypoint is once it was put on another pixel: in front of what is seen there by as much as before.

    So a waypoint 3 cm above a plate stays 3 cm above it. One that was behind what the frame shows at its old pixel (the
    arm may hide it) is put on what is seen at the new one.

    Args:
        points_m: (N, 3) waypoints in the base frame.
        waypoint: Which one, from 0.
        px: (2,) its new pixel.
        frame: That was clicked on.

    Returns:
        (3,) in the base frame; its projection is ``px``.

    Raises:
        StageError: LIFT_NO_DEPTH without a surface near one of the two pixels.
    """
    old_px, depth_m = project(frame.camera, points_m[waypoint])
    free_m = max(_surface_m(frame, old_px, "of its old place: drag it in the 3D view") - float(depth_m), 0.0)
    return back_project(frame.camera, px, _surface_m(frame, px, "that was clicked: click beside it") - free_m)


def _surface_m(frame: RgbdFrame, px: F64, which: str) -> float:
    """The depth that the lifter takes."""
    depth_m = start_depth(frame, px)
    if np.isfinite(depth_m):
        return depth_m
    x, y = px
    raise StageError(
        OutcomeCode.LIFT_NO_DEPTH,
        f"The waypoint was not moved: no valid depth near the pixel ({x:.0f}, {y:.0f}) {which}.",
    )
