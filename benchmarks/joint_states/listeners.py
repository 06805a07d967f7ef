"""The two processes that listen, run by ``python -m benchmarks.joint_states``: they note all they see until SIGTERM.

``stamps`` is as small as a listener can be. ``guard`` has what the executor has: its receivers of joint states and of
images, in one node spun by one thread, and a second thread that looks as often as the executor's guard does.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread
from typing import Any

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import JointState

from stvla_ros.ros import qos
from stvla_ros.ros.convert import time_to_ns
from stvla_ros.ros.frames import CameraConfig, RgbdReceiver
from stvla_ros.ros.motion_guard import GUARD_PERIOD_S
from stvla_ros.ros.robot_state import JointStateConfig, JointStates

Rows = dict[str, list[tuple[float, ...]]]


def stamps(node: Node) -> tuple[Rows, Callable[[Event], None]]:
    """(arrival, stamp) of each joint state, seconds of the clock."""
    rows: Rows = {"joints": []}

    def receive(message: JointState) -> None:
        rows["joints"].append((time.time(), time_to_ns(message.header.stamp) * 1e-9))

    node.create_subscription(JointState, "joint_states", receive, qos.STATE)

    def look(end: Event) -> None:
        end.wait()

    return rows, look


def guard(node: Node) -> tuple[Rows, Callable[[Event], None]]:
    """(time, age of the newest joint state) at each check, and (arrival, stamp) of each whole image, in seconds."""
    rows: Rows = {"checks": [], "images": []}
    joints = JointStates(node, JointStateConfig())
    RgbdReceiver(node, CameraConfig(), on_frame=lambda stamp_ns: rows["images"].append((time.time(), stamp_ns * 1e-9)))

    def look(end: Event) -> None:
        while not end.wait(GUARD_PERIOD_S):
            if (age_s := joints.age_s()) < float("inf"):
                rows["checks"].append((time.time(), age_s))

    return rows, look


def main() -> None:
    """``stamps FILE`` or ``guard FILE``."""
    kind, file = {"stamps": stamps, "guard": guard}[sys.argv[1]], Path(sys.argv[2])
    end = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: end.set())
    rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
    node = Node(f"joint_states_{sys.argv[1]}", start_parameter_services=False, enable_rosout=False)
    rows, look = kind(node)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    threads = [Thread(target=_spin, args=(executor, end)), Thread(target=look, args=(end,))]
    for thread in threads:
        thread.start()
    while not end.wait(0.2):  # signals are handled in this thread
        pass
    for thread in threads:
        thread.join()
    node.destroy_node()
    rclpy.shutdown()
    file.write_text(json.dumps(rows))


def _spin(executor: Any, end: Event) -> None:
    while not end.is_set():
        executor.spin_once(timeout_sec=0.2)


if __name__ == "__main__":
    main()
