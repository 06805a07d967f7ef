"""A recorded scene, the brain's nodes as processes, and callers for their actions."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import stalls
from action_msgs.srv import CancelGoal
from rclpy.node import Node
from ros.bags import PICK
from stvla_msgs.action import ExecuteKeypose, ExecuteTask, PlanTrace, PredictKeypose
from stvla_msgs.msg import Guidance as GuidanceMsg
from stvla_msgs.msg import Outcome as OutcomeMsg
from stvla_msgs.msg import Trace3d as Trace3dMsg
from stvla_msgs.msg import TracePlan as TracePlanMsg

from stvla_ros.config import param
from stvla_ros.errors import CancelToken
from stvla_ros.ros import qos
from stvla_ros.ros.action_client import StageClient
from stvla_ros.ros.action_server import GoalHandle
from stvla_ros.ros.convert import ok_msg
from stvla_ros.ros.heartbeats import HeartbeatMonitor
from stvla_ros.ros.stage_node import StageNode

SLACK = {
    "planner__camera__max_age_s": "5.0",
    "planner__camera__timeout_s": "8.0",
    "planner__joint_states__max_age_s": "5.0",
    "guidance__camera__max_age_s": "5.0",
    "guidance__joint_states__max_age_s": "5.0",
    "policy__joint_states__max_age_s": "5.0",
    "policy__guidance_timeout_s": "10.0",
    "task__heartbeat_timeout_s": "3.0",
}
"""A loaded test machine must not look like a dead camera or a lost node."""


@dataclass(frozen=True)
class Nothing:
    """No settings."""

    unused: bool = param(True, "unused")


class Controller(Node):
    """Stands for the arm's controller: counts who asks it to cancel everything."""

    def __init__(self, arm: str = "panda") -> None:
        super().__init__(f"{arm}_controller")
        self.stops = 0
        name = f"{arm}_arm_controller/follow_joint_trajectory/_action/cancel_goal"
        self.create_service(CancelGoal, name, self._cancel)

    def _cancel(self, request: CancelGoal.Request, response: CancelGoal.Response) -> CancelGoal.Response:
        everything = not any(request.goal_info.goal_id.uuid) and not request.goal_info.stamp.sec
        self.stops += everything
        return response


class PretendedExecutor(StageNode[Nothing]):
    """Says that every keypose was reached, after a while. Counts what it was asked. A cancel may be answered late."""

    def __init__(self, seconds: float = 0.05, cancel_s: float = 0.0) -> None:
        super().__init__("executor", Nothing)
        self.seconds, self.asked, self.canceled, self.ended = seconds, 0, 0, 0
        self._cancel_s = cancel_s
        self.serve(ExecuteKeypose, "stvla/execute_keypose", self._work, preempt=True)

    def _work(self, goal_handle: GoalHandle) -> Any:
        self.asked += 1
        goal_handle.cancel.wait(self.seconds)
        self.canceled += goal_handle.cancel.is_set()
        self.ended += 1
        if goal_handle.cancel.is_set():
            time.sleep(self._cancel_s)
        goal_handle.cancel.raise_if_set()
        return ExecuteKeypose.Result(outcome=ok_msg("", {"motion": self.seconds}))


class BrainHarness:
    """Clients of a brain that runs in other processes."""

    def __init__(self, ros: Any, start: Callable[..., Any]) -> None:
        self._start = start
        self.ros = ros
        self.node = ros.add(Node("bench"))
        self.controller = ros.add(Controller())
        self.monitor = HeartbeatMonitor(self.node, 1.0)
        self._plan = StageClient(self.node, PlanTrace, "stvla/plan_trace")
        self._predict = StageClient(self.node, PredictKeypose, "stvla/predict_keypose")
        self._task = StageClient(self.node, ExecuteTask, "stvla/execute_task")
        self.traces: dict[str, Trace3dMsg] = {}
        self.guidance: list[GuidanceMsg] = []
        self.feedback: list[Any] = []
        self.node.create_subscription(
            Trace3dMsg, "stvla/trace", lambda m: self.traces.__setitem__(m.plan_id, m), qos.LATCHED
        )
        self.node.create_subscription(GuidanceMsg, "stvla/guidance", self.guidance.append, qos.IMAGE_BEST_EFFORT)
        self.processes: dict[str, Any] = {}

    def start(self, *names: str, **parameters: str) -> None:
        """Start nodes (``camera__path="x"`` sets camera.path) and wait for their heartbeats."""
        args = ["--ros-args"]
        for name, value in (SLACK | parameters).items():
            node, _, parameter = name.partition("__")
            args += ["-p", f"{node}:{parameter.replace('__', '.')}:={value}"]
        for name in names:
            self.processes[name] = self._start(f"stvla_ros.nodes.{name}", *args)
        expected = [
            n for name in names for n in (("planner", "guidance", "policy", "task") if name == "composed" else (name,))
        ]
        missing = self.monitor.wait_for(expected, 40.0)
        assert not missing, {name: self.processes[name].output for name in names}

    def plan(self, instruction: str = PICK, cancel: CancelToken | None = None, **goal: Any) -> Any:
        return self._plan.call(PlanTrace.Goal(instruction=instruction, **goal), cancel or CancelToken(), 20.0)

    def lifted(self) -> TracePlanMsg:
        """A plan that was lifted; drawn anew while guidance, which finds the camera later than the planner, lacks its image."""
        end = time.monotonic() + 30.0
        while True:
            result = self.plan()
            assert result.outcome.code == OutcomeMsg.OK, result.outcome.sentence
            outcome = self.trace(result.plan.plan_id).outcome
            if outcome.code == OutcomeMsg.OK:
                return result.plan
            assert outcome.code == OutcomeMsg.STALE_IMAGE, outcome.sentence
            assert time.monotonic() < end, outcome.sentence

    def predict(self, plan_id: str, cancel: CancelToken | None = None, **goal: Any) -> Any:
        return self._predict.call(
            PredictKeypose.Goal(plan_id=plan_id, instruction=PICK, **goal), cancel or CancelToken(), 20.0
        )

    def task(self, instruction: str = PICK, cancel: CancelToken | None = None) -> Any:
        return self._task.call(
            ExecuteTask.Goal(instruction=instruction), cancel or CancelToken(), 60.0, self.feedback.append
        )

    def until_phase(self, phase: str, task: Any, timeout_s: float = 30.0) -> None:
        """Sleep until the running task tells a phase; its early end fails the test with its outcome."""
        end = stalls.clock() + timeout_s
        while not any(f.phase == phase for f in self.feedback):
            assert not task.done(), task.result().outcome
            assert stalls.clock() < end, [f.phase for f in self.feedback]
            time.sleep(0.005)

    def trace(self, plan_id: str) -> Trace3dMsg:
        wait(lambda: plan_id in self.traces)
        return self.traces[plan_id]


def wait(condition: Callable[[], Any], timeout_s: float = 30.0) -> None:
    end = stalls.clock() + timeout_s
    while not condition():
        assert stalls.clock() < end, "it did not happen in time"
        time.sleep(0.01)
