"""Bags of a small camera, written as ``ros2 bag record`` leaves them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from ray_caster import Scene, block, home_robot, plate
from rclpy.serialization import serialize_message
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, JointState
from tf2_msgs.msg import TFMessage

from stvla_ros.data.recording import RecordingWriter
from stvla_ros.description.robot import RobotConfig
from stvla_ros.ros import convert
from stvla_ros.ros.bag_topics import COMPRESSED, IMAGE, INFO, JOINTS, TF
from stvla_ros.ros.frames import CameraConfig
from stvla_ros.ros.robot_state import state_to_msg

H, W, START = 24, 32, 1_700_000_000_000_000_000
PICK = "Put the red block in the plate."
TENTH = 100_000_000
TOPICS, STORE, OPTICAL = CameraConfig(), get_typestore(Stores.ROS2_JAZZY), "camera_color_optical_frame"
KINDS = {Image: IMAGE, CameraInfo: INFO, JointState: JOINTS, TFMessage: TF, CompressedImage: COMPRESSED}

Told = tuple[int, str, Any]
"""When it was recorded [ns], topic, message."""


def static(stamp_ns: int = START, child: str = OPTICAL, x_m: float = 0.0) -> TFMessage:
    T = np.eye(4)
    T[0, 3] = x_m
    return TFMessage(transforms=[convert.matrix_to_transform(T, "panda_link0", child, stamp_ns)])


def shot(stamp_ns: int, value: int = 100, depth_after_ns: int = 0) -> dict[str, Any]:
    """Topic -> message of one picture; its pixels have one value."""
    head, later = convert.header(stamp_ns, OPTICAL), convert.header(stamp_ns + depth_after_ns, OPTICAL)
    info = CameraInfo(
        header=head,
        height=H,
        width=W,
        distortion_model="plumb_bob",
        d=[0.0] * 5,
        k=[30.0, 0, 15.5, 0, 30.0, 11.5, 0, 0, 1.0],
    )
    return {
        TOPICS.color: convert.rgb_to_image(np.full((H, W, 3), value, np.uint8), head),
        TOPICS.depth: convert.depth_to_image_mm(np.full((H, W), 0.5, np.float32), later),
        TOPICS.info: info,
    }


def shots(count: int, header_ns: int = START, recorded_ns: int = START, depth_after_ns: int = 0) -> Iterator[Told]:
    """Pictures 0, 1, ... at 10 Hz, with headers from ``header_ns`` on."""
    for i in range(count):
        for topic, message in shot(header_ns + i * TENTH, i, depth_after_ns).items():
            yield recorded_ns + i * TENTH, topic, message


def arm(stamp_ns: int, robot: Any) -> JointState:
    message = state_to_msg(robot, RobotConfig())
    message.header.stamp = convert.ns_to_time(stamp_ns)
    return message


def write(
    folder: Path,
    told: Iterable[Told],
    plugin: StoragePlugin = StoragePlugin.MCAP,
    compressed: CompressionMode = CompressionMode.NONE,
    prefix: str = "/",
    empty: tuple[tuple[str, Any], ...] = (),
) -> Path:
    """A bag of some messages; ``empty``: topics without any."""
    writer = Writer(folder, version=9, storage_plugin=plugin)
    if compressed is not CompressionMode.NONE:
        writer.set_compression(compressed, CompressionFormat.ZSTD)
    with writer as bag:
        rooms: dict[str, Any] = {}

        def room(topic: str, kind: Any) -> Any:
            name = topic if topic.startswith("/") else prefix + topic
            if name not in rooms:
                rooms[name] = bag.add_connection(name, KINDS[kind], typestore=STORE)
            return rooms[name]

        for topic, kind in empty:
            room(topic, kind)
        for recorded_ns, topic, message in told:
            bag.write(room(topic, type(message)), recorded_ns, serialize_message(message))
    return folder


def usual(folder: Path, count: int = 20, **how: Any) -> Path:
    """A static transform and some pictures."""
    return write(folder, [(START, "tf_static", static()), *shots(count)], **how)


def record_scene(folder: Path) -> Path:
    """One frame of a table with a plate and three blocks, the arm at home."""
    scene = Scene(
        [block("red", 0.45, 0.12, 0.4), block("blue", 0.55, -0.2), block("lime", 0.38, -0.05), *plate(0.6, 0.1)]
    )
    frame, _ = scene.render(stamp_ns=1_700_000_000_000_000_000)
    RecordingWriter(folder).append(frame, home_robot(stamp_ns=1_700_000_000_000_000_000))
    return folder
