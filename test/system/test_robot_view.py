"""`stvla doctor robot` on a simulated franka_ros2: nodes with its names, genuine parameter services, joint states, camera."""

from __future__ import annotations

import re
import time
from threading import Event, Thread
from typing import Any

import numpy as np
import pytest
import rclpy
from control_msgs.action import FollowJointTrajectory, GripperCommand
from rclpy.action import ActionServer
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from ros.test_robot_checks import JOINTS, ROBOT, parameters, urdf
from sensor_msgs.msg import CameraInfo, Image, JointState
from std_msgs.msg import String
from system.processes import Process, own_domain
from tf2_msgs.msg import TFMessage

from stvla_ros.description.panda import HOME_Q_RAD
from stvla_ros.ros import convert, qos
from stvla_ros.ros.middleware import destroy_node

CAMERA = "/camera/camera"


class FrankaRos2:
    """What the doctor can see of franka_ros2 with a camera beside it; ``wrong`` has the faults it was set up with."""

    def __init__(self, domain: int, wrong: bool) -> None:
        self.context = Context()
        rclpy.init(context=self.context, domain_id=domain, signal_handler_options=SignalHandlerOptions.NO)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.wrong, self.noise, self._ending = wrong, np.random.default_rng(0), Event()
        arm = self.node("fr3_arm_controller")
        gripper = self.node("fr3_gripper" if wrong else "franka_gripper")
        driver = self.node("joint_state_publisher" if wrong else "joint_state_broadcaster")
        camera = self.node("camera", namespace="/camera")
        ActionServer(arm, FollowJointTrajectory, "/fr3_arm_controller/follow_joint_trajectory", lambda _: None)
        ActionServer(gripper, GripperCommand, f"/{gripper.get_name()}/gripper_action", lambda _: None)
        self.declare(arm, bad_parameters() if wrong else parameters())
        epsilon = 0.005 if wrong else 0.08
        self.declare(gripper, {f"default_grasp_epsilon.{side}": epsilon for side in ("inner", "outer")})
        self.joints = driver.create_publisher(JointState, "/franka/joint_states", 10)
        self.fingers = gripper.create_publisher(JointState, "/franka_gripper/joint_states", 1)
        self.description = driver.create_publisher(String, "/robot_description", qos.LATCHED_NEWEST)
        self.description.publish(String(data=urdf()))
        self.info = camera.create_publisher(CameraInfo, f"{CAMERA}/color/camera_info", 2)
        self.color = camera.create_publisher(Image, f"{CAMERA}/color/image_raw", 2)
        self.depth = camera.create_publisher(Image, f"{CAMERA}/aligned_depth_to_color/image_raw", 2)
        self.place = camera.create_publisher(TFMessage, "/tf_static", qos.LATCHED)
        if not wrong:
            eye = convert.matrix_to_transform(np.eye(4), "fr3_link0", "camera_color_optical_frame", time.time_ns())
            self.place.publish(TFMessage(transforms=[eye]))
        driver.create_timer(0.05, self.tell)
        camera.create_timer(0.1, self.show)
        self.thread = Thread(target=self.spin)
        self.thread.start()

    def node(self, name: str, **more: Any) -> Node:
        node = Node(name, context=self.context, **more)
        self.executor.add_node(node)
        return node

    def declare(self, node: Node, values: dict[str, Any]) -> None:
        for name, value in values.items():
            node.declare_parameter(name, value)

    def spin(self) -> None:
        while not self._ending.is_set():
            self.executor.spin_once(0.05)

    def close(self) -> None:
        self._ending.set()
        self.thread.join()
        nodes = self.executor.get_nodes()
        self.executor.shutdown()
        for node in nodes:
            destroy_node(node)
        self.context.try_shutdown()

    def tell(self) -> None:
        """Joint states: with noise, or the same ones stamped anew by a clock that is ahead."""
        q = HOME_Q_RAD if self.wrong else HOME_Q_RAD + 1e-5 * self.noise.standard_normal(7)
        ahead_ns = 300_000_000 if self.wrong else 0
        header = convert.header(time.time_ns() + ahead_ns, "")
        self.joints.publish(JointState(header=header, name=JOINTS, position=q.tolist(), velocity=[0.0] * 7))
        fingers = list(ROBOT.finger_joints)
        self.fingers.publish(JointState(header=header, name=fingers, position=[0.0 if self.wrong else 0.039] * 2))

    def show(self) -> None:
        header = convert.header(time.time_ns(), "camera_color_optical_frame")
        k = [20.0, 0.0, 8.0, 0.0, 20.0, 6.0, 0.0, 0.0, 1.0]
        self.info.publish(
            CameraInfo(
                header=header,
                width=16,
                height=12,
                k=k,
                distortion_model="plumb_bob",
                d=[0.0] * 5,
                r=np.eye(3).ravel().tolist(),
            )
        )
        size = {"header": header, "width": 16, "height": 12}
        self.color.publish(Image(**size, encoding="rgb8", step=48, data=bytes(16 * 12 * 3)))
        self.depth.publish(Image(**size, encoding="16UC1", step=32, data=bytes([232, 3]) * (16 * 12)))


def bad_parameters() -> dict[str, Any]:
    """As the MoveIt configuration ships them, and worse."""
    each = {"gains.{}.p": 600.0, "gains.{}.i": 0.0, "gains.{}.d": 30.0, "constraints.{}.trajectory": 0.0}
    each |= {"constraints.{}.max_deceleration_on_cancel": 0.0}
    return {
        **parameters(),
        "constraints.goal_time": 0.0,
        "constraints.decelerate_on_cancel": False,
        "allow_partial_joints_goal": True,
        **{pattern.format(joint): value for pattern, value in each.items() for joint in JOINTS},
    }


WRONG = (
    "Gripper's action: /franka_gripper/gripper_action is not served; set robot.gripper_action to /fr3_gripper/gripper_action",
    "Goals for some joints only: the controller accepts goals with joints missing",
    "Gains: without an integral gain",
    "Time limit at a goal: constraints.goal_time is 0",
    "Path tolerance: fr3_joint1, ",
    "Braking at a cancel: .* set constraints.decelerate_on_cancel to true",
    "Grasps of any width: .*default_grasp_epsilon.inner and default_grasp_epsilon.outer of /fr3_gripper to 0.08",
    "Open width: both fingers are at exactly 0",
    "Source of joint states: joint_state_publisher publishes franka/joint_states",
    "Joint states: .* ahead",
    "Camera: .*camera_color_optical_frame",
    "Limits: the stack plans fr3_joint1 from -2.90 to 2.90 rad, as a panda allows",
)


@pytest.mark.parametrize("wrong", [False, True], ids=["as it should be", "twelve faults"])
def test_the_doctor_looks_at_a_robot(wrong: bool, parameter_file: Any) -> None:
    model = "{model: panda, prefix: fr3}" if wrong else "{model: fr3}"
    file = parameter_file(f"/**:\n  ros__parameters:\n    robot: {model}\n")
    with own_domain() as domain:
        robot = FrankaRos2(domain, wrong)
        try:
            doctor = Process("stvla_ros.cli", "doctor", "robot", "--params", str(file), domain=domain)
            code = doctor.wait(90.0)
        finally:
            robot.close()
    found = [line.split(maxsplit=1)[1] for line in doctor.said() if line.startswith("wrong")]
    if wrong:
        assert code == 1
        for words in WRONG:
            assert any(re.match(words, line) for line in found), (words, doctor.output)
        assert len(found) == len(WRONG), doctor.output
    else:
        assert (code, found) == (0, []), doctor.output
        assert doctor.output.count("\nok") == 15, doctor.output
        assert "unseen   Controllers" in doctor.output
