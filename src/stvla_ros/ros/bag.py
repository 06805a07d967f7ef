"""rosbag2 recordings: the messages that the stack needs, at their own pace and stamped anew.

Read by the ``rosbags`` package, because rosbag2's own player is no wheel. Stamps move by one constant, so that
the parts of a frame still belong together while nothing counts as stale.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from rclpy.node import Node
from rclpy.serialization import deserialize_message

from stvla_ros.config import ConfigError
from stvla_ros.description.robot import RobotConfig
from stvla_ros.ros import qos
from stvla_ros.ros.convert import ns_to_time, time_to_ns
from stvla_ros.ros.frames import CameraConfig

IMAGE, INFO, JOINTS = "sensor_msgs/msg/Image", "sensor_msgs/msg/CameraInfo", "sensor_msgs/msg/JointState"
TF = "tf2_msgs/msg/TFMessage"

BETWEEN_ROUNDS_S = 0.1


def is_bag(path: Path) -> bool:
    """A rosbag2 folder, or a single file of one."""
    return (path / "metadata.yaml").is_file() or path.suffix in (".db3", ".mcap")


@dataclass(frozen=True)
class BagMessage:
    """One message of a bag.

    Attributes:
        topic: Where it was recorded.
        after_ns: Time since the recording began.
        message: Stamped as recorded.
    """

    topic: str
    after_ns: int
    message: Any


class Bag:
    """A rosbag2 with colour, aligned depth and camera info, and the transform to the camera.

    Args:
        path: The bag's folder.
        required: Topic -> type of what must be in it.
        optional: Topic -> type of what is replayed as well where it is there.

    Raises:
        ConfigError: The ``rosbags`` package is missing, the bag cannot be read, or a topic is missing or of another type.
    """

    def __init__(self, path: Path, required: Mapping[str, str], optional: Mapping[str, str]) -> None:
        self._path = path.parent if path.is_file() else path
        with self._open() as reader:
            found = {c.topic: c.msgtype for c in reader.connections}
            self.first_ns = int(reader.start_time)
            """When the recording began."""
        missing = [f"{topic} ({kind})" for topic, kind in required.items() if found.get(topic) != kind]
        if missing:
            there = ", ".join(f"{topic} ({kind})" for topic, kind in sorted(found.items())) or "nothing"
            raise ConfigError(
                f"{path}: wanted {', '.join(missing)}; the bag has {there}. Set camera.topics to its names."
            )
        self.topics = dict(required) | {topic: kind for topic, kind in optional.items() if found.get(topic) == kind}

    def __iter__(self) -> Iterator[BagMessage]:
        with self._open() as reader:
            wanted = [c for c in reader.connections if c.topic in self.topics]
            for connection, recorded_ns, data in reader.messages(connections=wanted):
                message = deserialize_message(bytes(data), message_class(connection.msgtype))
                yield BagMessage(connection.topic, recorded_ns - self.first_ns, message)

    @contextmanager
    def _open(self) -> Iterator[Any]:
        try:
            from rosbags.rosbag2 import Reader, ReaderError
        except ModuleNotFoundError as error:
            raise ConfigError("Reading a rosbag2 needs the Python package 'rosbags': pip install rosbags.") from error
        try:
            reader = Reader(self._path)
            reader.open()
        except (ReaderError, OSError) as error:
            raise ConfigError(f"{self._path}: wanted a rosbag2, which this is not: {error}") from error
        try:
            yield reader
        finally:
            reader.close()


def message_class(kind: str) -> Any:
    """The class of a type name such as ``sensor_msgs/msg/Image``."""
    package, room, name = kind.split("/")
    return getattr(import_module(f"{package}.{room}"), name)


def camera_bag(path: Path, topics: CameraConfig, robot: RobotConfig | None) -> Bag:
    """A bag with a camera's topics; the camera's transform and a robot's joint states come along. Raises ConfigError."""
    images = {_absolute(topics.color): IMAGE, _absolute(topics.depth): IMAGE, _absolute(topics.info): INFO}
    others = {"/tf_static": TF, "/tf": TF} | (_joint_topics(robot))
    return Bag(path, images, others)


def _joint_topics(robot: RobotConfig | None) -> dict[str, str]:
    topics = (robot.joint_states, robot.gripper_joint_states) if robot else ()
    return {_absolute(topic): JOINTS for topic in topics}


def _absolute(topic: str) -> str:
    return topic if topic.startswith("/") else f"/{topic}"


class BagReplay:
    """Publishes a bag on the topics that it was recorded from, as if it happened now.

    Args:
        node: Publishes.
        bag: What to replay.
        loop: Begin again after the last message.
    """

    def __init__(self, node: Node, bag: Bag, loop: bool) -> None:
        self._node, self._bag, self._loop = node, bag, loop
        self._publishers = {
            topic: node.create_publisher(
                message_class(kind), topic, _PROFILES.get(topic, qos.EVENT if kind == JOINTS else qos.IMAGE)
            )
            for topic, kind in bag.topics.items()
        }

    def run(self, end: threading.Event) -> None:
        """Replay until the end of the bag, or until ``end`` is set."""
        while not end.is_set():
            self._once(end)
            if not self._loop:
                return
            end.wait(BETWEEN_ROUNDS_S)

    def _once(self, end: threading.Event) -> None:
        started_ns = self._now_ns()
        for entry in self._bag:
            if end.wait(max(0.0, (started_ns + entry.after_ns - self._now_ns()) / 1e9)):
                return
            _move_stamps(entry.message, started_ns - self._bag.first_ns)
            self._publishers[entry.topic].publish(entry.message)

    def _now_ns(self) -> int:
        return int(self._node.get_clock().now().nanoseconds)


_PROFILES = {"/tf_static": qos.LATCHED, "/tf": qos.EVENT}


def _move_stamps(message: Any, by_ns: int) -> None:
    """Add a constant to the stamp of a message with a header, or of each transform in it."""
    for stamped in getattr(message, "transforms", [message]):
        stamped.header.stamp = ns_to_time(max(0, time_to_ns(stamped.header.stamp) + by_ns))
