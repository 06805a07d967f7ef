"""The planner ``moveit`` outside the stack: a node of its own asks a move_group that already runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node

from stvla_ros.config import build
from stvla_ros.description.robot import PANDA, RobotConfig
from stvla_ros.ros.backends.moveit import MoveItConfig, MoveItPlanner


@dataclass(frozen=True)
class _Settings:
    """What the planner reads of its node's settings."""

    robot: RobotConfig


class _Asker(Node):
    """A node that has what the planner reads."""

    config = _Settings(RobotConfig())


@contextmanager
def moveit_planner(settings: dict[str, Any]) -> Iterator[MoveItPlanner]:
    """The planner, with a thread that spins its node."""
    rclpy.init()
    node, executor = _Asker("benchmark"), SingleThreadedExecutor()
    executor.add_node(node)
    thread = threading.Thread(target=_spin, args=(executor,), daemon=True)
    thread.start()
    try:
        yield MoveItPlanner(build(MoveItConfig, settings, "moveit"), PANDA, node)
    finally:
        rclpy.shutdown()
        thread.join()


def _spin(executor: SingleThreadedExecutor) -> None:
    with suppress(ExternalShutdownException):  # the benchmark is over
        executor.spin()


def process_cpu_s(pid: int) -> float:
    """CPU time of all threads of another process so far [s]; the clock is that of ``clock_getcpuclockid``.

    Raises:
        OSError: There is no such process.
    """
    return time.clock_gettime((~pid << 3) | 2)
