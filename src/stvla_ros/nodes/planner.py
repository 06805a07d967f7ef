"""The planner node: draws a path on the newest image on request."""

from __future__ import annotations

import sys
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass

from std_msgs.msg import Header
from stvla_msgs.action import PlanTrace
from stvla_msgs.msg import PlanDecision as PlanDecisionMsg
from stvla_msgs.msg import TaskState as TaskStateMsg
from stvla_msgs.msg import TracePlan as TracePlanMsg

from stvla_ros import registry
from stvla_ros.config import param
from stvla_ros.description.robot import RobotConfig
from stvla_ros.errors import CancelToken
from stvla_ros.interfaces import Planner
from stvla_ros.pipeline import check_instruction
from stvla_ros.ros import decisions, qos, task_state
from stvla_ros.ros.action_server import GoalHandle
from stvla_ros.ros.convert import header, history_from_msg, ok_msg, plan_to_msg, time_to_ns
from stvla_ros.ros.decision_log import DecisionLog
from stvla_ros.ros.decisions import PlanDecision, plan_decision_to_msg
from stvla_ros.ros.frames import CameraConfig, RgbdReceiver
from stvla_ros.ros.robot_state import JointStateConfig, JointStates
from stvla_ros.ros.run import run
from stvla_ros.ros.shared_memory import end_without_port
from stvla_ros.ros.stage_node import RollingPercentiles, StageNode
from stvla_ros.types import Outcome, PlanRequest, RgbdFrame, RobotState, TracePlan


@dataclass(frozen=True)
class PlannerConfig:
    """Settings of the planner node; the backend's own settings are in a section of its name."""

    backend: str = param("colour", "what draws the path", choices=registry.names("planner"))
    camera: CameraConfig = param(CameraConfig(), "where images come from")  # noqa: RUF009
    joint_states: JointStateConfig = param(JointStateConfig(), "how old arm states may be")  # noqa: RUF009
    robot: RobotConfig = param(RobotConfig(), "which robot")  # noqa: RUF009


class PlannerNode(StageNode[PlannerConfig]):
    """Serves ``stvla/plan_trace``; publishes each plan on ``stvla/plan``.

    The stamp of the image in use is published on ``stvla/plan_stamp`` before the model starts, because the lifter
    needs that image and cannot keep all images while a slow model thinks.

    A cancel is answered at once. A planner that cannot be interrupted goes on thinking; its plan is then discarded,
    and the image of the next goal is taken when it is done, so that it never works on two images at a time or on an
    old one.
    """

    def __init__(self) -> None:
        super().__init__("planner", PlannerConfig, backends={"backend": "planner"})
        self._planner: Planner = self.parameters.create("backend")
        self._thinking: Future[TracePlan] | None = None
        self._latency = RollingPercentiles()
        self._abandoned = 0
        self._frames = RgbdReceiver(self, self.config.camera, base_frame=self.config.robot.base_frame)
        end_without_port(self)
        self._joints = JointStates(self, self.config.joint_states, self.config.robot)
        self._holding = ""
        self.create_subscription(TaskStateMsg, task_state.TOPIC, self._task_state, qos.LATCHED_NEWEST)
        self._plans = self.create_publisher(TracePlanMsg, "stvla/plan", qos.LATCHED)
        self._stamps = self.create_publisher(Header, "stvla/plan_stamp", qos.LATCHED)
        self._decisions = DecisionLog(self, PlanDecisionMsg, decisions.PLAN)
        self.serve(PlanTrace, "stvla/plan_trace", self._plan)

    def _task_state(self, message: TaskStateMsg) -> None:
        self._holding = message.holding

    def _plan(self, goal_handle: GoalHandle) -> PlanTrace.Result:
        instruction = check_instruction(goal_handle.request.instruction)
        history = history_from_msg(goal_handle.request.history, self.config.robot.base_frame)
        feedback, holding, base_frame = goal_handle.request.feedback, self._holding, self.config.robot.base_frame
        frame: RgbdFrame | None = None
        robot: RobotState | None = None
        plan: TracePlan | None = None

        def decision(outcome: Outcome, seconds: float) -> PlanDecisionMsg:
            stamp_ns = frame.stamp_ns if frame else 0
            given = (instruction, history, feedback, holding, stamp_ns, robot)
            return plan_decision_to_msg(PlanDecision(self.now_ns(), *given, outcome, plan, seconds), base_frame)

        with self._decisions.told(decision) as watch:
            if self._thinking is not None:
                _wait(self._thinking, goal_handle.cancel)
            frame = self._frames.wait(time_to_ns(goal_handle.request.not_before), goal_handle.cancel)
            self._stamps.publish(header(frame.stamp_ns, frame.camera.frame_id))
            robot = self._joints.at(frame.stamp_ns)
            watch.restart()
            request = PlanRequest(instruction, frame, robot, history, feedback, goal_handle.cancel, holding)
            plan = self._think(request, goal_handle.cancel)
            message = plan_to_msg(plan, frame.camera.frame_id)
            self._plans.publish(message)
        return PlanTrace.Result(outcome=ok_msg(), plan=message)

    def _think(self, request: PlanRequest, cancel: CancelToken) -> TracePlan:
        """The planner's plan. Raises its StageError, or the cancel's reason at once."""
        start = time.perf_counter()
        self._thinking = future = Future[TracePlan]()
        threading.Thread(target=self._answer, args=(request, future), name="think", daemon=True).start()
        try:
            _wait(future, cancel)
        finally:
            self._abandoned += not future.done()
        plan = future.result()
        self._latency.add(1e3 * (time.perf_counter() - start))
        return plan

    def _answer(self, request: PlanRequest, future: Future[TracePlan]) -> None:
        try:
            future.set_result(self.timed("plan", lambda: self._planner.plan(request)))
        except Exception as error:  # noqa: BLE001 - raised again by result() in the goal's thread
            future.set_exception(error)

    def ages(self) -> dict[str, str]:
        """Ages of image and arm state, and the planner's latency."""
        return {
            "image age [s]": f"{self._frames.age_s():.2f}",
            "joint state age [s]": f"{self._joints.age_s():.2f}",
            "plan latency p50 / p95 [ms]": str(self._latency),
            "images skipped": f"{self._frames.skipped} {self._frames.why_skipped}".rstrip(),
            "plans abandoned": str(self._abandoned),
        }

    def close(self, timeout_s: float) -> bool:
        """End the action; False when a model still thinks."""
        return super().close(timeout_s) and (self._thinking is None or self._thinking.done())


def _wait(future: Future[TracePlan], cancel: CancelToken) -> None:
    """Wait until the future is done. Raises the cancel's reason."""
    woken = threading.Event()
    release = cancel.on_cancel(woken.set)
    try:
        future.add_done_callback(lambda _: woken.set())
        woken.wait()
    finally:
        release()
    cancel.raise_if_set()


def main() -> int:
    """Entry point."""
    return run(PlannerNode)


if __name__ == "__main__":
    sys.exit(main())
