"""What the answers of the robot's controllers mean: one typed error, one sentence for the operator.

Codes and texts are those of ros2_control's ``joint_trajectory_controller`` (4.42), of franka_ros2's ``franka_gripper``
(3.4) and of libfranka (0.21). A driver of this stack begins its text with the name of an outcome code: ``REFLEX: ...``.
"""

from __future__ import annotations

import re

from action_msgs.msg import GoalStatus
from control_msgs.action import FollowJointTrajectory

from stvla_ros.description.robot import RobotConfig
from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.ros.action_client import SentGoal

STOPPED_ITSELF = frozenset(
    {OutcomeCode.REFLEX, OutcomeCode.USER_STOPPED, OutcomeCode.SAFETY_FUNCTION, OutcomeCode.ROBOT_LOST}
)
"""Codes after which the robot moves no more until somebody recovers it."""

DEACTIVATED, PREEMPTED = "deactivate", "preempted by new"
"""Words of a trajectory controller whose goal ended because it was deactivated, or got another goal."""

OPEN = 0.95
"""A gripper that is open by more than this share of its open width holds nothing."""

SHORT_M = 0.005
"""Fingers that stay further than this from the opening that was asked for did not open."""

EMPTY_M = 0.004
"""Fingers that come closer than this to their goal have closed on nothing."""

_Result = FollowJointTrajectory.Result

_SENTENCES = {
    OutcomeCode.REFLEX: "The robot stopped itself: {0}. See what it touched, then `stvla recover`.",
    OutcomeCode.USER_STOPPED: (
        "The robot's stop button was pressed ({0}): release it when it is safe, then `stvla recover`."
    ),
    OutcomeCode.SAFETY_FUNCTION: (
        "A safety function of the robot stopped it ({0}): end it at the robot, then `stvla recover`."
    ),
    OutcomeCode.ROBOT_LOST: (
        "The connection to the robot broke ({0}): look at its cable, its power and its FCI, then restart its driver."
    ),
}

_WORDS = (
    (re.compile(r"user.?stop", re.IGNORECASE), OutcomeCode.USER_STOPPED),
    (re.compile(r"safety.function", re.IGNORECASE), OutcomeCode.SAFETY_FUNCTION),
    (re.compile(r"udp|tcp|net exception|network|connection", re.IGNORECASE), OutcomeCode.ROBOT_LOST),
    (re.compile(r"reflex", re.IGNORECASE), OutcomeCode.REFLEX),
)
"""Words in libfranka's texts, in the order in which they decide."""

_ARM = {
    _Result.SUCCESSFUL: "The arm's controller gave up{0}: look at its log.",
    _Result.INVALID_GOAL: "The arm's controller ended the trajectory as invalid{0}: its log says why.",
    _Result.INVALID_JOINTS: (
        "The arm's controller moves other joints than {1}{0}: set robot.model or robot.prefix to those of the controller's "
        "parameter joints."
    ),
    _Result.OLD_HEADER_TIMESTAMP: (
        "By the arm's controller's clock the trajectory is already over{0}: synchronise the clocks with chrony."
    ),
    _Result.PATH_TOLERANCE_VIOLATED: (
        "The arm left its path by more than the path tolerance{0}: something holds it, or the controller is too soft for "
        "this speed. Look at the arm; executor.controllers.path_tolerance_rad is the limit."
    ),
    _Result.GOAL_TOLERANCE_VIOLATED: (
        "The arm did not come close enough to its goal in time{0}: something holds it, or the controller has no integral "
        "gain. executor.controllers.goal_tolerance_rad and goal_time_s are the limits."
    ),
}
"""Error code of FollowJointTrajectory -> sentence; {0} is the controller's text, {1} the first joint."""


def typed(text: str) -> StageError | None:
    """The error in a text that begins with the name of an outcome code, as this stack's own drivers send it."""
    name, colon, sentence = text.partition(":")
    code = OutcomeCode.__members__.get(name.strip()) if colon else None
    return StageError(code, sentence.strip()) if code and sentence.strip() else None


def stopped_itself(text: str) -> StageError | None:
    """What a robot's driver says of a robot that stopped itself; None if the text is about something else.

    Args:
        text: One of libfranka's, e.g. ``Move command aborted: motion aborted by reflex! ["joint_reflex"]``.
    """
    code = next((code for words, code in _WORDS if words.search(text)), None)
    return StageError(code, _SENTENCES[code].format(text.strip().rstrip(".:"))) if code else None


def arm_error(call: SentGoal, robot: RobotConfig) -> StageError | None:
    """Why a trajectory ended before its goal; None if it did not.

    Returns:
        What the controller's text says of the robot (REFLEX, USER_STOPPED, SAFETY_FUNCTION, ROBOT_LOST, or any code that
        begins it); REFLEX when the controller was deactivated; PREEMPTED when another program's goal replaced this one;
        CANCELED; CONTROLLER_FAILED, with a sentence for each error code.
    """
    if not call.accepted:
        return failed(
            "The arm's controller rejected the trajectory: its log says why. If it is inactive, as after a reflex, "
            "`stvla recover` activates it."
        )
    if call.result is None or call.status == GoalStatus.STATUS_UNKNOWN:
        return _canceled(call) or failed("The arm's controller was restarted and does not know the trajectory.")
    text, code = str(call.result.error_string), int(call.result.error_code)
    if call.status == GoalStatus.STATUS_SUCCEEDED and code == _Result.SUCCESSFUL:
        return None
    return _by_text(text) or _canceled(call) or _by_code(code, text, robot)


def _by_text(text: str) -> StageError | None:
    if error := typed(text):
        return error
    if DEACTIVATED in text.lower():
        return StageError(
            OutcomeCode.REFLEX,
            "The arm's controller was deactivated while the arm moved, as when the robot stops itself: see what it touched "
            "and what its driver's log says, then `stvla recover`.",
        )
    if PREEMPTED in text.lower():
        return StageError(
            OutcomeCode.PREEMPTED,
            "Another program gave the arm's controller a trajectory, which the arm follows now: only the executor may move "
            "the arm, so end that program.",
        )
    return stopped_itself(text) if "reflex" in text.lower() else None


def _canceled(call: SentGoal) -> StageError | None:
    if call.status != GoalStatus.STATUS_CANCELED:
        return None
    return StageError(OutcomeCode.CANCELED, "The trajectory was canceled by another node or replaced by another goal.")


def _by_code(code: int, text: str, robot: RobotConfig) -> StageError:
    detail = f" ({text.strip().rstrip('.')})" if text.strip() else ""
    unknown = f"The arm's controller gave up with the unknown code {code}{{0}}: look at its log."
    return failed(_ARM.get(code, unknown).format(detail, robot.arm_joints[0]))


def gripper_error(call: SentGoal, width_m: float, reached_m: float, robot: RobotConfig) -> StageError | None:
    """Why a gripper motion failed; None if it did not. Fingers that closed on an object may end their goal either way, so
    the place where they rest decides.

    Args:
        call: The ended goal.
        width_m: The distance of the fingers that was asked for.
        reached_m: The distance at which they rest.
        robot: Its kind and open width.

    Returns:
        CONTROLLER_FAILED when they stay open or do not open, or when the hand let go of what it closed on.
    """
    commanded = f"The gripper was commanded to {width_m * 1e3:.0f} mm but is at {reached_m * 1e3:.0f} mm"
    aborted = call.status == GoalStatus.STATUS_ABORTED
    closing = width_m < robot.open_width_m / 2
    if reached_m < width_m - SHORT_M or (closing and reached_m > OPEN * robot.open_width_m):
        return failed(f"{commanded}: {_UNHOMED if aborted and robot.kind != 'sim' else _LOOK}")
    # franka_gripper ends a failed grasp so, and the hand has let go; other grippers say stalled and go on pressing
    let_go = aborted and not call.result.stalled and robot.kind == "real"
    if closing and let_go and reached_m > width_m + EMPTY_M:
        return failed(
            f"The hand closed on something {reached_m * 1e3:.0f} mm wide and let go of it, because its driver takes every "
            "width but the commanded one for a failed grasp: set franka_gripper's parameters default_grasp_epsilon.inner "
            "and default_grasp_epsilon.outer to 0.08 (config/franka_ros2_gripper.yaml)."
        )
    return None


_LOOK = "look at the gripper's log."
_UNHOMED = "home the hand, which refuses every width before that, or lower robot.open_width_m."


def failed(sentence: str) -> StageError:
    """CONTROLLER_FAILED with this sentence."""
    return StageError(OutcomeCode.CONTROLLER_FAILED, sentence)
