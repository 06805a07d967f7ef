"""Bags that we write are read by the package of another project, also those of a killed writer and of a full disk."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mcap.reader import make_reader
from rclpy.serialization import serialize_message
from ros.bags import START, TENTH, shot
from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import Reader
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from std_msgs.msg import Header
from stvla_msgs.msg import TaskState

from stvla_ros.data.recording import is_bag
from stvla_ros.description.robot import RobotConfig
from stvla_ros.ros.bag_files import opened
from stvla_ros.ros.bag_topics import message_class
from stvla_ros.ros.bag_writer import BagWriter, message_definition
from stvla_ros.ros.frames import CameraConfig
from stvla_ros.ros.recorded_topics import TASK_STATE, recorded_topics

CAMERA = CameraConfig()
TOPICS = recorded_topics(CAMERA, RobotConfig())
COLOR = f"/{CAMERA.color}"
STORE = get_typestore(Stores.ROS2_JAZZY)


def fill(writer: BagWriter, count: int, first: int = 0) -> None:
    """Pictures at 10 Hz, each with a task state."""
    for i in range(first, first + count):
        ns = START + i * TENTH
        for topic, message in shot(ns, i).items():
            writer.write(f"/{topic}", serialize_message(message), ns)
        writer.write(TASK_STATE, serialize_message(TaskState(instruction="Go.", keyposes=i)), ns)


def test_another_library_reads_the_bag_with_its_own_reader(tmp_path: Path) -> None:
    writer = BagWriter(tmp_path / "bag", TOPICS)
    writer.note("stvla", {"git commit": "abc", "versions": {"numpy": "2"}})
    fill(writer, 12)
    writer.close()
    with Reader(tmp_path / "bag") as reader:
        assert {c.topic: c.msgcount for c in reader.connections} == dict.fromkeys(
            [COLOR, f"/{CAMERA.depth}", f"/{CAMERA.info}", TASK_STATE], 12
        )
        assert (reader.duration, reader.start_time) == (11 * TENTH + 1, START)
        state = next(c for c in reader.connections if c.topic == TASK_STATE)
        assert state.ext.offered_qos_profiles[0].durability.name == "TRANSIENT_LOCAL"
        assert [at for c, at, _ in reader.messages() if c.topic == COLOR] == [START + i * TENTH for i in range(12)]
    with AnyReader([tmp_path / "bag"]) as reader:  # decodes with the definitions in the file, ours too
        read = [(c.topic, reader.deserialize(data, c.msgtype)) for c, _, data in reader.messages()]
    assert [m.keyposes for topic, m in read if topic == TASK_STATE] == list(range(12))
    assert [int(m.data[0]) for topic, m in read if topic == COLOR] == list(range(12))
    with (tmp_path / "bag" / "bag_0.mcap").open("rb") as file:
        notes = {m.name: m.metadata for m in make_reader(file).iter_metadata()}
    assert notes["stvla"] == {"git commit": "abc", "versions": '{"numpy": "2"}'}


def test_what_was_flushed_survives_the_writer(tmp_path: Path) -> None:
    """A copy of the file as it is on the disk at some moment is what a killed process leaves."""
    writer = BagWriter(tmp_path / "bag", TOPICS)
    writer.note("stvla", {"git commit": "abc"})
    fill(writer, 5)
    writer.flush()
    fill(writer, 3, first=5)
    left = tmp_path / "left"
    shutil.copytree(tmp_path / "bag", left)
    whole = (left / "bag_0.mcap").read_bytes()
    for cut in (0, 1, 100):
        (left / "bag_0.mcap").write_bytes(whole[: len(whole) - cut] + b"\x06half")
        assert is_bag(left)
        with opened(left) as bag:
            assert bag.cut_off
            assert bag.topics[TASK_STATE]["stvla_msgs/msg/TaskState"] >= 5 - bool(cut)
            assert len(list(bag.messages({COLOR: "sensor_msgs/msg/Image"}))) >= 5 - bool(cut)
    writer.close()


class FullDisk:
    """A file on a disk with some room left."""

    def __init__(self, file: Any, room: int) -> None:
        self._file, self.room = file, room

    def write(self, data: Any) -> int:
        if self._file.tell() + len(data) > self.room:
            self._file.write(data[: self.room - self._file.tell()])  # what fits is written, as the system does
            raise OSError(errno.ENOSPC, "No space left on device")
        return int(self._file.write(data))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def overfill(writer: BagWriter, safe: list[int]) -> None:
    """Write noise; notes how many messages had been written at each flush."""
    rng = np.random.default_rng(0)
    for i in range(1000):
        writer.write("/tf", serialize_message(Header(frame_id=rng.bytes(400).hex())), START + i)
        if i % 7 == 0:
            writer.flush()
            safe.append(i + 1)


@pytest.mark.parametrize("room", [9_000, 30_001, 60_000])
def test_a_full_disk_leaves_a_bag_that_ends_with_the_last_flush(tmp_path: Path, room: int) -> None:
    writer = BagWriter(tmp_path / "bag", TOPICS)
    safe: list[int] = []
    full = FullDisk(writer._stream, room)
    writer._mcap._Writer__stream = full  # type: ignore[attr-defined]
    with pytest.raises(OSError, match="No space left"):
        overfill(writer, safe)
    full.room = 10**9
    writer.abort()
    writer.abort()
    assert writer.size == (tmp_path / "bag" / "bag_0.mcap").stat().st_size <= room
    with opened(tmp_path / "bag") as bag:
        assert bag.cut_off
        assert sum(bag.topics["/tf"].values()) == safe[-1]


@pytest.mark.parametrize("topic", TOPICS, ids=lambda topic: topic.name)
def test_definitions_are_those_of_another_library(topic: Any) -> None:
    """Of the messages that it knows, field by field; of ours, by their names and types in the class."""
    types = get_types_from_msg(message_definition(topic.kind), topic.kind)
    assert topic.kind in types
    for name, (_, fields) in types.items():
        assert [field for field, _ in fields] == list(message_class(name).get_fields_and_field_types())
        if name in STORE.fielddefs:
            assert fields == STORE.fielddefs[name][1]


def test_types_with_bounds() -> None:
    """As generated classes name them."""
    from stvla_ros.ros.bag_writer import _type

    names = [
        "string<10>",
        "sequence<string<5>, 3>",
        "sequence<double>",
        "float[3]",
        "a_msgs/B[2]",
        "sequence<octet, 4>",
    ]
    assert [_type(name) for name in names] == [
        "string<=10", "string<=5[<=3]", "float64[]", "float32[3]", "a_msgs/B[2]", "byte[<=4]",
    ]  # fmt: skip
