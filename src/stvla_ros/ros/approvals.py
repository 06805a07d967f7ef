"""Motions that wait for a person: latched on ``stvla/motion_proposal``, answered by the service ``stvla/approve_motion``, or
in RViz by the menu of a marker."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from rclpy.node import Node
from stvla_msgs.msg import MotionProposal as MotionProposalMsg
from stvla_msgs.srv import ApproveMotion
from visualization_msgs.msg import MarkerArray

from stvla_ros.description.robot import RobotConfig
from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.motion.approval import Approval, ApprovalDesk, Proposal, Status
from stvla_ros.motion.safety import spaced
from stvla_ros.ros import qos
from stvla_ros.ros.convert import header, keypose_from_msg, keypose_to_msg
from stvla_ros.ros.decisions import path_from_msg, path_to_msg
from stvla_ros.ros.keypose_marker import KeyposeMarker
from stvla_ros.ros.markers import keypose_markers
from stvla_ros.types import JointPath

TOPIC = "stvla/motion_proposal"
SERVICE = "stvla/approve_motion"

WHO_CHARS, REASON_CHARS = 100, 500
"""What is kept of a person's words."""

_STEP_RAD = 0.1
"""Latched messages stay below the size at which the middleware splits them (64 kB)."""


class Approvals:
    """The executor's desk, on the network.

    Args:
        node: Publishes and serves.
        robot: Whose frame and joints the messages have.
        now_ns: The clock of the messages.
    """

    def __init__(self, node: Node, robot: RobotConfig, now_ns: Callable[[], int]) -> None:
        self._robot, self._now_ns, self._log = robot, now_ns, node.get_logger()
        self._out = node.create_publisher(MotionProposalMsg, TOPIC, qos.LATCHED_NEWEST)
        self._markers = node.create_publisher(MarkerArray, "stvla/markers", qos.LATCHED)
        self._marker = KeyposeMarker(node, robot.base_frame, self._take)
        self.desk = ApprovalDesk(self._tell, f"{time.time_ns() // 1_000_000:x}")
        node.create_service(ApproveMotion, SERVICE, self._answer)

    def _tell(self, proposal: Proposal) -> None:
        stamp_ns = self._now_ns()
        self._out.publish(proposal_to_msg(proposal, self._robot, stamp_ns))
        self._markers.publish(keypose_markers(proposal, stamp_ns, self._robot.base_frame))
        self._marker.show(proposal)
        if proposal.status is Status.WAITING:
            self._log.info(f"Motion {proposal.proposal_id} waits for approval.")

    def _answer(self, request: ApproveMotion.Request, response: ApproveMotion.Response) -> ApproveMotion.Response:
        response.success, response.message = self._take(
            request.proposal_id, request.approve, request.who, request.reason
        )
        return response

    def _take(self, proposal_id: str, approve: bool, who: str, reason: str = "") -> tuple[bool, str]:
        """A person's answer, whichever way it comes: whether it counts, and a sentence."""
        who, reason = plain(who, WHO_CHARS), plain(reason, REASON_CHARS)
        counts, sentence = self.desk.answer(proposal_id, approve, who, reason)
        self._log.info(f"{who or 'Somebody'}: {sentence}")
        return counts, sentence


def plain(text: str, chars: int) -> str:
    """A person's words as one line of at most so many characters: it goes into logs and prompts."""
    return " ".join("".join(c if c.isprintable() else " " for c in text[:chars]).split())


def approval_of(word: str) -> Approval:
    """The approval that a goal asks for; an empty word asks for none. Raises StageError INVALID_GOAL."""
    try:
        return Approval(word) if word else Approval.AUTOMATIC
    except ValueError:
        known = ", ".join(Approval)
        raise StageError(
            OutcomeCode.INVALID_GOAL, f"The goal asks for the approval '{word}'; known: {known}."
        ) from None


def proposal_to_msg(proposal: Proposal, robot: RobotConfig, stamp_ns: int) -> MotionProposalMsg:
    """The proposal as people get to see it: its paths are thinned out."""
    return MotionProposalMsg(
        header=header(stamp_ns, robot.base_frame),
        proposal_id=proposal.proposal_id,
        plan_id=proposal.plan_id,
        keypose=keypose_to_msg(proposal.keypose, robot.base_frame),
        paths=[path_to_msg(_thinned(path), robot.arm_joints) for path in proposal.paths],
        status=proposal.status,
        who=proposal.who,
        reason=proposal.reason,
        left_s=proposal.left_s,
    )


def proposal_from_msg(msg: MotionProposalMsg) -> Proposal:
    """Raises ValueError for an unknown status or an invalid pose."""
    return Proposal(
        proposal_id=msg.proposal_id,
        plan_id=msg.plan_id,
        keypose=keypose_from_msg(msg.keypose, msg.header.frame_id),
        paths=tuple(path_from_msg(path) for path in msg.paths),
        status=Status(msg.status),
        who=msg.who,
        reason=msg.reason,
        left_s=msg.left_s,
    )


def _thinned(path: JointPath) -> JointPath:
    chosen = spaced(path.q_rad, _STEP_RAD)
    return replace(path, q_rad=path.q_rad[chosen], dq_rad_s=path.dq_rad_s[chosen], t_s=path.t_s[chosen])
