"""A task that is ended in mid-carry: the stack says what the hand holds, and `stvla release` puts it down."""

import json
import re
import threading
import time

import pytest
from stvla_msgs.msg import TaskState as TaskStateMsg
from system.robot_harness import SLACK, StackHarness

from stvla_ros import cli
from stvla_ros.commands.exit_codes import of_outcome
from stvla_ros.errors import CancelToken, OutcomeCode
from stvla_ros.ros import qos, task_state
from stvla_ros.ros.client import run_goal
from stvla_ros.ros.graph import GraphOptions


class Carrying(StackHarness):
    """A stack whose tasks are canceled while the arm carries something."""

    def __enter__(self):
        super().__enter__()
        self.state = TaskStateMsg()
        self.node.create_subscription(
            TaskStateMsg, task_state.TOPIC, lambda m: setattr(self, "state", m), qos.LATCHED_NEWEST
        )
        return self

    def cancel_in_mid_carry(self, seed):
        """Lay the scene anew, give its goal, cancel once the block is carried; the words of the block and the goal's result."""
        self.wait_ready()
        answer = self.reset("pick_place", seed)
        assert answer.ok, answer.message
        carried, cancel = threading.Event(), CancelToken()

        def follow(progress):
            if progress.state.holding and progress.phase == "moving":
                carried.set()

        call = self.pool.submit(run_goal, answer.instruction, follow, cancel, 10.0)
        until = time.monotonic() + 60.0
        while not carried.wait(0.1):
            assert not call.done(), (call.result().outcome, self.log[-20:])
            assert time.monotonic() < until, self.log[-20:]
        self.wait_for_motion(call)
        cancel.cancel()
        thing = re.search(r"\w+ block", answer.instruction)[0]
        return answer.instruction, f"the {thing}", call.result(timeout=20.0)

    def until(self, holding):
        """Wait until the latched topic says so, while no task runs."""
        end = time.monotonic() + 20.0
        while (self.state.phase, self.state.holding) != (task_state.IDLE, holding):
            assert time.monotonic() < end, (self.state, self.log[-20:])
            time.sleep(0.02)


@pytest.fixture(scope="module")
def harness():
    with Carrying(GraphOptions(overrides=SLACK)) as harness:
        yield harness


def test_cancel_in_mid_carry_then_release_then_the_next_goal(harness, capsys, tmp_path, monkeypatch):
    instruction, thing, result = harness.cancel_in_mid_carry(1)
    assert result.outcome.code is OutcomeCode.CANCELED
    advice = f"T{thing[1:]} is in the gripper: `stvla release` puts it down."
    assert advice in result.outcome.sentence
    assert result.state.holding == thing
    harness.until(holding=thing)
    assert any(f"'{instruction}': CANCELED: " in line and advice in line for line in harness.log), harness.log[-20:]

    monkeypatch.chdir(tmp_path)
    other = "red" if "red" not in thing else "blue"
    code = cli.main(["run", f"Put the {other} block in the plate.", "--no-film"])
    said = capsys.readouterr().out
    assert code == of_outcome(OutcomeCode.GOAL_NOT_GROUNDED), said
    assert advice in " ".join(said.split()), said
    found = json.loads((tmp_path / "runs" / "latest" / "summary.json").read_text())
    assert found["state"]["holding"] == thing

    assert cli.main(["release"]) == 0, harness.log[-20:]
    assert "Put down at" in capsys.readouterr().out
    harness.until(holding="")
    assert harness.states.state().gripper_m > 0.075
    assert harness.run(instruction)[0] is OutcomeCode.OK, harness.log[-20:]
    assert harness.score().success, "the block lay on the table"


def test_release_is_refused_while_a_task_runs(harness, capsys):
    harness.wait_ready()
    answer = harness.reset("pick_place", 2)
    cancel = CancelToken()
    call = harness.run_later(answer.instruction, cancel)
    harness.wait_for_motion(call, 30.0)
    code = cli.main(["release"])
    cancel.cancel()
    assert code == of_outcome(OutcomeCode.INVALID_GOAL)
    assert "cancel it first" in capsys.readouterr().out
    assert call.result(timeout=20.0)[0] is OutcomeCode.CANCELED


def test_a_restarted_task_node_says_honestly_that_it_is_something(harness, capsys):
    harness.cancel_in_mid_carry(3)
    harness.kill("task")
    harness.until(holding="something")
    harness.wait_ready()
    assert cli.main(["release"]) == 0, harness.log[-20:]
    assert "Put down at" in capsys.readouterr().out
    harness.until(holding="")


def test_release_of_an_empty_hand_says_so_and_the_operators_stop_holds(harness, capsys):
    harness.wait_ready()
    harness.reset("pick_place", 4)
    assert cli.main(["release"]) == 0, harness.log[-20:]
    assert "Nothing was in the gripper" in capsys.readouterr().out
    harness.stop()
    assert cli.main(["release"]) == of_outcome(OutcomeCode.CANCELED)
    assert "Stopped by the operator" in capsys.readouterr().out
    harness.resume()
