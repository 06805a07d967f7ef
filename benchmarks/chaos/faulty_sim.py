"""The simulated cell's node with a camera, joint states and a clock that can be made to fail.

Takes the place of ``stvla_ros.nodes.sim``. What fails stands, as one word, in the file that the environment variable
STVLA_CHAOS_FAULT names: ``camera``, ``joints``, ``clock``, or nothing. Only what is published changes; physics,
controllers and scores are the simulator's own.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from rclpy.publisher import Publisher
from sensor_msgs.msg import CameraInfo, Image, JointState

from benchmarks.chaos.faults import CLOCK_BACK_S, JUMP_RAD
from stvla_ros.nodes.sim import SimNode
from stvla_ros.ros.convert import ns_to_time, time_to_ns
from stvla_ros.ros.run import run

FAULT = "STVLA_CHAOS_FAULT"


class FaultyPublisher:
    """A publisher of a robot's sensor, and all else that a publisher is."""

    def __init__(self, publisher: Publisher, fault: Path) -> None:
        self._publisher, self._file = publisher, fault
        self._seen_ns, self._fault = -1, ""

    def publish(self, message: Any) -> None:
        """Pass a message on, unless it is lost, or falsified."""
        fault = self._present()
        if fault == "camera" and not isinstance(message, JointState):
            return
        if fault == "joints" and isinstance(message, JointState):
            message.position = [message.position[0] + JUMP_RAD, *message.position[1:]]
        if fault == "clock":
            message.header.stamp = ns_to_time(time_to_ns(message.header.stamp) - round(CLOCK_BACK_S * 1e9))
        self._publisher.publish(message)

    def _present(self) -> str:
        """The fault of now; the file is read again only when it was written."""
        written_ns = self._file.stat().st_mtime_ns
        if written_ns != self._seen_ns:
            self._seen_ns, self._fault = written_ns, self._file.read_text().strip()
        return self._fault

    def __getattr__(self, name: str) -> Any:
        return getattr(self._publisher, name)


class FaultySim(SimNode):
    """All that it says through joint states, images and camera info passes the fault."""

    def create_publisher(self, msg_type: Any, *args: Any, **kwargs: Any) -> Any:
        """See :meth:`rclpy.node.Node.create_publisher`."""
        publisher = super().create_publisher(msg_type, *args, **kwargs)
        if msg_type not in (JointState, Image, CameraInfo):
            return publisher
        return FaultyPublisher(publisher, Path(os.environ[FAULT]))


if __name__ == "__main__":
    sys.exit(run(FaultySim))
