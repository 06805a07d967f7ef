"""Lift a trace on the image to a path in space (paper 3.3.2)."""

from __future__ import annotations

import numpy as np

from stvla_ros.geometry.cameras import back_project, uv_to_px
from stvla_ros.geometry.paths import round_corners, subdivide
from stvla_ros.perception.lift.checks import (
    check_depth,
    check_jumps,
    check_plan,
    check_workspace,
    find_spike,
    measured_start,
    raised_to_table,
)
from stvla_ros.perception.lift.config import LiftConfig
from stvla_ros.perception.lift.surfaces import settle
from stvla_ros.types import F64, U8, DepthSource, RgbdFrame, Trace3d, TracePlan

SAME_M = 1e-4
"""Neighbouring waypoints that are closer coincide."""

MIN_STEP_M = 0.0005
"""A path is compared with the depth image in steps of a pixel, but not smaller than this."""


def lift(plan: TracePlan, frame: RgbdFrame, config: LiftConfig) -> Trace3d:
    """Lift a plan on the frame that it was drawn on.

    The start depth is measured by the sensor at the first waypoint, never taken from the model. The model's offsets say
    how much further from the camera the *end effector* is at each waypoint. Corners are slightly rounded and the path
    is sampled by arc length. If all waypoints coincide, which is legal (the tool acts in place, as in pressing), the
    path has two points and a note. Each repair is noted in one sentence. No point is INVALID.

    Raises:
        StageError: LIFT_NO_DEPTH without a surface near the first waypoint; LIFT_IMPLAUSIBLE when plan or camera are
            not finite, the path leaves the workspace, jumps, or runs deep into a wall.
    """
    check_plan(plan, frame.camera)
    px = uv_to_px(plan.uv, frame.camera)
    start_m = measured_start(frame, px[0], config)
    xyz, source, notes = _waypoints(plan, px, start_m, frame, config)
    distinct = np.concatenate([[True], np.linalg.norm(np.diff(xyz, axis=0), axis=1) > SAME_M])
    if distinct.sum() == 1:
        notes.append("All waypoints coincide: the tool acts in place.")
        return _trace(xyz[[0, -1]], source[[0, -1]], plan, notes)
    xyz, source = _smoothed(xyz[distinct], source[distinct], config.round_m)
    xyz, source, repairs = _in_front(xyz, source, frame, config)
    check_workspace(xyz, config, "repaired point")
    points, where = subdivide(xyz, config.step_m)
    return _trace(points, _spread(source, where, len(points)), plan, [*notes, *repairs])


def _waypoints(
    plan: TracePlan, px: F64, start_m: float, frame: RgbdFrame, config: LiftConfig
) -> tuple[F64, U8, list[str]]:
    """(8, 3) waypoints in space, their (8,) sources, and notes."""
    notes = []
    if abs(plan.start_depth_m - start_m) > config.start_tolerance_m:
        notes.append(
            f"The planner put the start {plan.start_depth_m:.3f} m from the camera, the sensor measures {start_m:.3f} m: "
            "the sensor's value is used."
        )
    offset = plan.depth_offset_m.copy()
    source = np.full(len(px), DepthSource.MODEL, dtype=np.uint8)
    source[0] = DepthSource.SENSOR
    spike = find_spike(offset, config.spike_m)
    if spike is not None:
        between = (offset[spike - 1] + offset[spike + 1]) / 2
        notes.append(
            f"Waypoint {spike + 1} was {abs(offset[spike] - between):.2f} m off the depth of its neighbours: interpolated."
        )
        offset[spike], source[spike] = between, DepthSource.INTERPOLATED
    depth = start_m + offset
    check_depth(depth)
    xyz = back_project(frame.camera, px, depth)
    check_workspace(xyz, config)
    check_jumps(xyz, config.jump_m)
    low = xyz[:, 2] < 0
    if low.any():
        notes.append(f"{low.sum()} waypoints up to {-xyz[:, 2].min() * 1000:.0f} mm below the table were raised to it.")
        xyz = raised_to_table(xyz, frame.camera)
    return xyz, source, notes


def _smoothed(xyz_m: F64, source: U8, round_m: float) -> tuple[F64, U8]:
    points, where = round_corners(xyz_m, round_m)
    return points, _spread(source, where, len(points))


def _in_front(xyz_m: F64, source: U8, frame: RgbdFrame, config: LiftConfig) -> tuple[F64, U8, tuple[str, ...]]:
    """The path moved out of surfaces, with a point every half step where it was moved."""
    pixel_m = max(_pixel_m(frame, xyz_m), MIN_STEP_M)
    samples, where = subdivide(xyz_m, pixel_m)
    settled = settle(samples, frame, config)
    kept = np.zeros(len(samples), dtype=bool)
    kept[where] = True
    moved = np.flatnonzero(settled.moved)
    every = max(int(config.step_m / 2 / pixel_m), 1)
    kept[moved[::every]] = True
    out = _spread(source, where, len(samples))
    out[settled.moved] = DepthSource.SENSOR
    return settled.xyz_m[kept], out[kept], settled.notes


def _pixel_m(frame: RgbdFrame, xyz_m: F64) -> float:
    """Width of a pixel at the nearest point of a path, m."""
    T = frame.camera.T_base_camera
    nearest = float(((xyz_m - T[:3, 3]) @ T[:3, 2]).min())
    return nearest / float(frame.camera.K[0, 0])


def _spread(source: U8, where: np.ndarray, count: int) -> U8:
    """(count,) sources: the given ones at ``where``, interpolated between."""
    out = np.full(count, DepthSource.INTERPOLATED, dtype=np.uint8)
    out[where] = source
    return out


def _trace(xyz_m: F64, source: U8, plan: TracePlan, notes: list[str]) -> Trace3d:
    return Trace3d(xyz_m.astype(np.float32), source, plan.plan_id, plan.sub_instruction, tuple(notes))
