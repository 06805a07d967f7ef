"""The action ``follow_joint_trajectory`` of a simulated arm, with the behaviour of ros2_control.

As in ``joint_trajectory_controller``: a goal with other joints, wrong sizes, times that do not increase, or a moving
end is rejected (the log says why) and disturbs nothing. A new goal replaces the running one, which ends ABORTED. A
cancel brings the arm to rest, starting in its callback, and holds it. A violated tolerance ends the goal ABORTED with
its code.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Protocol

import numpy as np
from control_msgs.action import FollowJointTrajectory
from rclpy.node import Node
from trajectory_msgs.msg import JointTrajectoryPoint

from stvla_ros.ros.controller_server import ControllerGoal, ControllerServer, TerminalState
from stvla_ros.ros.trajectory import (
    TrajectoryError,
    duration,
    read_tolerances,
    read_trajectory,
    start_delay_s,
)
from stvla_ros.types import F64, JointPath, TrajectoryTolerances

POLL_S = 0.01
FEEDBACK_S = 0.05
"""20 Hz, the action_monitor_rate of ros2_control."""

REPLACED = "Current goal preempted by new incoming action."
"""What ros2_control says of a goal that another one has replaced, with the code INVALID_GOAL."""


class MotionState(Enum):
    """The state of a motion."""

    ACTIVE = auto()
    REACHED = auto()
    STOPPED = auto()  # on request, at standstill
    REPLACED = auto()  # by a newer motion
    FAILED = auto()


@dataclass(frozen=True, eq=False)
class MotionProgress:
    """The progress of a motion.

    Attributes:
        state: Whether and how it ended.
        t_s: Time since its start.
        desired: (q, dq) commanded now.
        actual: (q, dq) measured now.
        error_code: Constant of FollowJointTrajectory's result.
        error: The error as text.
    """

    state: MotionState
    t_s: float
    desired: tuple[F64, F64]
    actual: tuple[F64, F64]
    error_code: int = FollowJointTrajectory.Result.SUCCESSFUL
    error: str = ""


class Arm(Protocol):
    """An arm that the action server moves. All methods are thread safe and return at once."""

    def q_rad(self) -> F64:
        """(7,) current joint positions."""
        ...

    def start(self, path: JointPath, tolerances: TrajectoryTolerances) -> int:
        """Replace the running motion by a new one; returns its number."""
        ...

    def stop(self, motion: int) -> None:
        """Bring the arm to rest if this motion is still running."""
        ...

    def progress(self, motion: int) -> MotionProgress:
        """The progress of a motion."""
        ...


class TrajectoryServer:
    """Offers an :class:`Arm` as FollowJointTrajectory action.

    Args:
        node: Owner of the action server.
        action: Name of the action.
        names: The arm's joints, in the order of the arm's arrays.
        arm: The arm.
        tolerances: TrajectoryTolerances of goals that set none.
    """

    def __init__(
        self, node: Node, action: str, names: Sequence[str], arm: Arm, tolerances: TrajectoryTolerances
    ) -> None:
        self._node, self._names, self._arm, self._tolerances = node, tuple(names), arm, tolerances
        self._server = ControllerServer(node, FollowJointTrajectory, action, self._refusal, self._execute)

    def _read(self, goal: FollowJointTrajectory.Goal) -> tuple[JointPath, TrajectoryTolerances, float]:
        """Path, tolerances and seconds until the start. Raises TrajectoryError."""
        now_s = self._node.get_clock().now().nanoseconds * 1e-9
        path = read_trajectory(goal.trajectory, self._names, self._arm.q_rad())
        return path, read_tolerances(goal, self._names, self._tolerances), start_delay_s(goal.trajectory, now_s)

    def _refusal(self, goal: FollowJointTrajectory.Goal) -> str | None:
        try:
            self._read(goal)
        except TrajectoryError as refusal:
            return f"Trajectory rejected (code {refusal.error_code}): {refusal}"
        return None

    def _execute(self, goal: ControllerGoal) -> tuple[TerminalState, FollowJointTrajectory.Result]:
        path, tolerances, delay_s = self._read(goal.request)
        if goal.canceled.wait(delay_s):
            return TerminalState.CANCELED, FollowJointTrajectory.Result(error_string="Canceled before the start.")
        motion = self._arm.start(path, tolerances)
        goal.on_cancel(lambda: self._arm.stop(motion))
        with goal.publishing_feedback(FEEDBACK_S, lambda: self._feedback(self._arm.progress(motion))):
            while (progress := self._arm.progress(motion)).state is MotionState.ACTIVE:
                time.sleep(POLL_S)
        result = FollowJointTrajectory.Result(error_code=progress.error_code, error_string=progress.error)
        if progress.state is MotionState.REPLACED:
            result.error_code, result.error_string = result.INVALID_GOAL, REPLACED
        if progress.state is MotionState.REACHED:
            return TerminalState.SUCCEEDED, result
        return TerminalState.CANCELED if goal.canceled.is_set() else TerminalState.ABORTED, result

    def _feedback(self, progress: MotionProgress) -> FollowJointTrajectory.Feedback:
        (q, dq), (q_is, dq_is) = progress.desired, progress.actual
        feedback = FollowJointTrajectory.Feedback(
            joint_names=list(self._names),
            desired=_point(q, dq, progress.t_s),
            actual=_point(q_is, dq_is, progress.t_s),
            error=_point(q - q_is, dq - dq_is, progress.t_s),
        )
        feedback.header.stamp = self._node.get_clock().now().to_msg()
        return feedback


def _point(q: F64, dq: F64, t_s: float) -> JointTrajectoryPoint:
    values = (array("d", np.asarray(x, np.float64).tobytes()) for x in (q, dq))
    return JointTrajectoryPoint(positions=next(values), velocities=next(values), time_from_start=duration(t_s))
