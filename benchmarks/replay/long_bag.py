"""A long recording made of a short one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rclpy.serialization import deserialize_message, serialize_message

from stvla_ros.description.robot import RobotConfig
from stvla_ros.ros.bag_files import opened
from stvla_ros.ros.bag_topics import message_class
from stvla_ros.ros.bag_writer import BagWriter
from stvla_ros.ros.convert import ns_to_time, time_to_ns
from stvla_ros.ros.frames import CameraConfig
from stvla_ros.ros.recorded_topics import recorded_topics


def repeat_bag(source: Path, folder: Path, seconds: float) -> Path:
    """Write the messages of a bag again and again, later each time, until the recording is so long.

    The rounds are tasks of their own: their plans have other ids.
    """
    topics = {topic.name: topic.kind for topic in recorded_topics(CameraConfig(), RobotConfig())}
    writer, round_ = BagWriter(folder, recorded_topics(CameraConfig(), RobotConfig())), 0
    with opened(source) as files:
        there = {name: kind for name, kind in topics.items() if name in files.topics}
        length_ns = files.end_ns - files.start_ns + 1_000_000_000
        while round_ * length_ns < seconds * 1e9:
            for topic, kind, recorded_ns, data in files.messages(there):
                message = deserialize_message(data, message_class(kind))
                _move(message, round_ * length_ns, f"-{round_}")
                writer.write(topic, serialize_message(message), recorded_ns + round_ * length_ns)
            round_ += 1
    writer.close()
    return folder


def _move(message: Any, by_ns: int, suffix: str) -> None:
    """Shift all stamps in a message, and make its plan another one."""
    for name, kind in message.get_fields_and_field_types().items():
        value = getattr(message, name)
        if kind == "builtin_interfaces/Time":
            if stamp_ns := time_to_ns(value):
                setattr(message, name, ns_to_time(stamp_ns + by_ns))
        elif name == "plan_id" and value:
            message.plan_id = value + suffix
        elif hasattr(value, "get_fields_and_field_types"):
            _move(value, by_ns, suffix)
        elif isinstance(value, list):
            for one in value:
                if hasattr(one, "get_fields_and_field_types"):
                    _move(one, by_ns, suffix)
