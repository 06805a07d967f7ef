"""The simulated cell as a process whose robot is reached through its network interface, by genuine libfranka."""

import os
from importlib.util import find_spec

import pytest
import stalls
from diagnostic_msgs.msg import DiagnosticArray
from sim.fci.child import Child
from std_srvs.srv import SetBool
from system.robot_harness import RobotHarness

from stvla_ros.errors import CancelToken
from stvla_ros.ros import qos
from stvla_ros.ros.frames import CameraConfig, RgbdReceiver

pytestmark = pytest.mark.skipif(find_spec("franky") is None, reason="franky is not installed")

HOST = f"127.{2 + os.getpid() % 200}.{1 + os.getpid() // 200 % 200}.1"


@pytest.fixture(scope="module")
def harness():
    with RobotHarness() as harness:
        harness.start("sim", "interface:=fci", f"fci.hostname:={HOST}", "fci.homed:=true")
        yield harness


@pytest.fixture(scope="module")
def robot():
    with Child("with_franky.py") as child:
        yield child


def switch(harness, name, on):
    assert harness.service(SetBool, f"/sim/{name}", SetBool.Request(data=on)).success


def test_libfranka_moves_what_the_camera_sees(harness, robot):
    robot.call("connect", host=HOST)
    receiver = RgbdReceiver(harness.node, CameraConfig())
    before = receiver.wait(0, CancelToken(), 10.0)
    assert robot.call("move", joint=0, by=0.5) == ""
    assert robot.call("arm")["q"][0] == pytest.approx(0.5, abs=0.003)
    after = receiver.wait(before.stamp_ns + 10**9, CancelToken(), 10.0)
    assert abs(after.rgb.astype(int) - before.rgb).max(axis=-1).mean() > 2.0, "the arm is elsewhere in the image"
    assert robot.call("hand_call", name="grasp", values=[0.0, 0.1, 20.0, 0.08, 0.08]) is True
    assert robot.call("fingers")["width"] < 0.001


def test_it_offers_neither_actions_nor_joint_states(harness):
    names = {name for name, _ in harness.node.get_topic_names_and_types()}
    assert not [name for name in names if "panda_arm_controller" in name or "gripper_action" in name]
    assert harness.node.count_publishers("/joint_states") == 0


def test_scenes_are_laid_out_and_scored(harness, robot):
    assert harness.reset("stack_cube", 1).instruction.startswith("Stack the ")
    assert not harness.score().success
    assert robot.call("arm")["q"][0] == pytest.approx(0.0, abs=0.003), "the arm is at home again"


def test_the_user_stop_is_a_service(harness, robot):
    switch(harness, "user_stop", True)
    assert 'current mode ("User stopped")' in robot.call("move", joint=0, by=0.1)
    switch(harness, "user_stop", False)
    assert robot.call("move", joint=0, by=0.1) == ""


def test_diagnostics_say_how_far_it_is_behind_the_clock(harness):
    health = {}
    harness.node.create_subscription(
        DiagnosticArray, "/diagnostics", lambda m: [health.update({v.key: v.value for v in s.values}) for s in m.status],
        qos.STATE,
    )  # fmt: skip
    late = stalls.clock() + 5.0
    while "robot mode" not in health:
        assert stalls.clock() < late
        stalls.time.sleep(0.05)
    assert health["robot mode"] == "IDLE"
    assert float(health["behind the clock [s]"]) >= -0.01
