"""The replay of a rosbag2: at its own pace, and stamped as if it happened now, or with a clock of its own.

A bag has two times per message: when it was recorded, by the recorder's clock, and the stamp in its header, by the
clock of the node that stamped it. Usually both clocks are the same. But in simulation the stamps are simulated time,
a camera's own clock may be minutes off, and either clock may jump when a simulation restarts or a clock is set.

Messages whose stamps are equally far from their record times share a clock, and so do the messages of one topic as long
as they may only have come late. Their stamps are shifted by one constant,
so that messages which belong together stay together. Each clock has its own constant, so that messages which came
together come together again, whatever the clocks said: a clock that was off during the recording is on time in the
replay.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from geometry_msgs.msg import TransformStamped
from rclpy.node import Node
from rosgraph_msgs.msg import Clock
from tf2_msgs.msg import TFMessage

from stvla_ros.ros import qos
from stvla_ros.ros.bag import Bag, BagMessage, frames_of
from stvla_ros.ros.bag_topics import IMAGE, INFO, JOINTS, STATIC, TF, message_class
from stvla_ros.ros.convert import ns_to_time, time_to_ns

APART_NS = 1_000_000_000
"""Stamps further than this from the record time are not by the recorder's clock; less is transport delay."""

DELAY_NS = 5_000_000_000
"""Where a topic's stamps go on in order, they are by the same clock as before and came late, at most by this: a full
machine keeps a recorder waiting."""

GAP_NS = 10_000_000_000
"""A longer silence, or a jump of the recorder's clock, is skipped."""

CLOCKS = 8
"""Number of clocks that are remembered."""

BETWEEN_ROUNDS_S = 0.1
LATE_NS = 500_000_000
"""A replay that is later than this (a slow disk, a set clock) goes on from there, so that its stamps stay current."""

TICK_S = 0.02
"""Time between two messages on /clock, by the system's clock; ``ros2 bag play --clock`` sends 40 per second."""

_PROFILES = {STATIC: qos.LATCHED_NEWEST, TF: qos.EVENT, JOINTS: qos.EVENT, IMAGE: qos.IMAGE, INFO: qos.LATCHED_NEWEST}
"""By topic or type. Camera info is latched, because some drivers send it only once."""


class ReplayClock(Protocol):
    """The time of a replay."""

    def now_ns(self) -> int:
        """The time that messages are stamped with."""
        ...

    def wait_until(self, due_ns: int, end: threading.Event) -> bool:
        """Wait for a time, at once if it is past; True if ``end`` was set meanwhile."""
        ...


class SystemClock:
    """The time of this computer: what is replayed happens now."""

    def now_ns(self) -> int:
        """The time since the epoch."""
        return time.time_ns()

    def wait_until(self, due_ns: int, end: threading.Event) -> bool:
        """Wait for a time; True if ``end`` was set meanwhile."""
        return end.wait(max(0.0, (due_ns - self.now_ns()) / 1e9))


class BagClock:
    """The time of the recording, published on /clock.

    It goes on only while the replay waits, so nothing is ever late: on a slow machine it is slow.

    Args:
        node: Owner of the publisher.
        first_ns: Where it begins.
        speed: Its seconds per second of the system.
    """

    def __init__(self, node: Node, first_ns: int, speed: float = 1.0) -> None:
        self._publisher = node.create_publisher(Clock, "/clock", qos.EVENT)
        self._ns, self._speed = first_ns, speed

    def now_ns(self) -> int:
        """The time of the last message on /clock."""
        return self._ns

    def wait_until(self, due_ns: int, end: threading.Event) -> bool:
        """Let the clock go on until a time; True if ``end`` was set meanwhile."""
        tick_ns = max(1, round(TICK_S * self._speed * 1e9))
        while not end.is_set() and self._ns < due_ns:
            step_ns = min(tick_ns, due_ns - self._ns)
            if end.wait(step_ns / self._speed / 1e9):
                break
            self._ns += step_ns
            self._publisher.publish(Clock(clock=ns_to_time(self._ns)))
        return end.is_set()


class BagReplay:
    """Publishes a bag on the topics that it was recorded from.

    All static transforms are published together from the beginning: nodes that join late get the last message.

    Args:
        node: Owner of the publishers.
        bag: The bag to replay.
        loop: Start again after the last message; time goes on.
        clock: Of the replay; default: this computer's.
    """

    def __init__(self, node: Node, bag: Bag, loop: bool, clock: ReplayClock | None = None) -> None:
        self._clock: ReplayClock = clock or SystemClock()
        self._bag, self._loop, self._logger = bag, loop, node.get_logger()
        self._told = set[str]()
        self._tell()
        self._publishers = {
            topic: node.create_publisher(message_class(kind), topic, _PROFILES.get(topic, _PROFILES[kind]))
            for topic, kind in bag.topics.items()
        }

    def run(self, end: threading.Event) -> None:
        """Replay until the end of the bag, or until ``end`` is set. Raises ConfigError when the bag is damaged."""
        while not end.is_set():
            self._once(end)
            self._tell()
            if not self._loop:
                return
            self._clock.wait_until(self._clock.now_ns() + round(BETWEEN_ROUNDS_S * 1e9), end)

    def _tell(self) -> None:
        """Log what is new in the notes about the bag."""
        for note in self._bag.notes:
            if note not in self._told:
                self._told.add(note)
                self._logger.warning(note)

    def _once(self, end: threading.Event) -> None:
        clocks, started_ns = BagClocks(self._bag.first_ns), self._clock.now_ns()
        static = dict(self._bag.static_transforms)
        self._latch(static, started_ns)
        for entry in self._bag:
            if entry.topic == STATIC:
                static |= {frames_of(t): t for t in entry.message.transforms}
                self._latch(static, started_ns)
                continue
            late_ns = self._clock.now_ns() - started_ns - clocks.position_ns  # of the last message
            if abs(late_ns) > LATE_NS:
                started_ns += late_ns
            move_stamps(entry, clocks, self._bag.first_ns, started_ns)
            if self._clock.wait_until(started_ns + clocks.position_ns, end):
                return
            self._publishers[entry.topic].publish(entry.message)

    def _latch(self, static: Mapping[tuple[str, str], TransformStamped], stamp_ns: int) -> None:
        """Publish all static transforms in one message: of many messages the history would lose the first ones."""
        if static:
            for transform in static.values():
                transform.header.stamp = ns_to_time(stamp_ns)
            self._publishers[STATIC].publish(TFMessage(transforms=list(static.values())))


@dataclass
class _Clock:
    """A clock other than the recorder's.

    Attributes:
        apart_ns: Difference of stamp and record time in its last message; slow simulations fall behind.
        shift_ns: From its stamps to the replay's timeline.
    """

    apart_ns: int
    shift_ns: int


class BagClocks:
    """The timeline of one replay, in the order of the messages.

    Args:
        first_ns: Record time of the bag's first message.
    """

    def __init__(self, first_ns: int) -> None:
        self._recorder = _Clock(0, -first_ns)
        self._others: list[_Clock] = []
        self._streams: dict[str, tuple[_Clock, int]] = {}  # the clock of a stream's last message, and its stamp
        self._recorded_ns = first_ns
        self.position_ns = 0
        """When the last message is due, since the beginning of the replay."""

    def place(self, stream: str, recorded_ns: int, stamp_ns: int) -> int:
        """Take one message.

        Args:
            stream: What comes in the order of its stamps, from one clock.
            recorded_ns: When it was recorded.
            stamp_ns: The stamp in its header; 0 means none and counts as the record time.

        Returns:
            The number to add to its stamp to get the time since the replay began [ns].
        """
        passed_ns = min(max(recorded_ns - self._recorded_ns, 0), GAP_NS)
        self._recorded_ns = recorded_ns
        now_ns = self.position_ns + passed_ns
        apart_ns = stamp_ns - recorded_ns if stamp_ns else 0
        clock, before_ns = self._streams.get(stream, (self._recorder, 0))
        late_ns = clock.apart_ns - apart_ns
        if not (before_ns and before_ns <= stamp_ns and -APART_NS <= late_ns <= DELAY_NS):
            clock = min([self._recorder, *self._others], key=lambda clock: abs(clock.apart_ns - apart_ns))
            late_ns = clock.apart_ns - apart_ns
            if abs(late_ns) > APART_NS:
                clock, late_ns = _Clock(apart_ns, now_ns - stamp_ns), 0
                self._others = [*self._others, clock][-CLOCKS:]
        if stamp_ns:
            self._streams[stream] = clock, stamp_ns
        own = clock is self._recorder
        due_ns = (recorded_ns if own else stamp_ns) + clock.shift_ns
        if not -APART_NS <= due_ns - self.position_ns <= GAP_NS:
            clock.shift_ns += now_ns - due_ns
            due_ns = now_ns
        if not own and late_ns <= APART_NS:
            clock.apart_ns = apart_ns
        self.position_ns = max(self.position_ns, due_ns)
        return clock.shift_ns


def move_stamps(entry: BagMessage, clocks: BagClocks, first_ns: int, started_ns: int) -> None:
    """Shift the stamps of a message, or of each transform in it, to a timeline that begins at ``started_ns``.

    A stamp of 0 means none and stays 0.
    """
    for stamped in getattr(entry.message, "transforms", [entry.message]):
        stamp_ns = time_to_ns(stamped.header.stamp)
        stream = f"{entry.topic} {getattr(stamped, 'child_frame_id', '')}"  # transforms of several nodes share a topic
        shift_ns = clocks.place(stream, first_ns + entry.after_ns, stamp_ns)
        if stamp_ns:
            stamped.header.stamp = ns_to_time(max(0, stamp_ns + shift_ns + started_ns))
