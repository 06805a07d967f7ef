"""The simulated cell in real time, and its arm and gripper as the action servers want them."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Event, Lock, Thread

import numpy as np
from control_msgs.action import FollowJointTrajectory

from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.ros.trajectory import Tolerances
from stvla_ros.ros.trajectory_server import MotionProgress, MotionState
from stvla_ros.sim import controller
from stvla_ros.sim.cell import Cell
from stvla_ros.sim.controller import Goal, GoalStatus
from stvla_ros.types import F64, JointPath, RobotState

TICK_S = 0.005
GIVE_UP_S = 0.25
"""A simulation that is further behind the clock than this does not catch up: its time goes slower for a while."""

Result = FollowJointTrajectory.Result


class RealTime:
    """Lets a cell's time pass as fast as the clock, in a thread of its own.

    Args:
        cell: What passes time.
        on_state: Called after physics, at ``rate_hz``, with the state stamped by the clock.
        rate_hz: How often.
    """

    def __init__(self, cell: Cell, on_state: Callable[[RobotState], None], rate_hz: float) -> None:
        self._cell, self._on_state, self._period_ns = cell, on_state, round(1e9 / rate_hz)
        self._end = Event()
        self._offset_ns = time.time_ns() - cell.time_ns
        self._window = (time.monotonic(), cell.time_ns)
        self._thread = Thread(target=self._run, name="physics", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._offset_ns = time.time_ns() - self._cell.time_ns
        self._thread.start()

    def close(self, timeout_s: float) -> bool:
        """End; False when physics did not end in time."""
        self._end.set()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def stamp_ns(self, simulated_ns: int) -> int:
        """The clock's time of a simulated time."""
        return simulated_ns + self._offset_ns

    def factor(self) -> float:
        """Real-time factor since the last call."""
        (then, simulated), now = self._window, (time.monotonic(), self._cell.time_ns)
        self._window = now
        return (now[1] - simulated) * 1e-9 / max(now[0] - then, 1e-9)

    def _run(self) -> None:
        due_ns = 0
        while not self._end.is_set():
            behind_s = (time.time_ns() - self.stamp_ns(self._cell.time_ns)) * 1e-9
            if abs(behind_s) > GIVE_UP_S:  # too slow, or the clock was set
                self._offset_ns += round((behind_s - TICK_S) * 1e9)
                behind_s = TICK_S
            if behind_s > self._cell.config.timestep_s:
                self._cell.advance(min(behind_s, 2 * TICK_S))
            if self._cell.time_ns >= due_ns:
                due_ns = max(due_ns + self._period_ns, self._cell.time_ns)
                self._tell()
            if behind_s < TICK_S:
                self._end.wait(TICK_S - behind_s)

    def _tell(self) -> None:
        s = self._cell.state()
        self._on_state(RobotState(s.q_rad, s.dq_rad_s, s.T_base_tcp, s.gripper_m, self.stamp_ns(s.stamp_ns)))


class SimulatedArm:
    """:class:`stvla_ros.ros.trajectory_server.Arm` of a cell whose time passes elsewhere.

    A new motion brings the old one to rest before it begins.
    """

    def __init__(self, cell: Cell) -> None:
        self._cell = cell
        self._lock = Lock()
        self._number = 0
        self._goal: Goal | None = None
        self._refused: StageError | None = None
        self._started_ns = 0

    def q_rad(self) -> F64:
        """(7,) joint positions now."""
        return self._cell.state().q_rad

    def start(self, path: JointPath, tolerances: Tolerances) -> int:
        """Begin a motion in place of the running one; returns its number at once or when the arm is free."""
        with self._lock:
            self._number += 1
            number, self._goal, self._refused = self._number, None, None
            self._cell.cancel()
        until = time.monotonic() + 2.0
        while self._cell.moving and number == self._number and time.monotonic() < until:
            time.sleep(0.002)
        with self._lock:
            if number == self._number:
                self._begin(path, tolerances)
        return number

    def _begin(self, path: JointPath, t: Tolerances) -> None:
        self._started_ns = self._cell.time_ns
        try:
            self._goal = self._cell.follow(path, controller.Tolerances(t.path_rad, t.goal_rad, t.goal_time_s))
        except StageError as error:
            self._refused = error

    def stop(self, motion: int) -> None:
        """Bring the arm to rest, if this motion is still the one that runs."""
        with self._lock:
            if motion == self._number:
                self._cell.cancel()

    def progress(self, motion: int) -> MotionProgress:
        """Where a motion is."""
        state = self._cell.state()
        now = (state.q_rad, state.dq_rad_s)
        with self._lock:
            t = (self._cell.time_ns - self._started_ns) * 1e-9
            if motion != self._number:
                return MotionProgress(MotionState.REPLACED, t, now, now, error="Replaced by a newer goal.")
            if self._refused is not None or self._goal is None:
                text = self._refused.sentence if self._refused else "The motion did not begin."
                return MotionProgress(MotionState.FAILED, t, now, now, Result.PATH_TOLERANCE_VIOLATED, text)
            return self._progress(self._goal, t, now)

    def _progress(self, goal: Goal, t: float, now: tuple[F64, F64]) -> MotionProgress:
        desired = self._cell.reference
        if goal.status is GoalStatus.ACTIVE or self._cell.moving:
            return MotionProgress(MotionState.ACTIVE, t, desired, now)
        if goal.status is GoalStatus.SUCCEEDED:
            return MotionProgress(MotionState.REACHED, t, desired, now)
        if goal.status is GoalStatus.CANCELED:
            return MotionProgress(MotionState.STOPPED, t, desired, now, error=goal.reason)
        return MotionProgress(MotionState.FAILED, t, desired, now, _error_code(goal), _error_text(goal))


def _error_code(goal: Goal) -> int:
    """ros2_control has no code for a reflex: a Franka's driver then aborts like on a lost path."""
    late = goal.code is OutcomeCode.CONTROLLER_FAILED and "Goal tolerance" in goal.reason
    return int(Result.GOAL_TOLERANCE_VIOLATED if late else Result.PATH_TOLERANCE_VIOLATED)


def _error_text(goal: Goal) -> str:
    return f"Reflex: {goal.reason}" if goal.code is OutcomeCode.REFLEX else goal.reason


class SimulatedGripper:
    """:class:`stvla_ros.ros.gripper_server.Gripper` of a cell."""

    def __init__(self, cell: Cell) -> None:
        self._cell = cell

    def width_m(self) -> float:
        """Distance between the fingers now."""
        return float(np.clip(self._cell.state().gripper_m, 0.0, 0.08))

    def move(self, width_m: float, force_n: float) -> None:
        """Go to a width, and press with at most this force."""
        self._cell.move_gripper(width_m, force_n or None)
