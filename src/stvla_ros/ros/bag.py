"""rosbag2 recordings: the messages that the stack needs, with compressed images decompressed."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from geometry_msgs.msg import TransformStamped
from rclpy._rclpy_pybind11 import RMWError
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CompressedImage, Image

from stvla_ros.config import ConfigError
from stvla_ros.data.recording import is_bag as is_bag
from stvla_ros.description.robot import RobotConfig
from stvla_ros.ros.frames import CameraConfig

IMAGE, INFO, JOINTS = "sensor_msgs/msg/Image", "sensor_msgs/msg/CameraInfo", "sensor_msgs/msg/JointState"
TF, COMPRESSED = "tf2_msgs/msg/TFMessage", "sensor_msgs/msg/CompressedImage"
STATIC = "/tf_static"

_PNG = b"\x89PNG"
_ENCODINGS = {("uint8", (3,)): "bgr8", ("uint8", (4,)): "bgra8", ("uint8", ()): "mono8", ("uint16", ()): "16UC1"}
_DEPTH_HEAD = struct.Struct("<iff")
"""compressed_depth_image_transport's ConfigHeader: format, and the two parameters of quantised inverse depth."""


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
        optional: Topic -> type of what is read too if the bag has it.
        settings: Topic -> setting that names it, for the error when it is missing.

    Raises:
        ConfigError: The package ``rosbags`` is missing, the bag cannot be read, or a topic is missing, empty or of
            another type.
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
            """When the recording began, by the recorder's clock."""
            self.seconds = (files.end_ns - files.start_ns) / 1e9
        self.notes = [
            f"{path}: its recorder was interrupted; the complete part is read ({self.seconds:.1f} s)."
        ] * cut_off
        """Notes for the operator about the bag."""
        self._stored: dict[str, str] = {}  # topic in the bag -> topic of its raw messages
        self.topics: dict[str, str] = {}
        """Topic -> type of its messages."""
        if not any(count for kinds in found.values() for count in kinds.values()):
            raise ConfigError(
                f"{path}: wanted a bag with messages, found none{' that is complete' * cut_off}: record again."
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
        """Topic -> number of its messages."""

    def _take(self, topic: str, kind: str, found: Mapping[str, Mapping[str, int]]) -> bool:
        """Select a topic if it has messages of this type, or compressed images (image_transport); False if not."""
        names = {topic: kind}
        if kind == IMAGE:
            names = {**names, f"{topic}/compressedDepth": COMPRESSED, f"{topic}/compressed": COMPRESSED}
        for name, stored in names.items():
            if found.get(name, {}).get(stored, 0):
                self._stored[name], self.topics[topic] = topic, kind
                return True
        return False

    def __iter__(self) -> Iterator[BagMessage]:
        """All messages in order of time. Raises ConfigError for damage; says how far the bag could be read, and why."""
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
        """The message. Raises ValueError when it is damaged, ConfigError for an image that cannot be decompressed."""
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
        """Parent and child -> their first static transform, wherever it is in the bag: it holds at any time."""
        found: dict[tuple[str, str], TransformStamped] = {}
        with suppress(ConfigError):  # damage is reported when all is read
            for entry in Bag(self.path, {STATIC: TF}, {}) if STATIC in self.topics else ():
                for transform in entry.message.transforms:
                    found.setdefault(frames_of(transform), transform)
        return found


def frames_of(transform: TransformStamped) -> tuple[str, str]:
    return transform.header.frame_id, transform.child_frame_id


def message_class(kind: str) -> Any:
    """The class of a type name such as ``sensor_msgs/msg/Image``."""
    package, room, name = kind.split("/")
    return getattr(import_module(f"{package}.{room}"), name)


def camera_bag(path: Path, topics: CameraConfig, robot: RobotConfig | None = None, joint_states: bool = True) -> Bag:
    """A bag with a camera's topics, its transforms, and a robot's joint states if it has them. Raises ConfigError."""
    names = {"color": (topics.color, IMAGE), "depth": (topics.depth, IMAGE), "info": (topics.info, INFO)}
    images = {absolute(topic): kind for topic, kind in names.values()}
    settings = {absolute(topic): f"camera.topics.{part}" for part, (topic, _) in names.items()}
    others = {STATIC: TF, "/tf": TF} | _joint_topics(robot if joint_states else None)
    bag = Bag(path, images, others, settings)
    if not {STATIC, "/tf"} & set(bag.topics):
        bag.notes.append(f"{path}: no transforms on {STATIC} or /tf, so the pose of the camera is not known.")
    return bag


def _joint_topics(robot: RobotConfig | None) -> dict[str, str]:
    topics = (robot.joint_states, robot.gripper_joint_states) if robot else ()
    return {absolute(topic): JOINTS for topic in topics}


def absolute(topic: str) -> str:
    """The full name of a topic, as in bags."""
    return topic if topic.startswith("/") else f"/{topic}"


def _missing(
    missing: list[str],
    required: Mapping[str, str],
    found: Mapping[str, Mapping[str, int]],
    settings: Mapping[str, str],
) -> str:
    """The error for missing topics: what was wanted, what the bag has, and which settings name the topics."""
    wanted = ", ".join(f"{topic} ({required[topic]})" for topic in missing)
    described = [_described(topic, kinds) for topic, kinds in sorted(found.items())]
    sentence = f"wanted {wanted}; the bag has {', '.join(described) or 'nothing'}."
    kinds = {required[topic] for topic in missing} | (
        {COMPRESSED} if IMAGE in {required[t] for t in missing} else set()
    )
    if any(count for of in found.values() for kind, count in of.items() if kind in kinds):
        names = ", ".join(settings[topic] for topic in missing if topic in settings)
        return f"{sentence} Set {names or 'the topics'} to its names."
    return f"{sentence} Record these topics."


def _described(topic: str, kinds: Mapping[str, int]) -> str:
    return ", ".join(
        f"{topic} ({kind})" if count else f"{topic} ({kind}, no messages)" for kind, count in kinds.items()
    )


def decompressed(message: CompressedImage) -> Image:
    """The raw image; quantised inverse depth becomes ``32FC1`` (metres, NaN where unknown).

    Raises:
        ValueError: A codec that OpenCV does not know, or damaged data.
    """
    data, depth = bytes(message.data), "compressedDepth" in message.format
    if depth:
        head, data = data[: _DEPTH_HEAD.size], data[_DEPTH_HEAD.size :]
        if not data.startswith(_PNG):
            raise ValueError(
                f"wanted compressedDepth as PNG, got '{message.format}': convert it to raw images while the bag is played "
                "(ros2 run image_transport republish compressedDepth raw) and record those"
            )
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if data else None
    except cv2.error as error:
        raise ValueError(f"an image of '{message.format}' is damaged ({error.err})") from error
    if pixels is None:
        raise ValueError(f"wanted an image in JPEG or PNG, got {len(data)} bytes of '{message.format}'")
    encoding = _ENCODINGS.get((pixels.dtype.name, pixels.shape[2:]))
    if encoding is None:
        raise ValueError(f"wanted colour or depth, got {pixels.dtype} {pixels.shape} of '{message.format}'")
    if depth and message.format.startswith("32FC1"):
        _, a, b = _DEPTH_HEAD.unpack(head)
        metres = np.float32(a) / np.maximum(pixels.astype(np.float32) - np.float32(b), np.float32(1e-6))
        pixels, encoding = np.where(pixels == 0, np.float32(np.nan), metres), "32FC1"
    h, w = pixels.shape[:2]
    step = pixels.nbytes // h
    return Image(header=message.header, height=h, width=w, encoding=encoding, step=step, data=pixels.tobytes())
