"""Whole tasks over genuine libfranka through a reflex and a stop button: typed, recovered, the next task succeeds."""

import time
from importlib.util import find_spec

import numpy as np
import pytest
import stalls
from sensor_msgs.msg import JointState
from std_srvs.srv import SetBool, Trigger
from system.conftest import Process
from system.robot_harness import MORE_SLACK, StackHarness

from stvla_ros.description.braking import STILL_RAD_S
from stvla_ros.description.kinematics import tcp_pose
from stvla_ros.errors import OutcomeCode
from stvla_ros.ros import qos
from stvla_ros.ros.graph import GraphOptions

pytestmark = pytest.mark.skipif(find_spec("franky") is None, reason="franky is not installed")

TOO_DEEP = {**MORE_SLACK, "policy.scripted.press_depth_m": "0.02", "executor.executor.press_m": "0.05"}
"""Buttons give way by less: the arm hits what is below them, with the thresholds of every day."""

ELSEWHERE = "Push the teal button."
"""The second button of the same scene, which the arm does not hide."""


@pytest.fixture(scope="module")
def cell():
    with StackHarness(GraphOptions(robot="franka_sim", overrides=TOO_DEEP)) as harness:
        harness.arm = []
        harness.node.create_subscription(JointState, "/franka/joint_states", harness.arm.append, qos.STATE)
        yield harness


def tool_m(message):
    """(3,) tool position."""
    return tcp_pose(np.array(message.position[:7]))[:3, 3]


def speed(message):
    return float(np.abs(message.velocity[:7]).max())


def until(cell, condition, timeout_s=30.0):
    """Wait for a joint state."""
    late = stalls.clock() + timeout_s
    while not (cell.arm and condition(cell.arm[-1])):
        assert stalls.clock() < late, cell.log[-20:]
        time.sleep(0.005)


def rests(cell, for_s=0.4):
    """Largest speed from now on."""
    cell.arm.clear()
    time.sleep(for_s)
    return len(cell.arm) > 5 and max(map(speed, cell.arm)) < STILL_RAD_S


def test_tasks_through_a_reflex_and_a_stop_button(cell):
    scene = cell.reset("push_buttons", 1)
    code, sentence = cell.run(scene.instruction)
    assert code is OutcomeCode.REFLEX, (sentence, cell.log[-20:])
    assert "cartesian_reflex" in sentence
    pressed_m = tool_m(cell.arm[-1])
    assert pressed_m[2] < 0.06, "on the button"
    assert cell.run(ELSEWHERE)[0] is OutcomeCode.REFLEX, "nothing moves before the recovery"
    assert rests(cell)

    command = Process("stvla_ros.cli", "recover", domain=cell.domain)
    assert command.wait(60.0) == 0, command.output
    assert "ready for a motion" in command.output
    assert rests(cell)
    np.testing.assert_allclose(tool_m(cell.arm[-1]), pressed_m, atol=0.003)

    call = cell.run_later(ELSEWHERE)
    until(cell, lambda message: tool_m(message)[2] > pressed_m[2] + 0.06)
    way_m = np.array([tool_m(message) for message in list(cell.arm)])
    assert np.linalg.norm((way_m - pressed_m)[:, :2], axis=1).max() < 0.01, "straight up, out of the contact"
    assert way_m[:, 2].min() > pressed_m[2] - 0.002, "and never into it"

    until(cell, lambda message: speed(message) > 0.2)
    assert cell.service(SetBool, "/sim/user_stop", SetBool.Request(data=True)).success
    code, sentence = stalls.wait_for(call, 20.0).result()
    assert code is OutcomeCode.USER_STOPPED, sentence
    assert rests(cell)
    refused = cell.service(Trigger, "/stvla/recover")
    assert (refused.success, "release it" in refused.message) == (False, True)
    assert cell.service(SetBool, "/sim/user_stop", SetBool.Request(data=False)).success
    late = stalls.clock() + 10.0
    while not (recovered := cell.service(Trigger, "/stvla/recover")).success:
        assert stalls.clock() < late, recovered.message
        time.sleep(0.1)
    assert rests(cell)

    code, sentence = cell.run(cell.reset("pick_place", 2).instruction)
    assert code is OutcomeCode.OK, (sentence, cell.log[-20:])
    assert cell.score().success
