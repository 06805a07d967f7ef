"""Messages of a small camera and an arm, and what other setups make of them."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any

import cv2
import numpy as np
from ray_caster import home_robot
from ros.bags import START, TENTH, TOPICS, H, Told, W, arm, shot, static
from sensor_msgs.msg import CompressedImage, Image, JointState

from stvla_ros.description.robot import RobotConfig
from stvla_ros.ros import convert

COLOR, DEPTH, INFO, JOINTS = TOPICS.color, TOPICS.depth, TOPICS.info, "joint_states"
FRAMES = 6
RGB = (100, 150, 200)
S = 1_000_000_000

Change = Callable[[Any], Any]


def usual(count: int = FRAMES) -> list[Told]:
    """Colour, depth of 0.5 m with a hole, camera info, joint states and the camera's transform."""
    told: list[Told] = [(START, "tf_static", static())]
    for i in range(count):
        at_ns = START + i * TENTH
        parts = shot(at_ns)
        parts[COLOR].data = (np.full((H, W, 3), RGB, np.uint8) + np.uint8(i)).tobytes()
        depth = np.full((H, W), 500, np.uint16)
        depth[0, 0] = 0
        parts[DEPTH].data = depth.tobytes()
        told += [(at_ns, JOINTS, arm(at_ns, home_robot(0.004 * i)))]
        told += [(at_ns, topic, deepcopy(message)) for topic, message in parts.items()]  # the header is one object
    return told


def changed(told: Sequence[Told], topic: str, change: Change) -> list[Told]:
    """The messages with those of one topic changed."""
    return [(at_ns, name, change(message) if name == topic else message) for at_ns, name, message in told]


def without(told: Sequence[Told], *topics: str) -> list[Told]:
    return [one for one in told if one[1] not in topics]


def renamed(told: Sequence[Told], names: dict[str, str]) -> list[Told]:
    return [(at_ns, names.get(topic, topic), message) for at_ns, topic, message in told]


def both(told: list[Told], *more: Told) -> list[Told]:
    return sorted([*told, *more], key=lambda one: one[0])


def colour(change: Callable[[np.ndarray], np.ndarray], encoding: str) -> Change:
    """A change of a colour image to another encoding."""

    def recode(image: Image) -> Image:
        return _image(image, change(np.frombuffer(image.data, np.uint8).reshape(H, W, 3)), encoding)

    return recode


def depth(change: Callable[[np.ndarray], np.ndarray], encoding: str, **more: Any) -> Change:
    """A change of a depth image [mm] to another encoding."""

    def recode(image: Image) -> Image:
        return _image(image, change(np.frombuffer(image.data, np.uint16).reshape(H, W)), encoding, **more)

    return recode


def _image(image: Image, pixels: np.ndarray, encoding: str, **more: Any) -> Image:
    step = pixels.nbytes // H
    return Image(header=image.header, height=H, width=W, encoding=encoding, step=step, data=pixels.tobytes(), **more)


def padded(image: Image) -> Image:
    """Rows that are longer than their pixels, as some drivers align them."""
    rows = np.frombuffer(image.data, np.uint8).reshape(H, -1)
    return _image(image, np.hstack([rows, np.full((H, 8), 77, np.uint8)]), image.encoding)


def squeezed(told: Sequence[Told], topic: str, end: str, format: str, pack: Callable[[Image], bytes]) -> list[Told]:
    """The images of a topic as an image_transport plugin publishes them."""
    return [
        (at_ns, name + end, CompressedImage(header=m.header, format=format, data=pack(m)))
        if name == topic
        else (at_ns, name, m)
        for at_ns, name, m in told
    ]


def coded(suffix: str) -> Callable[[Image], bytes]:
    def pack(image: Image) -> bytes:
        rgb = np.frombuffer(image.data, np.uint8).reshape(H, W, 3)
        return bytes(cv2.imencode(suffix, rgb[..., ::-1])[1].tobytes())

    return pack


def depth_png(image: Image) -> bytes:
    mm = np.frombuffer(image.data, np.uint16).reshape(H, W)
    return struct.pack("<iff", 0, 0.0, 0.0) + bytes(cv2.imencode(".png", mm)[1].tobytes())


def depth_inverse(image: Image) -> bytes:
    """Quantised inverse depth, A / z + B, of a 32FC1 image."""
    mm = np.frombuffer(image.data, np.uint16).reshape(H, W)
    code = np.where(mm > 0, 1000.0 / np.maximum(mm, 1) * 1000.0 + 100.0, 0).astype(np.uint16)
    return struct.pack("<iff", 0, 1000.0, 100.0) + bytes(cv2.imencode(".png", code)[1].tobytes())


def depth_rvl(image: Image) -> bytes:
    """RVL, pixel by pixel as its paper writes it."""
    mm, nibbles, before, i = np.frombuffer(image.data, np.uint16), list[int](), 0, 0

    def put(value: int) -> None:
        while True:
            nibble, value = value & 7, value >> 3
            nibbles.append(nibble | (8 if value else 0))
            if not value:
                return

    while i < len(mm):
        for wanted in (False, True):
            first = i
            while i < len(mm) and (mm[i] > 0) == wanted:
                i += 1
            put(i - first)
        for value in map(int, mm[first:i]):
            delta, before = value - before, value
            put((delta << 1) ^ (delta >> 31))
    nibbles += [0] * (-len(nibbles) % 8)
    words = (int("".join(f"{n:x}" for n in nibbles[k : k + 8]), 16) for k in range(0, len(nibbles), 8))
    return struct.pack("<iff", 0, 0.0, 0.0) + struct.pack("<II", W, H) + b"".join(struct.pack("<I", w) for w in words)


def later(topic: str, by: Callable[[int], int], told: Sequence[Told] | None = None) -> list[Told]:
    """Stamps of one topic by another clock: stamp -> stamp."""

    def shift(message: Any) -> Any:
        message.header.stamp = convert.ns_to_time(by(convert.time_to_ns(message.header.stamp)))
        return message

    return changed(usual() if told is None else told, topic, shift)


def another_camera(by: Callable[[int], int]) -> list[Told]:
    """Stamps of all images by another clock."""
    told = usual()
    for topic in (COLOR, DEPTH, INFO):
        told = later(topic, by, told)
    return told


def simulated(ns: int) -> int:
    return ns - START + 10 * S


def jumps_back(ns: int) -> int:
    return ns - 60 * S if ns >= START + 3 * TENTH else ns


def framed(frame_id: str, *topics: str) -> list[Told]:
    """Images in another frame."""

    def rename(message: Any) -> Any:
        message.header.frame_id = frame_id
        return message

    told = usual()
    for topic in topics or (COLOR, DEPTH, INFO):
        told = changed(told, topic, rename)
    return told


def of_joints(names: Sequence[str]) -> Change:
    """A joint state with some of its joints only."""

    def pick(message: JointState) -> JointState:
        at = [list(message.name).index(name) for name in names]
        parts = {part: [getattr(message, part)[i] for i in at] for part in ("position", "velocity")}
        return JointState(header=message.header, name=list(names), **parts)

    return pick


def split_joints() -> list[Told]:
    """Arm and fingers as franka_ros2 publishes them, on topics of their own."""
    robot, told = RobotConfig(), usual()
    names = {"franka/joint_states": robot.arm_joints, "franka_gripper/joint_states": robot.finger_joints}
    states = [
        (at_ns, topic, of_joints(joints)(message))
        for at_ns, name, message in told
        if name == JOINTS
        for topic, joints in names.items()
    ]
    return both(without(told, JOINTS), *states)
