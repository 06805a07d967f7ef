"""A trace on the image becomes a path in space (paper 3.3.2)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stvla_ros.config import param
from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.geometry.cameras import back_project, uv_to_px
from stvla_ros.geometry.depths import surface_depth
from stvla_ros.geometry.paths import subdivide
from stvla_ros.types import F64, Camera, DepthSource, RgbdFrame, Trace3d, TracePlan


@dataclass(frozen=True)
class LiftConfig:
    """Settings of the lifter."""

    window_px: float = param(
        8.0, "half size of the window for the start depth, at an image width of 640 [px]", ge=1.0, le=64.0
    )
    step_m: float = param(0.02, "largest distance between neighbouring points of the path [m]", ge=0.002, le=0.2)
    start_tolerance_m: float = param(
        0.05, "a planner's start depth further off the sensor's than this is noted [m]", ge=0.0, le=1.0
    )
    sink_m: float = param(0.05, "path points at most this far under the table are raised to it [m]", ge=0.0, le=0.5)
    x_min_m: float = param(-0.2, "workspace of the path", ge=-2.0, le=2.0)
    x_max_m: float = param(1.0, "workspace of the path", ge=-2.0, le=2.0)
    y_max_m: float = param(0.9, "workspace of the path, to both sides", ge=0.0, le=2.0)
    z_max_m: float = param(1.0, "workspace of the path", ge=0.0, le=2.0)


def lift(plan: TracePlan, frame: RgbdFrame, config: LiftConfig) -> Trace3d:
    """Lift a plan on the frame that it was drawn on.

    The start depth is the sensor's at the first waypoint, never the model's; the model's offsets say how
    much further from or nearer to the camera the tool is at each waypoint.

    Raises:
        StageError: LIFT_NO_DEPTH without a valid pixel near the first waypoint; LIFT_IMPLAUSIBLE when the plan
            is not finite or the path leaves the workspace.
    """
    _check_finite(plan)
    px = uv_to_px(plan.uv, frame.camera)
    start_m = _start_depth(px, frame, config)
    notes = []
    if abs(plan.start_depth_m - start_m) > config.start_tolerance_m:
        notes.append(
            f"The planner put the start {plan.start_depth_m:.3f} m from the camera, the sensor measures {start_m:.3f} m: "
            "the sensor's was taken."
        )
    depth = start_m + plan.depth_offset_m
    if depth.min() <= 0.05:
        i = int(depth.argmin())
        raise _implausible(f"waypoint {i + 1} lies {depth[i]:.3f} m from the camera")
    xyz = back_project(frame.camera, px, depth)
    _check_workspace(xyz, config)
    low = xyz[:, 2] < 0
    if low.any():
        notes.append(f"{low.sum()} waypoints up to {-xyz[:, 2].min() * 1000:.0f} mm under the table were raised to it.")
        xyz = _raise_to_table(xyz, frame.camera)
    points, vertices = subdivide(xyz, config.step_m)
    source = np.full(len(points), DepthSource.INTERPOLATED, dtype=np.uint8)
    source[vertices] = DepthSource.MODEL
    source[0] = DepthSource.SENSOR
    return Trace3d(points.astype(np.float32), source, plan.plan_id, plan.sub_instruction, tuple(notes))


def _check_finite(plan: TracePlan) -> None:
    if not (np.isfinite(plan.uv).all() and np.isfinite(plan.depth_offset_m).all()):
        raise _implausible("its waypoints or depth offsets are not finite numbers")
    if plan.uv.min() < 0 or plan.uv.max() > 1000:
        raise _implausible(
            f"its waypoints span {plan.uv.min():.0f} to {plan.uv.max():.0f} where 0 to 1000 is the image"
        )


def _start_depth(px: F64, frame: RgbdFrame, config: LiftConfig) -> float:
    radius = config.window_px * frame.camera.width_px / 640
    depth = surface_depth(frame.depth_m, px[0], radius)
    if not np.isfinite(depth):
        raise StageError(
            OutcomeCode.LIFT_NO_DEPTH,
            f"No valid depth within {max(radius, 2):.0f} px of the path's start at pixel ({px[0, 0]:.0f}, {px[0, 1]:.0f}): "
            "the depth camera sees nothing there; move the object or the camera.",
        )
    return depth


def _check_workspace(xyz_m: F64, config: LiftConfig) -> None:
    lower = np.array([config.x_min_m, -config.y_max_m, -config.sink_m])
    upper = np.array([config.x_max_m, config.y_max_m, config.z_max_m])
    outside = np.maximum(lower - xyz_m, xyz_m - upper).max(axis=1)
    i = int(outside.argmax())
    if outside[i] > 0:
        x, y, z = xyz_m[i]
        raise _implausible(
            f"waypoint {i + 1} of {len(xyz_m)} lies at ({x:.2f}, {y:.2f}, {z:.2f}) m, {outside[i]:.2f} m outside the workspace"
        )


def _raise_to_table(xyz_m: F64, camera: Camera) -> F64:
    """Points under z = 0 moved towards the camera until they lie on it, so that their pixel stays."""
    eye = camera.T_base_camera[:3, 3]
    t = np.where(xyz_m[:, 2] < 0, eye[2] / np.maximum(eye[2] - xyz_m[:, 2], 1e-9), 1.0)
    return np.asarray(eye + t[:, None] * (xyz_m - eye), dtype=np.float64)


def _implausible(found: str) -> StageError:
    return StageError(
        OutcomeCode.LIFT_IMPLAUSIBLE, f"The path cannot be right: {found}. Look again or check the calibration."
    )
