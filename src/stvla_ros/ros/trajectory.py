"""Joint trajectories as messages, with the rules of ros2_control's ``joint_trajectory_controller``."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence

import numpy as np
from builtin_interfaces.msg import Duration
from control_msgs.action import FollowJointTrajectory
from control_msgs.msg import JointTolerance
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from stvla_ros.types import F64, JointPath, TrajectoryTolerances

SAMPLE_S = 0.01
"""Longest time step between samples of a path read from a message."""


class TrajectoryError(ValueError):
    """A goal that a controller must not accept. ``error_code`` is a constant of FollowJointTrajectory."""

    def __init__(self, error_code: int, text: str) -> None:
        super().__init__(text)
        self.error_code = error_code


def duration(seconds: float) -> Duration:
    """A message from seconds."""
    ns = round(seconds * 1e9)
    return Duration(sec=ns // 10**9, nanosec=ns % 10**9)


def seconds(message: Duration) -> float:
    """Seconds from a message."""
    return float(message.sec) + float(message.nanosec) * 1e-9


def trajectory_message(path: JointPath, names: Sequence[str]) -> JointTrajectory:
    """A message from a path; the motion starts when it is received, and its last velocity is exactly zero.

    The points have accelerations, so that a controller interpolates by quintics: by the cubics between positions and
    velocities alone, the commanded acceleration would jump at every point.
    """
    dq = np.array(path.dq_rad_s)
    dq[-1] = 0.0
    rows = (path.q_rad.tolist(), dq.tolist(), accelerations(path.t_s, path.q_rad, dq).tolist(), path.t_s.tolist())
    points = [
        JointTrajectoryPoint(
            positions=array("d", q), velocities=array("d", v), accelerations=array("d", a), time_from_start=duration(t)
        )
        for q, v, a, t in zip(*rows, strict=True)
    ]
    return JointTrajectory(joint_names=list(names), points=points)


def accelerations(t_s: F64, q_rad: F64, dq_rad_s: F64) -> F64:
    """Accelerations of a path that begins and ends at rest: of the cubics on both sides of each sample, the mean.

    A cubic through positions and velocities is exact while the jerk is constant, as it is for most of a jerk-limited
    path; plain differences of the velocities would be wrong wherever it changes.

    Args:
        t_s: (N,) times.
        q_rad: (N, 7) positions.
        dq_rad_s: (N, 7) velocities.

    Returns:
        (N, 7) in rad/s^2; zero at both ends.
    """
    ddq = np.zeros_like(dq_rad_s)
    h, way = np.diff(t_s)[:, None], np.diff(q_rad, axis=0)
    v0, v1 = dq_rad_s[:-1], dq_rad_s[1:]
    starts, ends = (6 * way - 2 * h * (2 * v0 + v1)) / h**2, (2 * h * (v0 + 2 * v1) - 6 * way) / h**2
    ddq[1:-1] = (ends[:-1] + starts[1:]) / 2
    return ddq


def read_trajectory(message: JointTrajectory, names: Sequence[str], q_now_rad: F64) -> JointPath:
    """A trajectory message as a dense path in the order of ``names``.

    Between points with velocities the path is a cubic, otherwise a straight line. If the first point is later than
    the start, the path leads there from ``q_now_rad``.

    Args:
        message: As received.
        names: The controller's joints.
        q_now_rad: (7,) current joint positions.

    Raises:
        TrajectoryError: With the reason, for the same faults that ros2_control rejects.
    """
    order = _order(message.joint_names, names)
    t, q, dq = _points(message, order)
    if t[0] > 0.0:
        t, q, dq = np.insert(t, 0, 0.0), np.insert(q, 0, q_now_rad, 0), np.insert(dq, 0, 0.0, 0)
    return _dense(t, q, dq, bool(message.points[0].velocities))


def start_delay_s(message: JointTrajectory, now_s: float) -> float:
    """How long to wait before the start; a stamp of zero means now.

    A stamp in the past asks for a jump into the middle of the motion. ros2_control does jump, and a Franka then stops
    with a reflex. Here such a goal starts late and runs completely, unless its end is in the past.

    Raises:
        TrajectoryError: The trajectory ended in the past.
    """
    stamp = float(message.header.stamp.sec) + float(message.header.stamp.nanosec) * 1e-9
    late_s = now_s - stamp - seconds(message.points[-1].time_from_start)
    if stamp > 0.0 and late_s > 0.0:
        raise TrajectoryError(
            FollowJointTrajectory.Result.OLD_HEADER_TIMESTAMP, f"By its stamp the trajectory ended {late_s:.3f} s ago."
        )
    return max(0.0, stamp - now_s) if stamp > 0.0 else 0.0


def read_tolerances(
    goal: FollowJointTrajectory.Goal, names: Sequence[str], default: TrajectoryTolerances
) -> TrajectoryTolerances:
    """A goal's tolerances. As in control_msgs, 0 means the default and a negative value no limit.

    Raises:
        TrajectoryError: A tolerance names an unknown joint.
    """
    late = seconds(goal.goal_time_tolerance)
    return TrajectoryTolerances(
        _tolerance(goal.path_tolerance, names, default.path_rad),
        _tolerance(goal.goal_tolerance, names, default.goal_rad),
        default.goal_time_s if late == 0.0 else np.inf if late < 0.0 else late,
    )


def _tolerance(given: Iterable[JointTolerance], names: Sequence[str], default: F64) -> F64:
    values = np.array(default)
    for tolerance in given:
        if tolerance.name not in names:
            raise TrajectoryError(
                FollowJointTrajectory.Result.INVALID_JOINTS, f"Tolerance for unknown joint '{tolerance.name}'."
            )
        if tolerance.position != 0.0:
            values[names.index(tolerance.name)] = np.inf if tolerance.position < 0.0 else tolerance.position
    return values


def _order(given: Sequence[str], names: Sequence[str]) -> list[int]:
    if sorted(given) != sorted(names):
        raise TrajectoryError(
            FollowJointTrajectory.Result.INVALID_JOINTS,
            f"Wanted the joints {', '.join(names)} in any order, got {', '.join(given) or 'none'}.",
        )
    return [list(given).index(name) for name in names]


def _points(message: JointTrajectory, order: list[int]) -> tuple[F64, F64, F64]:
    """Times (N,), positions (N, 7) and velocities (N, 7) in the order of the controller's joints."""
    invalid, n = FollowJointTrajectory.Result.INVALID_GOAL, len(order)
    if not message.points:
        raise TrajectoryError(invalid, "The trajectory has no points.")
    with_velocity = bool(message.points[0].velocities)
    for i, point in enumerate(message.points):
        if len(point.positions) != n or len(point.velocities) != (n if with_velocity else 0):
            raise TrajectoryError(
                invalid, f"Point {i}: wanted {n} positions, and velocities for all points and joints or for none."
            )
    t = np.array([seconds(p.time_from_start) for p in message.points])
    q = np.array([p.positions for p in message.points])[:, order]
    dq = np.array([p.velocities for p in message.points])[:, order] if with_velocity else np.zeros_like(q)
    if not (np.isfinite(q).all() and np.isfinite(dq).all()):
        raise TrajectoryError(invalid, "The trajectory has values that are not finite.")
    if t[0] < 0.0 or np.any(np.diff(t) <= 0.0):
        raise TrajectoryError(invalid, "The times of the points must not be negative and must increase strictly.")
    if np.abs(dq[-1]).max() > 1e-6:
        raise TrajectoryError(invalid, "The trajectory must end at rest: the last velocities must be zero.")
    return t, q, dq


def _dense(t: F64, q: F64, dq: F64, cubic: bool) -> JointPath:
    """Samples at most SAMPLE_S apart that include the given points."""
    if len(t) == 1:
        return JointPath(q, dq, t)
    counts = np.maximum(1, np.ceil(np.diff(t) / SAMPLE_S - 1e-9)).astype(int)
    segment = np.repeat(np.arange(len(counts)), counts)
    s = np.concatenate([np.arange(c) / c for c in counts])[:, None]
    h = np.diff(t)[segment][:, None]
    a, b, va, vb = q[segment], q[segment + 1], dq[segment], dq[segment + 1]
    if cubic:  # Hermite form
        samples = a + h * va * s + (3 * (b - a) - h * (2 * va + vb)) * s**2 + (2 * (a - b) + h * (va + vb)) * s**3
        rates = va + 2 * (3 * (b - a) / h - (2 * va + vb)) * s + 3 * (2 * (a - b) / h + (va + vb)) * s**2
    else:
        samples, rates = a + (b - a) * s, (b - a) / h
    times = t[segment] + (h * s)[:, 0]
    return JointPath(np.vstack([samples, q[-1]]), np.vstack([rates, np.zeros_like(q[-1])]), np.append(times, t[-1]))
