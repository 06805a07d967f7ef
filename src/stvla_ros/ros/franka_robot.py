"""A Franka's arm and its status in the terms of ROS: for the action server, and as messages."""

from __future__ import annotations

import numpy as np
from control_msgs.action import FollowJointTrajectory
from sensor_msgs.msg import JointState
from stvla_msgs.msg import RobotStatus

from stvla_ros.description.robot import RobotConfig
from stvla_ros.errors import OutcomeCode
from stvla_ros.robot.franka.arm import FrankaArm, Report
from stvla_ros.robot.franka.messages import ArmState, End, Ended, Fingers
from stvla_ros.robot.franka.motion import CYCLE_S
from stvla_ros.ros.convert import header
from stvla_ros.ros.trajectory_server import MotionProgress, MotionState
from stvla_ros.types import F64, JointPath, TrajectoryTolerances

Result = FollowJointTrajectory.Result

STATES = {End.REACHED: MotionState.REACHED, End.STOPPED: MotionState.STOPPED, End.FAILED: MotionState.FAILED}


class FrankaTrajectoryArm:
    """:class:`stvla_ros.ros.trajectory_server.Arm` of a Franka.

    The text of a failure begins with the name of its code in ``stvla_msgs/Outcome``, e.g. ``REFLEX: ...``, since
    FollowJointTrajectory has no codes for it.
    """

    def __init__(self, arm: FrankaArm) -> None:
        self._arm = arm

    def q_rad(self) -> F64:
        """(7,) commanded joint positions, where the next motion starts; zeros before the first state."""
        state = self._arm.state
        return np.zeros(7) if state is None else state.q_c

    def start(self, path: JointPath, tolerances: TrajectoryTolerances) -> int:
        """Replace the running motion by a new one; returns its number."""
        return self._arm.start(path, tolerances)

    def stop(self, motion: int) -> None:
        """Bring the arm to rest if this motion is still running."""
        self._arm.stop(motion)

    def progress(self, motion: int) -> MotionProgress:
        """The progress of a motion."""
        state = self._arm.state
        desired, actual = _pairs(state)
        ended = self._arm.ended(motion)
        t_s = state.cycle * CYCLE_S if state is not None and state.motion == motion else 0.0
        if ended is not None:
            t_s = ended.statistics.cycles * CYCLE_S
            return MotionProgress(STATES[ended.end], t_s, desired, actual, _error_code(ended), _error_text(ended))
        if motion != self._arm.newest():
            return MotionProgress(MotionState.REPLACED, t_s, desired, actual, error="Replaced by a newer goal.")
        return MotionProgress(MotionState.ACTIVE, t_s, desired, actual)


def _pairs(state: ArmState | None) -> tuple[tuple[F64, F64], tuple[F64, F64]]:
    """(q, dq) commanded and measured."""
    if state is None:
        return (np.zeros(7), np.zeros(7)), (np.zeros(7), np.zeros(7))
    return (state.q_c, state.dq_c), (state.q, state.dq)


def _error_code(ended: Ended) -> int:
    if ended.end is not End.FAILED:
        return int(Result.SUCCESSFUL)
    if "Goal tolerance" in ended.sentence:
        return int(Result.GOAL_TOLERANCE_VIOLATED)
    began = ended.statistics.cycles > 0
    return int(Result.PATH_TOLERANCE_VIOLATED if began else Result.INVALID_GOAL)


def _error_text(ended: Ended) -> str:
    return "" if ended.code is OutcomeCode.OK else f"{ended.code.name}: {ended.sentence}"


def arm_message(state: ArmState, robot: RobotConfig) -> JointState:
    """The arm's joint state, as measured."""
    return JointState(
        header=header(state.stamp_ns, ""),
        name=list(robot.arm_joints),
        position=state.q.tolist(),
        velocity=state.dq.tolist(),
    )


def fingers_message(fingers: Fingers, robot: RobotConfig) -> JointState:
    """The fingers' joint state: each has half the opening."""
    return JointState(
        header=header(fingers.stamp_ns, ""), name=list(robot.finger_joints), position=[fingers.width_m / 2] * 2
    )


def status_message(report: Report, homed: bool, stamp_ns: int) -> RobotStatus:
    """The status of arm and hand."""
    return RobotStatus(
        header=header(stamp_ns, ""),
        mode=int(report.mode),
        errors=list(report.errors),
        sentence=report.sentence,
        gripper_homed=homed,
        success_rate=report.success_rate,
    )
