"""RGB-D frames from camera topics: colour and aligned depth paired by stamp, with calibration and camera pose.

A frame counts once it is usable and the pose of its camera at its stamp is known, as with tf2's MessageFilter:
transforms of a moving camera may come later than its images. Only the newest frame counts; late parts are dropped,
never queued. Unusable frames are skipped and counted, and the reason is reported when no usable one has come for too
long. Receivers can keep the last frames to find them by stamp, and pin a few for longer. Pixels are decoded once,
when a stage asks for a frame.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy
from rclpy.subscription import Subscription
from sensor_msgs.msg import CameraInfo, Image

from stvla_ros.config import param
from stvla_ros.errors import CancelToken, OutcomeCode, StageError
from stvla_ros.geometry.cameras import SATURATED_M, calibration_fault
from stvla_ros.ros import qos
from stvla_ros.ros.convert import check_frame, frame_from_msgs, header, info_to_camera, time_to_ns
from stvla_ros.ros.freshness import MAX_AHEAD_S, Arrival, Freshness, Instant, now, why_in_future
from stvla_ros.ros.pairing import Pairing
from stvla_ros.ros.rectify import Rectifier
from stvla_ros.ros.tf import TransformBuffer, TransformError, same_pose
from stvla_ros.ros.type_mismatch import topic_type_mismatch
from stvla_ros.types import F64, RgbdFrame

INFOS = 4
"""Number of camera infos kept. An image uses the one with its stamp if there is one, otherwise the last."""

WITHOUT_OWN_INFO = 3
"""After this many frames in a row without an info of their stamp, none is waited for: it is sent once, or rarely."""

ONE_SHOT_S = 0.1
"""Stamps further apart are never of one exposure, whatever the setting."""

UNPLACED = 16
"""Number of complete frames kept while the transform at their stamp is on its way; then every second one is kept."""
PINNED = 4
"""Number of frames that may be pinned: one plan may wait to be lifted while the next is drawn, but not many more."""


@dataclass(frozen=True)
class CameraConfig:
    """The camera's topics and limits. The default names are those of realsense-ros."""

    color: str = param("camera/camera/color/image_raw", "colour image topic (rgb8, bgr8, rgba8 or bgra8)")
    depth: str = param(
        "camera/camera/aligned_depth_to_color/image_raw", "depth topic aligned to colour (16UC1 mm or 32FC1 m)"
    )
    info: str = param("camera/camera/color/camera_info", "camera info topic of the colour image")
    rectified: bool = param(
        False,
        "the images are rectified (image_rect): P of the camera info is used; otherwise K, and distortion is removed",
    )
    depth_rectified: bool = param(
        False,
        "depth is aligned to the rectified image already, so only colour is rectified: true for realsense-ros with a lens "
        "that has distortion (D405, D455)",
    )
    pair_within_s: float = param(
        0.005,
        "largest difference of the stamps of colour and depth of one exposure; keep it well below the frame time [s]",
        ge=0.0,
        le=ONE_SHOT_S,
    )
    max_age_s: float = param(1.0, "an image older than this is stale [s]", ge=0.05, le=3600.0)
    max_ahead_s: float = param(
        MAX_AHEAD_S, "an image with a stamp further in the future is refused [s]", ge=0.0, le=60.0
    )
    timeout_s: float = param(5.0, "how long to wait for an image that is young enough [s]", ge=0.0, le=60.0)


@dataclass
class _Parts:
    """The three messages of one frame, the pose of its camera, and the frame once it is decoded."""

    arrival: Arrival
    messages: dict[str, Any]
    frame_id: str = ""
    T_base_camera: F64 | None = None
    frame: RgbdFrame | None = None

    @property
    def stamp_ns(self) -> int:
        """Stamp of its colour image."""
        return self.arrival.stamp_ns


_KINDS = {"color": Image, "depth": Image, "info": CameraInfo}


class RgbdReceiver:
    """Receives a camera's frames and keeps the newest one.

    Args:
        node: Its executor must spin.
        config: Topics and limits.
        on_frame: Called in the executor's thread when a frame is complete and its camera's pose is known; must return
            at once.
        base_frame: The robot's base frame.
        keep_s: :meth:`at` finds frames that are at most this much older than the newest one.
    """

    def __init__(
        self,
        node: Node,
        config: CameraConfig,
        on_frame: Callable[[int], None] | None = None,
        base_frame: str = "panda_link0",
        keep_s: float = 0.0,
    ) -> None:
        self._node, self._config, self._on_frame = node, config, on_frame
        self._base_frame = base_frame
        self._rectifier = Rectifier(config.rectified, config.depth_rectified)
        self._pairing: Pairing[tuple[Arrival, Image]] = Pairing(round(config.pair_within_s * 1e9))
        self._infos: deque[CameraInfo] = deque(maxlen=INFOS)
        self._uninformed: _Parts | None = None  # waits for its info, until the next frame is complete
        self._without_own_info = WITHOUT_OWN_INFO
        self._unplaced: list[_Parts] = []
        self._newest: _Parts | None = None
        self._heard: dict[str, Instant] = {}
        self._refused: dict[str, tuple[str, Instant]] = {}  # why messages newer than the newest frame were refused
        self._kept: dict[int, _Parts] = {}
        self._keep_ns = round(keep_s * 1e9)
        self._pinned: deque[int] = deque(maxlen=PINNED)
        self._arrived = threading.Condition()
        self._decoding = threading.Lock()
        self.skipped = 0
        """Number of frames, or parts of one, that could not be used."""
        self.why_skipped = ""
        """Why the last of them could not be used."""
        self._topics: dict[str, str] = {part: node.resolve_topic_name(getattr(config, part)) for part in _KINDS}
        self._rules: dict[str, Freshness] = {
            part: Freshness(what, self._topics[part], config.max_age_s, config.max_ahead_s)
            for part, what in (("color", "camera image"), ("depth", "depth image"))
        }
        self._rule = self._rules["color"]
        self._latched_info: Subscription | None = None
        self.transforms = TransformBuffer(node, self._place)
        for part, kind in _KINDS.items():
            node.create_subscription(kind, self._topics[part], partial(self._receive, part), qos.IMAGE_BEST_EFFORT)

    @property
    def dropped(self) -> int:
        """Number of images that came too late for a pair, or whose partner never came."""
        return self._pairing.dropped

    def _receive(self, part: str, message: Any) -> None:
        arrival = Arrival(time_to_ns(message.header.stamp), now(self._node))
        with self._arrived:
            self._heard[part] = arrival.at
            complete = [] if self._uninformed is None else [self._uninformed]
            if part == "info":
                self._infos.append(message)
            else:
                complete += self._pair(part, arrival, message)
            self._uninformed = complete.pop() if complete and not self._informed(complete[-1]) else None
            for parts in complete if self._infos else []:
                self._take(parts)
        self._place()

    def _pair(self, part: Any, arrival: Arrival, message: Image) -> list[_Parts]:
        """The frames that a new part completes, except for their info."""
        rule = self._rules[part]
        if fault := rule.ahead(arrival) or (rule.stale(arrival, arrival.at) if arrival.stamp_ns <= 0 else None):
            self._refuse(part, fault, arrival.at)
            return []
        if Arrival(self._pairing.paired_ns, arrival.at).ahead_s > self._config.max_ahead_s:
            self._pairing.begin_anew()  # our clock was set back: all would be late until it catches up
        pairs = self._pairing.add(part, arrival.stamp_ns, (arrival, message))
        return [_Parts(came, {"color": color, "depth": depth}) for (came, color), (_, depth) in pairs]

    def _informed(self, parts: _Parts) -> bool:
        """Whether the info for a frame is here."""
        if not self._infos:
            self._hear_latched_info()
        own_is_late = self._without_own_info < WITHOUT_OWN_INFO and not self._own_infos(parts)
        return bool(self._infos) and not own_is_late

    def _own_infos(self, parts: _Parts) -> list[CameraInfo]:
        return [info for info in self._infos if time_to_ns(info.header.stamp) == parts.stamp_ns]

    def _hear_latched_info(self) -> None:
        """Subscribe to latched infos: one that was published once, before this node started, comes in no other way."""
        if self._latched_info is None and any(
            publisher.qos_profile.durability == DurabilityPolicy.TRANSIENT_LOCAL
            for publisher in self._node.get_publishers_info_by_topic(self._topics["info"])
        ):
            self._latched_info = self._node.create_subscription(
                CameraInfo, self._topics["info"], partial(self._receive, "info"), qos.LATCHED_NEWEST
            )

    def _take(self, parts: _Parts) -> None:
        """Take a complete frame, which then waits for the pose of its camera; skip it when it cannot be used."""
        own = self._own_infos(parts)
        self._without_own_info = 0 if own else self._without_own_info + 1
        parts.messages["info"] = info = (own or self._infos)[-1]
        try:
            pinhole = self._rectifier.pinhole(info)
            fault = calibration_fault(info_to_camera(pinhole, np.eye(4)))
            if fault is not None:
                raise ValueError(fault)
            check_frame(parts.messages["color"], parts.messages["depth"], pinhole)
            self._rectifier.check(info)
        except ValueError as error:
            self._refuse("frame", f"The camera's images cannot be used: {error}.", parts.arrival.at)
            return
        self._refused.clear()
        if parts.stamp_ns <= max([self.stamp_ns, *(unplaced.stamp_ns for unplaced in self._unplaced)]):
            self._newest = None  # pairs come in order: the camera's clock was set back, or this machine's
            self._unplaced = []
        young = [p for p in self._unplaced if p.arrival.age_s(parts.arrival.at) <= self._config.max_age_s]
        self._unplaced = [*(young if len(young) < UNPLACED else young[::2]), parts]

    def _refuse(self, what: str, sentence: str, at: Instant) -> None:
        self._refused[what] = sentence, at
        self.skipped, self.why_skipped = self.skipped + 1, sentence

    def _place(self) -> None:
        """Find camera poses for complete frames, and take the newest frame that has one."""
        if not self._unplaced:
            return
        with self._arrived:
            placed = [parts for parts in self._unplaced if self._find_camera(parts) is None]
            if not placed:
                return
            newest = self._newest = placed[-1]
            for parts in placed:
                self._keep(parts)
            self._unplaced = [parts for parts in self._unplaced if parts.stamp_ns > newest.stamp_ns]
            self._arrived.notify_all()
        if self._on_frame:
            self._on_frame(newest.stamp_ns)

    def _find_camera(self, parts: _Parts) -> str | None:
        """Look up the camera pose of a frame; returns why it is not known, or None."""
        named = {part: message.header.frame_id.lstrip("/") for part, message in parts.messages.items()}
        frames = [frame for frame in dict.fromkeys((named["color"], named["info"])) if frame]
        if not frames:
            return "neither the colour image nor its CameraInfo has a frame_id: set one in the camera's driver"
        frames = [frame for frame in frames if self.transforms.connects(self._base_frame, frame)] or frames[:1]
        depth = [named["depth"]] if self.transforms.connects(self._base_frame, named["depth"]) else []
        try:
            place, *others = (self.transforms.lookup(self._base_frame, f, parts.stamp_ns) for f in frames + depth)
        except TransformError as error:
            return str(error)
        if len(frames) > 1 and not same_pose(place, others[0]):
            return (
                f"the colour image is in the frame {named['color']}, its CameraInfo in {named['info']}, which have different "
                "poses: make the camera's driver use the optical frame in both"
            )
        if depth and not same_pose(place, others[-1]):
            return (
                f"the depth image is in the frame {named['depth']}, which has another pose than {frames[0]} of the colour "
                "image: it is not aligned. Turn on align_depth in the camera's driver, or set camera.depth to the aligned topic"
            )
        parts.frame_id, parts.T_base_camera = frames[0], place
        return None

    def _keep(self, newest: _Parts) -> None:
        self._kept[newest.stamp_ns] = newest
        oldest_ns = newest.stamp_ns - self._keep_ns
        for stamp_ns in list(self._kept):
            if not oldest_ns <= stamp_ns <= newest.stamp_ns and stamp_ns not in self._pinned:
                del self._kept[stamp_ns]

    def pin(self, stamp_ns: int) -> None:
        """Keep the frame with this stamp, received or not yet, until :data:`PINNED` others were pinned."""
        with self._arrived:
            if stamp_ns not in self._pinned:
                self._pinned.append(stamp_ns)

    def at(self, stamp_ns: int, timeout_s: float) -> RgbdFrame:
        """The frame with exactly this stamp; waits for it only while there is no newer one.

        Raises:
            StageError: STALE_IMAGE when the frame was lost on its way, was not kept, or cannot be used.
        """
        with self._arrived:
            self._arrived.wait_for(lambda: stamp_ns in self._kept or self.stamp_ns > stamp_ns, timeout_s)
            parts = self._kept.get(stamp_ns)
        if parts is None:
            raise StageError(
                OutcomeCode.STALE_IMAGE,
                f"The image of {stamp_ns / 1e9:.3f} s did not reach '{self._node.get_name()}' completely, or came before its start.",
            )
        return self._decode(parts)

    @property
    def stamp_ns(self) -> int:
        """Stamp of the newest complete frame with a camera pose; 0 when there is none."""
        newest = self._newest
        return newest.stamp_ns if newest else 0

    @property
    def unplaced_frame(self) -> str | None:
        """Frame of complete images whose camera's pose is not known; None when there are none."""
        with self._arrived:
            return str(self._unplaced[-1].messages["color"].header.frame_id).lstrip("/") if self._unplaced else None

    def age_s(self) -> float:
        """Age of the newest frame, by stamp or arrival, whichever is larger; infinite when there is none."""
        newest = self._newest
        return newest.arrival.age_s(now(self._node)) if newest else float("inf")

    def capture(self) -> RgbdFrame:
        """The newest frame, at most ``max_age_s`` old. Raises StageError STALE_IMAGE."""
        return self.wait(0, CancelToken())

    def wait(self, not_before_ns: int, cancel: CancelToken, timeout_s: float | None = None) -> RgbdFrame:
        """Wait for a newest frame that is at most ``max_age_s`` old and has a stamp of at least ``not_before_ns``.

        Raises:
            StageError: STALE_IMAGE after the timeout, or when the images cannot be used; the cancel's reason.
        """
        end = time.monotonic() + (self._config.timeout_s if timeout_s is None else timeout_s)
        release = cancel.on_cancel(self._wake)
        try:
            with self._arrived:
                while not self._young(not_before_ns):
                    cancel.raise_if_set()
                    left = end - time.monotonic()
                    if fault := why_in_future(not_before_ns, now(self._node), left):
                        raise StageError(OutcomeCode.STALE_IMAGE, fault)
                    if left <= 0:
                        raise StageError(OutcomeCode.STALE_IMAGE, self.why_stale(not_before_ns))
                    self._arrived.wait(min(left, 0.5))
                parts = self._newest
        finally:
            release()
        assert parts is not None
        return self._decode(parts)

    def _young(self, not_before_ns: int) -> bool:
        return self.stamp_ns >= max(not_before_ns, 1) and self.age_s() <= self._config.max_age_s

    def _wake(self) -> None:
        with self._arrived:
            self._arrived.notify_all()

    def fault(self, max_age_s: float) -> str | None:
        """Why the newest image cannot be used, with the caller's own age limit; None if it can."""
        newest = self._newest
        if newest is None:
            return self.why_stale(0)
        stale = replace(self._rule, max_age_s=max_age_s).stale(newest.arrival, now(self._node))
        return stale and (self._why_not_taken() or self._why_not_whole() or stale)

    def _since(self) -> str:
        """A sentence about the silence of all topics, if they are silent."""
        silent_s = now(self._node).monotonic_s - max(at.monotonic_s for at in self._heard.values())
        return f" For {silent_s:.1f} s nothing has come at all." if silent_s > self._config.max_age_s else ""

    def _recent(self, at: Instant) -> bool:
        """Whether something that happened then explains why there is no image now."""
        return self._newest is None or now(self._node).monotonic_s - at.monotonic_s <= self._config.max_age_s

    def _why_not_taken(self) -> str | None:
        """Why images that come are not used: refused, or without a camera pose; None if neither."""
        with self._arrived:
            for what in ("color", "frame", "depth"):
                sentence, at = self._refused.get(what, ("", None))
                if at is not None and self._recent(at):
                    return sentence + self._since()
            if not self._unplaced or not self._recent(self._unplaced[-1].arrival.at):
                return None
            missing = self._find_camera(self._unplaced[-1])
        return missing and f"The camera's images cannot be used: {missing}."

    def _why_not_whole(self) -> str | None:
        """Why the parts that come do not make a frame, if any come."""
        moment = now(self._node).monotonic_s
        with self._arrived:
            silent_s = {part: moment - at.monotonic_s for part, at in self._heard.items()}
            gap_ns = self._pairing.gap_ns()
        if self._newest is not None:
            images_s = [silent_s[part] for part in ("color", "depth")]
            if min(images_s) > self._config.max_age_s / 2:
                return None  # the camera is silent
            silent_s = {part: s for part, s in silent_s.items() if part == "info" or s <= self._config.max_age_s}
        here = [part for part in _KINDS if part in silent_s]
        missing = [part for part in _KINDS if part not in silent_s]
        if missing:
            faults = (topic_type_mismatch(self._node, self._topics[part], _KINDS[part]) for part in missing)
            others = [fault for fault in faults if fault]
            nothing = f"nothing comes on {', '.join(self._topics[part] for part in missing)}, which is published"
            but = f", while {', '.join(self._topics[part] for part in here)} is received" if here else ""
            return f"No camera image: {' and '.join(others) or nothing + but}: look at the camera's driver and the camera topics."
        if gap_ns is None:
            return None
        gap_s, limit_s = gap_ns / 1e9, self._config.pair_within_s
        if gap_s <= limit_s:
            return "No camera image: only one colour and one depth image came; the next ones show whether they belong together."
        remedy = "let the driver synchronise the two, or raise camera.pair_within_s, but not above half the frame time"
        return (
            f"No camera image: the nearest stamps of colour and depth are {gap_s * 1e3:.1f} ms apart; at most {limit_s * 1e3:g} ms "
            f"are accepted: {remedy if gap_s < ONE_SHOT_S else 'one of the two is late, or stamped by another clock'}."
        )

    def why_stale(self, not_before_ns: int) -> str:
        """A sentence for the operator that says why there is no new enough image."""
        silent = [
            topic
            for part in _KINDS
            if not self._node.count_publishers(topic := self._topics[part]) and not (part == "info" and self._infos)
        ]
        if silent:
            return f"No camera image: nobody publishes {', '.join(silent)}. Start the camera or set the camera topics."
        if why := self._why_not_taken():
            return why
        newest = self._newest
        if newest is not None and self.age_s() <= self._config.max_age_s:
            if self.stamp_ns < not_before_ns:
                return f"The newest image shows the scene {(not_before_ns - self.stamp_ns) / 1e9:.2f} s before the last motion ended."
            return "The newest camera image has only just come."
        if why := self._why_not_whole():
            return why
        if newest is None:
            return "No camera image: the first one has only just come."
        return self._rule.stale(newest.arrival, now(self._node)) or "The newest camera image has only just come."

    def _decode(self, parts: _Parts) -> RgbdFrame:
        with self._decoding:
            if parts.frame is None:
                parts.frame = self._frame(parts)
                parts.messages.clear()
            return parts.frame

    def _frame(self, parts: _Parts) -> RgbdFrame:
        color, depth, info = (parts.messages[p] for p in ("color", "depth", "info"))
        try:
            assert parts.T_base_camera is not None, "a frame is placed before it counts"
            pinhole = self._rectifier.pinhole(info)
            pinhole.header = header(parts.stamp_ns, parts.frame_id)
            frame = frame_from_msgs(color, depth, pinhole, parts.T_base_camera)
            return self._rectifier.rectify(_measured(frame), info)
        except ValueError as error:
            raise StageError(OutcomeCode.STALE_IMAGE, f"The camera's images cannot be used: {error}.") from error


def _measured(frame: RgbdFrame) -> RgbdFrame:
    """The frame with NaN where its depth is not a measurement. Raises ValueError for an unusable calibration."""
    fault = calibration_fault(frame.camera)
    if fault is not None:
        raise ValueError(fault)
    depth = frame.depth_m
    wrong = (depth <= 0) | (depth >= SATURATED_M)
    return replace(frame, depth_m=np.where(wrong, np.float32(np.nan), depth)) if wrong.any() else frame
