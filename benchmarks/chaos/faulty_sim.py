"""The simulated cell's node with a camera, joint states and a clock that can be made to fail.

Takes the place of ``stvla_ros.nodes.sim``. The file that the environment variable STVLA_CHAOS_FAULT
names contains what fails, as one word: ``camera``, ``joints``, ``clock``, or nothing. Only what is published changes;
physics, controllers and scores are the simulator's own.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

from rclpy.publisher import Publisher
from sensor_msgs.msg import JointState

from benchmarks.chaos.faults import CLOCK_BACK_S, JUMP_RAD
from stvla_ros.nodes.sim import SimNode
from stvla_ros.ros.convert import ns_to_time, time_to_ns
from stvla_ros.ros.run import run
from stvla_ros.sim.scene import SceneState

FAULT = "STVLA_CHAOS_FAULT"
CLOCK_BACK_NS = round(CLOCK_BACK_S * 1e9)
POLL_S = 0.02


class Fault:
    """The current fault; the file is read again only after a change."""

    def __init__(self) -> None:
        self._file, self._seen_ns, self._name = Path(os.environ[FAULT]), -1, ""

    def __call__(self) -> str:
        written_ns = self._file.stat().st_mtime_ns
        if written_ns != self._seen_ns:
            self._seen_ns, self._name = written_ns, self._file.read_text().strip()
        return self._name


class FaultyJoints:
    """The publisher of joint states; otherwise it is like any publisher."""

    def __init__(self, publisher: Publisher, fault: Fault) -> None:
        self._publisher, self._fault = publisher, fault

    def publish(self, message: JointState) -> None:
        """Pass a message on, perhaps falsified."""
        fault = self._fault()
        if fault == "joints":
            message.position = [message.position[0] + JUMP_RAD, *message.position[1:]]
        if fault == "clock":
            message.header.stamp = ns_to_time(time_to_ns(message.header.stamp) - CLOCK_BACK_NS)
        self._publisher.publish(message)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._publisher, name)


class FaultySim(SimNode):
    """Its joint states and images pass through the fault."""

    def create_publisher(self, msg_type: Any, *args: Any, **kwargs: Any) -> Any:
        """See :meth:`rclpy.node.Node.create_publisher`."""
        publisher = super().create_publisher(msg_type, *args, **kwargs)
        return FaultyJoints(publisher, Fault()) if msg_type is JointState else publisher

    def _look(self) -> tuple[SceneState, int]:
        """What the camera process draws, or no answer while the camera is silent."""
        fault = Fault()
        while fault() == "camera" and self.context.ok():
            time.sleep(POLL_S)
        moment, stamp_ns = super()._look()
        return moment, stamp_ns - CLOCK_BACK_NS if fault() == "clock" else stamp_ns


if __name__ == "__main__":
    sys.exit(run(FaultySim))
