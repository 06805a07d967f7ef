"""Plays a bag as ``ros2 bag play --clock`` does: messages as recorded, time on /clock by the bag's time.

Facts from rosbag2's player: /clock comes 40 times a second of the system's time, in a pause too; its QoS is best
effort; with --loop, time jumps back to the beginning. Here that happens when the test wants it; until then time stands
at the end.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock

from stvla_ros.ros import qos
from stvla_ros.ros.bag_topics import message_class
from stvla_ros.ros.convert import ns_to_time

TICK_S = 0.025


class BagPlayer:
    """Plays the database of a bag until it is closed.

    Attributes:
        rate: The bag's seconds per second; 0: it pauses.
        now_ns: The time on /clock.
    """

    def __init__(self, node: Node, database: Path) -> None:
        self.rate = 1.0
        with sqlite3.connect(database) as file:
            kinds = dict(file.execute("SELECT name, type FROM topics").fetchall())
            self._messages = file.execute(
                "SELECT m.timestamp, t.name, m.data FROM messages m JOIN topics t ON t.id = m.topic_id ORDER BY m.timestamp"
            ).fetchall()
        file.close()
        clock_qos = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
        self._clock = node.create_publisher(Clock, "/clock", clock_qos)
        self._publishers: dict[str, Any] = {}
        for topic, kind in kinds.items():
            profile = qos.LATCHED if topic == "/tf_static" else qos.IMAGE
            self._publishers[topic] = node.create_publisher(message_class(kind), topic, profile)
        self.first_ns, self.last_ns = self._messages[0][0], self._messages[-1][0]
        self.now_ns, self._next = self.first_ns, 0
        self._end = threading.Event()
        self._again = threading.Event()
        self._thread = threading.Thread(target=self._play, daemon=True)
        self._thread.start()

    def jump_back(self) -> None:
        """Start over now."""
        self._again.set()
        while self._again.is_set():
            time.sleep(0.005)

    def close(self) -> None:
        self._end.set()
        self._thread.join(5.0)

    def _play(self) -> None:
        before_s = time.monotonic()
        while not self._end.wait(TICK_S):
            at_s = time.monotonic()
            self.now_ns += round((at_s - before_s) * self.rate * 1e9)
            before_s = at_s
            self.now_ns = min(self.now_ns, self.last_ns)
            if self._again.is_set():
                self.now_ns, self._next = self.first_ns, 0
                self._again.clear()
            self._clock.publish(Clock(clock=ns_to_time(self.now_ns)))
            while self._next < len(self._messages) and self._messages[self._next][0] <= self.now_ns:
                _, topic, data = self._messages[self._next]
                self._publishers[topic].publish(data)
                self._next += 1
