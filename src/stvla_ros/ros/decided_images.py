"""Counts the images that a stage decided on and a recording lacks: they are sent best effort, and may get lost."""

from __future__ import annotations

import struct
from bisect import bisect_left
from collections.abc import Iterable

from rclpy.serialization import deserialize_message

from stvla_ros.ros import decisions
from stvla_ros.ros.bag_topics import message_class
from stvla_ros.ros.convert import time_to_ns
from stvla_ros.ros.recorded_topics import Topic

_STAMP = struct.Struct("<iI")
_STAMP_AT = 4
"""A serialized message (CDR) begins with 4 bytes that say how it is encoded; a header begins with its stamp."""


class DecidedImages:
    """Stamps of recorded images and of those that decisions name.

    Args:
        topics: Those of the recording.
        pair_within_ns: Largest difference of the stamps of colour and depth of one exposure.
    """

    def __init__(self, topics: Iterable[Topic], pair_within_ns: int) -> None:
        self._topics = {topic.name: topic for topic in topics}
        self._within_ns = pair_within_ns
        self._seen: dict[str, set[int]] = {"color": set(), "depth": set()}
        self._named: set[int] = set()

    def see(self, topic: str, data: bytes) -> None:
        """Take a recorded message; most are of no interest here."""
        what = self._topics[topic].what
        if what in self._seen:
            self._seen[what].add(header_stamp_ns(data))
        elif what == "decision":
            self._named.add(self._image_ns(topic, data))

    def _image_ns(self, topic: str, data: bytes) -> int:
        """The stamp of the image that a decision names; 0: none."""
        if topic == f"/{decisions.GUIDANCE}":
            return header_stamp_ns(data)
        return time_to_ns(deserialize_message(data, message_class(self._topics[topic].kind)).image_stamp)

    @property
    def decided(self) -> int:
        """Number of images that decisions name."""
        return len(self._named - {0})

    @property
    def missing(self) -> int:
        """How many of them are not there, in colour or in depth."""
        depths = sorted(self._seen["depth"])
        return sum(not self._complete(ns, depths) for ns in self._named - {0})

    def _complete(self, stamp_ns: int, depths: list[int]) -> bool:
        if stamp_ns not in self._seen["color"]:
            return False
        at = bisect_left(depths, stamp_ns - self._within_ns)
        return at < len(depths) and depths[at] <= stamp_ns + self._within_ns


def header_stamp_ns(data: bytes) -> int:
    """Stamp of a serialized message that begins with a header, little-endian as all ROS 2 middlewares send it here."""
    sec, nanosec = _STAMP.unpack_from(data, _STAMP_AT)
    return int(sec) * 1_000_000_000 + int(nanosec)
