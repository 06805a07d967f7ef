"""Each misconfiguration of a robot behind ros2_control is found, with the parameter to set; a right one is left alone."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from stvla_ros.description.robot import FR3, PANDA, RobotConfig
from stvla_ros.doctor.finding import State
from stvla_ros.ros.robot_checks import CHECKS, PARALLEL, check_robot
from stvla_ros.ros.robot_view import GRIPPER, TRAJECTORY, RobotView, Sample

ROBOT = RobotConfig(kind="real", model="fr3")
JOINTS = list(ROBOT.arm_joints)


def parameters() -> dict[str, Any]:
    """Of an arm's controller as config/franka_ros2_controllers.yaml sets them up."""
    each = {"gains.{}.p": 600.0, "gains.{}.i": 10.0, "gains.{}.d": 30.0, "constraints.{}.goal": 0.02}
    each |= {"constraints.{}.trajectory": 0.2, "constraints.{}.max_deceleration_on_cancel": 5.0}
    return {
        "joints": JOINTS,
        "command_interfaces": ["effort"],
        "state_interfaces": ["position", "velocity"],
        "allow_partial_joints_goal": False,
        "constraints.goal_time": 1.5,
        "constraints.decelerate_on_cancel": True,
        **{pattern.format(joint): value for pattern, value in each.items() for joint in JOINTS},
    }


def urdf(low: Any = FR3.q_min_rad, high: Any = FR3.q_max_rad, joints: list[str] = JOINTS) -> str:
    limits = (
        f'<joint name="{name}" type="revolute"><limit lower="{a}" upper="{b}" effort="87" velocity="2"/></joint>'
        for name, a, b in zip(joints, low, high, strict=True)
    )
    return f'<robot name="arm">{"".join(limits)}</robot>'


def sample(i: int, moved: float = 1e-6, fingers: float = 0.04) -> Sample:
    names = {**dict.fromkeys(JOINTS, 0.5 + moved * i), **dict.fromkeys(ROBOT.finger_joints, fingers)}
    return Sample(1_000_000 * i, names)


GOOD = RobotView(
    ROBOT,
    actions={ROBOT.arm_action: TRAJECTORY, ROBOT.gripper_action: GRIPPER},
    arm=parameters(),
    gripper={"default_grasp_epsilon.inner": 0.08, "default_grasp_epsilon.outer": 0.08},
    samples=tuple(sample(i) for i in range(20)),
    publishers=("joint_state_broadcaster",),
    urdf=urdf(),
    controllers={"fr3_arm_controller": "active", "joint_state_broadcaster": "active"},
)


def test_a_robot_that_is_set_up_as_it_should_be() -> None:
    found = check_robot(GOOD)
    assert len(found) == len(CHECKS)
    assert [finding for finding in found if finding.state is not State.OK] == []


def arm(**changes: Any) -> RobotView:
    """The good robot with parameters changed; ``JOINT`` in a name stands for the fourth joint, None removes one."""
    given = {**parameters(), **{k.replace("__", ".").replace("JOINT", JOINTS[3]): v for k, v in changes.items()}}
    return replace(GOOD, arm={k: v for k, v in given.items() if v is not None})


def robot(**changes: Any) -> RobotView:
    return replace(GOOD, robot=RobotConfig(**{"kind": "real", "model": "fr3", **changes}))


WRONG = {
    "no deceleration": (arm(constraints__decelerate_on_cancel=False), "constraints.decelerate_on_cancel to true"),
    "never heard of deceleration": (arm(constraints__decelerate_on_cancel=None), "decelerate_on_cancel to true"),
    "one joint without": (
        arm(constraints__JOINT__max_deceleration_on_cancel=0.0), "constraints.fr3_joint4.max_deceleration_on_cancel",
    ),
    "no velocity state": (replace(GOOD, arm={**parameters(), "state_interfaces": ["position"]}), "add velocity to the state_interfaces"),
    "waits for ever": (arm(constraints__goal_time=0.0), "constraints.goal_time is 0"),
    "no path tolerance": (arm(constraints__JOINT__trajectory=None), "constraints.fr3_joint4.trajectory"),
    "grasp epsilon": (
        replace(GOOD, gripper={"default_grasp_epsilon.inner": 0.005, "default_grasp_epsilon.outer": 0.005}),
        "default_grasp_epsilon.inner and default_grasp_epsilon.outer of /franka_gripper to 0.08",
    ),
    "opens too wide": (robot(open_width_m=0.08), "robot.open_width_m is 0.08.*set it to 0.078"),
    "hand not homed": (replace(GOOD, samples=[sample(i, fingers=0.0) for i in range(9)]), "exactly 0, as before homing"),
    "hand not homed, own driver": (
        replace(robot(kind="franka", gripper_action=ROBOT.gripper_action), homed=False), "/franka/home_gripper",
    ),
    "joint_state_publisher": (
        replace(GOOD, publishers=("joint_state_publisher",)), "stamps old states anew.*robot.joint_states",
    ),
    "frozen": (replace(GOOD, samples=[sample(i, 0.0) for i in range(20)]), "equal to the last digit"),
    "nobody": (replace(GOOD, publishers=()), "nobody publishes franka/joint_states"),
    "other gripper name": (
        replace(GOOD, actions={ROBOT.arm_action: TRAJECTORY, "/fr3_gripper/gripper_action": GRIPPER}),
        "set robot.gripper_action to /fr3_gripper/gripper_action",
    ),
    "parallel gripper": (
        replace(GOOD, actions={ROBOT.arm_action: TRAJECTORY, "/hand/gripper_cmd": PARALLEL}),
        "/hand/gripper_cmd is a .*ParallelGripperCommand, which the stack does not speak",
    ),
    "other arm controller": (
        replace(GOOD, actions={"/joint_trajectory_controller/follow_joint_trajectory": TRAJECTORY}),
        "set robot.arm_action to /joint_trajectory_controller/follow_joint_trajectory",
    ),
    "no arm controller": (replace(GOOD, actions={}), "is not served, and no other .*FollowJointTrajectory is either; start its controller"),
    "position interface": (arm(command_interfaces=["position"]), "set command_interfaces to \\[effort\\]"),
    "no gains": (arm(gains__JOINT__p=0.0), "gains.fr3_joint4.p is 0"),
    "tight without i": (arm(gains__JOINT__i=0.0), "goal_tolerance_rad to 0.02"),
    "partial goals": (arm(allow_partial_joints_goal=True), "allow_partial_joints_goal to false"),
    "other joints": (
        arm(joints=[f"panda_joint{i}" for i in range(1, 8)]), "moves panda_joint1, .*set robot.model to panda",
    ),
    "other prefix": (arm(joints=[f"left_fr3_joint{i}" for i in range(1, 8)]), "set robot.prefix to left_fr3"),
    "a joint missing": (arm(joints=JOINTS[:6]), "the stack fr3_joint1 to fr3_joint7; set the controller's parameter joints"),
    "panda limits on an fr3": (
        replace(robot(model="panda", prefix="fr3"), urdf=urdf()), "as a panda allows, .*set robot.model",
    ),
    "no such joint": (replace(GOOD, urdf=urdf(joints=[f"fer_joint{i}" for i in range(7)])), "no fr3_joint1"),
    "inactive": (
        replace(GOOD, controllers={"fr3_arm_controller": "inactive"}), "fr3_arm_controller: not active.*stvla recover",
    ),
    "not loaded": (replace(GOOD, controllers={"joint_state_broadcaster": "active"}), "fr3_arm_controller is not loaded"),
    "driver not ready": (replace(GOOD, status_fault="Release the stop button"), "Release the stop button"),
    "clock": (replace(GOOD, joints_fault="The clock is 0.3 s ahead."), "The clock is 0.3 s ahead"),
    "camera": (replace(GOOD, camera_fault="No transform from fr3_link0."), "No transform from fr3_link0"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_each_misconfiguration_is_found_and_nothing_else(name: str) -> None:
    view, words = WRONG[name]
    wrong = [finding for finding in check_robot(view) if finding.state is State.WRONG]
    assert any(re.search(words, finding.sentence) for finding in wrong), [f.sentence for f in wrong]
    alone = len(wrong) == 1
    with_others = {"no arm controller", "other arm controller", "a joint missing", "panda limits on an fr3"}
    assert alone or name in with_others, [f.sentence for f in wrong]


def test_what_cannot_be_seen_is_not_called_wrong() -> None:
    blind = replace(GOOD, arm=None, gripper=None, urdf=None, controllers=None)
    found = check_robot(blind)
    assert not [finding for finding in found if finding.state is State.WRONG]
    assert len([finding for finding in found if finding.state is State.UNSEEN]) == 10


def test_pandas_own_limits_are_right() -> None:
    panda = RobotConfig(kind="real", model="panda")
    view = replace(GOOD, robot=panda, urdf=urdf(PANDA.q_min_rad, PANDA.q_max_rad, list(panda.arm_joints)))
    assert [f.state for f in check_robot(view) if f.name == "Limits"] == [State.OK]
