"""Topics that are taken at times."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
import stalls
from rclpy.node import Node
from sensor_msgs.msg import JointState

from stvla_ros.ros import polling, qos


class Fast:
    """A publisher in a thread of its own; a message has its number as position."""

    def __init__(self, node: Node, names: list[str], rate_hz: float) -> None:
        self._publisher = node.create_publisher(JointState, "joint_states", qos.FAST_STATE)
        self._names, self._period_s, self.sent = names, 1.0 / rate_hz, 0
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        start = time.monotonic()
        while not self._ending.wait(max(0.0, start + self.sent * self._period_s - time.monotonic())):
            self.sent += 1
            self._publisher.publish(JointState(name=self._names, position=[float(self.sent)] * len(self._names)))

    def end(self) -> None:
        self._ending.set()
        self._thread.join()


def test_of_a_kilohertz_the_newest_are_read_and_slow_neighbours_are_not_hidden(ros: Any) -> None:
    node, other = ros.add(Node("reader")), ros.add(Node("robot"))
    read: dict[str, list[float]] = {"arm": [], "finger": []}
    polling.subscribe(node, JointState, "joint_states", lambda m: read[m.name[0]].append(m.position[0]), qos.FAST_STATE)
    arm, finger = Fast(other, ["arm", "wrist"], 1000.0), Fast(other, ["finger"], 8.0)
    stalls.pause(2.0)
    arm.end()
    finger.end()
    stalls.pause(0.2)
    assert len(read["arm"]) < 0.5 * arm.sent  # 4 of the 20 in a period
    assert read["arm"] == sorted(read["arm"])
    assert read["arm"][-1] == arm.sent
    assert len(read["finger"]) >= finger.sent - 2  # the first ones before they had found each other
    ends = len(read["arm"])
    stalls.pause(0.1)
    assert len(read["arm"]) == ends  # nothing is read twice


def test_of_a_slow_topic_no_message_is_lost(ros: Any) -> None:
    node, other = ros.add(Node("reader")), ros.add(Node("robot"))
    read: list[float] = []
    polling.subscribe(node, JointState, "joint_states", lambda m: read.append(m.position[0]), qos.FAST_STATE)
    stalls.pause(0.5)
    arm = Fast(other, ["arm"], 8.0)  # so slow that a reader without a processor for half a second still finds all
    stalls.pause(2.0)
    arm.end()
    stalls.pause(0.2)
    assert read == [float(i + 1) for i in range(int(read[0]) - 1, arm.sent)]
    assert len(read) > 0.5 * arm.sent


def test_whoever_asks_gets_what_has_come(ros: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(polling, "PERIOD_S", 1000.0)
    node, other = ros.add(Node("reader")), ros.add(Node("robot"))
    read: list[float] = []
    take = polling.subscribe(node, JointState, "joint_states", lambda m: read.append(m.position[0]), qos.FAST_STATE)
    stalls.pause(0.5)
    arm = Fast(other, ["arm"], 20.0)
    stalls.pause(0.5)
    arm.end()
    stalls.pause(0.1)
    assert read == []
    take()
    assert read == [float(n) for n in range(arm.sent - polling.NEWEST + 1, arm.sent + 1)]
    take()
    assert len(read) == polling.NEWEST
