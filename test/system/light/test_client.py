"""What an operator's program does when the stack, its own output or its own connection fails: a task node is pretended."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from rclpy.executors import SingleThreadedExecutor
from stvla_msgs.action import ExecuteTask
from system.brain_harness import Nothing, wait

from stvla_ros.doctor.finding import State
from stvla_ros.errors import CancelToken, OutcomeCode
from stvla_ros.pipeline import Progress
from stvla_ros.ros import client
from stvla_ros.ros.action_server import GoalHandle
from stvla_ros.ros.convert import ok_msg
from stvla_ros.ros.stack_checks import check_clocks, check_nodes
from stvla_ros.ros.stack_view import look_at_stack
from stvla_ros.ros.stage_node import StageNode
from stvla_ros.ros.stop_state import StopKeeper


class PretendedTask(StageNode[Nothing]):
    """Tells a phase again and again until it is canceled, and answers that after a while."""

    def __init__(self, cancel_s: float = 0.0) -> None:
        super().__init__("task", Nothing)
        self.cancel_s, self.begun, self.canceled = cancel_s, threading.Event(), threading.Event()
        self.stop_state = StopKeeper(self, lambda: None)
        self.serve(ExecuteTask, "stvla/execute_task", self._work)

    def _work(self, goal_handle: GoalHandle) -> Any:
        self.begun.set()
        while not goal_handle.cancel.wait(0.05):
            goal_handle.publish_feedback(ExecuteTask.Feedback(phase="moving"))
        time.sleep(self.cancel_s)
        self.canceled.set()
        goal_handle.cancel.raise_if_set()
        return ExecuteTask.Result(outcome=ok_msg("", {}))


@pytest.mark.parametrize("error", [SystemExit(1), ValueError("on purpose"), BrokenPipeError()])
def test_feedback_that_raises_cancels_the_task_and_waits_for_its_end(ros: Any, error: BaseException) -> None:
    task = ros.add(PretendedTask(cancel_s=0.5))

    def follow(progress: Progress) -> None:
        raise error

    with pytest.raises(type(error)):
        client.run_goal("Go.", follow, connect_s=10.0)
    assert task.canceled.is_set()


def test_feedback_that_takes_for_ever_holds_up_neither_a_cancel_nor_the_outcome(ros: Any) -> None:
    """A terminal that is paused."""
    ros.add(PretendedTask())
    cancel, paused = CancelToken(), threading.Event()

    def follow(progress: Progress) -> None:
        cancel.cancel()
        paused.wait(60.0)

    result = client.run_goal("Go.", follow, cancel, connect_s=10.0)
    assert result.outcome.code is OutcomeCode.CANCELED
    paused.set()


def test_a_cancel_that_nobody_confirms_says_so(ros: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "TASK_CANCEL_S", 0.5)
    task = ros.add(PretendedTask(cancel_s=4.0))
    cancel = CancelToken()
    outcome = client.run_goal("Go.", lambda _: cancel.cancel(), cancel, connect_s=10.0).outcome
    assert not task.canceled.is_set(), "it has not answered yet"
    assert outcome.code is OutcomeCode.CANCEL_UNCONFIRMED
    assert "has not confirmed within 0.5 s that the arm stands still" in outcome.sentence
    assert "emergency stop" in outcome.sentence


def test_a_client_that_can_hear_no_more_cancels_by_another_connection(
    ros: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    task, spin = ros.add(PretendedTask()), SingleThreadedExecutor.spin_once
    broken: list[str] = []

    def once(self: SingleThreadedExecutor, timeout_sec: float | None = None) -> None:
        if threading.current_thread().name == "stvla_client" and task.begun.is_set():
            broken.append("client")
            raise SystemExit(1)
        spin(self, timeout_sec)

    monkeypatch.setattr(SingleThreadedExecutor, "spin_once", once)
    with pytest.raises(ConnectionError, match="The task was canceled"):
        client.run_goal("Go.", connect_s=10.0)
    assert broken == ["client"]
    wait(task.canceled.is_set)


def test_the_stop_state_of_a_stack_can_be_asked(ros: Any, capfd: pytest.CaptureFixture[str]) -> None:
    assert not client.ask_stop_state(0.5).known
    silent = look_at_stack(None, 0.5, 0.1)
    assert silent.silent
    assert check_nodes(silent).state is State.WRONG
    task = ros.add(PretendedTask())
    task.stop_state.stop()
    state = client.ask_stop_state(10.0)
    assert state.stopped
    assert "stvla stop --release" in state.sentence()
    task.ready()
    heard = look_at_stack(None, 10.0, 0.1)
    assert (list(heard.beats), heard.stop) == (["task"], state)
    assert "not heard: executor, planner, guidance, policy" in check_nodes(heard).figure
    assert check_clocks(heard).state is State.OK
    for _ in range(20):  # the end of a client's thread is quiet
        with client.client_node():
            pass
    assert capfd.readouterr().err == ""
