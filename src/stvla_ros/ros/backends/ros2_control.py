"""A robot behind ros2_control: one trajectory action, one gripper action, joint states.

Works with all controllers that serve ``control_msgs/FollowJointTrajectory`` and ``GripperCommand``: franka_ros2, this
stack's own driver and the simulated cell. What their answers mean is in :mod:`.controller_results`, what else their
drivers report in :mod:`.driver_reports`, and how a robot that stopped itself is made ready again in :mod:`.recovery`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from control_msgs.action import FollowJointTrajectory, GripperCommand
from control_msgs.msg import JointTolerance
from rclpy.action import ActionClient
from rclpy.clock import ROSClock
from rclpy.node import Node

from stvla_ros.config import param
from stvla_ros.description.robot import RobotConfig
from stvla_ros.errors import CancelToken, OutcomeCode, StageError
from stvla_ros.ros.action_client import MAX_STOP_S, GoalCanceler, SentGoal
from stvla_ros.ros.backends.controller_results import STOPPED_ITSELF, arm_error, failed, gripper_error
from stvla_ros.ros.backends.driver_reports import in_the_drivers_words, reports_of
from stvla_ros.ros.backends.recovery import RecoveryConfig, recovery_of
from stvla_ros.ros.trajectory import duration, trajectory_message
from stvla_ros.ros.type_mismatch import action_type_mismatch
from stvla_ros.types import JointPath, RobotState

POLL_S = 0.01
"""Interval at which joint states are checked during a motion."""

APART_S = 0.02
"""Positions are compared over at least this time: over 1 ms their noise would look like motion."""

RESTING_M, RESTING_S = 0.001, 0.05
"""Fingers rest when their distance changes by less than this in this time; some drivers send states at only 10 Hz."""

SAG_RAD = 0.02
"""How far a joint may move by itself between the end of its trajectory and standstill."""

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
    recovery: RecoveryConfig = param(RecoveryConfig(), "how a real robot is recovered")  # noqa: RUF009


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
        self._reports, self._recovery = reports_of(node, robot), recovery_of(node, robot, config.recovery)
        self._stopped: StageError | None = None  # how the robot stopped itself in the last motion
        self.activity = "planning"
        """What the robot does now, for feedback: moving, gripper, or planning while it waits."""

    def state(self) -> RobotState:
        """The newest state. Raises StageError STALE_STATE."""
        return self._state()

    def raise_if_not_ready(self) -> None:
        """Check that a motion can begin.

        Raises:
            StageError: What the robot's driver says, if it refuses; how the robot stopped itself, if its joint states are
                silent since then.
        """
        if refusal := self._reports.refusal():
            raise refusal
        if self._stopped is not None and self._unready():
            raise StageError(self._stopped.code, self._stopped.sentence)

    def follow(self, path: JointPath, cancel: CancelToken) -> None:
        """Track a path to its end; returns at standstill.

        Raises:
            StageError: The cancel's reason, after which the arm stands still; PREEMPTED when the arm follows another
                program's trajectory; even during a cancel: REFLEX, USER_STOPPED, SAFETY_FUNCTION, ROBOT_LOST,
                CONTROLLER_FAILED or STALE_STATE.
        """
        cancel.raise_if_set()
        self.raise_if_not_ready()
        self._find(self._arm)
        goal = FollowJointTrajectory.Goal(trajectory=trajectory_message(path, self._names))
        goal.path_tolerance = self._tolerance(self._config.path_tolerance_rad)
        goal.goal_tolerance = self._tolerance(self._config.goal_tolerance_rad)
        goal.goal_time_tolerance = duration(self._config.goal_time_s)
        limit_s = float(path.t_s[-1]) + self._config.goal_time_s + self._config.accept_timeout_s
        began_s = time.monotonic()
        try:
            call = self._run(self._arm, goal, limit_s, cancel, "moving", _moved_by_s(path))
        except StageError as error:
            raise self._noted(in_the_drivers_words(self._reports, error, began_s)) from None
        ending = arm_error(call, self._robot)
        if ending is None:
            self._stopped = None
            self._stand_still()
            cancel.raise_if_set()
            self._check_arrival(path)
            return
        ending = self._noted(in_the_drivers_words(self._reports, ending, began_s))
        self._rest_after(ending)
        raise cancel.explain(ending)

    def _noted(self, ending: StageError) -> StageError:
        """The same error; one of a robot that stopped itself is remembered."""
        self._stopped = ending if ending.code in STOPPED_ITSELF else None
        return ending

    def _check_arrival(self, path: JointPath) -> None:
        """Raises StageError CONTROLLER_FAILED when the arm is not where its controller says that it is."""
        away = np.abs(self._state().q_rad - path.q_rad[-1])
        limit = (self._config.goal_tolerance_rad or self._config.path_tolerance_rad or np.inf) + SAG_RAD
        if away.max() > limit:
            raise failed(
                f"The arm's controller reports success, but {self._names[int(away.argmax())]} is {away.max():.3f} rad from its "
                "goal: look at its joint states and at the controller's log."
            )

    def _rest_after(self, ending: StageError) -> None:
        """Wait for standstill before a failure is reported; raises StageError if the arm keeps moving.

        A robot that stopped itself stands still, whether or not its silent driver can confirm that. An arm that follows
        another program's trajectory does not.
        """
        if ending.code is OutcomeCode.PREEMPTED:
            return
        itself = ending.code in STOPPED_ITSELF
        try:
            self._stand_still(by_velocities=not itself)
        except StageError as error:
            if error.code is not OutcomeCode.STALE_STATE or not itself:
                raise error from ending

    def recover(self) -> str:
        """Make a robot that stopped itself ready again; returns what was done. The arm does not move.

        Raises:
            StageError: The step that failed; CONTROLLER_FAILED, or what the robot's driver reports.
        """
        done = self._recovery.run()
        until = time.monotonic() + self._config.accept_timeout_s
        while (fault := self._unready()) and time.monotonic() < until:
            time.sleep(POLL_S)
        if fault:
            raise fault
        self._stand_still()
        self._stopped = None
        return done

    def _unready(self) -> StageError | None:
        """Why no motion can begin: by the joint states, and by the driver."""
        try:
            self._state()
        except StageError as error:
            return error
        return self._reports.refusal()

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
            rejected = f"The gripper's controller rejected the goal of {width_m * 1e3:.0f} mm: its log says why."
            raise self._reports.refusal() or failed(rejected)
        reached_m = self._resting_width_m(cancel)
        if error := gripper_error(call, width_m, reached_m, self._robot):
            raise error
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
                raise failed("A controller does not answer a cancel request: look at its log.")
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
        self._canceler.wait_until_answered(self._config.accept_timeout_s)

    def _raise_if_of_another_type(self, client: ActionClient) -> None:
        """Raises StageError CONTROLLER_FAILED when a server has the action's name but not its type."""
        action, setting, kind = self._names_of[client]
        if fault := action_type_mismatch(self._node, action, kind):
            raise failed(f"{fault}: start a controller of that type, and set {setting} to its name.")

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
                raise failed(f"The {part} controller did not accept a goal within {self._config.accept_timeout_s} s.")
            if now < started:
                raise failed(f"The clock was set back while the {part} controller worked: send the goal again.")
            if now - started > limit_s:
                raise failed(f"The {part} controller did not finish a goal within {limit_s:.1f} s.")
            if now - canceled_s > self._config.stop_timeout_s:
                raise failed(f"The {part} controller did not cancel a goal within {self._config.stop_timeout_s} s.")

    def _stand_still(self, by_velocities: bool = True) -> None:
        """Wait until two joint states show no motion, by their positions and by their velocities if those are measured.

        Args:
            by_velocities: False when a joint_state_publisher may repeat the last ones of a driver that is silent.

        Raises:
            StageError: CONTROLLER_FAILED when the arm keeps moving; STALE_STATE when no joint state comes.
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
            measured = [*np.abs(state.dq_rad_s), *np.abs(last.dq_rad_s)] if by_velocities else []
            speed = np.nanmax([moved, *measured])
            last = state
            if seconds > 0.0 and speed < self._config.standstill_rad_s:
                return
        self.stop()
        limit = f"{self._config.stop_timeout_s} s after its trajectory ended"
        if not heard:
            raise StageError(
                OutcomeCode.STALE_STATE, f"No new joint state came within {limit}: check that the arm stands still."
            )
        raise failed(f"The arm still moves {limit}: use the emergency stop.")

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


def _no_server(name: str) -> StageError:
    return failed(f"No action server {name}: start the robot's controllers or the simulated cell.")
