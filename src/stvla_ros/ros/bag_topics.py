"""Finds the topics of a bag that was recorded under other names, by type and content, where only one is possible."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from typing import Any

from stvla_ros.description.robot import RobotConfig
from stvla_ros.ros.convert import COLOURS, DEPTHS
from stvla_ros.ros.image_codecs import decompressed

IMAGE, INFO, JOINTS = "sensor_msgs/msg/Image", "sensor_msgs/msg/CameraInfo", "sensor_msgs/msg/JointState"
TF, COMPRESSED = "tf2_msgs/msg/TFMessage", "sensor_msgs/msg/CompressedImage"
STATIC, MOVING = "/tf_static", "/tf"

TRANSPORTS = ("/compressedDepth", "/compressed")
"""Endings of image_transport's topics."""

MERGED = (JOINTS, TF)
"""Types whose messages may come on several topics; of any other, one topic is read."""


def message_class(kind: str) -> Any:
    """The class of a type name such as ``sensor_msgs/msg/Image``."""
    package, room, name = kind.split("/")
    return getattr(import_module(f"{package}.{room}"), name)


def names_of(topic: str, kind: str, remap: Mapping[str, str]) -> list[tuple[str, str]]:
    """The topics in a bag that are read as ``topic``, with their types, the preferred ones first."""
    names = [old for old, new in remap.items() if new == topic]
    if not names or kind in MERGED:
        names.append(topic)
    found = [(name, kind) for name in names if remap.get(name, topic) == topic]
    if kind == IMAGE:
        found += [(name + end, COMPRESSED) for name in names for end in ("", *TRANSPORTS)]
    return found


@dataclass(frozen=True)
class _Picture:
    """The first image of a topic."""

    base: str
    encoding: str
    size: tuple[int, int]
    frame_id: str

    @property
    def is_colour(self) -> bool:
        return self.encoding.lower() in COLOURS

    @property
    def is_depth(self) -> bool:
        return self.encoding.lower() in DEPTHS

    @property
    def view(self) -> tuple[tuple[int, int], str]:
        """What images of one camera have in common, aligned depth included."""
        return self.size, self.frame_id

    def __str__(self) -> str:
        return f"{self.base} ({self.encoding}, {self.size[0]}x{self.size[1]})"


@dataclass
class TopicFinder:
    """Looks for topics in an open bag.

    Args:
        files: The bag.
        remap: Topic in the bag -> topic that it is read as; what is found is added.

    Attributes:
        found: What was found, in the same form.
        reasons: Topic that was not found -> why.
    """

    files: Any
    remap: dict[str, str]
    found: dict[str, str] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)

    def _has(self, topic: str, kind: str) -> bool:
        return any(self.files.topics.get(name, {}).get(of, 0) for name, of in names_of(topic, kind, self.remap))

    def _take(self, topic: str, old: str) -> None:
        self.found[old] = self.remap[old] = topic

    def _first(self, topic: str, kind: str) -> Any:
        """The first message of a topic, decoded; None if it cannot be."""
        from stvla_ros.ros.bag_types import Decoder  # needs the package rosbags

        data = self.files.first(topic, kind)
        try:
            return None if data is None else Decoder(kind, self.files.definitions.get((topic, kind)))(data)
        except ValueError:
            return None

    def _of(self, kind: str) -> list[str]:
        """Topics with messages of a type that are not spoken for."""
        return [name for name, kinds in sorted(self.files.topics.items()) if kinds.get(kind) and name not in self.remap]

    # --- the camera -----------------------------------------------------------------------------------------------

    @cached_property
    def _pictures(self) -> tuple[_Picture, ...]:
        """One picture for each camera topic, whatever transport it came by."""
        pictures: dict[str, _Picture] = {}
        for picture in self._look():
            pictures.setdefault(picture.base, picture)
        return tuple(pictures.values())

    def _look(self) -> Iterator[_Picture]:
        for kind in (IMAGE, COMPRESSED):
            for topic in self._of(kind):
                end = next((end for end in TRANSPORTS if kind == COMPRESSED and topic.endswith(end)), "")
                try:
                    image = self._first(topic, kind)
                    image = decompressed(image) if kind == COMPRESSED and image is not None else image
                except ValueError:
                    continue
                if image is not None:
                    size = int(image.width), int(image.height)
                    yield _Picture(topic.removesuffix(end), str(image.encoding), size, str(image.header.frame_id))

    def camera(self, color: str, depth: str, info: str | None) -> None:
        """Look for the colour image, its depth and its camera info (None: it is not needed) where they are missing."""
        missing = [topic for topic in (color, depth) if not self._has(topic, IMAGE)]
        if missing:
            kinds = {
                color: [p for p in self._pictures if p.is_colour],
                depth: [p for p in self._pictures if p.is_depth],
            }
            for topic, other in ((color, depth), (depth, color)):
                if topic in missing:
                    views = self._views(other, kinds[other], other in missing)
                    self._choose(topic, kinds[topic], views, self._cameras(other))
            for topic in missing:
                if topic not in self.found.values() and self._all:
                    what = "colour image" if topic == color else "depth image (16UC1 or 32FC1)"
                    self.reasons[topic] = _why_not(what, kinds[topic], self._all)
        if info is not None and not self._has(info, INFO):
            self._find_info(info, color)

    def _views(self, topic: str, candidates: list[_Picture], missing: bool) -> set[Any]:
        """The possible views of the other image of the pair."""
        if missing:
            return {picture.view for picture in candidates}
        names = [name for name, _ in names_of(topic, IMAGE, self.remap)]
        return {picture.view for picture in self._all if picture.base in names}

    @cached_property
    def _all(self) -> tuple[_Picture, ...]:
        return tuple(TopicFinder(self.files, {})._pictures)

    def _cameras(self, topic: str) -> set[str]:
        """The first names of what is read as a topic: drivers put what a camera sends under one."""
        return {old.split("/")[1] for old in self._bases(topic)}

    def _bases(self, topic: str) -> list[str]:
        return [old for old, new in self.remap.items() if new == topic] or [topic]

    def _choose(self, topic: str, candidates: list[_Picture], views: set[Any], cameras: set[str]) -> None:
        """Take the only candidate, or the only one that shows the same view as its partner, or of the same camera."""
        alike = [picture for picture in candidates if picture.view in views]
        for few in (candidates, alike, [picture for picture in alike if picture.base.split("/")[1] in cameras]):
            if len(few) == 1:
                self._take(topic, few[0].base)
                return

    def _find_info(self, info: str, color: str) -> None:
        infos, bases = self._of(INFO), self._bases(color)
        siblings = [f"{base.rpartition('/')[0]}/camera_info" for base in bases]
        for few in (infos, [topic for topic in infos if topic in siblings]):
            if len(few) == 1:
                self._take(info, few[0])
                return
        self.reasons[info] = (
            f"several could be the camera info ({', '.join(infos)})"
            if infos
            else f"the bag has no {INFO}: give the camera's calibration with --intrinsics FILE or fx,fy,cx,cy (camera.intrinsics)"
        )

    # --- transforms and joints ------------------------------------------------------------------------------------

    def transforms(self) -> None:
        """Look for transforms in a namespace if there are none outside of one."""
        if self._has(STATIC, TF) or self._has(MOVING, TF):
            return
        for topic in (STATIC, MOVING):
            few = [name for name in self._of(TF) if name.endswith(topic)]
            if len(few) == 1:
                self._take(topic, few[0])

    def joints(self, robot: RobotConfig, arm: str, fingers: str) -> None:
        """Look for the states of the arm and the fingers, by the names of their joints."""
        for topic, joints in ((arm, robot.arm_joints), (fingers, robot.finger_joints)):
            others = [name for name in self._of(JOINTS) if name not in (arm, fingers)]
            if others and not self._names(topic) >= set(joints):
                few = [name for name in others if set(joints) <= self._joints_on(name)]
                if len(few) == 1:
                    self._take(topic, few[0])

    def _names(self, topic: str) -> set[str]:
        """The joints in the first messages of what is read as a topic."""
        names = [name for name, _ in names_of(topic, JOINTS, self.remap)]
        return set().union(*(self._joints_on(name) for name in names))

    def _joints_on(self, topic: str) -> set[str]:
        has = self.files.topics.get(topic, {}).get(JOINTS, 0)
        message = self._first(topic, JOINTS) if has else None
        return set(message.name) if message is not None else set()


def _why_not(what: str, candidates: Iterable[_Picture], pictures: Iterable[_Picture]) -> str:
    several = [str(picture) for picture in candidates]
    if several:
        return f"several could be the {what} ({', '.join(several)})"
    return f"the bag has no {what}, only {', '.join(str(picture) for picture in pictures)}"
