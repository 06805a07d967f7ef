"""Checks of a drawn path: a fault is repaired if the repair is unambiguous, else the path is refused."""

from __future__ import annotations

import numpy as np

from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.geometry.cameras import calibration_fault
from stvla_ros.geometry.depths import MIN_RANGE_M
from stvla_ros.perception.lift.config import LiftConfig
from stvla_ros.tabletop.start_depth import StartRule, start_depth
from stvla_ros.types import F64, Camera, RgbdFrame, TracePlan


def implausible(found: str) -> StageError:
    return StageError(
        OutcomeCode.LIFT_IMPLAUSIBLE, f"The path is implausible: {found}. Plan again or check the calibration."
    )


def check_plan(plan: TracePlan, camera: Camera) -> None:
    """Raises LIFT_IMPLAUSIBLE for non-finite numbers, waypoints outside the image, or an invalid calibration."""
    fault = calibration_fault(camera)
    if fault is not None:
        raise implausible(f"the calibration of its camera is invalid: {fault}")
    if not (np.isfinite(plan.uv).all() and np.isfinite(plan.depth_offset_m).all()):
        raise implausible("its waypoints or depth offsets are not finite numbers")
    if plan.uv.min() < 0 or plan.uv.max() > 1000:
        raise implausible(f"its waypoints span {plan.uv.min():.0f} to {plan.uv.max():.0f}, the image spans 0 to 1000")


def check_depth(depth_m: F64) -> None:
    """Raises LIFT_IMPLAUSIBLE for a waypoint at or behind the camera."""
    i = int(depth_m.argmin())
    if depth_m[i] <= MIN_RANGE_M:
        raise implausible(f"waypoint {i + 1} lies {depth_m[i]:.3f} m from the camera")


def measured_start(frame: RgbdFrame, px: F64, config: LiftConfig) -> float:
    """Depth of the surface at the start, m. Raises LIFT_NO_DEPTH when the sensor has none."""
    rule = StartRule(config.window_px, config.snap_px, config.low_m, config.range_m)
    depth = start_depth(frame, px, rule)
    if np.isfinite(depth):
        return depth
    radius = max(config.window_px * frame.camera.width_px / 640, 2)
    raise StageError(
        OutcomeCode.LIFT_NO_DEPTH,
        f"No valid depth within {radius:.0f} px of the path's start at pixel ({px[0]:.0f}, {px[1]:.0f}): "
        "move the object or the camera.",
    )


def find_spike(offset_m: F64, spike_m: float) -> int | None:
    """The only inner waypoint whose depth is far from that of two neighbours that agree; None for none or several.

    A single wrong number of a model is isolated: its neighbours differ by less than a quarter of its error, and no
    other waypoint is off once it is interpolated.
    """
    middle = (offset_m[:-2] + offset_m[2:]) / 2
    off = np.abs(offset_m[1:-1] - middle)
    i = int(off.argmax()) + 1
    if off[i - 1] <= spike_m or abs(offset_m[i + 1] - offset_m[i - 1]) > off[i - 1] / 4:
        return None
    repaired = offset_m.copy()
    repaired[i] = middle[i - 1]
    left = np.abs(repaired[1:-1] - (repaired[:-2] + repaired[2:]) / 2)
    return i if left.max() <= spike_m else None


def check_workspace(xyz_m: F64, config: LiftConfig, what: str = "waypoint") -> None:
    """Raises LIFT_IMPLAUSIBLE for a point outside the workspace."""
    lower = np.array([config.x_min_m, -config.y_max_m, -config.sink_m])
    upper = np.array([config.x_max_m, config.y_max_m, config.z_max_m])
    outside = np.maximum(lower - xyz_m, xyz_m - upper).max(axis=1)
    i = int(outside.argmax())
    if outside[i] > 0:
        x, y, z = xyz_m[i]
        raise implausible(
            f"{what} {i + 1} of {len(xyz_m)} lies at ({x:.2f}, {y:.2f}, {z:.2f}) m, {outside[i]:.2f} m outside the workspace"
        )


def check_jumps(xyz_m: F64, jump_m: float) -> None:
    """Raises LIFT_IMPLAUSIBLE for neighbouring waypoints that are too far apart."""
    legs = np.linalg.norm(np.diff(xyz_m, axis=0), axis=1)
    i = int(legs.argmax())
    if legs[i] > jump_m:
        raise implausible(f"from waypoint {i + 1} to {i + 2} it jumps {legs[i]:.2f} m, more than {jump_m:.2f} m")


def raised_to_table(xyz_m: F64, camera: Camera) -> F64:
    """Points below z = 0 moved along their ray to z = 0, so that their pixel stays the same.

    Raises LIFT_IMPLAUSIBLE when the camera itself is below the table.
    """
    eye = camera.T_base_camera[:3, 3]
    if eye[2] <= 0:
        raise implausible(f"it lies below the table, and so does the camera ({eye[2]:.2f} m)")
    t = np.where(xyz_m[:, 2] < 0, eye[2] / (eye[2] - np.minimum(xyz_m[:, 2], 0.0)), 1.0)
    return np.asarray(eye + t[:, None] * (xyz_m - eye), dtype=np.float64)
