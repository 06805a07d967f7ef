"""Trajectory controller of the simulated arm, which behaves like ros2_control's JointTrajectoryController.

One goal at a time; a cancel, a reflex or a missed tolerance ends it with a jerk-limited stop; afterwards
the arm holds its position. It is sampled by simulation time and knows neither ROS nor MuJoCo. Not thread
safe: the cell calls it under its lock.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from enum import Enum

import numpy as np
from ruckig import Trajectory

from stvla_ros.config import param
from stvla_ros.description.braking import CREEP_S, STILL_RAD_S, STILL_S, fastest_stop
from stvla_ros.description.panda import ARM_JOINTS, Q_MAX_RAD, Q_MIN_RAD, V_MAX_RAD_S
from stvla_ros.description.robot import PANDA
from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.types import F64, Bool, JointPath, TrajectoryTolerances


@dataclass(frozen=True)
class ControllerConfig:
    """TrajectoryTolerances and limits of the trajectory controller."""

    start_tolerance_rad: float = param(0.05, "largest jump from the arm's position to a path's start", ge=0.0, le=0.5)
    path_tolerance_rad: float = param(0.10, "largest tracking error before a goal is aborted", ge=0.001, le=1.0)
    goal_tolerance_rad: float = param(0.01, "largest error at the end of a path", ge=0.0001, le=0.5)
    goal_time_s: float = param(0.5, "how long the arm may take to settle at the end of a path", ge=0.0, le=5.0)
    reflex_force_n: float = param(60.0, "contact force on the arm at which it stops itself", ge=5.0, le=1000.0)
    reflex_filter_s: float = param(0.02, "time constant of the contact force filter", ge=0.0, le=1.0)


class TrajectoryStatus(Enum):
    """Status of a goal."""

    ACTIVE = "active"
    SUCCEEDED = "succeeded"
    CANCELED = "canceled"
    ABORTED = "aborted"


@dataclass
class TrajectoryGoal:
    """One path being followed. ``at_rest`` becomes true when the arm stands still after its end.

    Attributes:
        path: What to follow.
        tolerances: Within these.
        status: Its status.
        code: Why it was aborted: REFLEX or CONTROLLER_FAILED; CANCELED after a cancel; OK otherwise.
        reason: The same in a sentence.
        at_rest: The goal has ended and the arm stands still, or did not within ``CREEP_S``.
    """

    path: JointPath
    tolerances: TrajectoryTolerances
    status: TrajectoryStatus = TrajectoryStatus.ACTIVE
    code: OutcomeCode = OutcomeCode.OK
    reason: str = ""
    at_rest: bool = False


class TrajectoryController:
    """Turns paths into references for the joint servos."""

    def __init__(self, config: ControllerConfig, q_rad: F64) -> None:
        self.config = config
        path, end = np.full(7, config.path_tolerance_rad), np.full(7, config.goal_tolerance_rad)
        self._tolerances = TrajectoryTolerances(path, end, config.goal_time_s)
        self._goal: TrajectoryGoal | None = None
        self._start_s = 0.0
        self._offset = np.zeros(7)
        self._stop: Trajectory | None = None
        self._moved_s = 0.0
        self._force_n = 0.0
        self._q, self._dq, self._ddq = np.array(q_rad), np.zeros(7), np.zeros(7)

    @property
    def reference(self) -> tuple[F64, F64]:
        """(7,) positions and (7,) velocities commanded to the servos at the last sample."""
        return self._q.copy(), self._dq.copy()

    @property
    def moving(self) -> bool:
        """A goal is active or the arm is being brought to a stop."""
        return self._goal is not None and not self._goal.at_rest

    def start(self, path: JointPath, now_s: float, tolerances: TrajectoryTolerances | None = None) -> TrajectoryGoal:
        """Follow a path from now on, within the configured tolerances or others.

        A small difference between its start and the present place fades out in the first 0.2 s.

        Raises:
            StageError: CONTROLLER_FAILED when the arm still moves, the path starts elsewhere, or it
                violates a limit of the arm.
        """
        if self.moving:
            raise StageError(
                OutcomeCode.CONTROLLER_FAILED,
                "A path was sent while the arm moves: cancel and wait for standstill first.",
            )
        check_limits(path)
        offset = self._q - path.q_rad[0]
        if np.abs(offset).max() > self.config.start_tolerance_rad:
            raise StageError(
                OutcomeCode.CONTROLLER_FAILED,
                f"The path starts {np.abs(offset).max():.3f} rad from the arm; at most "
                f"{self.config.start_tolerance_rad} is allowed: plan from the current joint state.",
            )
        goal = TrajectoryGoal(path, tolerances or self._tolerances)
        self._goal, self._start_s, self._offset, self._stop, self._force_n = goal, now_s, offset, None, 0.0
        return self._goal

    def sample(self, now_s: float) -> tuple[F64, F64]:
        """(7,) positions and (7,) velocities for the servos at this time."""
        goal = self._goal
        if goal is not None and not goal.at_rest:
            t = now_s - self._start_s
            q, dq, self._ddq = self._stopping(self._stop, t) if self._stop else self._following(goal.path, t)
            self._q, self._dq = q, dq
        return self._q, self._dq

    def observe(self, now_s: float, q_rad: F64, dq_rad_s: F64, force_n: float, dt_s: float) -> None:
        """Compare measured and commanded motion; ends the goal when it is reached or lost, a stop at standstill.

        Args:
            now_s: Time of the measurement.
            q_rad: (7,) measured positions.
            dq_rad_s: (7,) measured velocities.
            force_n: Contact force on the arm from outside.
            dt_s: Time since the last call.
        """
        goal = self._goal
        if goal is None or goal.at_rest:
            return
        speed = float(np.abs(dq_rad_s).max())
        self._moved_s = now_s if speed >= STILL_RAD_S else self._moved_s
        if self._stop is not None:
            over_s = now_s - self._start_s - self._stop.duration
            goal.at_rest = over_s >= 0.0 and (now_s - self._moved_s >= STILL_S or over_s > CREEP_S)
            return
        self._force_n += (force_n - self._force_n) * min(1.0, dt_s / max(self.config.reflex_filter_s, dt_s))
        error = np.abs(q_rad - self._q)
        late_s = now_s - self._start_s - float(goal.path.t_s[-1])
        if self._force_n > self.config.reflex_force_n:
            self._q, self._dq, self._ddq = q_rad.copy(), np.zeros(7), np.zeros(7)  # not a smooth stop: push no further
            self._abort(
                OutcomeCode.REFLEX,
                f"The arm stopped itself: contact force {self._force_n:.0f} N.",
                now_s,
            )
        elif (error > goal.tolerances.path_rad).any():
            excess = error - goal.tolerances.path_rad
            self._abort(OutcomeCode.CONTROLLER_FAILED, f"Path tolerance violated: {_worst(error, excess)}.", now_s)
        elif late_s >= 0.0:
            self._settle(goal, error, speed, late_s, now_s)

    def cancel(self, now_s: float) -> None:
        """Come to a standstill as fast as the limits allow. Nothing happens when no goal is active."""
        if self._goal is not None and self._goal.status is TrajectoryStatus.ACTIVE:
            self._goal.status, self._goal.code = TrajectoryStatus.CANCELED, OutcomeCode.CANCELED
            self._goal.reason = "The motion was canceled."
            self._brake(now_s)

    def drop(self, reason: str) -> None:
        """End an active goal at once, because the arm is no longer where it was."""
        if self._goal is not None and self.moving:
            self._goal.at_rest = True
            if self._goal.status is TrajectoryStatus.ACTIVE:
                self._goal.status, self._goal.code, self._goal.reason = (
                    TrajectoryStatus.CANCELED,
                    OutcomeCode.CANCELED,
                    reason,
                )

    def _settle(self, goal: TrajectoryGoal, error: F64, speed: float, late_s: float, now_s: float) -> None:
        excess = error - goal.tolerances.goal_rad
        if (excess <= 0.0).all() and speed < 0.02:
            goal.status, goal.at_rest = TrajectoryStatus.SUCCEEDED, True
        elif late_s > goal.tolerances.goal_time_s:
            self._abort(OutcomeCode.CONTROLLER_FAILED, f"Goal tolerance violated: {_worst(error, excess)}.", now_s)

    def _abort(self, code: OutcomeCode, reason: str, now_s: float) -> None:
        assert self._goal is not None
        self._goal.status, self._goal.code, self._goal.reason = TrajectoryStatus.ABORTED, code, reason
        self._brake(now_s)

    def _brake(self, now_s: float) -> None:
        self._start_s = now_s
        self._stop = fastest_stop(self._q, self._dq, self._ddq, PANDA)

    def _following(self, path: JointPath, t: float) -> tuple[F64, F64, F64]:
        q, dq, ddq = interpolate(path, t)
        fade, slope = _fade(t / _BLEND_S)
        return q + fade * self._offset, dq + slope / _BLEND_S * self._offset, ddq

    @staticmethod
    def _stopping(stop: Trajectory, t: float) -> tuple[F64, F64, F64]:
        q, dq, ddq = stop.at_time(min(t, stop.duration))
        moves = float(t < stop.duration)
        return np.array(q), moves * np.array(dq), moves * np.array(ddq)


_BLEND_S = 0.2


def _fade(x: float) -> tuple[float, float]:
    """1 to 0 over x = 0..1 with zero slope and curvature at both ends, and its derivative."""
    x = min(max(x, 0.0), 1.0)
    return 1.0 - x**3 * (10.0 - 15.0 * x + 6.0 * x * x), -30.0 * x * x * (1.0 - x) ** 2


def _worst(error: F64, excess: F64) -> str:
    joint = int(np.argmax(excess))
    return f"{ARM_JOINTS[joint]} is {error[joint]:.3f} rad off"


def interpolate(path: JointPath, t: float) -> tuple[F64, F64, F64]:
    """Position, velocity and acceleration (each (7,)) at time ``t``: cubic between samples, still at both ends."""
    times = path.t_s
    zero = np.zeros(7)
    if t >= times[-1]:
        return path.q_rad[-1], zero, zero
    if t <= times[0]:
        return path.q_rad[0], path.dq_rad_s[0], zero
    i = bisect_right(times, t) - 1
    h = times[i + 1] - times[i]
    s = (t - times[i]) / h
    q0, q1, v0, v1 = path.q_rad[i], path.q_rad[i + 1], path.dq_rad_s[i] * h, path.dq_rad_s[i + 1] * h
    change = q1 - q0
    a, b = v0 + v1 - 2 * change, 3 * change - 2 * v0 - v1
    q = ((a * s + b) * s + v0) * s + q0
    return q, ((3 * a * s + 2 * b) * s + v0) / h, (6 * a * s + 2 * b) / (h * h)


def check_limits(path: JointPath) -> None:
    """Raise StageError CONTROLLER_FAILED when a path is not finite, leaves the joint limits or is too fast (1 %)."""
    if not (np.isfinite(path.q_rad).all() and np.isfinite(path.dq_rad_s).all()):
        raise StageError(OutcomeCode.CONTROLLER_FAILED, "The path has values that are not finite.")
    outside = np.any((path.q_rad < Q_MIN_RAD) | (path.q_rad > Q_MAX_RAD), axis=0)
    if outside.any():
        raise StageError(OutcomeCode.CONTROLLER_FAILED, f"The path leaves the limits of {_names(outside)}.")
    fast = np.any(np.abs(path.dq_rad_s) > 1.01 * V_MAX_RAD_S, axis=0)
    if fast.any():
        raise StageError(OutcomeCode.CONTROLLER_FAILED, f"The path is faster than the limit of {_names(fast)}.")


def _names(mask: Bool) -> str:
    return ", ".join(np.array(ARM_JOINTS)[mask])
