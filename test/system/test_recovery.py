"""`/stvla/recover` and `stvla recover`, on the simulated cell and against a controller manager with its genuine services."""

from threading import current_thread

import numpy as np
import pytest
from rclpy.action import ActionServer
from rclpy.node import Node
from std_msgs.msg import Empty
from std_srvs.srv import Trigger
from system.brain_harness import wait
from system.conftest import Process
from system.faulty_robot import FaultyRobot
from system.robot_harness import FAR_LEFT, FAR_RIGHT, SLOW, RobotHarness

from stvla_ros.commands import exit_codes
from stvla_ros.commands.exit_codes import of_outcome
from stvla_ros.description.robot import RobotConfig
from stvla_ros.errors import CancelToken, OutcomeCode, StageError
from stvla_ros.ros.backends import recovery


def test_recover_on_the_simulated_cell():
    """Refused during a motion, harmless otherwise; the operator's stop outlives it; the command says what the service says."""
    with RobotHarness() as harness:
        harness.start("sim")
        harness.start("executor", "safety.supervisor:=''", SLOW)
        call = harness.execute_later(FAR_LEFT)
        harness.wait_for_motion(call)
        answer = harness.service(Trigger, "/stvla/recover")
        assert not answer.success
        assert answer.message.startswith("INVALID_GOAL: The arm is executing another goal")
        assert harness.stop().success
        assert call.result()[0] is OutcomeCode.CANCELED
        command = Process("stvla_ros.cli", "recover", domain=harness.domain)
        assert command.wait(60.0) == 0, command.output
        assert "the simulated arm is ready" in command.output
        assert "operator's stop is still in force" in command.output
        assert harness.execute(FAR_RIGHT)[0] is OutcomeCode.CANCELED
        assert harness.resume().success
        assert harness.execute(FAR_RIGHT)[0] is OutcomeCode.OK


def test_without_a_stack_there_is_nobody_to_recover(start):
    process = start("stvla_ros.cli", "recover")
    assert process.wait(60.0) == exit_codes.UNREACHABLE
    assert "/stvla/recover" in process.output


def test_a_driver_that_recovers_and_one_that_cannot():
    """This stack's own driver: its sentence and its code come through."""
    with FaultyRobot() as robot:
        answers = iter([(False, "USER_STOPPED: Release the stop button first."), (True, "Ready.")])

        def recover(request, response):
            response.success, response.message = next(answers)
            return response

        robot.node.create_service(Trigger, "/franka/recover", recover)
        client = robot.client("franka")
        with pytest.raises(StageError) as error:
            client.recover()
        assert (error.value.code, error.value.sentence) == (OutcomeCode.USER_STOPPED, "Release the stop button first.")
        assert of_outcome(error.value.code) == 48
        assert client.recover() == "Ready."


def test_a_subscription_is_destroyed_in_the_executors_thread(ros, monkeypatch):
    """Elsewhere, it may be while that thread prepares its wait: rclpy then raises InvalidHandle, and the node ends."""
    monkeypatch.setattr(recovery, "STATE_S", 0.01)
    node, where = ros.add(Node("driver")), []
    node.create_publisher(Empty, recovery.ROBOT_STATE, 1)
    wait(lambda: node.get_publishers_info_by_topic(recovery.ROBOT_STATE))
    steps = recovery.FrankaRos2Recovery(node, RobotConfig(kind="real"), recovery.RecoveryConfig())
    with monkeypatch.context() as patch:
        patch.setattr(node, "destroy_subscription", lambda _: where.append(current_thread()))
        assert steps._last_errors(Empty) == []
        wait(lambda: where)
    assert where != [current_thread()]


class FrankaRos2:
    """A robot behind franka_ros2 after a reflex: the three steps work in their order only."""

    def __init__(self, robot):
        from controller_manager_msgs import msg, srv
        from franka_msgs.action import ErrorRecovery
        from franka_msgs.msg import FrankaRobotState

        self.robot, self.msg, self.calls = robot, msg, []
        self.errors, self.hardware, self.controllers = True, "unconfigured", "inactive"
        node, manager = robot.node, "/controller_manager"
        ActionServer(node, ErrorRecovery, "/action_server/error_recovery", self.recover)
        state = FrankaRobotState()
        state.last_motion_errors.joint_reflex = True
        states = node.create_publisher(FrankaRobotState, "/franka_robot_state_broadcaster/robot_state", 1)
        node.create_timer(0.02, lambda: self.controllers == "active" and states.publish(state))
        node.create_service(srv.ListHardwareComponents, f"{manager}/list_hardware_components", self.list_hardware)
        node.create_service(srv.SetHardwareComponentState, f"{manager}/set_hardware_component_state", self.set_hardware)
        node.create_service(srv.ListControllers, f"{manager}/list_controllers", self.list_controllers)
        node.create_service(srv.SwitchController, f"{manager}/switch_controller", self.switch)

    def recover(self, handle):
        from franka_msgs.action import ErrorRecovery

        self.calls.append("error_recovery")
        self.errors = False
        handle.succeed()
        return ErrorRecovery.Result()

    def list_hardware(self, request, response):
        part = self.msg.HardwareComponentState(name="FrankaHardwareInterface")
        part.state.label = self.hardware
        response.component = [part]
        return response

    def set_hardware(self, request, response):
        self.calls.append(f"{request.name} {request.target_state.label}")
        response.ok = not self.errors
        self.hardware = response.state.label = "active" if response.ok else "unconfigured"
        return response

    def list_controllers(self, request, response):
        types = {
            "joint_state_broadcaster": "joint_state_broadcaster/JointStateBroadcaster",
            "faulty_arm_controller": "joint_trajectory_controller/JointTrajectoryController",
        }
        response.controller = [
            self.msg.ControllerState(name=n, type=t, state=self.controllers) for n, t in types.items()
        ]
        return response

    def switch(self, request, response):
        self.calls.append(" ".join(request.activate_controllers))
        response.ok = self.hardware == "active"
        if response.ok:
            self.controllers = "active"
            self.robot.work_as_usual()
        return response


def test_franka_ros2_is_recovered_and_the_next_motion_works():
    """With the genuine definitions of its services; skipped where they are not installed."""
    pytest.importorskip("controller_manager_msgs.srv")
    pytest.importorskip("franka_msgs.action")
    from system.light.test_controller_faults import path_from, reflex

    with FaultyRobot() as robot:
        driver = FrankaRos2(robot)
        client, fault = robot.client("real"), reflex("silent")
        robot.arm_fault = lambda path, canceled: fault(robot, path, canceled)
        path = path_from(robot.arm.q_rad())
        with pytest.raises(StageError, match="joint_reflex"):
            client.follow(path, CancelToken())
        said = client.recover()
        assert "errors are cleared" in said
        assert said.endswith("The last motion ended with joint_reflex.")
        assert driver.calls == [
            "error_recovery",
            "FrankaHardwareInterface active",
            "joint_state_broadcaster faulty_arm_controller",
        ]
        here = robot.arm.q_rad()
        client.follow(path_from(here), CancelToken())
        assert np.abs(robot.arm.q_rad() - here).max() > 0.1
