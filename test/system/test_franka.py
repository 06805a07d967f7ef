"""Node ``franka`` with genuine libfranka in front of the simulated network interface: its services, topics and action."""

import os
import time

import numpy as np
import pytest
from action_msgs.msg import GoalStatus
from control_msgs.action import FollowJointTrajectory
from rclpy.action import ActionClient
from rclpy.node import Node
from sensor_msgs.msg import JointState
from std_srvs.srv import Trigger
from stvla_msgs.msg import RobotStatus

from stvla_ros.config import ConfigError
from stvla_ros.description.panda import HOME_Q_RAD
from stvla_ros.description.robot import PANDA, RobotConfig
from stvla_ros.motion.timing import scaled_limits, time_polyline
from stvla_ros.ros import qos, service_client
from stvla_ros.ros.action_client import SentGoal
from stvla_ros.ros.trajectory import trajectory_message
from stvla_ros.sim.fci.cell import FciCell
from stvla_ros.sim.fci.server import FciConfig, FciServer

ROBOT = RobotConfig(kind="franka")
GOAL = HOME_Q_RAD + np.array([0.3, -0.2, 0.1, 0.1, 0.2, 0.1, 0.3])


def serve(cell):
    for i in range(100):
        address = f"127.{1 + os.getpid() % 250}.{1 + os.getpid() // 250 % 250}.{2 + i}"
        try:
            return FciServer(cell, FciConfig(address, real_time=False, answer_limit_s=10.0))
        except ConfigError:
            continue
    raise AssertionError("no free address")


class Operator:
    """What a person, and the executor, see of the node."""

    def __init__(self, node):
        self.node = node
        self.status, self.arm, self.fingers = None, [], []
        self.ready_unhomed = False
        node.create_subscription(RobotStatus, "/franka/status", self._take_status, qos.LATCHED_NEWEST)
        node.create_subscription(JointState, ROBOT.joint_states, self.arm.append, qos.STATE)
        node.create_subscription(JointState, ROBOT.gripper_joint_states, self.fingers.append, qos.STATE)
        self.names = ("activate", "deactivate", "recover", "home_gripper")
        self.services = {name: node.create_client(Trigger, f"/franka/{name}") for name in self.names}
        self.follow = ActionClient(node, FollowJointTrajectory, ROBOT.arm_action)

    def _take_status(self, message):
        self.status = message
        self.ready_unhomed |= message.mode == RobotStatus.IDLE and not message.gripper_homed

    def call(self, name):
        assert self.services[name].wait_for_service(60.0)
        return service_client.call(self.services[name], Trigger.Request(), 240.0, 30.0)

    def send(self, goal_rad, start_rad=None):
        assert self.follow.wait_for_server(60.0)
        start = np.array(self.arm[-1].position) if start_rad is None else start_rad
        path = time_polyline(np.array([start, goal_rad]), scaled_limits(PANDA, 0.5, 0.3, 0.1))
        goal = FollowJointTrajectory.Goal(trajectory=trajectory_message(path, ROBOT.arm_joints))
        sent = SentGoal(self.node, self.follow, goal, resend=True)
        wait_until(lambda: sent.wait(0.0) or sent.accepted)
        return sent

    def result(self, sent):
        wait_until(lambda: sent.wait(0.0))
        assert sent.accepted
        return sent.status, sent.result


def wait_until(condition):
    while not condition():
        time.sleep(0.01)


@pytest.fixture
def server():
    cell = FciCell()
    cell.reset("pick_place", 0)
    made = serve(cell)
    made.start()
    yield made
    made.close()
    cell.close()


def test_from_activate_to_a_motion_a_stop_button_and_back(ros, start, server):
    node = start(
        "stvla_ros.nodes.franka",
        "--ros-args",
        *("-p", f"hostname:={server.config.hostname}", "-p", "realtime:=false", "-p", "robot.kind:=franka"),
    )
    operator = Operator(ros.add(Node("operator")))
    wait_until(lambda: operator.status is not None)
    assert operator.status.mode == RobotStatus.INACTIVE, node.output
    assert "/franka/activate" in operator.status.sentence
    status, result = operator.result(operator.send(GOAL, HOME_Q_RAD))
    assert (status, result.error_code) == (GoalStatus.STATUS_ABORTED, FollowJointTrajectory.Result.INVALID_GOAL)
    assert result.error_string.startswith("CONTROLLER_FAILED: ")
    assert "ROBOT_LOST" not in operator.call("recover").message
    assert server.mode.name == "IDLE"

    activated = operator.call("activate")
    assert activated.success, activated.message
    wait_until(lambda: operator.status.mode == RobotStatus.IDLE)
    assert not operator.ready_unhomed, "an arm was ready before its hand"
    wait_until(lambda: operator.arm and operator.fingers)
    assert operator.arm[-1].name == list(ROBOT.arm_joints)
    assert operator.fingers[-1].name == list(ROBOT.finger_joints)

    status, result = operator.result(operator.send(GOAL))
    assert status == GoalStatus.STATUS_SUCCEEDED, result.error_string
    assert np.abs(np.array(operator.arm[-1].position) - GOAL).max() < 0.01

    sent = operator.send(HOME_Q_RAD)
    wait_until(lambda: operator.status.mode == RobotStatus.MOVING)
    server.user_stop(True)
    status, result = operator.result(sent)
    assert status == GoalStatus.STATUS_ABORTED
    assert result.error_string.startswith("USER_STOPPED: The robot's stop button is pressed")
    wait_until(lambda: operator.status.mode == RobotStatus.USER_STOPPED)
    refused = operator.call("recover")
    assert (refused.success, "release it" in refused.message) == (False, True)
    server.user_stop(False)
    time.sleep(0.2)
    recovered = operator.call("recover")
    assert recovered.success, recovered.message

    sent = operator.send(HOME_Q_RAD)
    wait_until(lambda: operator.status.mode == RobotStatus.MOVING)
    sent.cancel()
    assert operator.result(sent)[0] == GoalStatus.STATUS_CANCELED
    assert operator.call("deactivate").success
    wait_until(lambda: operator.status.mode == RobotStatus.INACTIVE)
    assert not operator.call("home_gripper").success
