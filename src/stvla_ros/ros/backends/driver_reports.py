"""What the robot's driver says of the robot besides the answers of its controllers.

franka_ros2 only logs why the robot stopped itself; this stack's own driver keeps a status. The simulated cell has
nothing more to say than its controllers do.
"""

from __future__ import annotations

import time
from typing import Protocol

from rcl_interfaces.msg import Log
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from stvla_msgs.msg import RobotStatus

from stvla_ros.description.robot import RobotConfig
from stvla_ros.errors import INTERRUPTED, StageError
from stvla_ros.robot.franka.failures import of_mode
from stvla_ros.robot.franka.messages import Mode
from stvla_ros.ros import qos
from stvla_ros.ros.backends.controller_results import STOPPED_ITSELF, stopped_itself

STATUS_TOPIC = "/franka/status"
OWN_DRIVER = ("franka", "franka_sim")
"""Kinds of robot behind this stack's own driver, which publishes :data:`STATUS_TOPIC`."""

LATER_S = 0.3
"""How much later than a controller's answer the driver's own words may come."""

ERROR = 40
"""Level of rcl_interfaces/msg/Log, whose constant is a byte in some builds."""

_LOG = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=200,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.VOLATILE,
)


class DriverReports(Protocol):
    """The driver's reports. Thread safe."""

    def refusal(self) -> StageError | None:
        """Why no motion can begin now, if the driver says so."""
        ...

    def stopped(self, since_s: float) -> StageError | None:
        """How the robot stopped itself, if the driver has said so since a moment of ``time.monotonic()``."""
        ...


class NoReports:
    """A robot whose controllers say everything."""

    def refusal(self) -> StageError | None:
        return None

    def stopped(self, since_s: float) -> StageError | None:
        return None


class StatusReports:
    """The status of this stack's own driver."""

    def __init__(self, node: Node) -> None:
        self._newest: RobotStatus | None = None
        node.create_subscription(RobotStatus, STATUS_TOPIC, self._receive, qos.LATCHED_NEWEST)

    def _receive(self, message: RobotStatus) -> None:
        self._newest = message

    @property
    def newest(self) -> RobotStatus | None:
        """The newest status; None before the first one."""
        return self._newest

    def refusal(self) -> StageError | None:
        newest = self._newest
        if newest is None:
            return None
        mode = Mode(newest.mode) if newest.mode in set(Mode) else Mode.OTHER
        return of_mode(mode, tuple(newest.errors), str(newest.sentence))

    def stopped(self, since_s: float) -> StageError | None:
        error = self.refusal()
        return error if error is not None and error.code in STOPPED_ITSELF else None


class LogReports:
    """The errors that franka_ros2 logs: libfranka's texts."""

    def __init__(self, node: Node) -> None:
        self._newest: tuple[float, StageError] | None = None
        node.create_subscription(Log, "/rosout", self._receive, _LOG)

    def _receive(self, message: Log) -> None:
        by_driver = "franka" in message.name.lower() or "libfranka" in message.msg
        if message.level >= ERROR and by_driver and (error := stopped_itself(message.msg)):
            self._newest = time.monotonic(), error

    def refusal(self) -> StageError | None:
        return None

    def stopped(self, since_s: float) -> StageError | None:
        newest = self._newest
        return newest[1] if newest is not None and newest[0] >= since_s else None


def reports_of(node: Node, robot: RobotConfig) -> DriverReports:
    """The reports of a robot's driver."""
    if robot.kind in OWN_DRIVER:
        return StatusReports(node)
    return LogReports(node) if robot.kind == "real" else NoReports()


def in_the_drivers_words(reports: DriverReports, error: StageError, since_s: float) -> StageError:
    """How the robot stopped itself since a motion began, if its driver says so; otherwise ``error``, why the motion ended.

    Waits up to :data:`LATER_S` for a driver that speaks. An error that already is in a driver's words is kept.
    """
    own_words = error.code in STOPPED_ITSELF and isinstance(reports, StatusReports)
    if error.code in INTERRUPTED or own_words or isinstance(reports, NoReports):
        return error
    until = time.monotonic() + LATER_S
    while (told := reports.stopped(since_s)) is None and time.monotonic() < until:
        time.sleep(0.01)
    return told or error
