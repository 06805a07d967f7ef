"""A robot behind ros2_control: one trajectory action, one gripper action, joint states.

Works with all controllers that serve ``control_msgs/FollowJointTrajectory`` and ``GripperCommand``, such as
franka_ros2 and the simulated cell.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from action_msgs.msg import GoalStatus
from control_msgs.action import FollowJointTrajectory, GripperCommand
from control_msgs.msg import JointTolerance
from rclpy.action import ActionClient
from rclpy.clock import ROSClock
from rclpy.node import Node

from stvla_ros.config import param
from stvla_ros.description.robot import RobotConfig
from stvla_ros.errors import CancelToken, OutcomeCode, StageError
from stvla_ros.ros.action_client import MAX_STOP_S, GoalCanceler, SentGoal
from stvla_ros.ros.trajectory import duration, trajectory_message
from stvla_ros.ros.type_mismatch import action_type_mismatch
from stvla_ros.types import JointPath, RobotState

POLL_S = 0.01
"""Interval at which joint states are checked during a motion."""

APART_S = 0.02
"""Positions are compared over at least this time: over 1 ms their noise would look like motion."""

RESTING_M, RESTING_S = 0.001, 0.05
"""Fingers rest when their distance changes by less than this in this time; some drivers send states at only 10 Hz."""


OPEN = 0.95
"""A gripper that is open by more than this share of its open width holds nothing."""

MOVED_RAD, UNMOVED_S = 0.1, 1.0
"""After a trajectory has moved a joint by this much, the joint states must show some motion within this time."""


@dataclass(frozen=True)
class Ros2ControlConfig:
    """How the robot's controllers are used. Their names are in the section ``robot``."""

    gripper_effort_n: float = param(40.0, "force with which the fingers close [N]", ge=1.0, le=70.0)
    path_tolerance_rad: float = param(
        0.2, "how far a joint may be from its trajectory; 0: the controller's own [rad]", ge=0.0, le=1.0
    )
    goal_tolerance_rad: float = param(
        0.01, "how far a joint may be from its goal; 0: the controller's own [rad]", ge=0.0, le=0.5
    )
    goal_time_s: float = param(1.5, "how late the arm may arrive [s]", ge=0.1, le=10.0)
    standstill_rad_s: float = param(
        0.01, "below this speed of every joint the arm stands still [rad/s]", ge=0.001, le=0.1
    )
    accept_timeout_s: float = param(2.0, "how long a controller may take to accept a goal [s]", ge=0.1, le=10.0)
    stop_timeout_s: float = param(2.0, "how long the arm may take to stand still [s]", ge=0.1, le=MAX_STOP_S)
    gripper_timeout_s: float = param(5.0, "how long a gripper motion may take [s]", ge=0.5, le=30.0)


class Ros2ControlRobot:
    """:class:`stvla_ros.interfaces.Robot` over ROS 2 actions.

    Call it from threads other than the one that spins the node.

    Args:
        node: Owner of the clients; another thread must spin it.
        state: Returns the newest joint state; raises STALE_STATE when it is too old.
        config: Settings.
        robot: Names of its actions and joints.
    """

    def __init__(
        self,
        node: Node,
        state: Callable[[], RobotState],
        config: Ros2ControlConfig,
        robot: RobotConfig,
    ) -> None:
        self._node, self._state, self._config = node, state, config
        self._robot = robot
        self._names = list(robot.arm_joints)
        self._arm = ActionClient(node, FollowJointTrajectory, robot.arm_action)
        self._gripper = ActionClient(node, GripperCommand, robot.gripper_action)
        self._names_of = {
            self._arm: (robot.arm_action, "robot.arm_action", FollowJointTrajectory),
            self._gripper: (robot.gripper_action, "robot.gripper_action", GripperCommand),
        }
        self._canceler = GoalCanceler(node, [robot.arm_action, robot.gripper_action])
        self.activity = "planning"
        """What the robot does now, for feedback: moving, gripper, or planning while it waits."""

    def state(self) -> RobotState:
        """The newest state. Raises StageError STALE_STATE."""
        return self._state()

    def follow(self, path: JointPath, cancel: CancelToken) -> None:
        """Track a path to its end; returns at standstill.

        Raises:
            StageError: The cancel's reason, after which the arm stands still; REFLEX, CONTROLLER_FAILED or
                STALE_STATE, even during a cancel.
        """
        cancel.raise_if_set()
        self._find(self._arm)
        goal = FollowJointTrajectory.Goal(trajectory=trajectory_message(path, self._names))
        goal.path_tolerance = self._tolerance(self._config.path_tolerance_rad)
        goal.goal_tolerance = self._tolerance(self._config.goal_tolerance_rad)
        goal.goal_time_tolerance = duration(self._config.goal_time_s)
        limit_s = float(path.t_s[-1]) + self._config.goal_time_s + self._config.accept_timeout_s
        call = self._run(self._arm, goal, limit_s, cancel, "moving", _moved_by_s(path))
        self._stand_still()
        _end(call, cancel)

    def move_gripper(self, width_m: float, cancel: CancelToken) -> float:
        """Open or close the gripper; returns the reached width in metres, measured after the motion.

        Raises:
            StageError: The cancel's reason; CONTROLLER_FAILED or STALE_STATE.
        """
        cancel.raise_if_set()
        self._find(self._gripper)
        goal = GripperCommand.Goal()
        goal.command.position, goal.command.max_effort = width_m / 2, self._config.gripper_effort_n
        call = self._run(self._gripper, goal, self._config.gripper_timeout_s, cancel, "gripper")
        cancel.raise_if_set()
        if not call.accepted:
            raise _failed(f"The gripper's controller rejected the goal of {width_m * 1e3:.0f} mm: its log says why.")
        reached_m = self._resting_width_m(cancel)
        # Closing on an object ends before the goal; some grippers report that as a failure, others as a success. So the
        # width decides: fingers that are less open than commanded, or that stay open, are always a failure.
        stays_open = width_m < self._robot.open_width_m / 2 and reached_m > OPEN * self._robot.open_width_m
        if reached_m < width_m - 0.005 or stays_open:
            raise _failed(
                f"The gripper was commanded to {width_m * 1e3:.0f} mm but is at {reached_m * 1e3:.0f} mm: "
                "look at the gripper's log."
            )
        return reached_m

    def stop(self) -> None:
        """Cancel every goal on both controllers, no matter who sent it. Never raises, never waits."""
        self._canceler.cancel_all()

    def clear(self, timeout_s: float) -> None:
        """Cancel goals that an earlier process may have left running, and wait until the arm stands still.

        Raises:
            StageError: CONTROLLER_FAILED when a controller is missing or has another type; STALE_STATE.
        """
        until = time.monotonic() + timeout_s
        while not self._canceler.ready() and time.monotonic() < until:
            time.sleep(0.05)
        if not self._canceler.ready():
            raise _no_server(" and ".join(self._canceler.missing()))
        answers = self._canceler.cancel_all()
        while not all(answer.done() for answer in answers):
            if time.monotonic() > until:
                raise _failed("A controller does not answer a cancel request: look at its log.")
            time.sleep(POLL_S)
        self._stand_still()
        for client in self._names_of:
            self._raise_if_of_another_type(client)

    def _tolerance(self, position: float) -> list[JointTolerance]:
        return [JointTolerance(name=name, position=position) for name in self._names]

    def _find(self, client: ActionClient) -> None:
        if not client.wait_for_server(timeout_sec=self._config.accept_timeout_s):
            self._raise_if_of_another_type(client)
            raise _no_server(self._names_of[client][0])

    def _raise_if_of_another_type(self, client: ActionClient) -> None:
        """Raises StageError CONTROLLER_FAILED when a server has the action's name but not its type."""
        action, setting, kind = self._names_of[client]
        if fault := action_type_mismatch(self._node, action, kind):
            raise _failed(f"{fault}: start a controller of that type, and set {setting} to its name.")

    def _run(
        self,
        client: ActionClient,
        goal: object,
        limit_s: float,
        cancel: CancelToken,
        activity: str,
        moved_by_s: float = float("inf"),
    ) -> SentGoal:
        """Send a goal and wait for its end. If anything goes wrong, the goal is canceled."""
        call = SentGoal(self._node, client, goal)
        forget = cancel.on_cancel(call.cancel)
        self.activity = activity
        try:
            self._watch(call, limit_s, cancel, "arm" if client is self._arm else "gripper", moved_by_s)
        except BaseException:  # even a defect: nothing may leave the arm moving
            call.cancel()
            self.stop()
            raise
        finally:
            self.activity = "planning"
            forget()
        return call

    def _watch(self, call: SentGoal, limit_s: float, cancel: CancelToken, part: str, moved_by_s: float) -> None:
        first: RobotState | None = None  # when the controller accepted the goal
        started, canceled_s = self._now_s(), float("inf")
        while not call.wait(POLL_S):
            state = self._state()
            first = first or (state if call.accepted else None)
            if first is not None:
                _raise_if_unmoved(first, state, moved_by_s)
            now = self._now_s()
            canceled_s = min(canceled_s, now) if cancel.is_set() else canceled_s
            if call.accepted is None and now - started > self._config.accept_timeout_s:
                raise _failed(f"The {part} controller did not accept a goal within {self._config.accept_timeout_s} s.")
            if now < started:
                raise _failed(f"The clock was set back while the {part} controller worked: send the goal again.")
            if now - started > limit_s:
                raise _failed(f"The {part} controller did not finish a goal within {limit_s:.1f} s.")
            if now - canceled_s > self._config.stop_timeout_s:
                raise _failed(f"The {part} controller did not cancel a goal within {self._config.stop_timeout_s} s.")

    def _stand_still(self) -> None:
        """Wait until two joint states show no motion, by their positions and by their velocities if those are measured.

        Raises:
            StageError: CONTROLLER_FAILED when the arm keeps moving, or no joint state comes; STALE_STATE.
        """
        started, last, heard = self._now_s(), self._state(), False
        while 0.0 <= self._now_s() - started < self._config.stop_timeout_s:
            time.sleep(POLL_S / 2)
            state = self._state()
            seconds = (state.stamp_ns - last.stamp_ns) * 1e-9
            if 0.0 <= seconds < APART_S:
                continue
            heard = heard or seconds > 0.0
            moved = np.abs(state.q_rad - last.q_rad).max() / seconds
            speed = np.nanmax([moved, *np.abs(state.dq_rad_s), *np.abs(last.dq_rad_s)])
            last = state
            if seconds > 0.0 and speed < self._config.standstill_rad_s:
                return
        self.stop()
        limit = f"{self._config.stop_timeout_s} s after its trajectory ended"
        if not heard:
            raise _failed(f"No new joint state came within {limit}: check that the arm stands still.")
        raise _failed(f"The arm still moves {limit}: use the emergency stop.")

    def _now_s(self) -> float:
        """The robot's time [s]: simulation time if it is used, which may run slower, else a monotonic clock."""
        clock = self._node.get_clock()
        simulated = isinstance(clock, ROSClock) and clock.ros_time_is_active
        return float(clock.now().nanoseconds) * 1e-9 if simulated else time.monotonic()

    def _resting_width_m(self, cancel: CancelToken) -> float:
        """The width by two agreeing measurements made after this call; by the last one if none agree within the time
        limit.

        Raises:
            StageError: STALE_STATE, also when no measurement is made after this call; the cancel's reason.
        """
        last_ns, width_m = int(self._node.get_clock().now().nanoseconds), None
        started = self._now_s()
        while 0.0 <= self._now_s() - started < self._config.gripper_timeout_s:
            cancel.raise_if_set()
            state = self._state()
            measured_ns = state.gripper_stamp_ns or state.stamp_ns
            if width_m is None:
                if measured_ns > last_ns:
                    width_m, last_ns = state.gripper_m, measured_ns
            elif measured_ns - last_ns >= RESTING_S * 1e9:
                if abs(state.gripper_m - width_m) < RESTING_M:
                    return state.gripper_m
                width_m, last_ns = state.gripper_m, measured_ns
            time.sleep(POLL_S / 2)
        if width_m is None:
            raise StageError(
                OutcomeCode.STALE_STATE,
                f"No state of the fingers measured after the gripper's motion came within {self._config.gripper_timeout_s:g} s: "
                "look at the gripper's driver.",
            )
        return width_m


def _moved_by_s(path: JointPath) -> float:
    """When joint states must differ from those at the start of a path [s]; infinite for a path that hardly moves."""
    far = np.abs(path.q_rad - path.q_rad[0]).max(axis=1) > MOVED_RAD
    return float(path.t_s[far.argmax()]) + UNMOVED_S if far.any() else float("inf")


def _raise_if_unmoved(first: RobotState, state: RobotState, moved_by_s: float) -> None:
    """Raises StageError STALE_STATE when joint states have new stamps but never change, not even by noise."""
    seconds = (state.stamp_ns - first.stamp_ns) * 1e-9
    if seconds > moved_by_s and np.array_equal(state.q_rad, first.q_rad):
        raise StageError(
            OutcomeCode.STALE_STATE,
            f"The joint states have not changed for {seconds:.1f} s, although the arm should have moved: something holds it, or old "
            "states get new stamps (from a joint_state_publisher): set robot.joint_states to the topic of the robot's driver.",
        )


def _end(call: SentGoal, cancel: CancelToken) -> None:
    """Raise the error of a trajectory, or the cancel's reason, even if the cancel came too late to interrupt it."""
    try:
        _check_arm(call)
    except StageError as error:
        raise cancel.explain(error) from None
    cancel.raise_if_set()


def _check_arm(call: SentGoal) -> None:
    if not call.accepted:
        raise _failed("The arm's controller rejected the trajectory: its log says why.")
    text = call.result.error_string
    if "reflex" in text.lower():
        raise StageError(OutcomeCode.REFLEX, f"The robot stopped itself: {text}")
    if call.status == GoalStatus.STATUS_CANCELED:
        raise StageError(
            OutcomeCode.CANCELED, "The trajectory was canceled by another node or replaced by another goal."
        )
    if call.status != GoalStatus.STATUS_SUCCEEDED or call.result.error_code != FollowJointTrajectory.Result.SUCCESSFUL:
        raise _failed(f"The arm's controller gave up (code {call.result.error_code}): {text or 'no reason given'}")


def _no_server(name: str) -> StageError:
    return _failed(f"No action server {name}: start the robot's controllers or the simulated cell.")


def _failed(sentence: str) -> StageError:
    return StageError(OutcomeCode.CONTROLLER_FAILED, sentence)
