"""Calls over a middleware that loses answers: each is asked for again, and nothing runs twice to its end."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import stalls
from rclpy._rclpy_pybind11 import RCLError
from rclpy.action import ActionClient
from rclpy.node import Node
from stvla_msgs.action import PlanTrace
from stvla_msgs.msg import Outcome as OutcomeMsg
from system.brain_harness import Nothing

from stvla_ros.errors import CancelToken, OutcomeCode, StageError
from stvla_ros.ros import action_client, action_server
from stvla_ros.ros.action_client import StageClient
from stvla_ros.ros.action_server import GoalHandle
from stvla_ros.ros.stage_node import StageNode


class Losing:
    """The middleware's half of an action server, which loses the first answers of one kind."""

    def __init__(self, handle: Any, method: str, times: int) -> None:
        self._real, self._method, self.left = handle, method, times

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._real, name)
        return self._lose(real) if name == self._method else real

    def _lose(self, send: Any) -> Any:
        def attempt(*arguments: Any) -> None:
            if self.left > 0:
                self.left -= 1
                raise RCLError("client will not receive response")
            send(*arguments)

        return attempt

    def __enter__(self) -> Any:
        return self._real.__enter__()

    def __exit__(self, *error: Any) -> None:
        self._real.__exit__(*error)


class Harness:
    """A server whose work counts its calls, and a caller."""

    def __init__(self, ros: Any, work: Any = None, preempt: bool = False) -> None:
        self.seen: list[GoalHandle] = []
        self._does = work or (lambda goal_handle: None)
        node = ros.add(StageNode("server", Nothing))
        self.server = node.serve(PlanTrace, "stvla/plan_trace", self._work, preempt)
        self.client = ros.add(Node("client"))
        self.caller = StageClient(self.client, PlanTrace, "stvla/plan_trace")

    def lose(self, method: str, times: int) -> None:
        self.server._server._handle = Losing(self.server._server._handle, method, times)

    def _work(self, goal_handle: GoalHandle) -> Any:
        self.seen.append(goal_handle)
        self._does(goal_handle)
        goal_handle.cancel.raise_if_set()
        return PlanTrace.Result(outcome=OutcomeMsg(code=OutcomeMsg.OK, sentence=goal_handle.request.instruction))

    def call(self, cancel: CancelToken | None = None, deadline_s: float = 20.0, **options: Any) -> Any:
        return self.caller.call(PlanTrace.Goal(instruction="x"), cancel or CancelToken(), deadline_s, **options).outcome

    def canceled(self) -> Any:
        """The outcome of a call that is canceled once its work has begun."""
        cancel = CancelToken()
        with ThreadPoolExecutor(1) as pool:
            call = pool.submit(self.call, cancel)
            while not self.seen:
                assert not call.done(), call.result()
            cancel.cancel()
            return call.result(20.0)


def test_a_goal_whose_acceptance_got_lost_is_sent_again(ros: Any) -> None:
    harness = Harness(ros)
    harness.lose("send_goal_response", 2)
    assert harness.call().code == OutcomeMsg.OK
    assert len(harness.seen) == 1, "rclpy drops a goal whose acceptance it cannot send"


def test_a_result_that_got_lost_is_asked_for_again(ros: Any) -> None:
    harness = Harness(ros)
    harness.lose("send_result_response", 2)
    assert harness.call().code == OutcomeMsg.OK
    assert len(harness.seen) == 1


def test_a_cancel_whose_answer_got_lost_is_confirmed(ros: Any) -> None:
    harness = Harness(ros, lambda goal_handle: goal_handle.cancel.wait(30.0))
    harness.lose("send_cancel_response", 5)
    assert harness.canceled().code == OutcomeMsg.CANCELED


def test_a_cancel_is_confirmed_in_time_although_several_answers_in_a_row_get_lost(ros: Any) -> None:
    harness = Harness(ros, lambda goal_handle: goal_handle.cancel.wait(30.0))
    harness.caller = StageClient(harness.client, PlanTrace, "stvla/plan_trace", standstill_s=6.0)
    harness.lose("send_result_response", 8)
    assert harness.canceled().code == OutcomeMsg.CANCELED


def test_a_cancel_of_all_goals_passes_over_one_whose_work_is_over(ros: Any) -> None:
    """Between the end of its work and its answer, a goal still counts as running."""
    over, answer = threading.Event(), threading.Event()
    harness = Harness(ros)
    finish = harness.server._server.finish

    def late(handle: Any, end: Any) -> None:
        over.set()
        answer.wait(20.0)
        finish(handle, end)

    harness.server._server.finish = late  # type: ignore[method-assign]
    canceler = action_client.GoalCanceler(harness.client, ["stvla/plan_trace"])
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(harness.call)
        assert over.wait(20.0)
        second = pool.submit(harness.call)
        while not (harness.server.busy and canceler.ready()):
            assert not second.done(), second.result()
        canceler.cancel_all()
        assert canceler.wait_until_answered(20.0)
        answer.set()
        assert first.result(20.0).code == OutcomeMsg.OK
        assert second.result(20.0).code == OutcomeMsg.CANCELED


@pytest.mark.parametrize("lost", [1, 3])
def test_a_cancel_of_all_goals_whose_answer_got_lost_is_asked_for_again(ros: Any, lost: int) -> None:
    harness = Harness(ros, lambda goal_handle: goal_handle.cancel.wait(30.0))
    harness.lose("send_cancel_response", lost)
    canceler = action_client.GoalCanceler(harness.client, ["stvla/plan_trace"])
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(harness.call)
        while not (harness.seen and canceler.ready()):
            assert not call.done(), call.result()
        canceler.cancel_all()
        assert canceler.wait_until_answered(20.0)
        assert call.result(20.0).code == OutcomeMsg.CANCELED
    assert harness.server._server._handle.left == 0


def test_a_goal_that_nobody_accepts_says_so(ros: Any) -> None:
    harness = Harness(ros)
    harness.lose("send_goal_response", 1000)
    with pytest.raises(StageError, match=r"SERVER_TIMEOUT: 'stvla/plan_trace' did not accept a goal within 2\.5 s"):
        harness.call(deadline_s=2.5)


def test_a_goal_accepted_too_late_is_canceled(ros: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server's executor is held up for longer than a caller waits: both goals get through, and one is carried out."""
    monkeypatch.setattr(action_client, "ACCEPT_S", 0.3)
    monkeypatch.setattr(action_client, "ASK_AGAIN_S", 0.3)
    held, go_on = threading.Event(), threading.Event()
    harness = Harness(ros, lambda goal_handle: goal_handle.cancel.wait(0.2), preempt=True)
    other = harness.server._node
    harness.call()

    def hold_up() -> None:
        held.set()
        go_on.wait(30.0)

    other.executor.create_task(hold_up)
    assert held.wait(10.0)
    harness.seen.clear()
    with ThreadPoolExecutor(1) as pool:
        threading.Timer(1.0, go_on.set).start()
        assert pool.submit(harness.call).result(30.0).code == OutcomeMsg.OK
    assert sum(not goal_handle.cancel.is_set() for goal_handle in harness.seen) == 1


def test_a_cancel_that_nobody_confirms_is_not_called_canceled(ros: Any) -> None:
    release = threading.Event()
    harness = Harness(ros, lambda goal_handle: release.wait(30.0))
    harness.caller = StageClient(harness.client, PlanTrace, "stvla/plan_trace", standstill_s=0.5)
    cancel = CancelToken()
    threading.Timer(0.3, cancel.cancel).start()
    with pytest.raises(StageError) as error:
        harness.call(cancel)
    assert error.value.code is OutcomeCode.CANCEL_UNCONFIRMED
    assert "has not confirmed within 0.5 s" in error.value.sentence
    release.set()


def test_a_server_that_ends_answers_first(ros: Any) -> None:
    """Closed in the midst of a goal: the client hears why, because the answer is out before the node goes."""
    harness = Harness(ros, lambda goal_handle: goal_handle.cancel.wait(30.0))
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(harness.call)
        while not harness.seen:
            assert not call.done(), call.result()
        assert harness.server.close(10.0)
        ros.executor.create_task(harness.server._node.destroy_node)  # from now on nothing is sent any more
        answer = call.result(20.0)
    assert (answer.code, answer.sentence) == (OutcomeMsg.CANCELED, "The node 'server' is ending.")


def test_a_server_that_ends_waits_for_clients_that_have_not_asked_for_the_result(
    ros: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client asks when it has heard that its goal is accepted; a server may end in between."""
    monkeypatch.setattr(action_server, "ASKED_S", 30.0)
    harness = Harness(ros, lambda goal_handle: goal_handle.cancel.wait(30.0))
    client = ActionClient(harness.client, PlanTrace, "stvla/plan_trace")
    assert client.wait_for_server(20.0)
    sent: list[Any] = []
    answers: list[Any] = []

    def in_its_thread(work: Any) -> None:
        """rclpy's client loses an answer that arrives while another thread sends."""
        harness.client.executor.create_task(work)

    goal = PlanTrace.Goal(instruction="x")
    in_its_thread(lambda: client.send_goal_async(goal).add_done_callback(lambda done: sent.append(done.result())))
    with ThreadPoolExecutor(1) as pool:
        while not harness.seen or not sent:
            time.sleep(0.001)
        closing = pool.submit(harness.server.close, 30.0)
        while harness.server.busy:
            time.sleep(0.001)
        time.sleep(0.1)
        assert not closing.done()
        in_its_thread(lambda: answers.append(sent[0].get_result_async()))
        assert closing.result()
    until = stalls.clock() + 10.0
    while not (answers and answers[0].done()) and stalls.clock() < until:
        time.sleep(0.001)
    assert answers[0].result().result.outcome.sentence == "The node 'server' is ending."
