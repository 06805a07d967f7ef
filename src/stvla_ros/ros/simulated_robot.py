"""The simulated cell in real time, and its arm and gripper for the action servers."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from threading import Event, Lock, Thread

import numpy as np
from control_msgs.action import FollowJointTrajectory

from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.ros.trajectory_server import MotionProgress, MotionState
from stvla_ros.sim.cell import Cell
from stvla_ros.sim.controller import TrajectoryGoal, TrajectoryStatus
from stvla_ros.types import F64, JointPath, RobotState, TrajectoryTolerances

TICK_S = 0.005
GIVE_UP_S = 0.25
"""A simulation that is further behind the clock than this does not catch up: its time runs slower for a while."""

Result = FollowJointTrajectory.Result


class RealTime:
    """Advances a cell's time at the speed of the clock, in a separate thread. Stamps are never ahead of the clock.

    Args:
        cell: The simulated cell.
        on_state: Called at ``rate_hz`` with the newest state, stamped by the clock, in a second thread, so that it
            never delays physics.
        rate_hz: Rate of states.
    """

    def __init__(self, cell: Cell, on_state: Callable[[RobotState], None], rate_hz: float) -> None:
        self._cell, self._on_state, self._period_ns = cell, on_state, round(1e9 / rate_hz)
        self._step_s = cell.config.timestep_s
        self._end, self._due = Event(), Event()
        self._state: RobotState | None = None
        self._offset_ns = time.time_ns() - cell.time_ns
        self._window = (time.monotonic(), cell.time_ns)
        self._threads = [
            Thread(target=self._pass_time, name="physics", daemon=True),
            Thread(target=self._publish_states, name="states", daemon=True),
        ]

    def start(self) -> None:
        """Begin."""
        self._offset_ns = time.time_ns() - self._cell.time_ns
        for thread in self._threads:
            thread.start()

    def close(self, timeout_s: float) -> bool:
        """End; False when a thread did not end in time."""
        self._end.set()
        self._due.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(timeout_s)
        return not any(thread.is_alive() for thread in self._threads)

    def stamp_ns(self, simulated_ns: int) -> int:
        """The clock's time of a simulated time; now if that is ahead, as after a scene is laid out."""
        return min(simulated_ns + self._offset_ns, time.time_ns())

    def factor(self) -> float:
        """Real-time factor since the last call."""
        (then, simulated), now = self._window, (time.monotonic(), self._cell.time_ns)
        self._window = now
        return (now[1] - simulated) * 1e-9 / max(now[0] - then, 1e-9)

    def _pass_time(self) -> None:
        due_ns = 0
        while not self._end.is_set():
            behind_s = (time.time_ns() - self._offset_ns - self._cell.time_ns) * 1e-9
            if behind_s > GIVE_UP_S:  # too slow, or the clock was set
                self._offset_ns += round((behind_s - TICK_S) * 1e9)
                behind_s = TICK_S
            elif behind_s < 0.0:  # a scene was laid out, in simulated time, or the clock was set
                self._offset_ns += round(behind_s * 1e9)
                behind_s = 0.0
            if steps := int(min(behind_s, 2 * TICK_S) / self._step_s):
                self._cell.advance(steps * self._step_s)
            if self._cell.time_ns >= due_ns:
                due_ns = max(due_ns + self._period_ns, self._cell.time_ns)
                s = self._cell.state()
                self._state = replace(s, stamp_ns=self.stamp_ns(s.stamp_ns))
                self._due.set()
            if behind_s < TICK_S:
                self._end.wait(TICK_S - behind_s)

    def _publish_states(self) -> None:
        published_ns = 0
        while self._due.wait() and not self._end.is_set():
            self._due.clear()
            state = self._state
            assert state is not None
            if state.stamp_ns != published_ns:
                published_ns = state.stamp_ns
                self._on_state(state)


class SimulatedArm:
    """:class:`stvla_ros.ros.trajectory_server.Arm` of a cell whose time is advanced by another thread.

    A new motion first brings the old one to rest.
    """

    def __init__(self, cell: Cell) -> None:
        self._cell = cell
        self._lock = Lock()
        self._number = 0
        self._goal: TrajectoryGoal | None = None
        self._refused: StageError | None = None
        self._started_ns = 0

    def q_rad(self) -> F64:
        """(7,) current joint positions."""
        return self._cell.state().q_rad

    def start(self, path: JointPath, tolerances: TrajectoryTolerances) -> int:
        """Replace the running motion by a new one; returns its number when the arm is free."""
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

    def _begin(self, path: JointPath, tolerances: TrajectoryTolerances) -> None:
        self._started_ns = self._cell.time_ns
        try:
            self._goal = self._cell.follow(path, tolerances)
        except StageError as error:
            self._refused = error

    def stop(self, motion: int) -> None:
        """Bring the arm to rest if this motion is still running."""
        with self._lock:
            if motion == self._number:
                self._cell.cancel()

    def progress(self, motion: int) -> MotionProgress:
        """The progress of a motion."""
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

    def _progress(self, goal: TrajectoryGoal, t: float, now: tuple[F64, F64]) -> MotionProgress:
        desired = self._cell.reference
        if goal.status is TrajectoryStatus.ACTIVE or self._cell.moving:
            return MotionProgress(MotionState.ACTIVE, t, desired, now)
        if goal.status is TrajectoryStatus.SUCCEEDED:
            return MotionProgress(MotionState.REACHED, t, desired, now)
        if goal.status is TrajectoryStatus.CANCELED:
            return MotionProgress(MotionState.STOPPED, t, desired, now, error=goal.reason)
        return MotionProgress(MotionState.FAILED, t, desired, now, _error_code(goal), _error_text(goal))


def _error_code(goal: TrajectoryGoal) -> int:
    """ros2_control has no code for a reflex: a Franka's driver aborts as for a violated path tolerance."""
    late = goal.code is OutcomeCode.CONTROLLER_FAILED and "Goal tolerance" in goal.reason
    return int(Result.GOAL_TOLERANCE_VIOLATED if late else Result.PATH_TOLERANCE_VIOLATED)


def _error_text(goal: TrajectoryGoal) -> str:
    return f"Reflex: {goal.reason}" if goal.code is OutcomeCode.REFLEX else goal.reason


class SimulatedGripper:
    """:class:`stvla_ros.ros.gripper_server.Gripper` of a cell."""

    def __init__(self, cell: Cell) -> None:
        self._cell = cell

    def width_m(self) -> float:
        """Current distance between the fingers."""
        return float(np.clip(self._cell.state().gripper_m, 0.0, 0.08))

    def move(self, width_m: float, force_n: float) -> None:
        """Move to a width, and press with at most this force."""
        self._cell.move_gripper(width_m, force_n or None)
