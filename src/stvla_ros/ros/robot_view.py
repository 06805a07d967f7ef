"""What can be seen of a running robot without moving it: the ROS graph, parameters, joint states, camera, description."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rcl_interfaces.srv import GetParameters, ListParameters
from rclpy.node import Node
from rclpy.parameter import parameter_value_to_python
from sensor_msgs.msg import JointState
from std_msgs.msg import String

from stvla_ros.description.robot import RobotConfig
from stvla_ros.errors import StageError
from stvla_ros.ros import qos
from stvla_ros.ros.backends.driver_reports import OWN_DRIVER, StatusReports
from stvla_ros.ros.backends.recovery import Types
from stvla_ros.ros.client import client_node
from stvla_ros.ros.convert import time_to_ns
from stvla_ros.ros.frames import CameraConfig, RgbdReceiver
from stvla_ros.ros.robot_state import JointStateConfig, JointStates
from stvla_ros.ros.service_client import call_by_name
from stvla_ros.ros.type_mismatch import ACTION_FEEDBACK

TRAJECTORY, GRIPPER = "control_msgs/action/FollowJointTrajectory", "control_msgs/action/GripperCommand"

ANSWER_S, AGAIN_S = 2.0, 0.5
"""How long a node may take to tell its parameters; one that is not there was not discovered in the time before."""


@dataclass(frozen=True)
class Sample:
    """One message with joint states: stamp [ns], and positions by name [rad or m]."""

    stamp_ns: int
    positions: Mapping[str, float]


@dataclass(frozen=True)
class RobotView:
    """What was seen of a running robot. None: it could not be seen.

    Attributes:
        robot: The names that the stack uses.
        goal_tolerance_rad: The stack's own tolerance at a goal; 0: the controller's.
        actions: Name of every action that is served -> its type.
        arm: Parameters of the arm's controller, dotted.
        gripper: Parameters of the gripper's node, dotted.
        samples: Messages on the topic of the arm's joint states, oldest first.
        publishers: Names of the nodes that publish there.
        joints_fault: Why the stack cannot use the joint states, if it cannot.
        camera_fault: Why the stack cannot use the camera, if it cannot.
        urdf: The robot's description.
        controllers: Name -> state, from the controller manager.
        homed: Whether the gripper was homed, from the robot's status.
        status_fault: Why the robot's driver accepts no motion, if it says so.
    """

    robot: RobotConfig
    goal_tolerance_rad: float = 0.01
    actions: Mapping[str, str] = field(default_factory=dict)
    arm: Mapping[str, Any] | None = None
    gripper: Mapping[str, Any] | None = None
    samples: Sequence[Sample] = ()
    publishers: Sequence[str] = ()
    joints_fault: str | None = None
    camera_fault: str | None = None
    urdf: str | None = None
    controllers: Mapping[str, str] | None = None
    homed: bool | None = None
    status_fault: str | None = None

    @property
    def arm_controller(self) -> str:
        """Node of the arm's controller."""
        return server_of(self.actions, self.robot.arm_action, TRAJECTORY)

    @property
    def gripper_node(self) -> str:
        """Node of the gripper."""
        return server_of(self.actions, self.robot.gripper_action, GRIPPER)


def server_of(actions: Mapping[str, str], name: str, kind: str) -> str:
    """The node of an action; if nobody serves that name, the node of the only action of its type, if there is one."""
    others = [other for other, found in actions.items() if found == kind]
    return (others[0] if name not in actions and len(others) == 1 else name).rpartition("/")[0]


def look_at_robot(
    robot: RobotConfig, goal_tolerance_rad: float, camera: CameraConfig, seconds: float, manager: str
) -> RobotView:
    """Listen to a running robot, and ask its nodes for their parameters.

    Args:
        robot: Names of its actions, joints and topics.
        goal_tolerance_rad: The stack's own tolerance at a goal.
        camera: Topics of the camera.
        seconds: How long to listen, after which what was not discovered counts as absent.
        manager: Node of the controller manager.
    """
    with client_node("stvla_doctor") as node:
        samples: list[Sample] = []
        descriptions: list[String] = []
        listen = lambda message: samples.append(_sample(message))  # noqa: E731
        for topic in {robot.joint_states, robot.gripper_joint_states}:
            node.create_subscription(JointState, topic, listen, qos.STATE)
        node.create_subscription(String, "/robot_description", descriptions.append, qos.LATCHED_NEWEST)
        joints = JointStates(node, JointStateConfig(), robot)
        images = RgbdReceiver(node, camera, base_frame=robot.base_frame)
        status = StatusReports(node) if robot.kind in OWN_DRIVER else None
        time.sleep(seconds)
        newest, refusal = (status.newest, status.refusal()) if status else (None, None)
        actions = _actions(node)
        return RobotView(
            robot,
            goal_tolerance_rad,
            actions=actions,
            arm=parameters_of(node, server_of(actions, robot.arm_action, TRAJECTORY)),
            gripper=parameters_of(node, server_of(actions, robot.gripper_action, GRIPPER)),
            samples=tuple(samples),
            publishers=_publishers(node, robot.joint_states),
            joints_fault=_fault(joints.state),
            camera_fault=images.fault(camera.max_age_s),
            urdf=str(descriptions[-1].data) if descriptions else None,
            controllers=_controllers(node, manager),
            homed=bool(newest.gripper_homed) if newest else None,
            status_fault=refusal.sentence if refusal else None,
        )


def _sample(message: JointState) -> Sample:
    return Sample(time_to_ns(message.header.stamp), dict(zip(message.name, message.position, strict=False)))


def _actions(node: Node) -> dict[str, str]:
    """The actions that are served, by the feedback that only a server publishes."""
    ending = "/_action/feedback"
    return {
        topic.removesuffix(ending): types[0].removesuffix(ACTION_FEEDBACK)
        for topic, types in node.get_topic_names_and_types()
        if topic.endswith(ending) and node.count_publishers(topic)
    }


def _publishers(node: Node, topic: str) -> tuple[str, ...]:
    found = node.get_publishers_info_by_topic(node.resolve_topic_name(topic))
    return tuple(sorted({publisher.node_name for publisher in found}))


def _fault(look: Callable[[], Any]) -> str | None:
    try:
        look()
    except StageError as error:
        return error.sentence
    return None


def parameters_of(node: Node, name: str) -> dict[str, Any] | None:
    """All parameters of a node, dotted; None when it does not tell them."""
    try:
        listed = call_by_name(
            node, ListParameters, f"{name}/list_parameters", ListParameters.Request(), ANSWER_S, AGAIN_S
        )
        names = list(listed.result.names)
        request = GetParameters.Request(names=names)
        values = call_by_name(node, GetParameters, f"{name}/get_parameters", request, ANSWER_S, AGAIN_S).values
    except ConnectionError:
        return None
    return {key: _plain(parameter_value_to_python(value)) for key, value in zip(names, values, strict=True)}


def _plain(value: Any) -> Any:
    return list(value) if hasattr(value, "__iter__") and not isinstance(value, str) else value


def _controllers(node: Node, manager: str) -> dict[str, str] | None:
    """Name -> state of the controllers; None without a controller manager, or without its messages here."""
    name = f"{manager}/list_controllers"
    if not any(service == name for service, _ in node.get_service_names_and_types()):
        return None
    try:
        types = Types.load()
        listed = call_by_name(node, types.ListControllers, name, types.ListControllers.Request(), ANSWER_S, AGAIN_S)
    except (StageError, ConnectionError):
        return None
    return {controller.name: controller.state for controller in listed.controller}
