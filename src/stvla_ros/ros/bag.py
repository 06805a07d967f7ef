"""rosbag2 recordings: the messages that the stack needs, with compressed images decompressed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from geometry_msgs.msg import TransformStamped
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from stvla_ros.camera.lens import Lens
from stvla_ros.config import ConfigError
from stvla_ros.data.bag_hints import BagHints, absolute
from stvla_ros.description.robot import RobotConfig
from stvla_ros.ros.bag_topics import (
    COMPRESSED,
    IMAGE,
    INFO,
    JOINTS,
    MERGED,
    MOVING,
    STATIC,
    TF,
    TRANSPORTS,
    TopicFinder,
    names_of,
)
from stvla_ros.ros.convert import matrix_to_transform
from stvla_ros.ros.frames import CameraConfig
from stvla_ros.ros.image_codecs import decompressed

GIVE_POSE = "--extrinsics FILE or x,y,z,qx,qy,qz,qw (camera.place)"

DISORDER_NS = 50_000_000
"""Messages that come more than this after a later one are out of order; less is usual in a file without an index."""


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
    """A rosbag2: the messages on some of its topics.

    Args:
        path: The bag's folder, or a single file of one.
        required: Topic -> type of what must be in it.
        optional: Topic -> type of what is read too if the bag has it.
        settings: Topic -> setting that names it, for the error when it is missing.
        remap: Topic in the bag -> topic that it is read as.
        reasons: Topic -> why it is missing, where more is known than that.

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
        remap: Mapping[str, str] | None = None,
        reasons: Mapping[str, str] | None = None,
    ) -> None:
        self.path, self.remap = path, dict(remap or {})
        with self._open() as files:
            found, cut_off, definitions = files.topics, files.cut_off, files.definitions
            self.first_ns = files.start_ns
            """When the recording began, by the recorder's clock."""
            self.seconds = (files.end_ns - files.start_ns) / 1e9
        self._notes = [
            f"{path}: its recorder was interrupted; the complete part is read ({self.seconds:.1f} s)."
        ] * cut_off
        self._damaged: dict[str, list[str]] = {}  # topic in the bag -> why images could not be decompressed
        self._disordered = False
        self._stored: dict[str, str] = {}  # topic in the bag -> topic that it is read as
        self._kinds: dict[str, str] = {}  # topic in the bag -> type there
        self.topics: dict[str, str] = {}
        """Topic -> type of its messages."""
        if not any(count for kinds in found.values() for count in kinds.values()):
            raise ConfigError(
                f"{path}: wanted a bag with messages, found none{' that is complete' * cut_off}: record again."
            )
        check_remap(path, self.remap, found)
        missing = [topic for topic, kind in required.items() if not self._take(topic, kind, found)]
        if missing:
            raise ConfigError(f"{path}: {_missing(missing, required, found, settings or {}, reasons or {})}")
        for topic, kind in optional.items():
            self._take(topic, kind, found)
        self.counts = dict.fromkeys(self.topics, 0)
        """Topic -> number of its messages."""
        for stored, topic in self._stored.items():
            self.counts[topic] += found[stored][self._kinds[stored]]
        from stvla_ros.ros.bag_types import Decoder  # needs the package rosbags

        self._decoders = {
            stored: Decoder(kind, definitions.get((stored, kind))) for stored, kind in self._kinds.items()
        }
        self._notes += [
            f"{path}: {stored}: its {self._kinds[stored]} is another version than the installed one "
            f"({', '.join(decoder.differences[:4])}{', ...' * (len(decoder.differences) > 4)}): what both have is read."
            for stored, decoder in self._decoders.items()
            if decoder.differences
        ]

    def _take(self, topic: str, kind: str, found: Mapping[str, Mapping[str, int]]) -> bool:
        """Select a topic if it has messages of this type, or compressed images (image_transport); False if not."""
        for name, stored in names_of(topic, kind, self.remap):
            if found.get(name, {}).get(stored, 0) and name not in self._stored:
                self._stored[name], self._kinds[name], self.topics[topic] = topic, stored, kind
                if kind not in MERGED:
                    break
        return topic in self.topics

    @property
    def notes(self) -> list[str]:
        """Notes for the operator about the bag, with what was found while it was read."""
        damaged = [
            f"{self.path}: {stored}: {len(why)} of {self.counts[self._stored[stored]]} images could not be decompressed, "
            f"e.g.: {why[0]}."
            for stored, why in self._damaged.items()
        ]
        order = f"{self.path}: its messages are not in order of time: sort it (`mcap sort FILE -o NEW`)."
        return [*self._notes, *damaged, *([order] if self._disordered else [])]

    def __iter__(self) -> Iterator[BagMessage]:
        """All messages in order of time, except images that cannot be decompressed. Raises ConfigError for damage; says
        how far the bag could be read, and why."""
        from stvla_ros.ros import bag_files

        after_ns = 0
        self._damaged.clear()
        with self._open() as files:
            try:
                for stored, kind, recorded_ns, data in files.messages(self._kinds):
                    before_ns, after_ns = after_ns, recorded_ns - self.first_ns
                    self._disordered |= after_ns < before_ns - DISORDER_NS
                    message = self._read(stored, kind, data)
                    if message is not None:
                        yield BagMessage(self._stored[stored], after_ns, message)
            except ConfigError:
                raise
            except bag_files.ERRORS as error:
                raise bag_files.damaged(self.path, after_ns / 1e9, self.seconds, error) from error

    def _read(self, stored: str, kind: str, data: bytes) -> Any:
        """The message; None for an image that cannot be decompressed. Raises ValueError when it is damaged."""
        try:
            message = self._decoders[stored](data)
        except ValueError as error:
            raise ValueError(f"a message on {stored} is damaged") from error
        try:
            return decompressed(message) if kind == COMPRESSED else message
        except ValueError as error:
            self._damaged.setdefault(stored, []).append(str(error))
            return None

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
            for entry in Bag(self.path, {STATIC: TF}, {}, None, self.remap) if STATIC in self.topics else ():
                for transform in entry.message.transforms:
                    found.setdefault(frames_of(transform), transform)
        return found


def frames_of(transform: TransformStamped) -> tuple[str, str]:
    return transform.header.frame_id, transform.child_frame_id


class CameraBag(Bag):
    """A bag with colour, aligned depth and camera info, the transforms to the camera, and a robot's joint states.

    Topics that have other names are found by their type and content where only one is possible, and a note says so.

    Args:
        path: The bag's folder, or a single file of one.
        topics: The names of the camera's topics.
        robot: Topics and names of joints, and the base frame; None: joint states are not read.
        joint_states: Whether they are read.
        hints: What the operator says about the bag.

    Raises:
        ConfigError: As for :class:`Bag`; a hint names a topic that the bag does not have.
    """

    def __init__(
        self,
        path: Path,
        topics: CameraConfig,
        robot: RobotConfig | None = None,
        joint_states: bool = True,
        hints: BagHints | None = None,
    ) -> None:
        self.path, self._hints, self._robot = path, hints or BagHints(), robot if joint_states else None
        self._base_frame = (robot or RobotConfig()).base_frame
        self._color, self._depth, self._info = (absolute(t) for t in (topics.color, topics.depth, topics.info))
        finder = self._search()
        required = {self._color: IMAGE, self._depth: IMAGE}
        if self._hints.lens is None:
            required[self._info] = INFO
        optional = {STATIC: TF, MOVING: TF} if self._hints.T_base_camera is None else {}
        optional |= _joint_topics(self._robot)
        parts = {self._color: "color", self._depth: "depth", self._info: "info"}
        settings = {topic: f"camera.topics.{part}" for topic, part in parts.items()}
        super().__init__(path, required, optional, settings, finder.remap, finder.reasons)
        if finder.found:
            which = ", ".join(f"{old} as {new}" for old, new in finder.found.items())
            self._notes.append(f"{path}: found by type: {which}. Choose others with --remap OLD:=NEW (camera.remap).")
        self._add_given()
        if not {STATIC, MOVING} & set(self.topics):
            self._notes.append(
                f"{path}: no transforms on {STATIC} or {MOVING}, so the pose of the camera is not known: "
                f"give it with {GIVE_POSE}."
            )

    def _search(self) -> TopicFinder:
        """Look for what has other names. Raises ConfigError for a hint about a topic that is not there."""
        with self._open() as files:
            check_remap(self.path, self._hints.remap, files.topics)
            finder = TopicFinder(files, dict(self._hints.remap))
            finder.camera(self._color, self._depth, self._info if self._hints.lens is None else None)
            if self._hints.T_base_camera is None:
                finder.transforms()
            if self._robot is not None:
                arm, fingers = self._robot.joint_states, self._robot.gripper_joint_states
                finder.joints(self._robot, absolute(arm), absolute(fingers))
        return finder

    def _add_given(self) -> None:
        """Add what the operator gave to what the bag has."""
        if self._hints.T_base_camera is not None:
            self.topics[STATIC], self.counts[STATIC] = TF, 0
        if self._hints.lens is not None:
            self.topics[self._info], self.counts[self._info] = INFO, self.counts[self._color]

    def __iter__(self) -> Iterator[BagMessage]:
        """All messages in order of time, with the given camera info before each colour image; see :class:`Bag`."""
        for entry in super().__iter__():
            if self._hints.lens is not None and entry.topic == self._color:
                yield BagMessage(self._info, entry.after_ns, lens_to_info(self._hints.lens, entry.message))
            yield entry

    @cached_property
    def static_transforms(self) -> Mapping[tuple[str, str], TransformStamped]:
        """The given pose of the camera, or the bag's static transforms."""
        T = self._hints.T_base_camera
        if T is None:
            return super().static_transforms
        frame = ""
        with suppress(ConfigError):  # damage is reported when all is read
            images = Bag(self.path, {self._color: IMAGE}, {}, None, self.remap)
            frame = next((str(entry.message.header.frame_id).lstrip("/") for entry in images), "")
        transform = matrix_to_transform(T, self._base_frame, frame, self.first_ns)
        return {frames_of(transform): transform}


def lens_to_info(lens: Lens, image: Image) -> CameraInfo:
    """The camera info of an image."""
    return CameraInfo(
        header=Header(stamp=image.header.stamp, frame_id=image.header.frame_id),
        width=lens.width_px or image.width,
        height=lens.height_px or image.height,
        distortion_model=lens.model,
        d=lens.D.tolist(),
        k=lens.K.reshape(-1),
        r=lens.R.reshape(-1),
        p=lens.P.reshape(-1),
    )


def check_remap(path: Path, remap: Mapping[str, str], found: Mapping[str, Mapping[str, int]]) -> None:
    """Raises ConfigError for a topic that is to be read under another name, but is not in the bag."""
    for old, new in remap.items():
        if not any(found.get(old + end) for end in ("", *TRANSPORTS)):
            raise ConfigError(f"{path}: remap: wanted {old} in the bag to be read as {new}; it has {_list(found)}.")


def _joint_topics(robot: RobotConfig | None) -> dict[str, str]:
    topics = (robot.joint_states, robot.gripper_joint_states) if robot else ()
    return {absolute(topic): JOINTS for topic in topics}


def _missing(
    missing: list[str],
    required: Mapping[str, str],
    found: Mapping[str, Mapping[str, int]],
    settings: Mapping[str, str],
    reasons: Mapping[str, str],
) -> str:
    """The error for missing topics: what was wanted, what the bag has, and how to name the topics."""
    wanted = ", ".join(f"{topic} ({required[topic]})" for topic in missing)
    why = [reasons[topic] for topic in missing if topic in reasons]
    sentence = f"wanted {wanted}; {'; '.join(why) if len(why) == len(missing) else f'the bag has {_list(found)}'}."
    kinds = {required[topic] for topic in missing} | (
        {COMPRESSED} if IMAGE in {required[t] for t in missing} else set()
    )
    several = any("several" in text for text in why)
    if several or (not why and any(count for of in found.values() for kind, count in of.items() if kind in kinds)):
        names = ", ".join(settings[topic] for topic in missing if topic in settings)
        return f"{sentence} Name them with --remap OLD:=NEW, or set {names or 'the topics'}."
    return sentence if "give the" in sentence else f"{sentence} Record these topics."


def _list(found: Mapping[str, Mapping[str, int]]) -> str:
    return ", ".join(_described(topic, kinds) for topic, kinds in sorted(found.items())) or "nothing"


def _described(topic: str, kinds: Mapping[str, int]) -> str:
    return ", ".join(
        f"{topic} ({kind})" if count else f"{topic} ({kind}, no messages)" for kind, count in kinds.items()
    )
