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
        "a start on the table this close beside a raised thing belongs to the thing, at an image width of 640; 0: never [px]",
        ge=0.0,
        le=32.0,
    )
    low_m: float = param(0.015, "what is lower belongs to the table, when a start is snapped [m]", ge=0.0, le=0.1)
    range_m: float = param(10.0, "greater depths are no measurement (16-bit saturation) [m]", ge=0.5, le=65.0)
    step_m: float = param(0.02, "largest distance between neighbouring points of the path [m]", ge=0.002, le=0.2)
    round_m: float = param(0.003, "corners are rounded by at most this much; 0: not at all [m]", ge=0.0, le=0.05)
    start_tolerance_m: float = param(
        0.05, "a planner's start depth further off the sensor's than this is noted [m]", ge=0.0, le=1.0
    )
    sink_m: float = param(0.05, "path points at most this far under the table are raised to it [m]", ge=0.0, le=0.5)
    spike_m: float = param(
        0.20,
        "one inner waypoint whose depth is this far off between two that agree is interpolated [m]",
        ge=0.01,
        le=5.0,
    )
    jump_m: float = param(0.8, "largest distance between neighbouring waypoints [m]", ge=0.05, le=5.0)
    grip_m: float = param(
        0.05, "the ends of the path may lie this deep inside what is grasped or filled [m]", ge=0.0, le=0.3
    )
    end_m: float = param(
        0.06, "length of path at each end that may do so; twice that far it fades out [m]", ge=0.0, le=0.5
    )
    touch_m: float = param(
        0.01,
        "a point further behind the measured depth is behind the surface, less is noise; beyond 1 m it grows as noise does [m]",
        ge=0.001,
        le=0.1,
    )
    inside_m: float = param(
        0.05,
        "a path at most this deep inside a surface is moved in front of it, a deeper one refused at a wall [m]",
        ge=0.0,
        le=0.5,
    )
    clear_m: float = param(0.005, "what is moved ends this far in front of the surface [m]", ge=0.0, le=0.1)
    wall_m: float = param(
        0.20, "a surface that fills a window of this size is a wall, smaller ones are things [m]", ge=0.05, le=2.0
    )
    hand_m: float = param(
        0.15,
        "above the start and this close beside it the robot's hand may be what the sensor sees [m]",
        ge=0.0,
        le=0.5,
    )
    x_min_m: float = param(-0.2, "workspace of the path", ge=-2.0, le=2.0)
    x_max_m: float = param(1.0, "workspace of the path", ge=-2.0, le=2.0)
    y_max_m: float = param(0.9, "workspace of the path, to both sides", ge=0.0, le=2.0)
    z_max_m: float = param(1.0, "workspace of the path", ge=0.0, le=2.0)
