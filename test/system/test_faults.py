"""kill -9 of a node while the arm moves: the arm stops, the task ends with a typed outcome, the next goal succeeds."""

import time

import pytest
import stalls
from system.robot_harness import StackHarness

from stvla_ros.errors import CancelToken, OutcomeCode

LOST_S = 2.5
"""From the kill to standstill: heartbeat timeout 1.5 s, then a cancel; the machine's stalls come on top."""

HELD_UP_S = 0.4
"""A process killed inside the middleware's shared memory holds up those that write to it, the robot too, for seconds: rare,
seen as a gap in the joint states, and ended as stale data."""


@pytest.fixture(scope="module")
def harness():
    with StackHarness() as harness:
        yield harness


def moves_for_a_task(harness, cancel=None):
    """Lay the scene anew, give its goal, wait until the arm moves."""
    harness.wait_ready()
    answer = harness.reset("pick_place", 1)
    assert answer.ok, answer.message
    call = harness.run_later(answer.instruction, cancel)
    harness.wait_for_motion(call, 30.0)
    return call


def next_goal_succeeds(harness):
    harness.wait_ready()
    answer = harness.reset("pick_place", 2)
    code, sentence = harness.run(answer.instruction)
    return code is OutcomeCode.OK and harness.score().success, sentence, harness.log[-20:]


def killed_during_motion(harness, name, told):
    """``told`` must be in the sentence with which the task ended."""
    call = moves_for_a_task(harness)
    harness.kill(name)
    killed, stalled_s = time.monotonic(), stalls.stalled_s()
    code, sentence = stalls.wait_for(call, 20.0).result()
    held_up_s = harness.held_up_s(killed)
    if held_up_s < HELD_UP_S or code not in (OutcomeCode.STALE_STATE, OutcomeCode.STALE_IMAGE):
        assert code is OutcomeCode.NODE_LOST, (sentence, harness.log[-20:])
        assert told in sentence
    assert harness.stands_still()
    stalled_s = stalls.stalled_s() - stalled_s
    assert harness.last_motion() - killed < LOST_S + held_up_s + stalled_s, (sentence, harness.log[-20:])


def test_policy_and_executor_killed_during_motion(harness):
    killed_during_motion(harness, "policy", told="'policy'")
    killed_during_motion(harness, "executor", told="executor")
    ok, *why = next_goal_succeeds(harness)
    assert ok, why


def test_operators_stop_ends_the_task(harness):
    call = moves_for_a_task(harness)
    harness.stop()
    assert stalls.wait_for(call, 10.0).result()[0] is OutcomeCode.CANCELED
    assert harness.stands_still()
    harness.resume()


def test_a_newer_goal_preempts_the_older(harness):
    first = moves_for_a_task(harness)
    cancel = CancelToken()
    second = harness.run_later("Put the purple elephant in the plate.", cancel)
    assert stalls.wait_for(first, 10.0).result()[0] is OutcomeCode.PREEMPTED
    assert stalls.wait_for(second, 20.0).result()[0] is OutcomeCode.GOAL_NOT_GROUNDED
    assert harness.stands_still()


@pytest.mark.faults
@pytest.mark.parametrize("name", ["planner", "guidance", "policy", "executor", "task"])
def test_killed_node_comes_back(harness, name):
    killed_during_motion(harness, name, told=name)
    ok, *why = next_goal_succeeds(harness)
    assert ok, why


@pytest.mark.faults
def test_killed_robot_comes_back(harness):
    call = moves_for_a_task(harness)
    harness.kill("sim")
    code, sentence = stalls.wait_for(call, 20.0).result()
    assert code in (OutcomeCode.STALE_STATE, OutcomeCode.STALE_IMAGE), sentence
    ok, *why = next_goal_succeeds(harness)
    assert ok, why
