"""What is in a bag, for ``stvla doctor BAG``: one reading of its messages by the readers of every other command."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import numpy as np

from stvla_ros.config import ConfigError
from stvla_ros.data.bag_hints import BagHints, absolute
from stvla_ros.data.keyposes import discover_keyframes
from stvla_ros.data.recording import Recording
from stvla_ros.description.robot import RobotConfig
from stvla_ros.doctor.bag import BagView
from stvla_ros.doctor.streams import Source, Stream
from stvla_ros.ros.bag import BagMessage
from stvla_ros.ros.bag_files import opened
from stvla_ros.ros.bag_frames import BagRecording, Follow
from stvla_ros.ros.convert import image_to_depth, time_to_ns
from stvla_ros.ros.frames import CameraConfig
from stvla_ros.ros.recorded_demonstration import open_decided
from stvla_ros.ros.stack_checks import SOURCES
from stvla_ros.ros.stack_view import ARM, COLOR, DEPTH, FINGERS
from stvla_ros.types import F32

DEPTHS = 16
"""So many depth images are looked at, spread over the bag."""

LEAST_HZ = {COLOR: 4.0, DEPTH: 4.0, ARM: 8.0, FINGERS: 4.0}
"""Nothing waits for a recording, so lower rates than live will do: a state near each image, and images near each stop."""


@dataclass
class _Notes:
    """Notes about the messages that pass."""

    depth: str
    at_ns: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    stamp_ns: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    depths: list[F32] = field(default_factory=list)
    _every: int = 1
    _count: int = 0

    def follow(self, messages: Iterable[BagMessage]) -> Iterator[BagMessage]:
        """Pass messages on, with the stamps as they were recorded."""
        for entry in messages:
            if hasattr(entry.message, "header"):
                self.at_ns[entry.topic].append(entry.after_ns)
                self.stamp_ns[entry.topic].append(time_to_ns(entry.message.header.stamp))
            if entry.topic == self.depth:
                self._look(entry)
            yield entry

    def _look(self, entry: BagMessage) -> None:
        """Keep every n-th depth image; when there are too many, every other one of them and half as many from then on."""
        if self._count % self._every == 0:
            try:
                depth = image_to_depth(entry.message)
            except ValueError:  # the frames say why
                return
            self.depths.append(np.where(depth > 0, depth, np.float32(np.nan)))
            if len(self.depths) > DEPTHS:
                del self.depths[1::2]
                self._every *= 2
        self._count += 1

    def stream(self, topic: str, first_ns: int, last_ns: int) -> Stream:
        """The messages on a topic, given when the recording began and ended."""
        at_s = (first_ns + np.array(self.at_ns[topic], dtype=np.int64)) / 1e9
        stamp_s = np.array(self.stamp_ns[topic], dtype=np.int64) / 1e9
        return Stream(topic, at_s, stamp_s, last_ns / 1e9, (last_ns - first_ns) / 1e9, publishers=("the bag",))


def look_at_bag(
    path: Path,
    camera: CameraConfig,
    robot: RobotConfig,
    follow: Follow = lambda messages, _: messages,
    hints: BagHints | None = None,
) -> BagView:
    """Read a bag.

    Args:
        path: The bag.
        camera: Topics and limits of the receiver.
        robot: Its joints and topics.
        follow: Iterates over the messages, e.g. with a progress bar.
        hints: What the operator says about the bag.
    """
    notes = _Notes(absolute(camera.depth))
    try:
        recording, decided = open_decided(path, camera, robot, lambda m, n: notes.follow(follow(m, n)), hints)
    except ConfigError as error:
        return BagView(fault=str(error))
    with opened(path) as files:
        first_ns, last_ns = files.start_ns, files.end_ns
    sources = _sources(camera, robot)
    streams = {topic: notes.stream(topic, first_ns, last_ns) for topic in notes.at_ns if topic in sources}
    keyposes, fault = _keyposes(recording)
    outcome = decided.outcome if decided else None
    return BagView(
        (last_ns - first_ns) / 1e9,
        damage=recording.damage or "",
        notes=[note for note in recording.notes if note != recording.damage],
        streams=streams,
        sources=sources,
        images=len(notes.at_ns.get(absolute(camera.color), [])),
        frames=len(recording),
        with_arm=sum(recording.robot(i) is not None for i in range(len(recording))),
        depth_m=np.stack(notes.depths) if len({depth.shape for depth in notes.depths}) == 1 else None,
        clocks_s={t: float(np.median(s.at_s - s.stamp_s)) for t, s in streams.items() if s.stamp_s.any()},
        words=decided.instruction if decided else "",
        decisions=len(decided.steps) if decided else 0,
        outcome=f"{outcome.code.name}: {outcome.sentence}".rstrip(".: ") if outcome else "",
        succeeded=bool(outcome and outcome.ok),
        keyposes=keyposes,
        keyposes_fault=fault,
    )


def _sources(camera: CameraConfig, robot: RobotConfig) -> dict[str, Source]:
    names = {
        COLOR: camera.color,
        DEPTH: camera.depth,
        FINGERS: robot.gripper_joint_states,
        ARM: robot.joint_states,
    }
    return {
        absolute(topic): replace(
            SOURCES[part], least_hz=LEAST_HZ[part], start="record it", slow="record at a higher rate", live=False
        )
        for part, topic in names.items()
    }


def _keyposes(recording: BagRecording) -> tuple[int | None, str]:
    """How many keyposes are in the motion, or why that cannot be said."""
    try:
        return len(discover_keyframes(cast(Recording, recording))), ""
    except ConfigError as error:
        return None, str(error)
