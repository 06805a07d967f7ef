"""Misconfigurations of a robot behind ros2_control, each in one sentence with the parameter to set.

The checks judge what :mod:`stvla_ros.ros.robot_view` has seen of the running robot. Names of parameters are those of
``joint_trajectory_controller`` (4.42) and of franka_ros2's ``franka_gripper`` (3.4).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from xml.etree import ElementTree

import numpy as np

from stvla_ros.description.panda import MAX_WIDTH_M
from stvla_ros.description.robot import LIMITS
from stvla_ros.doctor.finding import Finding, ok, told, unseen, wrong
from stvla_ros.ros.robot_view import GRIPPER, TRAJECTORY, RobotView

PARALLEL = "control_msgs/action/ParallelGripperCommand"

EPSILON_M = MAX_WIDTH_M
"""Grasps of any width succeed with this tolerance."""

HOMED_M = 0.0795
"""A hand that was homed is at least this wide open; not every one reaches 0.08 m."""

FRICTION_RAD = 0.015
"""How far a joint without integral gain may rest from its goal: 0.5 Nm of friction over a gain of 50 Nm/rad, and some."""

SAME_RAD, SAME_MESSAGES = 0.01, 8
"""Limits closer than this are the same; this many equal measurements in a row are none."""

STAMPER = "joint_state_publisher"


Check = Callable[[RobotView], Finding]


def check_robot(view: RobotView) -> list[Finding]:
    """All findings, in the order in which they should be mended."""
    return [check(view) for check in CHECKS]


def _arm_action(view: RobotView) -> Finding:
    return _action(view, "Arm's action", view.robot.arm_action, TRAJECTORY, "robot.arm_action")


def _gripper_action(view: RobotView) -> Finding:
    found = view.actions.get(view.robot.gripper_action)
    parallel = [name for name, kind in view.actions.items() if kind == PARALLEL]
    if found == PARALLEL or (found is None and parallel and GRIPPER not in view.actions.values()):
        return wrong(
            "Gripper's action",
            f"{(found and view.robot.gripper_action) or parallel[0]} is a {PARALLEL}, which the stack does not speak",
            "load position_controllers/GripperActionController in place of the parallel gripper controller, or start franka_gripper",
        )
    return _action(view, "Gripper's action", view.robot.gripper_action, GRIPPER, "robot.gripper_action")


def _action(view: RobotView, what: str, name: str, wanted: str, setting: str) -> Finding:
    found = view.actions.get(name)
    if found == wanted:
        return ok(what, name)
    others = sorted(other for other, kind in view.actions.items() if kind == wanted)
    remedy = f"set {setting} to {' or '.join(others)}" if others else "start its controller"
    alone = "" if others else f", and no other {wanted} is either"
    return wrong(what, f"{name} {f'is a {found}' if found else 'is not served'}{alone}", remedy)


def _active(view: RobotView) -> Finding:
    """The states of the controllers."""
    what, name = "Controllers", view.arm_controller.lstrip("/")
    if view.status_fault is not None:
        return told(what, view.status_fault)
    if view.controllers is None:
        return unseen(what, "no controller manager answers, or controller_manager_msgs is not installed here")
    idle = [n for n, state in view.controllers.items() if state != "active" and (n == name or "broadcaster" in n)]
    if name not in view.controllers:
        return wrong(what, f"{name} is not loaded", f"start it: `ros2 run controller_manager spawner {name}`")
    if idle:
        return wrong(what, f"{' and '.join(idle)}: not active, as after a reflex", "`stvla recover` activates them")
    return ok(what, f"{name} is active")


def _joint_names(view: RobotView) -> Finding:
    what, wanted = "Arm's joints", list(view.robot.arm_joints)
    given = _parameter(view, "joints")
    if given is None:
        return _unseen(what, view)
    if set(given) == set(wanted):
        return ok(what, f"{wanted[0]} to {wanted[-1]}")
    prefix = str(given[0]).rpartition("_")[0] if given else ""
    setting = "robot.model" if prefix in LIMITS else "robot.prefix"
    remedy = "the controller's parameter joints" if prefix in ("", view.robot.prefix) else f"{setting} to {prefix}"
    return wrong(
        what,
        f"{view.arm_controller} moves {', '.join(map(str, given)) or 'no joints'}, the stack {wanted[0]} to {wanted[-1]}",
        f"set {remedy}",
    )


def _partial(view: RobotView) -> Finding:
    what, given = "Goals for some joints only", _parameter(view, "allow_partial_joints_goal")
    if given is None:
        return _unseen(what, view)
    if not given:
        return ok(what, "rejected")
    return wrong(what, "the controller accepts goals with joints missing", "set allow_partial_joints_goal to false")


def _interface(view: RobotView) -> Finding:
    what, given = "Command interface", _parameter(view, "command_interfaces")
    if given is None:
        return _unseen(what, view)
    if "position" in given and view.robot.kind == "real":
        return wrong(
            what,
            "position: a Franka answers every jump of its commands with a reflex, at starts and cancels above all",
            "set command_interfaces to [effort] and the gains of config/franka_ros2_controllers.yaml",
        )
    return ok(what, ", ".join(given))


def _gains(view: RobotView) -> Finding:
    what, interfaces = "Gains", _parameter(view, "command_interfaces")
    if interfaces is None:
        return _unseen(what, view)
    if "position" in interfaces:
        return ok(what, "not used with a position interface")
    weak = _joints_without(view, "gains.{}.p")
    if weak:
        return wrong(what, f"gains.{weak[0]}.p is 0, so the arm would fall slack", "set p, d and i of every joint")
    goal = _goal_tolerance(view)
    steady = not _joints_without(view, "gains.{}.i")
    if not steady and 0.0 < goal < FRICTION_RAD:
        return wrong(
            what,
            f"without an integral gain, friction keeps a joint up to {FRICTION_RAD} rad from its goal, but only {goal} rad "
            "are allowed",
            "set gains.*.i and i_clamp, or raise executor.controllers.goal_tolerance_rad to 0.02",
        )
    return ok(what, "p of every joint, and i" if steady else "p of every joint")


def _goal_tolerance(view: RobotView) -> float:
    first = view.robot.arm_joints[0]
    return view.goal_tolerance_rad or float((view.arm or {}).get(f"constraints.{first}.goal", 0.0))


def _goal_time(view: RobotView) -> Finding:
    what, given = "Time limit at a goal", _parameter(view, "constraints.goal_time")
    if given is None:
        return _unseen(what, view)
    if given > 0.0:
        return ok(what, f"{given:g} s")
    return wrong(
        what,
        "constraints.goal_time is 0: a goal of another program that the arm cannot reach never ends",
        "set it to 1.5",
    )


def _path_tolerance(view: RobotView) -> Finding:
    what = "Path tolerance"
    if view.arm is None:
        return _unseen(what, view)
    loose = _joints_without(view, "constraints.{}.trajectory")
    if not loose:
        return ok(what, "of every joint")
    return wrong(
        what,
        f"{', '.join(loose)} may be any distance from the path of another program's goal",
        f"set constraints.{loose[0]}.trajectory and that of the others to 0.2",
    )


def _decelerate(view: RobotView) -> Finding:
    what = "Braking at a cancel"
    if view.arm is None:
        return _unseen(what, view)
    jump = "a cancel commands the measured position at once, which is a jump and on a Franka a reflex"
    if not view.arm.get("constraints.decelerate_on_cancel", False):
        return wrong(what, jump, "set constraints.decelerate_on_cancel to true (read-only: in the yaml)")
    hard = _joints_without(view, "constraints.{}.max_deceleration_on_cancel")
    if hard:
        return wrong(what, jump, f"set constraints.{hard[0]}.max_deceleration_on_cancel for every joint, to 5")
    if "velocity" not in view.arm.get("state_interfaces", ["velocity"]):
        return wrong(what, jump, "add velocity to the state_interfaces, which decelerate_on_cancel needs")
    return ok(what, "a ramp for every joint")


def _grasp(view: RobotView) -> Finding:
    what = "Grasps of any width"
    if view.robot.kind != "real":
        return ok(what, "this robot's driver does not judge a grasp by its width")
    if view.gripper is None:
        return unseen(what, f"{view.gripper_node} does not tell its parameters")
    given = {side: view.gripper.get(f"default_grasp_epsilon.{side}") for side in ("inner", "outer")}
    if all(value is None for value in given.values()):
        return ok(what, "not a franka_gripper")
    small = [side for side, value in given.items() if value is None or value < EPSILON_M]
    if not small:
        return ok(what, "accepted")
    return wrong(
        what,
        "a grasp on an object of another width than commanded fails, and the hand lets go",
        f"set default_grasp_epsilon.{' and default_grasp_epsilon.'.join(small)} of {view.gripper_node} to {EPSILON_M}",
    )


def _open_width(view: RobotView) -> Finding:
    what, wide_m = "Open width", view.robot.open_width_m
    if view.homed is False:
        return wrong(what, "the hand is not homed since it was switched on", "call /franka/home_gripper")
    if wide_m > HOMED_M:
        return wrong(
            what,
            f"robot.open_width_m is {wide_m:g}, but homing may find less, and the driver then refuses to open",
            "set it to 0.078",
        )
    fingers = [[s.positions[n] for n in view.robot.finger_joints if n in s.positions] for s in view.samples]
    if view.robot.kind == "real" and any(len(f) == 2 and max(f) == 0.0 for f in fingers):
        return wrong(
            what,
            "both fingers are at exactly 0, as before homing",
            f"send a goal to the action homing of {view.gripper_node} (franka_msgs/action/Homing)",
        )
    said = (
        "the hand is homed" if view.homed else "whether the hand is homed cannot be seen: home it after each power-on"
    )
    return ok(what, f"{wide_m:g} m; {said}")


def _source(view: RobotView) -> Finding:
    """Measurements, or what somebody stamps anew."""
    what, topic = "Source of joint states", view.robot.joint_states
    remedy = (
        "set robot.joint_states to the topic of the driver's joint_state_broadcaster (franka_ros2: franka/joint_states)"
    )
    stampers = [name for name in view.publishers if STAMPER in name]
    if stampers:
        return wrong(
            what,
            f"{stampers[0]} publishes {topic}, and stamps old states anew when the robot is silent",
            remedy,
        )
    mine = [
        [s.positions[n] for n in view.robot.arm_joints]
        for s in view.samples
        if set(view.robot.arm_joints) <= set(s.positions)
    ]
    stamps = {sample.stamp_ns for sample in view.samples}
    if (
        view.robot.kind == "real"
        and len(mine) >= SAME_MESSAGES
        and len(stamps) > 1
        and np.ptp(mine, axis=0).max() == 0.0
    ):
        return wrong(
            what,
            f"{len(mine)} states on {topic} are equal to the last digit, so they are not measured",
            f"activate the driver's joint_state_broadcaster, or {remedy}",
        )
    return ok(what, f"{topic} from {', '.join(view.publishers)}") if view.publishers else _nobody(what, topic)


def _nobody(what: str, topic: str) -> Finding:
    return wrong(what, f"nobody publishes {topic}", "start the robot's driver, or set robot.joint_states")


def _joint_states(view: RobotView) -> Finding:
    what = "Joint states"
    return told(what, view.joints_fault) if view.joints_fault else ok(what, "usable, and of now")


def _camera(view: RobotView) -> Finding:
    what = "Camera"
    return told(what, view.camera_fault) if view.camera_fault else ok(what, "usable, and placed in the base frame")


def _model(view: RobotView) -> Finding:
    """Whether the robot's description allows all that the stack plans."""
    what, model = "Limits", view.robot.model
    if view.urdf is None:
        return unseen(what, "nobody publishes /robot_description")
    limits = dict(_urdf_limits(view.urdf))
    missing = [name for name in view.robot.arm_joints if name not in limits]
    if missing:
        named = ", ".join(list(limits)[:3])
        return wrong(
            what, f"the robot's description has no {missing[0]} (but {named})", "set robot.model or robot.prefix"
        )
    ours = view.robot.limits
    for name, low, high in zip(view.robot.arm_joints, ours.q_min_rad, ours.q_max_rad, strict=True):
        its_low, its_high = limits[name]
        if low < its_low - SAME_RAD or high > its_high + SAME_RAD:
            return wrong(
                what,
                f"the stack plans {name} from {low:.2f} to {high:.2f} rad, as a {model} allows, but the robot only allows "
                f"{its_low:.2f} to {its_high:.2f}",
                "set robot.model to the arm's model",
            )
    return ok(what, f"those of a {model} are within the robot's own")


def _urdf_limits(urdf: str) -> Iterator[tuple[str, tuple[float, float]]]:
    for joint in ElementTree.fromstring(urdf).iter("joint"):
        limit = joint.find("limit")
        if limit is not None and joint.get("type") in ("revolute", "prismatic"):
            yield joint.get("name", ""), (float(limit.get("lower", "0")), float(limit.get("upper", "0")))


def _parameter(view: RobotView, name: str) -> Any | None:
    return None if view.arm is None else view.arm.get(name)


def _joints_without(view: RobotView, pattern: str) -> list[str]:
    """Joints for which a parameter of the arm's controller is missing or 0."""
    return [name for name in view.robot.arm_joints if not (view.arm or {}).get(pattern.format(name))]


def _unseen(what: str, view: RobotView) -> Finding:
    return unseen(what, f"{view.arm_controller} does not tell its parameters, or has no such one")


CHECKS: tuple[Check, ...] = (
    _arm_action,
    _gripper_action,
    _active,
    _joint_names,
    _partial,
    _interface,
    _gains,
    _goal_time,
    _path_tolerance,
    _decelerate,
    _grasp,
    _open_width,
    _source,
    _joint_states,
    _model,
    _camera,
)
