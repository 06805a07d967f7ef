"""Recorded frames of a rosbag2, exactly as a listening node would have received them, without ROS running.

The nodes' receivers process the messages, so a bag is accepted here if and only if it would be accepted live.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from math import inf
from pathlib import Path
from typing import Any, cast

from rclpy.node import Node
from tf2_msgs.msg import TFMessage

from stvla_ros.config import ConfigError
from stvla_ros.data.bag_hints import BagHints, absolute
from stvla_ros.data.recording import RecordedFrame
from stvla_ros.description.robot import RobotConfig
from stvla_ros.errors import StageError
from stvla_ros.ros.bag import GIVE_POSE, Bag, BagMessage, CameraBag
from stvla_ros.ros.bag_replay import BagClocks, move_stamps
from stvla_ros.ros.bag_topics import JOINTS, MOVING, STATIC
from stvla_ros.ros.frames import CameraConfig, RgbdReceiver
from stvla_ros.ros.robot_state import JointStateConfig, JointStates
from stvla_ros.types import RobotState

ARM_NS = 100_000_000
"""Wait for the arm state nearest to a frame, which may come after it."""

Follow = Callable[[Iterable[BagMessage], int], Iterable[BagMessage]]
"""Iterates over messages, given their number, e.g. with a progress bar."""


@dataclass(frozen=True)
class _Subscription:
    topic_name: str


class BagListener:
    """Takes the place of the receivers' node: its messages and its clock come from the bag."""

    def __init__(self, bag: Bag) -> None:
        self._bag = bag
        self._callbacks: dict[str, list[Callable[[Any], None]]] = defaultdict(list)
        self.heard: set[str] = set()
        self.nanoseconds = bag.first_ns

    def create_subscription(
        self, kind: Any, topic: str, callback: Callable[[Any], None], qos: Any, **_: Any
    ) -> _Subscription:
        name = self.resolve_topic_name(topic)
        self._callbacks[name].append(callback)
        return _Subscription(name)

    def hear(self, topic: str, message: Any) -> None:
        self.heard.add(topic)
        for callback in self._callbacks[topic]:
            callback(message)

    def resolve_topic_name(self, topic: str) -> str:
        return absolute(topic)

    def count_publishers(self, topic: str) -> int:
        return int(topic in self._bag.topics)

    def get_publishers_info_by_topic(self, topic: str) -> list[Any]:
        return []  # only messages of the wanted types are read

    def get_name(self) -> str:
        return str(self._bag.path)

    def get_clock(self) -> BagListener:
        return self

    def now(self) -> BagListener:
        return self


class BagRecording(Sequence[RecordedFrame]):
    """The frames of a bag, with the arm state at each if it has joint states. The bag is read once to count them,
    then on demand.

    Args:
        path: The bag.
        camera: Topics and limits of the receiver.
        robot: Its base frame and joint names.
        follow: Iterates over the messages of the first reading.
        hints: What the operator says about the bag.

    Raises:
        ConfigError: It is not a bag, lacks a topic, or has no usable frame; the sentence says why.
    """

    def __init__(
        self,
        path: Path,
        camera: CameraConfig,
        robot: RobotConfig,
        follow: Follow = lambda messages, _: messages,
        hints: BagHints | None = None,
    ) -> None:
        self._camera, self._robot = camera, robot
        self._bag = CameraBag(path, camera, robot, hints=hints)
        self.damage: str | None = None
        """Why only a part could be read; None if all was read."""
        self._refused: list[str] = []  # why frames could not be used
        self._stateless: list[str] = []  # why frames have no arm state
        self._states: list[RobotState | None] = []
        try:
            messages = follow(self._bag, sum(self._bag.counts.values()))
            for recorded in self._frames(messages, self._refused, self._stateless):
                self._states.append(recorded.robot)
        except ConfigError as error:
            self.damage = str(error)
        if not self._states:
            raise ConfigError(
                self.damage or " ".join([f"{path}: no frame can be used: {self._refused[0]}", *self._bag.notes])
            )
        self._made = len(self._states)
        # the camera may have started before the arm: its first frames are no loss
        self._skipped = next((i for i, state in enumerate(self._states) if state is not None), 0)
        del self._states[: self._skipped]
        self._next, self._reading = 0, iter(self)

    @property
    def notes(self) -> list[str]:
        """Notes for the operator about the bag."""
        notes = [*self._bag.notes, *([self.damage] if self.damage else [])]
        images = self._bag.counts[absolute(self._camera.color)]
        if self._made < images:
            why = f"; others could not be used, e.g.: {self._refused[0]}" if self._refused else "."
            notes.append(f"{self._made} of {images} colour images made a frame{why}")
        if JOINTS not in self._bag.topics.values():
            notes.append(f"{self._bag.path}: no joint states ({JOINTS}), so the pose of the arm is not known.")
        elif self._stateless:
            notes.append(f"{len(self._stateless)} of {self._made} frames have no arm state, e.g.: {self._stateless[0]}")
        return notes

    def __len__(self) -> int:
        return len(self._states)

    def __iter__(self) -> Iterator[RecordedFrame]:
        return islice(self._frames(self._bag, [], []), self._skipped, self._skipped + len(self))

    def __getitem__(self, i: Any) -> Any:
        """Fast for increasing indices; others read the file again from the start."""
        if isinstance(i, slice):
            return [self[k] for k in range(*i.indices(len(self)))]
        i = range(len(self))[i]
        if i < self._next:
            self._next, self._reading = 0, iter(self)
        recorded = next(islice(self._reading, i - self._next, None))
        self._next = i + 1
        return recorded

    def robot(self, i: int) -> RobotState | None:
        """The arm state at a frame, without reading its images."""
        return self._states[i]

    def _frames(
        self, messages: Iterable[BagMessage], refused: list[str], stateless: list[str]
    ) -> Iterator[RecordedFrame]:
        """All usable frames. Appends why others are refused, and why frames have no arm state, to the two lists."""
        listener, complete = BagListener(self._bag), deque[tuple[int, int]]()  # when to take a frame, and its stamp
        node, first_ns = cast(Node, listener), self._bag.first_ns

        def on_frame(stamp_ns: int) -> None:
            complete.append((listener.nanoseconds + ARM_NS, stamp_ns))

        frames = RgbdReceiver(node, self._camera, on_frame, self._robot.base_frame, 10 * ARM_NS / 1e9)
        joints = JointStates(node, JointStateConfig(), self._robot)
        listener.hear(STATIC, TFMessage(transforms=list(self._bag.static_transforms.values())))
        clocks, found = BagClocks(first_ns), False

        def taken(until_ns: float) -> Iterator[RecordedFrame]:
            nonlocal found
            while complete and complete[0][0] <= until_ns:
                found, (_, stamp_ns) = True, complete.popleft()
                try:
                    yield RecordedFrame(
                        frames.at(stamp_ns, 0.0), self._state(joints, listener.heard, stamp_ns, stateless)
                    )
                except StageError as error:
                    refused.append(error.sentence)

        try:
            for entry in messages:
                if entry.topic != STATIC:
                    move_stamps(entry, clocks, first_ns, first_ns)
                listener.nanoseconds = first_ns + clocks.position_ns
                listener.hear(entry.topic, entry.message)
                yield from taken(listener.nanoseconds)
        except ConfigError:  # damage: the frames before it are good
            yield from taken(inf)
            raise
        yield from taken(inf)
        if frames.skipped:
            refused.append(frames.why_skipped)
        if not found:
            refused.append(frames.why_stale(0) + self._remedy(frames))

    def _remedy(self, frames: RgbdReceiver) -> str:
        """What to do about a camera whose frame the bag's transforms do not have."""
        unknown = bool(frames.unplaced_frame) and {STATIC, MOVING} & set(self._bag.topics)
        return f" Or give the camera's pose: {GIVE_POSE}." if unknown else ""

    def _state(
        self, joints: JointStates, heard: Collection[str], stamp_ns: int, stateless: list[str]
    ) -> RobotState | None:
        """The arm state at a frame; None when it is not known, with the reason in ``stateless``."""
        topics = (absolute(self._robot.joint_states), absolute(self._robot.gripper_joint_states))
        silent = [topic for topic in dict.fromkeys(topics) if topic not in heard]
        if silent:
            stateless.append(f"no joint states had come on {' and '.join(silent)}.")
        elif stateless and joints.age_s() == inf:  # the receiver would wait for a first usable state again
            stateless.append(stateless[-1])
        else:
            try:
                return joints.at(stamp_ns)
            except StageError as error:
                stateless.append(error.sentence)
        return None
