"""Times joint paths: jerk-limited, within the arm's limits, and exactly on the path that was checked.

Each straight piece of a path gets one profile along its length (Ruckig with one degree of freedom: Berscheid and
Kroeger, "Jerk-limited Real-time Trajectory Generation with Arbitrary Target States", RSS 2021), so all joints move in
proportion and the collision-checked geometry is kept. The arm stops at the corners.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from ruckig import InputParameter, Result, Ruckig, Trajectory
from scipy.interpolate import CubicSpline

from stvla_ros.description.robot import ArmLimits
from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.types import F64, JointPath

SAMPLE_S = 0.008
"""Spacing of the samples. They are dense enough for a controller that interpolates linearly between them."""

_NEAR_S = 0.0005  # samples closer than this are one: a controller's period is 1 ms

_SAME_RAD = 1e-6  # waypoints closer than this are one


@dataclass(frozen=True, eq=False)
class MotionLimits:
    """(7,) limits of the joints: velocity [rad/s], acceleration [rad/s^2], jerk [rad/s^3]."""

    velocity: F64
    acceleration: F64
    jerk: F64


def scaled_limits(
    arm: ArmLimits, velocity_scale: float = 1.0, acceleration_scale: float = 1.0, jerk_scale: float = 1.0
) -> MotionLimits:
    """An arm's limits times a factor each."""
    return MotionLimits(arm.velocity * velocity_scale, arm.acceleration * acceleration_scale, arm.jerk * jerk_scale)


def time_polyline(waypoints_rad: F64, limits: MotionLimits) -> JointPath:
    """Time a path of straight pieces; the arm stops at each waypoint.

    Args:
        waypoints_rad: (N, 7), N at least 1.
        limits: Limits of the joints.
    """
    pieces = [_segment(a, b, limits) for a, b in pairwise(waypoints_rad)]
    pieces = [piece for piece in pieces if len(piece.t_s) > 1]
    if not pieces:
        return _standing(waypoints_rad[-1])
    starts = np.cumsum([0.0] + [piece.t_s[-1] for piece in pieces[:-1]])
    return JointPath(
        _joined([piece.q_rad for piece in pieces]),
        _joined([piece.dq_rad_s for piece in pieces]),
        _joined([piece.t_s + start for piece, start in zip(pieces, starts, strict=True)]),
    )


def time_curve(waypoints_rad: F64, limits: MotionLimits, min_duration_s: float = 0.0) -> JointPath:
    """Time a smooth curve through dense waypoints, without stops in between.

    Args:
        waypoints_rad: (N, 7) evenly spaced on the curve; a cubic spline passes through them.
        limits: Limits of the joints.
        min_duration_s: Length of the curve divided by the wanted top speed; the motion takes at least this long.
    """
    if len(waypoints_rad) < 2 or np.ptp(waypoints_rad, axis=0).max() < _SAME_RAD:
        return _standing(waypoints_rad[-1])
    spline = CubicSpline(np.linspace(0.0, 1.0, len(waypoints_rad)), waypoints_rad)
    speed, acceleration, jerk = _curve_limits(spline, 4 * len(waypoints_rad), limits)
    t, s, ds = _profile(min(speed, 1.0 / min_duration_s if min_duration_s > 0 else speed), acceleration, jerk)
    return JointPath(spline(s), spline(s, 1) * ds[:, None], t)


def _curve_limits(spline: CubicSpline, samples: int, limits: MotionLimits) -> tuple[float, float, float]:
    """Limits of the path parameter s such that no joint exceeds its own.

    With q(s(t)): q' = q_s s', q'' = q_s s'' + q_ss s'^2, q''' = q_s s''' + 3 q_ss s' s'' + q_sss s'^3. Each
    of the terms gets an equal share of its limit.
    """
    s = np.linspace(0.0, 1.0, samples)
    first, second, third = (np.abs(spline(s, order)).max(axis=0) + 1e-9 for order in (1, 2, 3))
    speed = np.min(
        [limits.velocity / first, np.sqrt(limits.acceleration / 2 / second), np.cbrt(limits.jerk / 3 / third)]
    )
    acceleration = min((limits.acceleration / 2 / first).min(), (limits.jerk / 9 / second).min() / speed)
    return float(speed), float(acceleration), float((limits.jerk / 3 / first).min())


def _segment(a: F64, b: F64, limits: MotionLimits) -> JointPath:
    way = b - a
    length = np.abs(way)
    if length.max() < _SAME_RAD:
        return _standing(b)
    moving = length > 1e-9
    every = (limits.velocity, limits.acceleration, limits.jerk)
    speed, acceleration, jerk = ((limit[moving] / length[moving]).min() for limit in every)
    t, s, ds = _profile(float(speed), float(acceleration), float(jerk))
    return JointPath(a + s[:, None] * way, ds[:, None] * way, t)


def _profile(speed: float, acceleration: float, jerk: float) -> tuple[F64, F64, F64]:
    """Times, positions from 0 to 1 and velocities of the fastest rest-to-rest motion within the limits."""
    wanted, trajectory = InputParameter(1), Trajectory(1)
    wanted.current_position, wanted.target_position = [0.0], [1.0]
    wanted.max_velocity, wanted.max_acceleration, wanted.max_jerk = [speed], [acceleration], [jerk]
    if Ruckig(1).calculate(wanted, trajectory) not in (Result.Working, Result.Finished):
        raise StageError(
            OutcomeCode.INTERNAL, f"No time profile for limits {speed:.3g}, {acceleration:.3g}, {jerk:.3g}."
        )
    profile = trajectory.profiles[0][0]
    begins = np.cumsum([0.0, *profile.t])
    t = _sample_times(begins, trajectory.duration)
    phase = np.clip(np.searchsorted(begins, t, side="right") - 1, 0, 6)
    p, v, a, j = (np.array(x)[phase] for x in (profile.p, profile.v, profile.a, profile.j))
    into = t - begins[phase]
    s, ds = p + into * (v + into * (a / 2 + into * j / 6)), v + into * (a + into * j / 2)
    s[-1], ds[-1] = 1.0, 0.0
    return t, s, ds


def _sample_times(changes_s: F64, end_s: float) -> F64:
    """Every ``SAMPLE_S``, and where the jerk changes, so that a cubic between two samples is exactly the profile."""
    changes = changes_s[(changes_s > _NEAR_S) & (changes_s < end_s - _NEAR_S)]
    changes = changes[np.diff(changes, prepend=0.0) > _NEAR_S]
    regular = np.arange(0.0, end_s - SAMPLE_S / 2, SAMPLE_S)
    if len(changes):
        after = np.searchsorted(changes, regular)
        near = [np.abs(regular - changes[np.clip(i, 0, len(changes) - 1)]) for i in (after - 1, after)]
        regular = regular[(np.minimum(*near) > _NEAR_S) | (regular == 0.0)]
    return np.concatenate([np.sort(np.concatenate([regular, changes])), [end_s]])


def _standing(q: F64) -> JointPath:
    return JointPath(q[None], np.zeros((1, 7)), np.zeros(1))


def _joined(arrays: list[F64]) -> F64:
    """Consecutive pieces, joined; the first sample of a piece equals the last of the previous one."""
    return np.concatenate([arrays[0], *(array[1:] for array in arrays[1:])])
