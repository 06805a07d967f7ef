"""The simulated arm and camera, for a loop in one process.

Simulated time advances only while the robot moves, and as fast as the machine can.
"""

from __future__ import annotations

from threading import Event

from stvla_ros.errors import CancelToken, OutcomeCode, StageError
from stvla_ros.sim.cell import Cell
from stvla_ros.sim.controller import TrajectoryGoal, TrajectoryStatus
from stvla_ros.types import JointPath, RgbdFrame, RobotState

TICK_S = 0.01
"""Simulated time between two checks of the cancel token."""

GRIPPER_TIMEOUT_S = 3.0


class SimRobot:
    """A Robot that advances the cell itself."""

    def __init__(self, cell: Cell) -> None:
        self._cell = cell
        self._stopped = Event()

    def state(self) -> RobotState:
        return self._cell.state()

    def follow(self, path: JointPath, cancel: CancelToken) -> None:
        """Track a path to its end; returns at standstill.

        Raises:
            StageError: The reason of ``cancel``; REFLEX after a collision; CONTROLLER_FAILED if the path does not start
                at the arm, violates a limit, or cannot be tracked.
        """
        cancel.raise_if_set()
        self._stopped.clear()
        goal = self._cell.follow(path)
        while goal.status is TrajectoryStatus.ACTIVE or not goal.at_rest:
            if cancel.is_set():
                self._cell.cancel()
            self._cell.advance(TICK_S)
        cancel.raise_if_set()
        _raise_failure(goal)

    def move_gripper(self, width_m: float, cancel: CancelToken) -> float:
        """Open or close; returns the distance between the fingers at rest.

        Raises:
            StageError: The reason of ``cancel`` (the fingers stay where they are); CONTROLLER_FAILED for a width that
                the hand does not have.
        """
        cancel.raise_if_set()
        self._stopped.clear()
        self._cell.move_gripper(width_m)
        waited_s = 0.0
        while self._cell.gripper_moving and waited_s < GRIPPER_TIMEOUT_S:
            if cancel.is_set() or self._stopped.is_set():
                self._cell.move_gripper(self._cell.state().gripper_m)
                break
            self._cell.advance(TICK_S)
            waited_s += TICK_S
        cancel.raise_if_set()
        if self._stopped.is_set():
            raise StageError(OutcomeCode.CANCELED, "The gripper was stopped.")
        return self._cell.state().gripper_m

    def stop(self) -> None:
        """Stop arm and fingers; may be called from any thread.

        If :meth:`follow` runs in another thread, it brings the arm to rest. This call waits for rest only if nothing
        else advances the cell.
        """
        self._stopped.set()
        self._cell.cancel()
        while self._cell.moving:
            self._cell.advance(TICK_S)


class SimCamera:
    """A FrameSource on the cell's tripod camera."""

    def __init__(self, cell: Cell) -> None:
        self._cell = cell

    def capture(self) -> RgbdFrame:
        """A new frame. With sensor defects on, time advances by the camera's latency until the frame arrives."""
        frame = self._cell.render()
        sensor = self._cell.config.sensor
        if sensor.enabled and sensor.latency_s > 0.0:
            self._cell.advance(sensor.latency_s)
        return frame


def _raise_failure(goal: TrajectoryGoal) -> None:
    if goal.status is not TrajectoryStatus.SUCCEEDED:
        raise StageError(goal.code, goal.reason)
