"""What each stage was given and what it decided, as values and as messages: a recording keeps them, a replay repeats them.

One value per message, with a pair of functions each. ``header.frame_id`` is the robot's base frame, except that guidance
has its camera's. A value without a time (stamp 0), a robot or an answer has None there. Conversion is exact both ways,
except that a pose goes through a quaternion.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from sensor_msgs.msg import CompressedImage
from stvla_msgs.msg import GuidanceDecision as GuidanceDecisionMsg
from stvla_msgs.msg import KeyposeDecision as KeyposeDecisionMsg
from stvla_msgs.msg import MotionDecision as MotionDecisionMsg
from stvla_msgs.msg import PlanDecision as PlanDecisionMsg
from stvla_msgs.msg import RobotState as RobotStateMsg
from stvla_msgs.msg import TaskEnd as TaskEndMsg
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from stvla_ros.description.kinematics import tcp_pose
from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.pipeline import TaskState
from stvla_ros.replay.values import Masking
from stvla_ros.ros.convert import (
    header,
    history_from_msg,
    history_to_msg,
    keypose_from_msg,
    keypose_to_msg,
    ns_to_time,
    outcome_from_msg,
    outcome_to_msg,
    plan_from_msg,
    plan_to_msg,
    time_to_ns,
)
from stvla_ros.ros.task_state import IDLE, state_from_msg, state_to_msg
from stvla_ros.types import Bool, Guidance, JointPath, Keypose, Outcome, RobotState, TracePlan

PLAN, GUIDANCE = "stvla/decisions/plan", "stvla/decisions/guidance"
KEYPOSE, MOTION = "stvla/decisions/keypose", "stvla/decisions/motion"
TASK_END = "stvla/task_end"
"""Topics of the four decisions and of the end of a task."""


@dataclass(frozen=True, eq=False)
class PlanDecision:
    """One call of the planner.

    Attributes:
        stamp_ns: When it answered.
        instruction: The operator's words.
        history: Keyposes executed in this task, oldest first.
        feedback: Why the last path failed.
        holding: The object in the gripper.
        image_stamp_ns: Stamp of the image; 0: there was none.
        robot: State of the arm; None: there was none.
        outcome: OK, or why there is no plan.
        plan: The path; None unless the outcome is OK.
        seconds: Time that the planner took.
    """

    stamp_ns: int
    instruction: str
    history: tuple[Keypose, ...]
    feedback: str
    holding: str
    image_stamp_ns: int
    robot: RobotState | None
    outcome: Outcome
    plan: TracePlan | None
    seconds: float


@dataclass(frozen=True, eq=False)
class GuidanceDecision:
    """One frame that guidance cleaned, without its pixels.

    Attributes:
        image_stamp_ns: Stamp of the camera image.
        plan_id: Plan whose path was used.
        robot: State of the arm; None: there was none.
        outcome: OK, or why the frame could not be cleaned.
        masking: What was done to the frame; None unless the outcome is OK.
        seconds: Time that guidance took.
    """

    image_stamp_ns: int
    plan_id: str
    robot: RobotState | None
    outcome: Outcome
    masking: Masking | None = None
    seconds: float = 0.0


@dataclass(frozen=True, eq=False)
class KeyposeDecision:
    """One call of the policy.

    Attributes:
        stamp_ns: When it answered.
        instruction: The operator's words.
        plan_id: Plan whose guidance was used.
        history: The last keyposes executed, oldest first.
        image_stamp_ns: Stamp of the guided image; 0: there was none.
        robot: State of the arm; None: there was none.
        outcome: OK, or why there is no keypose.
        keypose: The next one; None when the outcome is not OK, or nothing is left to do on this path.
        seconds: Time that the policy took.
    """

    stamp_ns: int
    instruction: str
    plan_id: str
    history: tuple[Keypose, ...]
    image_stamp_ns: int
    robot: RobotState | None
    outcome: Outcome
    keypose: Keypose | None
    seconds: float

    @property
    def path_complete(self) -> bool:
        """Whether nothing is left to do on this path."""
        return self.outcome.ok and self.keypose is None


@dataclass(frozen=True, eq=False)
class MotionDecision:
    """One keypose that the executor carried out, or refused.

    Attributes:
        stamp_ns: When the motion ended.
        plan_id: Plan whose path the tool may touch objects along; empty: no path.
        keypose: Where to move.
        image_stamp_ns: Stamp of the last image of the planning scene; 0: there was none.
        robot: State of the arm before the motion; None: there was none.
        paths: Planned joint motions, in the order in which they were sent to the arm.
        outcome: How the motion ended.
    """

    stamp_ns: int
    plan_id: str
    keypose: Keypose
    image_stamp_ns: int
    robot: RobotState | None
    paths: tuple[JointPath, ...]
    outcome: Outcome


@dataclass(frozen=True)
class TaskEnd:
    """How a task ended.

    Attributes:
        started_ns: When it began.
        ended_ns: When it ended.
        outcome: How it ended.
        state: State of the task at its end, with the operator's words.
    """

    started_ns: int
    ended_ns: int
    outcome: Outcome
    state: TaskState


def outcome_of(error: BaseException | None) -> Outcome:
    """A stage's failure as an outcome; None: OK; anything but a StageError is a defect."""
    if error is None:
        return Outcome(OutcomeCode.OK, "")
    if isinstance(error, StageError):
        return Outcome.of(error)
    return Outcome(OutcomeCode.INTERNAL, f"A defect: {type(error).__name__}; the traceback is in the node's log.")


def guidance_decision(guidance: Guidance, robot: RobotState, seconds: float) -> GuidanceDecision:
    """The decision of a cleaned frame. Hashes its pixels (:meth:`stvla_ros.replay.values.Masking.of`)."""
    stamp_ns, plan_id = guidance.frame.stamp_ns, guidance.trace.plan_id
    return GuidanceDecision(stamp_ns, plan_id, robot, outcome_of(None), Masking.of(guidance), seconds)


# --- robot -------------------------------------------------------------------------------------------------------


def robot_to_msg(state: RobotState | None, base_frame: str) -> RobotStateMsg:
    if state is None:
        return RobotStateMsg()
    return RobotStateMsg(
        header=header(state.stamp_ns, base_frame),
        q_rad=state.q_rad,
        dq_rad_s=state.dq_rad_s,
        gripper_m=state.gripper_m,
        gripper_stamp=ns_to_time(state.gripper_stamp_ns),
    )


def robot_from_msg(msg: RobotStateMsg) -> RobotState | None:
    """The state with the tool's pose computed from the joints; None for a message with stamp 0."""
    stamp_ns = time_to_ns(msg.header.stamp)
    if not stamp_ns:
        return None
    q, dq = np.array(msg.q_rad), np.array(msg.dq_rad_s)
    return RobotState(q, dq, tcp_pose(q), msg.gripper_m, stamp_ns, time_to_ns(msg.gripper_stamp))


# --- decisions ---------------------------------------------------------------------------------------------------


def plan_decision_to_msg(d: PlanDecision, base_frame: str, camera_frame: str = "") -> PlanDecisionMsg:
    msg = PlanDecisionMsg(
        header=header(d.stamp_ns, base_frame),
        instruction=d.instruction,
        history=history_to_msg(d.history, base_frame),
        feedback=d.feedback,
        holding=d.holding,
        image_stamp=ns_to_time(d.image_stamp_ns),
        robot=robot_to_msg(d.robot, base_frame),
        outcome=outcome_to_msg(d.outcome),
        seconds=d.seconds,
    )
    if d.plan is not None:
        msg.plan = plan_to_msg(d.plan, camera_frame)
    return msg


def plan_decision_from_msg(msg: PlanDecisionMsg) -> PlanDecision:
    """Raises StageError INVALID_GOAL for an invalid history, ValueError for an unknown outcome."""
    outcome = outcome_from_msg(msg.outcome)
    return PlanDecision(
        stamp_ns=time_to_ns(msg.header.stamp),
        instruction=msg.instruction,
        history=history_from_msg(msg.history, msg.header.frame_id),
        feedback=msg.feedback,
        holding=msg.holding,
        image_stamp_ns=time_to_ns(msg.image_stamp),
        robot=robot_from_msg(msg.robot),
        outcome=outcome,
        plan=plan_from_msg(msg.plan) if outcome.ok else None,
        seconds=msg.seconds,
    )


def guidance_decision_to_msg(d: GuidanceDecision, base_frame: str, camera_frame: str = "") -> GuidanceDecisionMsg:
    head, m = header(d.image_stamp_ns, camera_frame), d.masking
    msg = GuidanceDecisionMsg(
        header=head,
        plan_id=d.plan_id,
        robot=robot_to_msg(d.robot, base_frame),
        outcome=outcome_to_msg(d.outcome),
        seconds=d.seconds,
    )
    if m is not None:
        msg.mode, msg.progress_m, msg.notes, msg.digest = m.mode, m.progress_m, list(m.notes), m.digest
        msg.kept_ids, msg.removed_ids = list(m.kept_ids), list(m.removed_ids)
        if m.removed is not None:
            msg.removed = CompressedImage(header=head, format="png", data=_png(m.removed))
    return msg


def guidance_decision_from_msg(msg: GuidanceDecisionMsg) -> GuidanceDecision:
    """Raises ValueError for an unknown outcome, or pixels that are no PNG."""
    outcome = outcome_from_msg(msg.outcome)
    return GuidanceDecision(
        image_stamp_ns=time_to_ns(msg.header.stamp),
        plan_id=msg.plan_id,
        robot=robot_from_msg(msg.robot),
        outcome=outcome,
        masking=_masking(msg) if outcome.ok else None,
        seconds=msg.seconds,
    )


def _masking(msg: GuidanceDecisionMsg) -> Masking:
    return Masking(
        msg.mode,
        tuple(int(i) for i in msg.kept_ids),
        tuple(int(i) for i in msg.removed_ids),
        msg.progress_m,
        tuple(msg.notes),
        _pixels(msg.removed) if len(msg.removed.data) else None,
        msg.digest,
    )


def _png(pixels: Bool) -> bytes:
    """PNG, mono8, 255 where True; at the fastest level, which takes 1 ms for 640x480."""
    mono = np.where(pixels, np.uint8(255), np.uint8(0))
    return bytes(cv2.imencode(".png", mono, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes())


def _pixels(image: CompressedImage) -> Bool:
    decoded = cv2.imdecode(np.frombuffer(bytes(image.data), np.uint8), cv2.IMREAD_GRAYSCALE)
    if decoded is None:
        raise ValueError(f"wanted a PNG of the pixels painted out, got {len(image.data)} bytes of '{image.format}'")
    return np.asarray(decoded > 0)


def keypose_decision_to_msg(d: KeyposeDecision, base_frame: str) -> KeyposeDecisionMsg:
    msg = KeyposeDecisionMsg(
        header=header(d.stamp_ns, base_frame),
        instruction=d.instruction,
        plan_id=d.plan_id,
        history=history_to_msg(d.history, base_frame),
        image_stamp=ns_to_time(d.image_stamp_ns),
        robot=robot_to_msg(d.robot, base_frame),
        outcome=outcome_to_msg(d.outcome),
        path_complete=d.path_complete,
        seconds=d.seconds,
    )
    if d.keypose is not None:
        msg.keypose = keypose_to_msg(d.keypose, base_frame)
    return msg


def keypose_decision_from_msg(msg: KeyposeDecisionMsg) -> KeyposeDecision:
    """Raises StageError INVALID_GOAL for an invalid history, ValueError for an unknown outcome or an invalid pose."""
    outcome, base_frame = outcome_from_msg(msg.outcome), msg.header.frame_id
    return KeyposeDecision(
        stamp_ns=time_to_ns(msg.header.stamp),
        instruction=msg.instruction,
        plan_id=msg.plan_id,
        history=history_from_msg(msg.history, base_frame),
        image_stamp_ns=time_to_ns(msg.image_stamp),
        robot=robot_from_msg(msg.robot),
        outcome=outcome,
        keypose=keypose_from_msg(msg.keypose, base_frame) if outcome.ok and not msg.path_complete else None,
        seconds=msg.seconds,
    )


def motion_decision_to_msg(d: MotionDecision, base_frame: str, joints: tuple[str, ...] = ()) -> MotionDecisionMsg:
    """``joints`` are the names of the arm's joints."""
    return MotionDecisionMsg(
        header=header(d.stamp_ns, base_frame),
        plan_id=d.plan_id,
        keypose=keypose_to_msg(d.keypose, base_frame),
        image_stamp=ns_to_time(d.image_stamp_ns),
        robot=robot_to_msg(d.robot, base_frame),
        paths=[path_to_msg(path, joints) for path in d.paths],
        outcome=outcome_to_msg(d.outcome),
    )


def motion_decision_from_msg(msg: MotionDecisionMsg) -> MotionDecision:
    """Raises ValueError for an unknown outcome or an invalid pose."""
    return MotionDecision(
        stamp_ns=time_to_ns(msg.header.stamp),
        plan_id=msg.plan_id,
        keypose=keypose_from_msg(msg.keypose, msg.header.frame_id),
        image_stamp_ns=time_to_ns(msg.image_stamp),
        robot=robot_from_msg(msg.robot),
        paths=tuple(path_from_msg(path) for path in msg.paths),
        outcome=outcome_from_msg(msg.outcome),
    )


def path_to_msg(path: JointPath, joints: tuple[str, ...]) -> JointTrajectory:
    """The planned path as it is; what the arm's controller gets is sampled from it."""
    points = []
    for q, dq, t in zip(path.q_rad, path.dq_rad_s, path.t_s, strict=True):
        point = JointTrajectoryPoint(positions=q.tolist(), velocities=dq.tolist())
        ns = round(float(t) * 1e9)
        point.time_from_start.sec, point.time_from_start.nanosec = divmod(ns, 1_000_000_000)
        points.append(point)
    return JointTrajectory(joint_names=list(joints), points=points)


def path_from_msg(msg: JointTrajectory) -> JointPath:
    """Times are exact to a nanosecond."""
    t = [p.time_from_start.sec + 1e-9 * p.time_from_start.nanosec for p in msg.points]
    return JointPath([p.positions for p in msg.points], [p.velocities for p in msg.points], t)  # type: ignore[arg-type]


def task_end_to_msg(end: TaskEnd) -> TaskEndMsg:
    return TaskEndMsg(
        header=header(end.ended_ns, ""),
        started=ns_to_time(end.started_ns),
        outcome=outcome_to_msg(end.outcome),
        state=state_to_msg(end.state, IDLE, end.ended_ns),
    )


def task_end_from_msg(msg: TaskEndMsg) -> TaskEnd:
    """Raises ValueError for an unknown outcome."""
    started_ns, ended_ns = time_to_ns(msg.started), time_to_ns(msg.header.stamp)
    return TaskEnd(started_ns, ended_ns, outcome_from_msg(msg.outcome), state_from_msg(msg.state))
