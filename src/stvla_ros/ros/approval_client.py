"""The client's end of approvals: hears of proposed motions and of their plans, and gives a person's answers."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from stvla_msgs.msg import MotionProposal as MotionProposalMsg
from stvla_msgs.msg import TracePlan as TracePlanMsg
from stvla_msgs.srv import ApproveMotion

from stvla_ros.motion.approval import Proposal
from stvla_ros.ros import qos
from stvla_ros.ros.approvals import SERVICE, TOPIC, proposal_from_msg
from stvla_ros.ros.client import client_node
from stvla_ros.ros.convert import plan_from_msg
from stvla_ros.ros.service_client import call
from stvla_ros.types import TracePlan

ANSWER_S = 10.0
"""How long an answer may take to reach the executor and be confirmed. Repeating an answer does no harm."""


Say = Callable[[str, bool, str], str]
"""Gives an answer: (id of the motion, whether it may happen, why not) -> the executor's sentence."""


@contextmanager
def proposals(hear: Callable[[Proposal], None], who: str) -> Iterator[Say]:
    """While the context is entered, hear of every proposed motion and of what becomes of it.

    Args:
        hear: Called with each proposal, in a thread of its own: it may take its time, and give the answer itself.
        who: The person who answers, for the record.

    Yields:
        How to answer.
    """
    heard: queue.SimpleQueue[MotionProposalMsg | None] = queue.SimpleQueue()

    def listen() -> None:
        while (message := heard.get()) is not None:
            hear(proposal_from_msg(message))

    with client_node("approval_client") as node:
        client = node.create_client(ApproveMotion, SERVICE)
        node.create_subscription(MotionProposalMsg, TOPIC, heard.put, qos.LATCHED_NEWEST)

        def say(proposal_id: str, approve: bool, reason: str) -> str:
            request = ApproveMotion.Request(proposal_id=proposal_id, approve=approve, who=who, reason=reason)
            if not client.wait_for_service(ANSWER_S) or (done := call(client, request, ANSWER_S)) is None:
                return "The executor did not take the answer in time: the motion goes on waiting."
            return str(done.message)

        thread = threading.Thread(target=listen, name="proposals", daemon=True)
        thread.start()
        try:
            yield say
        finally:
            heard.put(None)
            thread.join(1.0)


@contextmanager
def plans() -> Iterator[Callable[[str], TracePlan | None]]:
    """While the context is entered, hear of every plan.

    Yields:
        The plan of an id, if it has been heard.
    """
    heard: dict[str, TracePlanMsg] = {}

    def hear(message: TracePlanMsg) -> None:
        heard[message.plan_id] = message

    with client_node("plan_listener") as node:
        node.create_subscription(TracePlanMsg, "stvla/plan", hear, qos.LATCHED)
        yield lambda plan_id: plan_from_msg(heard[plan_id]) if plan_id in heard else None
