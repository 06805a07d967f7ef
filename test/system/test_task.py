"""The task node: bad goals, cancel in every phase, preemption, lost nodes. The executor is a pretended one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import stalls
from ros.bags import PICK, record_scene
from stvla_msgs.msg import Outcome as OutcomeMsg
from system.brain_harness import BrainHarness, Controller, PretendedExecutor, wait
from system.faulty_robot import SlowClient

from stvla_ros.errors import CancelToken, OutcomeCode
from stvla_ros.nodes.task import TaskNode
from stvla_ros.pipeline import Progress
from stvla_ros.ros import client


@pytest.fixture
def harness(ros: Any, start: Callable[..., Any], tmp_path: Path) -> BrainHarness:
    harness = BrainHarness(ros, start)
    harness.folder = record_scene(tmp_path / "recording")
    return harness


def test_goals_with_a_pretended_executor(harness: BrainHarness) -> None:
    executor = harness.ros.add(PretendedExecutor())
    controller = harness.controller
    harness.start("camera", "composed", camera__path=str(harness.folder), task__max_keyposes="3")
    harness.monitor.wait_for(["executor"], 5.0)

    _malformed_goals_are_refused(harness)
    _a_goal_runs_to_its_typed_end(harness, executor)
    _cancel_in_each_phase(harness, executor)
    _new_goal_preempts(harness, executor)
    _client_helper(harness)
    _lost_executor_stops_the_arm(harness, executor, controller)


def _malformed_goals_are_refused(harness: BrainHarness) -> None:
    for words in ("", "   ", "x" * 100_000, "Put the red\x07 block", "Put the red block\nin the plate", "\x00"):
        result = harness.task(words)
        assert result.outcome.code == OutcomeMsg.INVALID_GOAL, (words[:40], result.outcome.sentence)
        assert (result.keyposes, result.replans) == (0, 0)
    for words in ("Dance!", "Put the block in the plate.", "Setze den roten Klotz auf den Teller.", "赤いブロック"):
        result = harness.task(words)
        assert result.outcome.code in (OutcomeMsg.GOAL_NOT_GROUNDED, OutcomeMsg.INVALID_GOAL), result.outcome.sentence
        assert result.keyposes == 0


def _a_goal_runs_to_its_typed_end(harness: BrainHarness, executor: PretendedExecutor) -> None:
    """Nothing moves in a recording, so three keyposes later it is told that the steps ran out: never a success."""
    harness.feedback.clear()
    result = harness.task()
    assert result.outcome.code in (OutcomeMsg.STEP_LIMIT, OutcomeMsg.NO_PROGRESS), result.outcome.sentence
    assert executor.asked >= 1
    assert {"planning", "predicting", "moving"} <= {f.phase for f in harness.feedback}
    assert set(result.outcome.phases) >= {"planning", "predicting", "moving", "total"}
    moving = next(f for f in harness.feedback if f.phase == "moving")
    assert moving.keypose.header.frame_id == "panda_link0"
    assert moving.plan_id
    assert "red block" in moving.sub_instruction


def _cancel_in_each_phase(harness: BrainHarness, executor: PretendedExecutor) -> None:
    executor.seconds = 20.0
    for phase in ("planning", "predicting", "moving"):
        harness.feedback.clear()
        asked, cancel = executor.asked, CancelToken()
        with ThreadPoolExecutor(1) as pool:
            future = pool.submit(harness.task, PICK, cancel)
            harness.until_phase(phase, future)
            if phase == "moving":  # a keypose that has not begun is not canceled but never sent
                wait(lambda asked=asked: executor.asked > asked)
            start = stalls.clock()
            cancel.cancel()
            assert future.result(60.0).outcome.code == OutcomeMsg.CANCELED, phase
            assert stalls.clock() - start < 2.0, phase
    wait(lambda: executor.canceled >= 1)  # twice when the arm had begun to move before the second cancel came


def _new_goal_preempts(harness: BrainHarness, executor: PretendedExecutor) -> None:
    harness.feedback.clear()
    wait(lambda: executor.ended == executor.asked)
    asked, before = executor.asked, executor.canceled
    with ThreadPoolExecutor(1) as pool:
        old = pool.submit(harness.task)
        harness.until_phase("moving", old)
        wait(lambda: executor.asked == asked + 1)  # as above
        new = harness.task("Put the purple block in the plate.")
        assert stalls.wait_for(old, 5.0).result().outcome.code == OutcomeMsg.PREEMPTED
    assert new.outcome.code == OutcomeMsg.GOAL_NOT_GROUNDED
    wait(lambda: executor.canceled == before + 1)


def _client_helper(harness: BrainHarness) -> None:
    """What ``stvla run`` uses."""
    seen: list[Progress] = []
    cancel = CancelToken()

    def follow(progress: Progress) -> None:
        seen.append(progress)
        if progress.phase == "moving":
            threading.Thread(target=cancel.cancel).start()

    result = client.run_goal(PICK, follow, cancel, connect_s=10.0)
    assert result.outcome.code is OutcomeCode.CANCELED
    assert seen[-1].keypose is not None
    assert client.run_goal("", connect_s=10.0).outcome.code is OutcomeCode.INVALID_GOAL


def _lost_executor_stops_the_arm(harness: BrainHarness, executor: PretendedExecutor, controller: Controller) -> None:
    harness.feedback.clear()
    before = controller.stops
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(harness.task)
        harness.until_phase("moving", future)
        executor._heartbeat._timer.cancel()  # falls silent, as when it is killed; its action server even lives on
        start = stalls.clock()
        result = future.result(60.0)
    assert result.outcome.code == OutcomeMsg.NODE_LOST
    assert "'executor'" in result.outcome.sentence
    assert stalls.clock() - start < 7.0
    wait(lambda: controller.stops > before)
    result = harness.task()
    assert result.outcome.code == OutcomeMsg.NODE_LOST, "it is still missing"


def test_arm_is_told_to_stop_again_and_again_when_the_executor_is_not_the_only_one_lost(harness: BrainHarness) -> None:
    executor = harness.ros.add(PretendedExecutor(20.0, cancel_s=3.0))
    controller = harness.controller
    harness.start("camera", "planner", "guidance", "policy", "task", camera__path=str(harness.folder))
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(harness.task)
        harness.until_phase("moving", future)
        harness.processes["policy"].popen.kill()
        executor._heartbeat._timer.cancel()
        assert stalls.wait_for(future, 15.0).result().outcome.code == OutcomeMsg.NODE_LOST
    assert controller.stops > 10, "one for every look until the executor's grace is over"


def test_a_task_waits_for_the_answers_to_the_stops_before_it(ros: Any) -> None:
    """They take another way than the executor's goals: a later one may otherwise arrive first, and be canceled."""
    controller, node = ros.add(Controller()), ros.add(TaskNode())
    node._find_controller(CancelToken())
    node._canceler._clients = {name: SlowClient(client) for name, client in node._canceler._clients.items()}
    node._canceler.cancel_all()
    node._find_controller(CancelToken())
    assert controller.stops == 1


def test_no_task_is_begun_while_the_arm_could_not_be_stopped(harness: BrainHarness) -> None:
    """The arm's controller has another name than the task node's: a stop for a lost executor would go nowhere."""
    harness.ros.add(PretendedExecutor())
    other = {"task__robot__arm_action": "/fr3_arm_controller/follow_joint_trajectory"}
    settings = {"camera__path": str(harness.folder), "task__max_keyposes": "1"} | other
    harness.start("camera", "planner", "guidance", "policy", "task", **settings)
    outcome = harness.task().outcome
    assert outcome.code == OutcomeMsg.CONTROLLER_FAILED
    assert "/fr3_arm_controller/follow_joint_trajectory was found" in outcome.sentence
    wait(lambda: "robot.arm_action" in harness.processes["task"].output)  # the log warns too
    harness.ros.add(Controller("fr3"))
    outcome = harness.task().outcome
    assert outcome.code in (OutcomeMsg.STEP_LIMIT, OutcomeMsg.NO_PROGRESS), outcome.sentence


def test_killed_brain_node_is_a_typed_outcome(harness: BrainHarness) -> None:
    harness.ros.add(PretendedExecutor(20.0))
    harness.start("camera", "planner", "guidance", "policy", "task", camera__path=str(harness.folder))
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(harness.task)
        harness.until_phase("moving", future)
        harness.processes["policy"].popen.kill()
        outcome = stalls.wait_for(future, 15.0).result().outcome
    assert outcome.code == OutcomeMsg.NODE_LOST
    assert "'policy'" in outcome.sentence


def test_killed_task_node_ends_the_client(harness: BrainHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    harness.ros.add(PretendedExecutor(20.0))
    harness.start("camera", "composed", camera__path=str(harness.folder))
    moving = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(client.run_goal, PICK, lambda p: p.phase == "moving" and moving.set(), None, 10.0)
        assert moving.wait(20.0)
        harness.processes["composed"].popen.kill()
        error = stalls.wait_for(future, 15.0).exception()
    assert isinstance(error, ConnectionError), error


def test_client_without_a_stack(ros: Any) -> None:
    with pytest.raises(ConnectionError, match="No stack is running"):
        client.run_goal(PICK, connect_s=0.5)
