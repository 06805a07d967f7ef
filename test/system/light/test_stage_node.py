"""The mailbox: actions in worker threads, cancels, typed errors, preemption, heartbeats, calls that never hang."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pytest
import stalls
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy._rclpy_pybind11 import InvalidHandle
from rclpy.node import Node
from stvla_msgs.action import PlanTrace
from stvla_msgs.msg import Outcome as OutcomeMsg

from stvla_ros.config import param
from stvla_ros.errors import CancelToken, OutcomeCode, StageError
from stvla_ros.nodes.task import TaskNode
from stvla_ros.ros import action_client
from stvla_ros.ros.action_client import StageClient
from stvla_ros.ros.action_server import GoalHandle
from stvla_ros.ros.heartbeats import HeartbeatMonitor
from stvla_ros.ros.stage_node import StageNode


@dataclass(frozen=True)
class NoConfig:
    """Settings of the test node."""

    rate_hz: float = param(5.0, "a rate", ge=0.1, le=100.0)


class Server(StageNode[NoConfig]):
    """Serves ``work`` whose behaviour the test sets."""

    def __init__(self, work: Callable[[GoalHandle], Any], preempt: bool = False) -> None:
        super().__init__("server", NoConfig)
        self.work_server = self.serve(PlanTrace, "stvla/plan_trace", work, preempt)


class Harness:
    """A server and a client."""

    def __init__(self, ros: Any, work: Callable[[GoalHandle], Any], preempt: bool = False) -> None:
        self.server = ros.add(Server(work, preempt))
        self.client = ros.add(Node("client"))
        self.remote = StageClient(self.client, PlanTrace, "stvla/plan_trace")

    def call(self, cancel: CancelToken | None = None, deadline_s: float = 10.0, words: str = "x") -> Any:
        return self.remote.call(PlanTrace.Goal(instruction=words), cancel or CancelToken(), deadline_s)


def ok(goal_handle: GoalHandle) -> Any:
    return PlanTrace.Result(outcome=OutcomeMsg(code=OutcomeMsg.OK, sentence=goal_handle.request.instruction))


def until_canceled(goal_handle: GoalHandle) -> Any:
    goal_handle.cancel.wait(30.0)
    goal_handle.cancel.raise_if_set()
    return ok(goal_handle)


def test_actions_are_destroyed_with_their_node(ros: Any) -> None:
    """Not by the garbage collector: it may free the clock of the node first, which the server reads at its end."""
    node = Server(ok)
    ends = node.work_server._server._handle, StageClient(node, PlanTrace, "stvla/plan_trace")._client._client_handle
    assert node.close(10.0)
    node.destroy_node()
    for handle in ends:
        with pytest.raises(InvalidHandle), handle:
            pass


def test_results_come_back_and_fast(ros: Any) -> None:
    harness = Harness(ros, ok)
    harness.call()
    times = []
    for i in range(30):
        start = stalls.clock()
        assert harness.call(words=f"word {i}").outcome.sentence == f"word {i}"
        times.append(stalls.clock() - start)
    assert sorted(times)[15] < 0.1, "no polling between request and answer"


def test_stage_error_is_typed(ros: Any) -> None:
    def work(goal_handle: GoalHandle) -> Any:
        raise StageError(OutcomeCode.GOAL_NOT_GROUNDED, "No pink block in the image.")

    outcome = Harness(ros, work).call().outcome
    assert (outcome.code, outcome.sentence) == (OutcomeMsg.GOAL_NOT_GROUNDED, "No pink block in the image.")


def test_defect_is_internal_and_the_server_lives_on(ros: Any) -> None:
    def work(goal_handle: GoalHandle) -> Any:
        return ok(goal_handle) if goal_handle.request.instruction == "good" else 1 / 0

    harness = Harness(ros, work)
    assert harness.call().outcome.code == OutcomeMsg.INTERNAL
    assert harness.call(words="good").outcome.code == OutcomeMsg.OK


@pytest.mark.parametrize("delay_s", [0.0, 0.005, 0.3])
def test_cancel_at_any_moment(ros: Any, delay_s: float) -> None:
    harness = Harness(ros, until_canceled)
    cancel = CancelToken()
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(harness.call, cancel)
        time.sleep(delay_s)
        start = stalls.clock()
        cancel.cancel(OutcomeCode.PREEMPTED, "A newer goal took over.")
        error = future.exception(20.0)
        if error is None:  # the server answered with its own reason
            assert future.result().outcome.code == OutcomeMsg.CANCELED
        else:  # canceled before it was sent
            assert isinstance(error, StageError)
            assert error.code is OutcomeCode.PREEMPTED
    assert stalls.clock() - start < 1.0
    _until(lambda: not harness.server.work_server.busy)  # the goal must not go on at the server, which would last 30 s


def test_server_deaf_to_cancel_does_not_hold_the_caller(ros: Any) -> None:
    release = threading.Event()

    def work(goal_handle: GoalHandle) -> Any:
        release.wait(20.0)
        return ok(goal_handle)

    harness = Harness(ros, work)
    cancel = CancelToken()
    threading.Timer(0.2, cancel.cancel).start()
    start = stalls.clock()
    with pytest.raises(StageError, match="CANCELED"):
        harness.call(cancel)
    assert stalls.clock() - start < 4.0
    release.set()


def test_deadline(ros: Any) -> None:
    harness = Harness(ros, until_canceled)
    with pytest.raises(StageError, match=r"SERVER_TIMEOUT: No answer from 'stvla/plan_trace' within 0\.5 s"):
        harness.call(deadline_s=0.5)


def test_no_server(ros: Any) -> None:
    client = ros.add(Node("client"))
    remote = StageClient(client, PlanTrace, "stvla/nobody")
    with pytest.raises(StageError, match=r"NODE_LOST: No server of the action 'stvla/nobody' was found within 0\.3 s"):
        remote.call(PlanTrace.Goal(), CancelToken(), 5.0, connect_s=0.3)


def test_new_goal_preempts(ros: Any) -> None:
    begun = threading.Event()

    def work(goal_handle: GoalHandle) -> Any:
        begun.set()
        return until_canceled(goal_handle) if goal_handle.request.instruction == "old" else ok(goal_handle)

    harness = Harness(ros, work, preempt=True)
    with ThreadPoolExecutor(1) as pool:
        old = pool.submit(harness.call, None, 20.0, "old")
        assert begun.wait(10.0)
        assert harness.call(words="new").outcome.code == OutcomeMsg.OK
        assert old.result(20.0).outcome.code == OutcomeMsg.PREEMPTED


def test_goals_queue_without_preemption(ros: Any) -> None:
    def work(goal_handle: GoalHandle) -> Any:
        goal_handle.cancel.wait(0.2)
        return ok(goal_handle)

    harness = Harness(ros, work)
    with ThreadPoolExecutor(3) as pool:
        results = [pool.submit(harness.call, None, 10.0, str(i)) for i in range(3)]
        assert [r.result(10.0).outcome.sentence for r in results] == ["0", "1", "2"]


def test_heartbeat_beats_while_the_stage_works(ros: Any) -> None:
    def work(goal_handle: GoalHandle) -> Any:
        end = time.monotonic() + 2.0
        while time.monotonic() < end:
            sum(range(10000))  # holds the interpreter as Python code does
        return ok(goal_handle)

    harness = Harness(ros, work)
    monitor = HeartbeatMonitor(harness.client, timeout_s=1.0)
    assert monitor.wait_for(["server"], 5.0) == ()
    watch = monitor.watch(["server", "ghost"])
    oldest, stalled = 0.0, stalls.stalled_s()
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(harness.call)
        while not future.done():
            oldest = max(oldest, monitor.age_s("server"))
            time.sleep(0.01)
    assert oldest < 1.0 + stalls.stalled_s() - stalled
    assert monitor.missing(["server", "ghost"]) == ("ghost",)
    with pytest.raises(StageError, match="NODE_LOST: The node 'ghost' was never heard"):
        watch.raise_if_lost()


def test_diagnostics_tell_latency_and_trouble(ros: Any) -> None:
    def work(goal_handle: GoalHandle) -> Any:
        def think() -> Any:
            if goal_handle.request.instruction == "bad":
                raise StageError(OutcomeCode.REPLY_UNPARSABLE, "No JSON in the reply.")
            return ok(goal_handle)

        return harness.server.timed("plan", think)

    harness = Harness(ros, work)
    seen: list[DiagnosticStatus] = []
    harness.client.create_subscription(DiagnosticArray, "/diagnostics", lambda m: seen.extend(m.status), 10)
    harness.call()
    _until(lambda: any(v.key == "plan latency [ms]" and float(v.value) >= 0 for s in seen for v in s.values))
    assert {s.name for s in seen} == {"stvla: server"}
    harness.call(words="bad")
    _until(lambda: seen[-1].level == DiagnosticStatus.WARN)
    assert seen[-1].message == "REPLY_UNPARSABLE: No JSON in the reply."


def _until(condition: Callable[[], Any], timeout_s: float = 20.0) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_closing_cancels_the_work(ros: Any) -> None:
    begun = threading.Event()

    def work(goal_handle: GoalHandle) -> Any:
        begun.set()
        return until_canceled(goal_handle)

    harness = Harness(ros, work)
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(harness.call)
        assert begun.wait(10.0)
        assert harness.server.close(2.0)
        outcome = future.result(20.0).outcome
    assert (outcome.code, outcome.sentence) == (OutcomeMsg.CANCELED, "The node 'server' is ending.")


def deaf(goal_handle: GoalHandle) -> Any:
    """Takes a cancel, and answers late."""
    goal_handle.cancel.wait(30.0)
    time.sleep(2.0)
    return ok(goal_handle)


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        (OutcomeCode.CANCELED, OutcomeCode.CANCEL_UNCONFIRMED),
        (OutcomeCode.PREEMPTED, OutcomeCode.CANCEL_UNCONFIRMED),
        (OutcomeCode.NODE_LOST, OutcomeCode.NODE_LOST),
    ],
)
def test_a_cancel_of_what_moves_the_arm_is_confirmed_or_says_that_it_is_not(
    ros: Any, reason: OutcomeCode, code: OutcomeCode
) -> None:
    harness = Harness(ros, deaf)
    harness.remote = StageClient(harness.client, PlanTrace, "stvla/plan_trace", standstill_s=0.5)
    cancel = CancelToken()
    threading.Timer(0.5, lambda: cancel.cancel(reason, "Why.")).start()
    with pytest.raises(StageError, match=r"has not confirmed within 0\.5 s that the arm stands still") as error:
        harness.call(cancel)
    assert error.value.code is code
    assert error.value.sentence.startswith("Why. ")


def test_a_cancel_of_what_moves_nothing_says_nothing_about_the_arm(ros: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(action_client, "CANCEL_S", 0.3)
    harness, cancel = Harness(ros, deaf), CancelToken()
    threading.Timer(0.5, cancel.cancel).start()
    with pytest.raises(StageError) as error:
        harness.call(cancel)
    assert (error.value.code, error.value.sentence) == (OutcomeCode.CANCELED, "Canceled by the operator.")


def test_a_server_that_is_known_to_be_lost_is_hardly_waited_for(ros: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(action_client, "LOST_CANCEL_S", 0.3)
    harness, cancel = Harness(ros, deaf), CancelToken()
    remote = StageClient(harness.client, PlanTrace, "stvla/plan_trace", standstill_s=30.0)
    threading.Timer(0.5, lambda: cancel.cancel(OutcomeCode.NODE_LOST, "Silent.")).start()
    with pytest.raises(StageError, match=r"Silent\. .* within 0.3 s") as error:
        remote.call(PlanTrace.Goal(), cancel, 20.0, lost=lambda: True)
    assert error.value.code is OutcomeCode.NODE_LOST


@dataclass
class Logger:
    """Writes down what a node logs."""

    lines: list[tuple[str, str]] = field(default_factory=list)

    def __getattr__(self, level: str) -> Callable[[str], None]:
        return lambda text: self.lines.append((level, text))


@pytest.mark.parametrize(
    ("code", "level"),
    [
        (OutcomeCode.OK, "info"),
        (OutcomeCode.CANCELED, "info"),
        (OutcomeCode.PREEMPTED, "info"),
        (OutcomeCode.GOAL_NOT_GROUNDED, "warning"),
        (OutcomeCode.GRASP_FAILED, "warning"),
        (OutcomeCode.NODE_LOST, "error"),
        (OutcomeCode.REFLEX, "error"),
        (OutcomeCode.CANCEL_UNCONFIRMED, "error"),
    ],
)
def test_every_end_is_logged_with_its_code_before_the_client_hears_of_it(
    ros: Any, monkeypatch: pytest.MonkeyPatch, code: OutcomeCode, level: str
) -> None:
    def work(goal_handle: GoalHandle) -> Any:
        if code is not OutcomeCode.OK:
            raise StageError(code, "Why.")
        return PlanTrace.Result()

    server, logger = ros.add(Server(work)), Logger()
    server.logs_success = True
    monkeypatch.setattr(server, "get_logger", lambda: logger)
    remote = StageClient(ros.add(Node("client")), PlanTrace, "stvla/plan_trace")
    remote.call(PlanTrace.Goal(instruction="Put it there."), CancelToken(), 10.0)
    told = "" if code is OutcomeCode.OK else "Why."
    assert (level, f"'Put it there.': {code.name}: {told}") in logger.lines


def test_what_went_well_is_logged_for_tasks_only(ros: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    server, logger = ros.add(Server(lambda goal_handle: PlanTrace.Result())), Logger()
    monkeypatch.setattr(server, "get_logger", lambda: logger)
    remote = StageClient(ros.add(Node("client")), PlanTrace, "stvla/plan_trace")
    remote.call(PlanTrace.Goal(instruction="Put it there."), CancelToken(), 10.0)
    assert logger.lines == []
    assert TaskNode.logs_success
