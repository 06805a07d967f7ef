"""The loop's three verbs (plan, predict, execute) as action calls of other nodes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rclpy.node import Node
from stvla_msgs.action import ExecuteKeypose, PlanTrace, PredictKeypose
from stvla_msgs.msg import TracePlan as TracePlanMsg

from stvla_ros.config import param
from stvla_ros.errors import CancelToken, OutcomeCode, StageError
from stvla_ros.motion.approval import APPROVAL_S, Approval
from stvla_ros.ros import qos
from stvla_ros.ros.action_client import EXECUTOR_CANCEL_S, GoalCanceler, StageClient
from stvla_ros.ros.convert import (
    history_to_msg,
    keypose_from_msg,
    keypose_to_msg,
    ns_to_time,
    plan_from_msg,
    plan_to_msg,
    raise_unless_ok,
)
from stvla_ros.ros.traces import TraceInbox
from stvla_ros.types import Keypose, Outcome, TracePlan

MAX_PLANS = 3
"""How often a plan is drawn when the lifter did not get its image, which is sent best effort."""


@dataclass(frozen=True)
class Deadlines:
    """How long each stage may take."""

    plan_s: float = param(
        150.0, "longest time for a plan; longer than the planner's own deadlines [s]", ge=0.1, le=3600.0
    )
    lift_s: float = param(10.0, "longest time for lifting a plan [s]", ge=0.1, le=600.0)
    predict_s: float = param(15.0, "longest time for a keypose [s]", ge=0.1, le=600.0)
    execute_s: float = param(60.0, "longest time for carrying out a keypose [s]", ge=1.0, le=600.0)
    approve_s: float = param(
        60.0, "how long a person may take to approve a motion, besides that [s]", ge=1.0, le=APPROVAL_S
    )


class RemoteStages:
    """:class:`stvla_ros.pipeline.Stages` over actions.

    Args:
        node: Its executor must spin.
        deadlines: Per stage.
        canceler: Stops the arm when the executor does not answer any more.
        base_frame: The robot's base frame, in which keyposes are given.
        executor_lost: Whether the executor is silent or was restarted, so that it will hardly answer.
    """

    def __init__(
        self,
        node: Node,
        deadlines: Deadlines,
        canceler: GoalCanceler,
        base_frame: str,
        executor_lost: Callable[[], bool] = lambda: False,
    ) -> None:
        self._base_frame = base_frame
        self._node, self._deadlines, self._canceler, self._executor_lost = node, deadlines, canceler, executor_lost
        self._planner = StageClient(node, PlanTrace, "stvla/plan_trace")
        self._policy = StageClient(node, PredictKeypose, "stvla/predict_keypose")
        self._executor = StageClient(node, ExecuteKeypose, "stvla/execute_keypose", EXECUTOR_CANCEL_S)
        self._traces = TraceInbox(node)
        self._plans = node.create_publisher(TracePlanMsg, "stvla/plan", qos.LATCHED)

    def lift(self, plan: TracePlan, cancel: CancelToken) -> None:
        """Have a path lifted that was not drawn by the planner.

        Raises:
            StageError: Why guidance refuses it; SERVER_TIMEOUT; the cancel's reason.
        """
        self._plans.publish(plan_to_msg(plan))
        self._traces.wait(plan.plan_id, self._deadlines.lift_s, cancel)

    def plan(
        self,
        instruction: str,
        history: tuple[Keypose, ...],
        not_before_ns: int,
        cancel: CancelToken,
        feedback: str = "",
    ) -> TracePlan:
        """Draw a path and wait until it is lifted; draw it again if the lifter lacks its image."""
        goal = PlanTrace.Goal(
            instruction=instruction,
            history=history_to_msg(history, self._base_frame),
            not_before=ns_to_time(not_before_ns),
            feedback=feedback,
        )
        plans = 0
        while True:
            result = self._planner.call(goal, cancel, self._deadlines.plan_s)
            raise_unless_ok(result.outcome)
            plan = plan_from_msg(result.plan)
            plans += 1
            try:
                if not plan.finished:
                    self._traces.wait(plan.plan_id, self._deadlines.lift_s, cancel)
                return plan
            except StageError as error:
                if error.code is not OutcomeCode.STALE_IMAGE or plans == MAX_PLANS:
                    raise
                self._node.get_logger().warning(error.sentence)

    def predict(
        self, plan: TracePlan, history: tuple[Keypose, ...], not_before_ns: int, cancel: CancelToken
    ) -> Keypose | None:
        """The next keypose on the plan; None when the path is complete."""
        goal = PredictKeypose.Goal(
            instruction=plan.words,
            plan_id=plan.plan_id,
            history=history_to_msg(history, self._base_frame),
            not_before=ns_to_time(not_before_ns),
        )
        result = self._policy.call(goal, cancel, self._deadlines.predict_s)
        raise_unless_ok(result.outcome)
        return None if result.path_complete else keypose_from_msg(result.keypose, self._base_frame)

    def execute(
        self, plan: TracePlan, keypose: Keypose, cancel: CancelToken, approval: Approval = Approval.AUTOMATIC
    ) -> Outcome:
        """Move. When the executor does not answer, or reports a defect, the arm is stopped at its controller.

        The executor may wait for a person although the task asks for no approval; a silent one is noticed by its
        heartbeat, long before the deadline.
        """
        goal = ExecuteKeypose.Goal(
            keypose=keypose_to_msg(keypose, self._base_frame),
            plan_id=plan.plan_id,
            approval=approval,
            approval_s=self._deadlines.approve_s,
        )
        deadline_s = self._deadlines.execute_s + self._deadlines.approve_s
        try:
            result = self._executor.call(goal, cancel, deadline_s, lost=self._executor_lost)
        except StageError:
            self._canceler.cancel_all()
            raise
        if result.outcome.code == OutcomeCode.INTERNAL:
            self._canceler.cancel_all()
        return raise_unless_ok(result.outcome)

    def now_ns(self) -> int:
        """The clock that stamps images."""
        return int(self._node.get_clock().now().nanoseconds)


class ApprovedStages:
    """The stages of one task whose motions need a person's approval."""

    def __init__(self, stages: RemoteStages, approval: Approval) -> None:
        self.plan, self.predict, self.now_ns = stages.plan, stages.predict, stages.now_ns
        self._execute, self._approval = stages.execute, approval

    def execute(self, plan: TracePlan, keypose: Keypose, cancel: CancelToken) -> Outcome:
        """Move, once that is approved."""
        return self._execute(plan, keypose, cancel, self._approval)
