"""A robot that remembers the paths it was given, for recordings."""

from __future__ import annotations

from stvla_ros.errors import CancelToken
from stvla_ros.interfaces import Robot
from stvla_ros.types import JointPath, RobotState


class FollowedPaths:
    """A :class:`stvla_ros.interfaces.Robot` in front of another one.

    Attributes:
        paths: Those of the present motion, in the order in which the arm got them.
    """

    def __init__(self, robot: Robot) -> None:
        self._robot = robot
        self.paths: tuple[JointPath, ...] = ()

    def state(self) -> RobotState:
        return self._robot.state()

    def follow(self, path: JointPath, cancel: CancelToken) -> None:
        self.paths = (*self.paths, path)
        self._robot.follow(path, cancel)

    def move_gripper(self, width_m: float, cancel: CancelToken) -> float:
        return self._robot.move_gripper(width_m, cancel)

    def stop(self) -> None:
        self._robot.stop()
