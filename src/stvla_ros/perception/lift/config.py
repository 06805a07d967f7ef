"""Settings of the lifter."""

from __future__ import annotations

from dataclasses import dataclass

from stvla_ros.config import param


@dataclass(frozen=True)
class LiftConfig:
    """Settings of the lifter."""

    window_px: float = param(
        8.0, "half size of the window for the start depth, at an image width of 640 [px]", ge=1.0, le=64.0
    )
    snap_px: float = param(
        3.0,
        "a start on the table this close to a raised object snaps to it, at an image width of 640; 0: never [px]",
        ge=0.0,
        le=32.0,
    )
    low_m: float = param(0.015, "surfaces lower than this are table when a start snaps [m]", ge=0.0, le=0.1)
    range_m: float = param(10.0, "greater depths are invalid (16-bit saturation) [m]", ge=0.5, le=65.0)
    step_m: float = param(0.02, "largest distance between neighbouring points of the path [m]", ge=0.002, le=0.2)
    round_m: float = param(0.003, "corners are rounded by at most this much; 0: not at all [m]", ge=0.0, le=0.05)
    start_tolerance_m: float = param(
        0.05, "a start depth of the planner that differs more from the sensor's is noted [m]", ge=0.0, le=1.0
    )
    sink_m: float = param(0.05, "path points at most this far below the table are raised to it [m]", ge=0.0, le=0.5)
    spike_m: float = param(
        0.20,
        "a single inner waypoint is interpolated if its depth is this far from two neighbours that agree [m]",
        ge=0.01,
        le=5.0,
    )
    jump_m: float = param(0.8, "largest distance between neighbouring waypoints [m]", ge=0.05, le=5.0)
    grip_m: float = param(
        0.05, "the ends of the path may lie this deep inside the grasped or filled object [m]", ge=0.0, le=0.3
    )
    end_m: float = param(
        0.06, "length at each end to which this applies; it fades out over the same length again [m]", ge=0.0, le=0.5
    )
    touch_m: float = param(
        0.01,
        "points further than this behind the measured depth are behind the surface; grows with noise beyond 1 m [m]",
        ge=0.001,
        le=0.1,
    )
    inside_m: float = param(
        0.05,
        "a path at most this deep inside a surface is moved in front of it; a deeper one is refused at a wall [m]",
        ge=0.0,
        le=0.5,
    )
    clear_m: float = param(0.005, "a moved path keeps this distance in front of the surface [m]", ge=0.0, le=0.1)
    wall_m: float = param(
        0.20, "a surface that fills a window of this size is a wall, a smaller one an object [m]", ge=0.05, le=2.0
    )
    hand_m: float = param(
        0.15,
        "above the start and this close to it, the measured surface may be the robot's hand [m]",
        ge=0.0,
        le=0.5,
    )
    x_min_m: float = param(-0.2, "workspace of the path", ge=-2.0, le=2.0)
    x_max_m: float = param(1.0, "workspace of the path", ge=-2.0, le=2.0)
    y_max_m: float = param(0.9, "workspace of the path, to both sides", ge=0.0, le=2.0)
    z_max_m: float = param(1.0, "workspace of the path", ge=0.0, le=2.0)
