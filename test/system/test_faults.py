"""kill -9 of a node while the arm moves: the arm stops, the task ends with a typed outcome, the next goal succeeds."""

import time

import pytest
import stalls
from system.robot_harness import StackBench

from stvla_ros.errors import CancelToken, OutcomeCode

LOST_S = 2.5
"""From the kill to standstill: heartbeat timeout 1.5 s, then a cancel; the machine's stalls come on top."""

HELD_UP_S = 0.4
"""A process killed inside the middleware's shared memory holds up those that write to it, the robot too, for seconds: rare,
seen as a gap in the joint states, and ended as stale data."""


@pytest.fixture(scope="module")
def bench():
    with StackBench() as bench:
        yield bench


def moves_for_a_task(bench, cancel=None):
    """Lay the scene anew, give its goal, wait until the arm moves."""
    bench.wait_ready()
    answer = bench.reset("pick_place", 1)
    assert answer.ok, answer.message
    call = bench.run_later(answer.instruction, cancel)
    bench.wait_for_motion(call, 30.0)
    return call


def next_goal_succeeds(bench):
    bench.wait_ready()
    answer = bench.reset("pick_place", 2)
    code, sentence = bench.run(answer.instruction)
    return code is OutcomeCode.OK and bench.score().success, sentence, bench.log[-20:]


def killed_during_motion(bench, name, told):
    """``told`` must be in the sentence with which the task ended."""
    call = moves_for_a_task(bench)
    bench.kill(name)
    killed, stalled_s = time.monotonic(), stalls.stalled_s()
    code, sentence = stalls.wait_for(call, 20.0).result()
    held_up_s = bench.held_up_s(killed)
    if held_up_s < HELD_UP_S or code not in (OutcomeCode.STALE_STATE, OutcomeCode.STALE_IMAGE):
        assert code is OutcomeCode.NODE_LOST, (sentence, bench.log[-20:])
        assert told in sentence
    assert bench.stands_still()
    stalled_s = stalls.stalled_s() - stalled_s
    assert bench.last_motion() - killed < LOST_S + held_up_s + stalled_s, (sentence, bench.log[-20:])


def test_policy_and_executor_killed_during_motion(bench):
    killed_during_motion(bench, "policy", told="'policy'")
    killed_during_motion(bench, "executor", told="executor")
    ok, *why = next_goal_succeeds(bench)
    assert ok, why


def test_operators_stop_ends_the_task(bench):
    call = moves_for_a_task(bench)
    bench.stop()
    assert stalls.wait_for(call, 10.0).result()[0] is OutcomeCode.CANCELED
    assert bench.stands_still()
    bench.resume()


def test_a_newer_goal_preempts_the_older(bench):
    first = moves_for_a_task(bench)
    cancel = CancelToken()
    second = bench.run_later("Put the purple elephant in the plate.", cancel)
    assert stalls.wait_for(first, 10.0).result()[0] is OutcomeCode.PREEMPTED
    assert stalls.wait_for(second, 20.0).result()[0] is OutcomeCode.GOAL_NOT_GROUNDED
    assert bench.stands_still()


@pytest.mark.faults
@pytest.mark.parametrize("name", ["planner", "guidance", "policy", "executor", "task"])
def test_killed_node_comes_back(bench, name):
    killed_during_motion(bench, name, told=name)
    ok, *why = next_goal_succeeds(bench)
    assert ok, why


@pytest.mark.faults
def test_killed_robot_comes_back(bench):
    call = moves_for_a_task(bench)
    bench.kill("sim")
    code, sentence = stalls.wait_for(call, 20.0).result()
    assert code in (OutcomeCode.STALE_STATE, OutcomeCode.STALE_IMAGE), sentence
    ok, *why = next_goal_succeeds(bench)
    assert ok, why
