"""The planner's node with a planner that thinks for long: cancel, feedback, and a motion that does not wait."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import rclpy
import stalls
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from ros.bags import PICK, record_scene
from stvla_msgs.action import PlanTrace
from stvla_msgs.msg import Outcome as OutcomeMsg
from stvla_msgs.msg import TaskState as TaskStateMsg
from stvla_msgs.msg import Trace3d as Trace3dMsg
from stvla_msgs.msg import TracePlan as TracePlanMsg
from system.brain_harness import SLACK, BrainHarness, Nothing, PretendedExecutor, wait
from system.conftest import Spinner

from stvla_ros.errors import CancelToken, OutcomeCode, StageError
from stvla_ros.nodes.planner import PlannerNode
from stvla_ros.planning.colour import ColourConfig, ColourPlanner
from stvla_ros.ros import qos
from stvla_ros.ros.action_client import GoalCanceler
from stvla_ros.ros.action_server import GoalHandle
from stvla_ros.ros.convert import ok_msg, time_to_ns
from stvla_ros.ros.remote_stages import Deadlines, RemoteStages
from stvla_ros.ros.stage_node import StageNode
from stvla_ros.types import PlanRequest, TracePlan


class Thinker(ColourPlanner):
    """Thinks for ``seconds``, deaf meanwhile, and writes down what it was asked."""

    def __init__(self) -> None:
        super().__init__(ColourConfig())
        self.seconds = 0.0
        self.fails: list[StageError] = []
        self.asked: list[PlanRequest] = []
        self.at_work = 0
        self.most_at_work = 0
        self.thinking = threading.Event()

    def plan(self, request: PlanRequest) -> TracePlan:
        self.asked.append(request)
        self.at_work += 1
        self.most_at_work = max(self.most_at_work, self.at_work)
        self.thinking.set()
        try:
            time.sleep(self.seconds)
            if self.fails:
                raise self.fails.pop()
            return super().plan(request)
        finally:
            self.at_work -= 1


@pytest.fixture
def ros(domain: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[Spinner]:
    """As everywhere, but with time for a loaded machine in the parameters of nodes in this process."""
    monkeypatch.setenv("ROS_DOMAIN_ID", str(domain))
    args = ["--ros-args"]
    for name, value in SLACK.items():
        node, _, parameter = name.partition("__")
        args += ["-p", f"{node}:{parameter.replace('__', '.')}:={value}"]
    rclpy.init(args=args, domain_id=domain, signal_handler_options=SignalHandlerOptions.NO)
    spinner = Spinner()
    yield spinner
    spinner.close()
    rclpy.shutdown()


@pytest.fixture
def thinker() -> Thinker:
    return Thinker()


@pytest.fixture
def harness(ros: Any, start: Callable[..., Any], tmp_path: Path, thinker: Thinker) -> BrainHarness:
    harness = BrainHarness(ros, start)
    harness.folder = record_scene(tmp_path / "recording")
    node = PlannerNode()
    node._planner = thinker
    ros.add(node)
    return harness


def test_a_cancel_is_answered_while_the_planner_thinks(harness: BrainHarness, thinker: Thinker) -> None:
    harness.start("camera", camera__path=str(harness.folder))
    wait(lambda: harness.plan().outcome.code == OutcomeMsg.OK)
    published: list[Any] = []
    last = harness.plan().plan
    harness.node.create_subscription(TracePlanMsg, "stvla/plan", published.append, qos.LATCHED)
    wait(lambda: last in published)
    before, thinker.seconds = len(published), 2.0
    for attempt in range(2):  # the second one waits for a planner that still thinks of the first
        cancel = CancelToken()
        thinker.thinking.clear()
        with ThreadPoolExecutor(1) as pool:
            future = pool.submit(harness.plan, PICK, cancel)
            if attempt == 0:
                assert thinker.thinking.wait(10.0)
            else:
                time.sleep(0.3)
            start = stalls.clock()
            cancel.cancel()
            assert future.result(60.0).outcome.code == OutcomeMsg.CANCELED
            assert stalls.clock() - start < 0.8
    done = len(thinker.asked)
    asked_ns, thinker.seconds = time.time_ns(), 0.0
    result = harness.plan()
    assert result.outcome.code == OutcomeMsg.OK
    assert thinker.most_at_work == 1, "a model must not be asked two things at a time"
    assert len(thinker.asked) == done + 1
    assert time_to_ns(result.plan.header.stamp) > asked_ns, "the image is taken when the planner can look at it"
    wait(lambda: len(published) > before)
    assert len(published) == before + 1, "what was thought up after the cancel must not be published"


def test_feedback_reaches_the_planner_and_guidances_refusal_becomes_feedback(
    harness: BrainHarness, thinker: Thinker
) -> None:
    harness.start("camera", "guidance", "policy", "task", camera__path=str(harness.folder), task__max_keyposes="3")
    harness.ros.add(PretendedExecutor())
    harness.monitor.wait_for(["executor"], 5.0)
    wait(lambda: harness.plan(feedback="Too low.").outcome.code == OutcomeMsg.OK)
    assert thinker.asked[-1].feedback == "Too low."

    thinker.asked.clear()
    thinker.fails.append(StageError(OutcomeCode.LIFT_IMPLAUSIBLE, "The path leaves the workspace."))
    states: list[TaskStateMsg] = []
    harness.node.create_subscription(TaskStateMsg, "stvla/task_state", states.append, qos.LATCHED)
    result = harness.task()
    assert result.outcome.code in (OutcomeMsg.STEP_LIMIT, OutcomeMsg.NO_PROGRESS), result.outcome.sentence
    assert [r.feedback for r in thinker.asked[:2]] == ["", "The path leaves the workspace."]
    assert result.state.failed_plans == 1
    _state_is_published(harness, result, states)


def _state_is_published(harness: BrainHarness, result: Any, states: list[TaskStateMsg]) -> None:
    """In the feedback, in the result, and latched for who comes later."""
    moving = next(f.state for f in harness.feedback if f.phase == "moving")
    assert moving.instruction == PICK
    assert (moving.step_index, moving.step_total, moving.finished) == (0, 1, False)
    assert list(moving.sub_instructions) == ["pick up the red block and put it in the plate"]
    assert moving.plan_p50_s > 0.0
    assert moving.feedback == "The path leaves the workspace."
    wait(lambda: states and states[-1].phase == "idle")
    assert {"planning", "predicting", "moving", "idle"} <= {s.phase for s in states}
    late: list[TaskStateMsg] = []
    harness.node.create_subscription(TaskStateMsg, "stvla/task_state", late.append, qos.LATCHED)
    wait(lambda: late)
    assert late == [result.state]
    assert (result.state.keyposes, result.state.replans) == (result.keyposes, result.replans)


def test_a_plan_that_was_long_in_the_making_is_lifted_on_its_own_image(harness: BrainHarness, thinker: Thinker) -> None:
    """Guidance keeps all images for a moment only, but the one that a planner thinks on until the plan is there."""
    harness.start(
        "camera", "guidance", camera__path=str(harness.folder), guidance__keep_s="0.5", guidance__idle_s="1.0"
    )
    harness.lifted()
    thinker.seconds = 4.0
    harness.lifted()


class LosesImages(StageNode[Nothing]):
    """Draws plans whose first ``lost`` ones the lifter answers with a code: it did not get their images."""

    def __init__(self, lost: int, code: int = OutcomeMsg.STALE_IMAGE) -> None:
        super().__init__("loses_images", Nothing)
        self.drawn, self._lost, self._code = 0, lost, code
        self._traces = self.create_publisher(Trace3dMsg, "stvla/trace", qos.LATCHED)
        self.serve(PlanTrace, "stvla/plan_trace", self._work)

    def _work(self, goal_handle: GoalHandle) -> PlanTrace.Result:
        self.drawn += 1
        code = self._code if self.drawn <= self._lost else OutcomeMsg.OK
        outcome = OutcomeMsg(code=code, sentence=f"Image {self.drawn} did not come.")
        self._traces.publish(Trace3dMsg(plan_id=f"plan {self.drawn}", outcome=outcome))
        plan = TracePlanMsg(plan_id=f"plan {self.drawn}", instruction=goal_handle.request.instruction)
        return PlanTrace.Result(outcome=ok_msg(), plan=plan)


@pytest.mark.parametrize(
    ("lost", "code", "drawn"),
    [(2, OutcomeMsg.STALE_IMAGE, 3), (9, OutcomeMsg.STALE_IMAGE, 3), (9, OutcomeMsg.LIFT_NO_DEPTH, 1)],
)
def test_a_plan_whose_image_the_lifter_lost_is_drawn_again(ros: Spinner, lost: int, code: int, drawn: int) -> None:
    """The first plan of a task too; but not for ever, and other refusals are the loop's business."""
    planner = ros.add(LosesImages(lost, code))
    node = ros.add(Node("task_of_test"))
    stages = RemoteStages(node, Deadlines(), GoalCanceler(node, []), "panda_link0")
    if lost < drawn:
        assert stages.plan(PICK, (), 0, CancelToken()).plan_id == f"plan {drawn}"
    else:
        with pytest.raises(StageError, match=f"Image {drawn} did not come") as caught:
            stages.plan(PICK, (), 0, CancelToken())
        assert caught.value.code == code
    assert planner.drawn == drawn


def test_motion_does_not_wait_for_a_planner_that_takes_three_seconds(harness: BrainHarness, thinker: Thinker) -> None:
    """The same goal with a fast and with a slow planner: the pauses between motions are as long."""
    keyposes = 8
    harness.start(
        "camera", "guidance", "policy", "task", camera__path=str(harness.folder), task__max_keyposes=str(keyposes)
    )
    executor = harness.ros.add(TimedExecutor(0.8))
    harness.monitor.wait_for(["executor"], 5.0)
    wait(lambda: harness.plan().outcome.code == OutcomeMsg.OK)
    idle, results = {}, {}
    for seconds in (0.0, 3.0):
        thinker.seconds, executor.motions = seconds, []
        results[seconds] = harness.task()
        assert results[seconds].outcome.code == OutcomeMsg.STEP_LIMIT, results[seconds].outcome.sentence
        pauses = [b[0] - a[1] for a, b in zip(executor.motions, executor.motions[1:], strict=False)]
        idle[seconds] = sum(pauses)
    assert len(pauses) == keyposes - 1
    assert idle[3.0] < idle[0.0] + 2.0, idle
    assert results[3.0].replans >= 1
    assert results[3.0].state.plan_p50_s > 3.0
    assert results[0.0].state.plan_p95_s < 3.0


class TimedExecutor(PretendedExecutor):
    """Writes down when motions began and ended."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.motions: list[tuple[float, float]] = []

    def _work(self, goal_handle: Any) -> Any:
        start = stalls.clock()
        try:
            return super()._work(goal_handle)
        finally:
            self.motions.append((start, stalls.clock()))
