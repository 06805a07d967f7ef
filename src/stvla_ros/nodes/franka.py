"""A Franka arm with its hand, driven through libfranka: an alternative to ros2_control.

Serves the two actions that the executor sends goals to, and publishes the joint states of arm and fingers. Until
``~/activate`` is called, it holds no connection to the robot. What talks to the robot are child processes
(:mod:`stvla_ros.robot.franka`); this one carries messages.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from threading import Lock, Thread

import numpy as np
from sensor_msgs.msg import JointState
from std_srvs.srv import Trigger
from stvla_msgs.msg import RobotStatus

from stvla_ros.config import param
from stvla_ros.description.robot import RobotConfig
from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.priority import raise_priority
from stvla_ros.robot.franka.arm import FrankaArm, Report
from stvla_ros.robot.franka.config import FrankaConfig
from stvla_ros.robot.franka.failures import READY
from stvla_ros.robot.franka.hand import FrankaHand
from stvla_ros.robot.franka.messages import ArmState, Fingers, Mode
from stvla_ros.ros import qos
from stvla_ros.ros.franka_robot import FrankaTrajectoryArm, arm_message, fingers_message, status_message
from stvla_ros.ros.freshness import STEADY
from stvla_ros.ros.gripper_server import GripperServer
from stvla_ros.ros.run import run
from stvla_ros.ros.slow_service import serve_slowly
from stvla_ros.ros.stage_node import StageNode
from stvla_ros.ros.trajectory_server import TrajectoryServer
from stvla_ros.types import TrajectoryTolerances

RETRY_S = 1.0
"""Interval at which a node that activates itself tries to reach its robot."""

FIRST_S = 30.0
"""How long the heartbeat of a node that activates itself waits for the robot."""

NOT_HOMED = "The hand is not homed yet: wait for the end of /franka/activate, or call it again."

WATCH_S = 1.0
"""Interval at which the status is sent even if nothing has changed."""


@dataclass(frozen=True)
class FrankaNodeConfig(FrankaConfig):
    """Settings of the node: those of the driver, and the robot's names."""

    robot: RobotConfig = param(RobotConfig(kind="franka"), "names of what it offers, and the arm's model")  # noqa: RUF009

    def driver(self) -> FrankaConfig:
        """The driver's part, which its processes can read without this module."""
        return FrankaConfig(**{field.name: getattr(self, field.name) for field in fields(FrankaConfig)})


class FrankaNode(StageNode[FrankaNodeConfig]):
    """Offers arm and hand as actions, topics and services. Nothing moves but what an action or a service asks for."""

    def __init__(self) -> None:
        raise_priority()  # before there are threads and processes: they inherit it
        super().__init__("franka", FrankaNodeConfig)
        config, robot = self.config, self.config.robot
        self._status = self.create_publisher(RobotStatus, "~/status", qos.LATCHED_NEWEST)
        self._joints = self.create_publisher(JointState, robot.joint_states, qos.EVENT)
        self._fingers = self.create_publisher(JointState, robot.gripper_joint_states, qos.EVENT)
        self._arm = FrankaArm(config.driver(), robot.limits, robot.arm_joints, self._send_arm, self._send_status)
        self._hand = FrankaHand(config.driver(), self._send_fingers, self._hand_failed)
        self._acting = Lock()
        self._ended = self._active = False
        tolerances = TrajectoryTolerances(
            np.full(7, config.path_tolerance_rad), np.full(7, config.goal_tolerance_rad), config.goal_time_s
        )
        self._trajectories = TrajectoryServer(
            self, robot.arm_action, robot.arm_joints, FrankaTrajectoryArm(self._arm), tolerances
        )
        if config.hand.mounted:
            self._gripper = GripperServer(self, robot.gripper_action, self._hand, self._hand.halt, self._hand.ended)
        self._offer("activate", self._activate)
        self._offer("deactivate", self._deactivate)
        self._offer("recover", self._recover)
        self._offer("home_gripper", self._home)
        self.create_timer(WATCH_S, self._send_status, clock=STEADY)

    def ready(self) -> None:
        """Start the heartbeat; with ``activate_at_start`` when the robot is connected, or after :data:`FIRST_S`."""
        self._send_status()
        if self.config.activate_at_start:
            Thread(target=self._activate_by_itself, name="activate", daemon=True).start()
            self._late = time.monotonic() + FIRST_S
            self._starting = self.create_timer(0.05, self._begin, clock=STEADY)
        else:
            super().ready()
            self.get_logger().info(
                f"Not connected to the robot at {self.config.hostname}: ros2 service call /franka/activate "
                "std_srvs/srv/Trigger connects; the hand is homed if it was not since power-on."
            )

    def _begin(self) -> None:
        if self._active or time.monotonic() > self._late:
            self.destroy_timer(self._starting)
            super().ready()

    # --- services: each in a thread of its own, one after another -----------------------------------------------------

    def _offer(self, name: str, act: Callable[[], str]) -> None:
        serve_slowly(self, Trigger, f"~/{name}", lambda _, answer: self._act(act, answer), self._acting)

    def _act(self, act: Callable[[], str], answer: Trigger.Response) -> None:
        try:
            answer.message, answer.success = act(), True
        except StageError as error:
            answer.message, answer.success = str(error), False
        if answer.success:
            self.get_logger().info(answer.message)
        else:
            self.get_logger().error(answer.message)
        self._send_status()

    def _activate(self) -> str:
        self._active = False
        self._arm.connect()
        if self.config.hand.mounted:
            self._hand.connect()
            if not self._hand.homed and self.config.hand.home:
                self._hand.home()
        self._active = True
        return f"Connected to the robot at {self.config.hostname}{' and its hand' * self.config.hand.mounted}."

    def _deactivate(self) -> str:
        self._active = False
        self._arm.disconnect()
        self._hand.disconnect()
        return "Disconnected: the robot holds its position."

    def _recover(self) -> str:
        if self._arm.report().mode is Mode.LOST:
            raise StageError(OutcomeCode.ROBOT_LOST, self._arm.report().sentence)
        self._arm.recover()
        return "The robot's errors are cleared: it is ready for a motion."

    def _home(self) -> str:
        self._hand.home()
        return "The hand is homed."

    def _activate_by_itself(self) -> None:
        """Try until it succeeds: a simulated robot starts at the same time as this node."""
        said = ""
        while not self._ended:
            with self._acting:
                try:
                    self.get_logger().info(self._activate())
                    break
                except StageError as error:
                    if str(error) != said:
                        self.get_logger().warning(said := str(error))
            time.sleep(RETRY_S)
        self._send_status()

    # --- what the child processes report ------------------------------------------------------------------------------

    def _send_arm(self, state: ArmState) -> None:
        self._joints.publish(arm_message(state, self.config.robot))

    def _send_fingers(self, fingers: Fingers) -> None:
        self._fingers.publish(fingers_message(fingers, self.config.robot))

    def _hand_failed(self, sentence: str) -> None:
        self.get_logger().error(sentence)

    def _send_status(self) -> None:
        self._status.publish(status_message(self._report(), self._hand.homed, self.now_ns()))

    def _report(self) -> Report:
        """The arm's report; no motion is taken before the hand is homed."""
        report = self._arm.report()
        if self._active or report.mode not in READY:
            return report
        return replace(report, mode=Mode.INACTIVE, sentence=NOT_HOMED)

    def ages(self) -> dict[str, str]:
        """The robot's condition, for the diagnostics."""
        report = self._arm.report()
        return {"mode": report.mode.name, "success rate": f"{report.success_rate:.2f}"}

    def close(self, timeout_s: float) -> bool:
        """Brake, and end the connections."""
        self._ended = True
        closed = self._arm.disconnect(timeout_s)
        self._hand.disconnect()
        return super().close(timeout_s) and closed


def main() -> int:
    """Entry point."""
    return run(FrankaNode)


if __name__ == "__main__":
    sys.exit(main())
