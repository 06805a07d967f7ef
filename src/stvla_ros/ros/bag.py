"""rosbag2 recordings: the messages that the stack needs, at their own pace and stamped anew.

Stamps move by a constant per clock (:mod:`stvla_ros.ros.bag_clocks`), so that the parts of a frame still belong together
while nothing counts as stale.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

from geometry_msgs.msg import TransformStamped
from rclpy._rclpy_pybind11 import RMWError
from rclpy.node import Node
from rclpy.serialization import deserialize_message
from tf2_msgs.msg import TFMessage

from stvla_ros.config import ConfigError
from stvla_ros.data.recording import is_bag as is_bag
from stvla_ros.description.robot import RobotConfig
from stvla_ros.ros import qos
from stvla_ros.ros.bag_clocks import BagClocks
from stvla_ros.ros.compressed import decompressed
from stvla_ros.ros.convert import ns_to_time, time_to_ns
from stvla_ros.ros.frames import CameraConfig

IMAGE, INFO, JOINTS = "sensor_msgs/msg/Image", "sensor_msgs/msg/CameraInfo", "sensor_msgs/msg/JointState"
TF, COMPRESSED = "tf2_msgs/msg/TFMessage", "sensor_msgs/msg/CompressedImage"
STATIC = "/tf_static"

BETWEEN_ROUNDS_S = 0.1
LATE_NS = 500_000_000
"""Where a replay is later than this (a slow disk, a clock that was set), it goes on from there: its stamps stay those of now."""


@dataclass(frozen=True)
class BagMessage:
    """One message of a bag.

    Attributes:
        topic: Where it was recorded; for a compressed image the topic of the raw one.
        after_ns: Time since the recording began.
        message: Stamped as recorded.
    """

    topic: str
    after_ns: int
    message: Any


class Bag:
    """A rosbag2 with colour, aligned depth and camera info, and the transform to the camera.

    Args:
        path: The bag's folder, or a single file of one.
        required: Topic -> type of what must be in it.
        optional: Topic -> type of what is replayed as well where it is there.
        settings: Topic -> setting that names it, for the sentence when it is missing.

    Raises:
        ConfigError: The ``rosbags`` package is missing, the bag cannot be read, or a topic is missing, empty or of another
            type.
    """

    def __init__(
        self,
        path: Path,
        required: Mapping[str, str],
        optional: Mapping[str, str],
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.path = path
        with self._open() as files:
            found, cut_off = files.topics, files.cut_off
            self.first_ns = files.start_ns
            """When the recording began."""
            self.seconds = (files.end_ns - files.start_ns) / 1e9
        self.notes = [
            f"{path}: its recorder did not come to its end; what is whole of it is read ({self.seconds:.1f} s)."
        ] * cut_off
        """What is to be told about it."""
        self._stored: dict[str, str] = {}  # topic in the bag -> topic of its messages
        self.topics: dict[str, str] = {}
        """Topic -> type of what comes of it."""
        if not any(count for kinds in found.values() for count in kinds.values()):
            raise ConfigError(
                f"{path}: wanted a bag with messages, found none{' that is whole' * cut_off}: record again."
            )
        missing = [topic for topic, kind in required.items() if not self._take(topic, kind, found)]
        if missing:
            raise ConfigError(f"{path}: {_missing(missing, required, found, settings or {})}")
        for topic, kind in optional.items():
            self._take(topic, kind, found)
        self._kinds = {
            stored: self.topics[topic] if stored == topic else COMPRESSED for stored, topic in self._stored.items()
        }
        self.counts = {topic: found[stored][self._kinds[stored]] for stored, topic in self._stored.items()}
        """Topic -> how many messages it has."""

    def _take(self, topic: str, kind: str, found: Mapping[str, Mapping[str, int]]) -> bool:
        """Read a topic where it has messages of this type, or where images are stored compressed (image_transport)."""
        names = {topic: kind}
        if kind == IMAGE:
            names = {**names, f"{topic}/compressedDepth": COMPRESSED, f"{topic}/compressed": COMPRESSED}
        for name, stored in names.items():
            if found.get(name, {}).get(stored, 0):
                self._stored[name], self.topics[topic] = topic, kind
                return True
        return False

    def __iter__(self) -> Iterator[BagMessage]:
        """All messages in order of time. Raises ConfigError where the bag is damaged: how far it could be read, and why."""
        from stvla_ros.ros import bag_files

        after_ns = 0
        with self._open() as files:
            try:
                for stored, kind, recorded_ns, data in files.messages(self._kinds):
                    after_ns = recorded_ns - self.first_ns
                    yield BagMessage(self._stored[stored], after_ns, self._read(stored, kind, data))
            except ConfigError:
                raise
            except bag_files.ERRORS as error:
                raise bag_files.damaged(self.path, after_ns / 1e9, self.seconds, error) from error

    def _read(self, stored: str, kind: str, data: bytes) -> Any:
        """The message. Raises ValueError when it is damaged, ConfigError for an image that cannot be unpacked."""
        try:
            message = deserialize_message(data, message_class(kind))
        except RMWError as error:
            raise ValueError(f"a message on {stored} is damaged") from error
        try:
            return decompressed(message) if kind == COMPRESSED else message
        except ValueError as error:
            raise ConfigError(f"{self.path}: {stored}: {error}.") from error

    @contextmanager
    def _open(self) -> Iterator[Any]:
        try:
            from stvla_ros.ros.bag_files import opened
        except ModuleNotFoundError as error:
            raise ConfigError("Reading a rosbag2 needs the Python package 'rosbags': pip install rosbags.") from error
        with opened(self.path) as files:
            yield files

    @cached_property
    def static_transforms(self) -> Mapping[tuple[str, str], TransformStamped]:
        """Parent and child -> their first static transform, wherever in the bag it stands: they hold at any time."""
        found: dict[tuple[str, str], TransformStamped] = {}
        with suppress(ConfigError):  # damage: told where all is read
            for entry in Bag(self.path, {STATIC: TF}, {}) if STATIC in self.topics else ():
                for transform in entry.message.transforms:
                    found.setdefault(_frames(transform), transform)
        return found


def _frames(transform: TransformStamped) -> tuple[str, str]:
    return transform.header.frame_id, transform.child_frame_id


def message_class(kind: str) -> Any:
    """The class of a type name such as ``sensor_msgs/msg/Image``."""
    package, room, name = kind.split("/")
    return getattr(import_module(f"{package}.{room}"), name)


def camera_bag(path: Path, topics: CameraConfig, robot: RobotConfig | None = None, joint_states: bool = True) -> Bag:
    """A bag with a camera's topics; the camera's transform and a robot's joint states come along. Raises ConfigError."""
    names = {"color": (topics.color, IMAGE), "depth": (topics.depth, IMAGE), "info": (topics.info, INFO)}
    images = {absolute(topic): kind for topic, kind in names.values()}
    settings = {absolute(topic): f"camera.topics.{part}" for part, (topic, _) in names.items()}
    others = {STATIC: TF, "/tf": TF} | _joint_topics(robot if joint_states else None)
    bag = Bag(path, images, others, settings)
    if not {STATIC, "/tf"} & set(bag.topics):
        bag.notes.append(f"{path}: no transforms on {STATIC} or /tf: without them it is not known where the camera is.")
    return bag


def _joint_topics(robot: RobotConfig | None) -> dict[str, str]:
    topics = (robot.joint_states, robot.gripper_joint_states) if robot else ()
    return {absolute(topic): JOINTS for topic in topics}


def absolute(topic: str) -> str:
    """The full name of a topic, as bags have it."""
    return topic if topic.startswith("/") else f"/{topic}"


def _missing(
    missing: list[str],
    required: Mapping[str, str],
    found: Mapping[str, Mapping[str, int]],
    settings: Mapping[str, str],
) -> str:
    """What is wanted and what the bag has, for each missing topic the setting that names it."""
    wanted = ", ".join(f"{topic} ({required[topic]})" for topic in missing)
    told = [_told(topic, kinds) for topic, kinds in sorted(found.items())]
    sentence = f"wanted {wanted}; the bag has {', '.join(told) or 'nothing'}."
    kinds = {required[topic] for topic in missing} | (
        {COMPRESSED} if IMAGE in {required[t] for t in missing} else set()
    )
    if any(count for of in found.values() for kind, count in of.items() if kind in kinds):
        names = ", ".join(settings[topic] for topic in missing if topic in settings)
        return f"{sentence} Set {names or 'the topics'} to its names."
    return f"{sentence} Record these topics."


def _told(topic: str, kinds: Mapping[str, int]) -> str:
    return ", ".join(
        f"{topic} ({kind})" if count else f"{topic} ({kind}, no messages)" for kind, count in kinds.items()
    )


class BagReplay:
    """Publishes a bag on the topics that it was recorded from, as if it happened now.

    Static transforms are published all together, from the beginning on: whoever joins late gets the last message.

    Args:
        node: Publishes.
        bag: What to replay.
        loop: Begin again after the last message.
    """

    def __init__(self, node: Node, bag: Bag, loop: bool) -> None:
        self._node, self._bag, self._loop = node, bag, loop
        self._publishers = {
            topic: node.create_publisher(message_class(kind), topic, _PROFILES.get(topic, _PROFILES[kind]))
            for topic, kind in bag.topics.items()
        }

    def run(self, end: threading.Event) -> None:
        """Replay until the end of the bag, or until ``end`` is set. Raises ConfigError where the bag is damaged."""
        while not end.is_set():
            self._once(end)
            if not self._loop:
                return
            end.wait(BETWEEN_ROUNDS_S)

    def _once(self, end: threading.Event) -> None:
        clocks, started_ns = BagClocks(self._bag.first_ns), self._now_ns()
        static = dict(self._bag.static_transforms)
        self._latch(static, started_ns)
        for entry in self._bag:
            if entry.topic == STATIC:
                static |= {_frames(t): t for t in entry.message.transforms}
                self._latch(static, started_ns)
                continue
            late_ns = self._now_ns() - started_ns - clocks.position_ns  # of the message before
            if abs(late_ns) > LATE_NS:
                started_ns += late_ns
            move_stamps(entry, clocks, self._bag.first_ns, started_ns)
            if end.wait(max(0.0, (started_ns + clocks.position_ns - self._now_ns()) / 1e9)):
                return
            self._publishers[entry.topic].publish(entry.message)

    def _latch(self, static: Mapping[tuple[str, str], TransformStamped], stamp_ns: int) -> None:
        """Publish all static transforms in one message: with one each, the history would lose the first of many."""
        if static:
            for transform in static.values():
                transform.header.stamp = ns_to_time(stamp_ns)
            self._publishers[STATIC].publish(TFMessage(transforms=list(static.values())))

    def _now_ns(self) -> int:
        return int(self._node.get_clock().now().nanoseconds)


_PROFILES = {STATIC: qos.LATCHED_NEWEST, TF: qos.EVENT, JOINTS: qos.EVENT, IMAGE: qos.IMAGE, INFO: qos.LATCHED_NEWEST}
"""By topic or type. Camera info is latched, because some drivers send it once."""


def move_stamps(entry: BagMessage, clocks: BagClocks, first_ns: int, started_ns: int) -> None:
    """Bring the stamps of a message, or of each transform in it, onto a time line that begins at ``started_ns``.

    A stamp of 0 is none and stays so.
    """
    for stamped in getattr(entry.message, "transforms", [entry.message]):
        stamp_ns = time_to_ns(stamped.header.stamp)
        shift_ns = clocks.place(first_ns + entry.after_ns, stamp_ns)
        if stamp_ns:
            stamped.header.stamp = ns_to_time(max(0, stamp_ns + shift_ns + started_ns))
