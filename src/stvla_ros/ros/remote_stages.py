"""The three verbs of the loop as calls of other nodes."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass

from rclpy.node import Node
from stvla_msgs.action import ExecuteKeypose, PlanTrace, PredictKeypose
from stvla_msgs.msg import Trace3d as Trace3dMsg

from stvla_ros.config import param
from stvla_ros.errors import CancelToken, OutcomeCode, StageError
from stvla_ros.ros import qos
from stvla_ros.ros.convert import (
    history_to_msg,
    keypose_from_msg,
    keypose_to_msg,
    ns_to_time,
    plan_from_msg,
    raise_unless_ok,
)
from stvla_ros.ros.remote import Remote
from stvla_ros.ros.stopper import Stopper
from stvla_ros.types import Keypose, Outcome, TracePlan

KEPT_TRACES = 16


@dataclass(frozen=True)
class Deadlines:
    """How long each stage may take."""

    plan_s: float = param(60.0, "longest time for a plan [s]", ge=0.1, le=600.0)
    lift_s: float = param(10.0, "longest time for lifting a plan [s]", ge=0.1, le=600.0)
    predict_s: float = param(15.0, "longest time for a keypose [s]", ge=0.1, le=600.0)
    execute_s: float = param(60.0, "longest time for carrying out a keypose [s]", ge=1.0, le=600.0)


class TraceInbox:
    """Lifted paths as they come, so that a plan that cannot be lifted fails with its own code."""

    def __init__(self, node: Node) -> None:
        self._arrived = threading.Condition()
        self._traces: OrderedDict[str, Trace3dMsg] = OrderedDict()
        node.create_subscription(Trace3dMsg, "stvla/trace", self._receive, qos.LATCHED)

    def _receive(self, message: Trace3dMsg) -> None:
        with self._arrived:
            self._traces[message.plan_id] = message
            while len(self._traces) > KEPT_TRACES:
                self._traces.popitem(last=False)
            self._arrived.notify_all()

    def wait(self, plan_id: str, timeout_s: float, cancel: CancelToken) -> None:
        """Return when the plan is lifted. Raises StageError: why it could not be, SERVER_TIMEOUT, or the cancel's."""
        end = time.monotonic() + timeout_s
        release = cancel.on_cancel(self._wake)
        try:
            with self._arrived:
                while plan_id not in self._traces:
                    cancel.raise_if_set()
                    left = end - time.monotonic()
                    if left <= 0:
                        sentence = f"The guidance node did not lift the plan within {timeout_s:g} s."
                        raise StageError(OutcomeCode.SERVER_TIMEOUT, sentence)
                    self._arrived.wait(left)
                message = self._traces[plan_id]
        finally:
            release()
        raise_unless_ok(message.outcome)

    def _wake(self) -> None:
        with self._arrived:
            self._arrived.notify_all()


class RemoteStages:
    """:class:`stvla_ros.pipeline.Stages` over actions.

    Args:
        node: Its executor must spin.
        deadlines: Per stage.
        stopper: Stops the arm when the executor cannot be asked any more.
    """

    def __init__(self, node: Node, deadlines: Deadlines, stopper: Stopper) -> None:
        self._node, self._deadlines, self._stopper = node, deadlines, stopper
        self._planner = Remote(node, PlanTrace, "stvla/plan_trace")
        self._policy = Remote(node, PredictKeypose, "stvla/predict_keypose")
        self._executor = Remote(node, ExecuteKeypose, "stvla/execute_keypose")
        self._traces = TraceInbox(node)

    def plan(
        self, instruction: str, history: tuple[Keypose, ...], not_before_ns: int, cancel: CancelToken
    ) -> TracePlan:
        """Draw a path and wait until it is lifted."""
        goal = PlanTrace.Goal(
            instruction=instruction, history=history_to_msg(history), not_before=ns_to_time(not_before_ns)
        )
        result = self._planner.call(goal, cancel, self._deadlines.plan_s)
        raise_unless_ok(result.outcome)
        plan = plan_from_msg(result.plan)
        if not plan.finished:
            self._traces.wait(plan.plan_id, self._deadlines.lift_s, cancel)
        return plan

    def predict(
        self, plan: TracePlan, history: tuple[Keypose, ...], not_before_ns: int, cancel: CancelToken
    ) -> Keypose | None:
        """The next keypose on the plan; None: path complete."""
        goal = PredictKeypose.Goal(
            instruction=plan.instruction,
            plan_id=plan.plan_id,
            history=history_to_msg(history),
            not_before=ns_to_time(not_before_ns),
        )
        result = self._policy.call(goal, cancel, self._deadlines.predict_s)
        raise_unless_ok(result.outcome)
        return None if result.path_complete else keypose_from_msg(result.keypose)

    def execute(self, plan: TracePlan, keypose: Keypose, cancel: CancelToken) -> Outcome:
        """Move. Without an answer from the executor, the arm is stopped past it."""
        goal = ExecuteKeypose.Goal(keypose=keypose_to_msg(keypose), plan_id=plan.plan_id)
        try:
            result = self._executor.call(goal, cancel, self._deadlines.execute_s)
        except StageError:
            self._stopper.cancel_all()
            raise
        return raise_unless_ok(result.outcome)

    def now_ns(self) -> int:
        """The clock that stamps images."""
        return int(self._node.get_clock().now().nanoseconds)
