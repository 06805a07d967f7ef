"""The arm of a recording, for an executor that plans its motions again."""

from __future__ import annotations

import numpy as np

from stvla_ros.description.kinematics import tcp_pose
from stvla_ros.errors import CancelToken, OutcomeCode, StageError
from stvla_ros.replay.values import Moment
from stvla_ros.types import JointPath, RobotState

MOVED_RAD, MOVED_M = 0.02, 0.003
"""Between two motions, a joint and the fingers that differ by more were moved by somebody else (nodes/executor.py)."""

ARRIVED_RAD = 0.05
"""An arm this near to the end of a path has followed it; what it measured there is used."""


def moved_between(left: RobotState, now: RobotState) -> bool:
    """Whether somebody else moved the robot since a motion left it."""
    joints = np.abs(now.q_rad - left.q_rad).max() > MOVED_RAD
    return bool(joints or abs(now.gripper_m - left.gripper_m) > MOVED_M)


class RecordedArm:
    """A :class:`stvla_ros.interfaces.Robot` that follows every path at once, and ends as the recorded arm did.

    Attributes:
        paths: What it was given to follow since :meth:`begin`.
    """

    def __init__(self) -> None:
        self.paths: list[JointPath] = []
        self._moment: Moment | None = None
        self._state: RobotState | None = None

    def begin(self, moment: Moment, robot: RobotState) -> None:
        """The arm as it was before a recorded motion."""
        self.paths, self._moment, self._state = [], moment, robot

    def state(self) -> RobotState:
        assert self._state is not None, "begin() comes first"
        return self._state

    def follow(self, path: JointPath, cancel: CancelToken) -> None:
        """Be at the end of the path. Raises the recorded failure of a motion that the arm did not finish."""
        cancel.raise_if_set()
        self.paths.append(path)
        q = path.q_rad[-1]
        state = self.state()
        self._state = RobotState(q, np.zeros(7), tcp_pose(q), state.gripper_m, state.stamp_ns, state.gripper_stamp_ns)
        recorded = self._moment.recorded if self._moment else None
        if recorded is None or len(self.paths) < len(recorded.paths):
            return
        if recorded.outcome.code in _ON_THE_WAY:
            raise StageError(recorded.outcome.code, recorded.outcome.sentence)
        after = self._moment.after if self._moment else None
        if after is not None and np.abs(after.q_rad - q).max() < ARRIVED_RAD:
            self._state = RobotState(
                after.q_rad, after.dq_rad_s, after.T_base_tcp, state.gripper_m, after.stamp_ns, after.gripper_stamp_ns
            )

    def move_gripper(self, width_m: float, cancel: CancelToken) -> float:
        """Be open, or closed on what the recorded hand closed on."""
        cancel.raise_if_set()
        state, reached = self.state(), width_m
        if width_m == 0.0 and self._moment is not None:
            recorded, after = self._moment.recorded, self._moment.after
            failed = recorded is not None and recorded.outcome.code is OutcomeCode.GRASP_FAILED
            reached = 0.0 if failed or after is None else after.gripper_m
        self._state = RobotState(
            state.q_rad, state.dq_rad_s, state.T_base_tcp, reached, state.stamp_ns, state.gripper_stamp_ns
        )
        return reached

    def stop(self) -> None:
        """It stands."""


_ON_THE_WAY = frozenset(
    {
        OutcomeCode.CANCELED,
        OutcomeCode.PREEMPTED,
        OutcomeCode.REFLEX,
        OutcomeCode.CONTROLLER_FAILED,
        OutcomeCode.STALE_IMAGE,
        OutcomeCode.STALE_STATE,
        OutcomeCode.NODE_LOST,
        OutcomeCode.USER_STOPPED,
        OutcomeCode.SAFETY_FUNCTION,
        OutcomeCode.ROBOT_LOST,
        OutcomeCode.CANCEL_UNCONFIRMED,
    }
)
"""Failures that come from the robot or from outside."""
