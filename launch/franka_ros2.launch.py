"""A Franka Research 3 behind franka_ros2, and the stack: arm, trajectory controller, hand, and all nodes of the stack.

Example::

    ros2 launch stvla_ros franka_ros2.launch.py robot_ip:=172.16.0.2 params:=/path/to/cell.yaml

The camera's driver is started elsewhere. The hand's node is started here and not by franka_bringup, because its launch
file passes a default_grasp_epsilon with which grasps on unknown objects fail; so the robot's description has no hand.

Not run yet, neither on hardware nor against franka_ros2: written by its launch files (3.4).
"""

from __future__ import annotations

from pathlib import Path

from ament_index_python.packages import PackageNotFoundError, get_package_share_directory
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, OpaqueFunction
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity

HERE = Path(__file__).resolve().parent
CONFIG = HERE.parent / "config"
FROM_FRANKA = ("franka_bringup", "franka_gripper", "controller_manager", "joint_trajectory_controller")


def generate_launch_description() -> LaunchDescription:
    """Arguments, and what they start."""
    arguments = {
        "robot_ip": (None, "address of the robot"),
        "robot_type": ("fr3", "prefix of the joints, as franka_description names the arm"),
        "params": (str(CONFIG / "franka_fr3.yaml"), "parameter file of the stack"),
        "controllers": (str(CONFIG / "franka_ros2_controllers.yaml"), "settings of the robot's controllers"),
        "gripper": (str(CONFIG / "franka_ros2_gripper.yaml"), "settings of the hand's node"),
    }
    declared = [DeclareLaunchArgument(n, default_value=d, description=text) for n, (d, text) in arguments.items()]
    return LaunchDescription([*declared, OpaqueFunction(function=_start)])


def _start(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    def value(name: str) -> str:
        return LaunchConfiguration(name).perform(context)

    share = {package: _share(package) for package in FROM_FRANKA}
    kind, robot_ip = value("robot_type"), value("robot_ip")
    fingers = [f"{kind}_finger_joint1", f"{kind}_finger_joint2"]
    arm = {"robot_ip": robot_ip, "robot_type": kind, "controllers_yaml": value("controllers")}
    stack = {"robot": "real", "camera": "external", "params": value("params")}
    return [
        _include(share["franka_bringup"] / "launch" / "franka.launch.py", {**arm, "load_gripper": "false"}),
        Node(
            package="controller_manager",
            executable="spawner",
            arguments=[f"{kind}_arm_controller"],
            output="screen",
        ),
        Node(
            package="franka_gripper",
            executable="franka_gripper_node",
            name="franka_gripper",
            parameters=[{"robot_ip": robot_ip, "joint_names": fingers}, value("gripper")],
            output="screen",
        ),
        _include(HERE / "stvla.launch.py", stack),
    ]


def _include(file: Path, arguments: dict[str, str]) -> IncludeLaunchDescription:
    return IncludeLaunchDescription(PythonLaunchDescriptionSource(str(file)), launch_arguments=arguments.items())


def _share(package: str) -> Path:
    try:
        return Path(get_package_share_directory(package))
    except PackageNotFoundError as error:
        raise RuntimeError(
            f"franka_ros2.launch.py: the package {package} is not installed: build franka_ros2 (it is not in ROS's package index), "
            "install ros2_controllers, and source that workspace."
        ) from error
