"""The policy node: predicts the next keypose from the newest guidance on request."""

from __future__ import annotations

import sys
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, replace

from stvla_msgs.action import PredictKeypose
from stvla_msgs.msg import Guidance as GuidanceMsg
from stvla_msgs.msg import GuidanceRequest
from stvla_msgs.msg import KeyposeDecision as KeyposeDecisionMsg

from stvla_ros import registry
from stvla_ros.config import param
from stvla_ros.description.robot import RobotConfig
from stvla_ros.errors import CancelToken, OutcomeCode, StageError
from stvla_ros.interfaces import Policy
from stvla_ros.ros import decisions, qos
from stvla_ros.ros.action_server import GoalHandle
from stvla_ros.ros.convert import guidance_from_msg, history_from_msg, keypose_to_msg, ns_to_time, ok_msg, time_to_ns
from stvla_ros.ros.decision_log import DecisionLog
from stvla_ros.ros.decisions import KeyposeDecision, keypose_decision_to_msg
from stvla_ros.ros.freshness import Arrival, Freshness, Instant, now, why_in_future
from stvla_ros.ros.robot_state import JointStateConfig, JointStates
from stvla_ros.ros.run import run
from stvla_ros.ros.shared_memory import end_without_port
from stvla_ros.ros.stage_node import StageNode
from stvla_ros.types import Guidance, Keypose, Observation, Outcome, RobotState

ASK_AGAIN_S = 0.5
KEPT_PLANS = 4


@dataclass(frozen=True)
class PolicyConfig:
    """Settings of the policy node; the backend's own settings are in a section of its name."""

    backend: str = param("scripted", "what predicts the next keypose", choices=registry.names("policy"))
    guidance_timeout_s: float = param(8.0, "how long to wait for guidance that is new enough [s]", ge=0.1, le=60.0)
    guidance_max_age_s: float = param(1.0, "guidance of an image older than this is not used [s]", ge=0.05, le=60.0)
    joint_states: JointStateConfig = param(JointStateConfig(), "how old arm states may be")  # noqa: RUF009
    robot: RobotConfig = param(RobotConfig(), "which robot")  # noqa: RUF009


class PolicyNode(StageNode[PolicyConfig]):
    """Serves ``stvla/predict_keypose``; requests guidance when it has none that is new enough."""

    def __init__(self) -> None:
        super().__init__("policy", PolicyConfig, backends={"backend": "policy"})
        self._policy: Policy = self.parameters.create("backend")
        # guidance that was new enough when it was asked for may come so much later: the arm's state of then is needed
        late_s = self.config.guidance_max_age_s + self.config.guidance_timeout_s
        joints = replace(self.config.joint_states, keep_s=max(self.config.joint_states.keep_s, late_s))
        self._joints = JointStates(self, joints, self.config.robot)
        self._arrived = threading.Condition()
        self._guidance: OrderedDict[str, tuple[Arrival, GuidanceMsg]] = OrderedDict()
        self._rule = Freshness("guidance", self.resolve_topic_name("stvla/guidance"), self.config.guidance_max_age_s)
        self.create_subscription(GuidanceMsg, "stvla/guidance", self._receive, qos.IMAGE_BEST_EFFORT)
        end_without_port(self)
        self._ask = self.create_publisher(GuidanceRequest, "stvla/guidance_request", qos.EVENT)
        self._decisions = DecisionLog(self, KeyposeDecisionMsg, decisions.KEYPOSE)
        self.serve(PredictKeypose, "stvla/predict_keypose", self._predict)

    def _receive(self, message: GuidanceMsg) -> None:
        arrival = Arrival(time_to_ns(message.header.stamp), now(self))
        with self._arrived:
            self._guidance[message.trace.plan_id] = arrival, message
            self._guidance.move_to_end(message.trace.plan_id)
            while len(self._guidance) > KEPT_PLANS:
                self._guidance.popitem(last=False)
            self._arrived.notify_all()

    def _predict(self, goal_handle: GoalHandle) -> PredictKeypose.Result:
        goal, base_frame = goal_handle.request, self.config.robot.base_frame
        history = history_from_msg(goal.history, base_frame)
        guidance: Guidance | None = None
        robot: RobotState | None = None
        keypose: Keypose | None = None

        def decision(outcome: Outcome, seconds: float) -> KeyposeDecisionMsg:
            stamp_ns = guidance.frame.stamp_ns if guidance else 0
            given = (goal.instruction, goal.plan_id, history, stamp_ns, robot)
            return keypose_decision_to_msg(
                KeyposeDecision(self.now_ns(), *given, outcome, keypose, seconds), base_frame
            )

        with self._decisions.told(decision) as watch:
            guidance = self._wait_for(goal.plan_id, time_to_ns(goal.not_before), goal_handle.cancel)
            robot = self._joints.at(guidance.frame.stamp_ns)
            observation = Observation(guidance, robot, history, goal.instruction)
            watch.restart()
            keypose = self.timed("predict", lambda: self._policy.predict(observation))
        result = PredictKeypose.Result(outcome=ok_msg(), path_complete=keypose is None)
        if keypose is not None:
            result.keypose = keypose_to_msg(keypose, base_frame)
        return result

    def _wait_for(self, plan_id: str, not_before_ns: int, cancel: CancelToken) -> Guidance:
        """Wait for guidance on a plan, from an image that is new enough.

        Raises:
            StageError: The guidance node's error; STALE_IMAGE when no guidance comes in time; the cancel's reason.
        """
        asked = now(self)
        oldest_ns = max(not_before_ns, asked.ns - round(self.config.guidance_max_age_s * 1e9))
        request = GuidanceRequest(plan_id=plan_id, not_before=ns_to_time(oldest_ns))
        end, ask_at = time.monotonic() + self.config.guidance_timeout_s, 0.0
        release = cancel.on_cancel(self._wake)
        try:
            with self._arrived:
                while (message := self._answer(plan_id, oldest_ns, asked)) is None:
                    cancel.raise_if_set()
                    time_s = time.monotonic()
                    if fault := why_in_future(oldest_ns, now(self), end - time_s):
                        raise StageError(OutcomeCode.STALE_IMAGE, fault)
                    if time_s > end:
                        raise StageError(OutcomeCode.STALE_IMAGE, self._why(plan_id))
                    if time_s >= ask_at:
                        self._ask.publish(request)
                        ask_at = time_s + ASK_AGAIN_S
                    self._arrived.wait(min(end, ask_at) - time_s + 0.001)
        finally:
            release()
        return guidance_from_msg(message)

    def _answer(self, plan_id: str, oldest_ns: int, asked: Instant) -> GuidanceMsg | None:
        """The newest guidance on a plan, or its error, if it was new enough when it was requested.

        An error with a stamp in the future answers another request, for an image of that time, unless this request
        asks for the same time.
        """
        arrival, message = self._guidance.get(plan_id, (None, None))
        if arrival is None or arrival.stamp_ns < oldest_ns:
            return None
        return message if arrival.stamp_ns == oldest_ns or self._rule.fault(arrival, asked) is None else None

    def _wake(self) -> None:
        with self._arrived:
            self._arrived.notify_all()

    def _why(self, plan_id: str) -> str:
        wait = f"within {self.config.guidance_timeout_s:g} s"
        if not self.count_publishers("stvla/guidance"):
            return f"No guidance {wait}: the guidance node is not running."
        return f"No guidance on plan {plan_id} from a new enough image {wait}: look at the log of 'guidance'."

    def ages(self) -> dict[str, str]:
        """Age of the arm state."""
        return {"joint state age [s]": f"{self._joints.age_s():.2f}"}


def main() -> int:
    """Entry point."""
    return run(PolicyNode)


if __name__ == "__main__":
    sys.exit(main())
