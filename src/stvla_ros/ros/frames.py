"""RGB-D frames from camera topics: colour, aligned depth and camera info paired by equal stamps, and placed by TF.

A frame counts once the pose of its camera at its stamp is known, as with tf2's MessageFilter: behind a camera that moves,
transforms may come later than images. Only the newest complete frame counts; late parts are dropped, never queued. Who must
find a frame again by its stamp keeps the last ones, and pins the few that are needed for longer. Pixels are decoded when a
stage asks for a frame, not before, and each frame once.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from rclpy.node import Node
from rclpy.subscription import Subscription
from sensor_msgs.msg import CameraInfo, Image

from stvla_ros.config import param
from stvla_ros.errors import CancelToken, OutcomeCode, StageError
from stvla_ros.geometry.cameras import SATURATED_M, calibration_fault
from stvla_ros.ros import qos
from stvla_ros.ros.convert import frame_from_msgs, time_to_ns
from stvla_ros.ros.freshness import MAX_AHEAD_S, Arrival, Freshness, now
from stvla_ros.ros.rectify import Rectifier
from stvla_ros.ros.tf import TransformBuffer, TransformError
from stvla_ros.types import F64, RgbdFrame

PENDING = 4
"""Incomplete frames kept while their other parts are on the way."""

UNPLACED = 16
"""Complete frames kept while the transform at their stamp is on the way: half a second at 30 Hz."""
PINNED = 4
"""Frames kept for as long as it takes: a plan may wait to be lifted while the next one is drawn, not many more."""


@dataclass(frozen=True)
class CameraConfig:
    """Where frames come from. The names are those of realsense-ros."""

    color: str = param("camera/camera/color/image_raw", "colour image topic (rgb8 or bgr8)")
    depth: str = param(
        "camera/camera/aligned_depth_to_color/image_raw", "depth topic aligned to colour (16UC1 mm or 32FC1 m)"
    )
    info: str = param("camera/camera/color/camera_info", "camera info topic of the colour image")
    rectified: bool = param(
        False,
        "the images are rectified (image_rect): P of the camera info holds; otherwise K does and distortion is undone",
    )
    max_age_s: float = param(1.0, "an image older than this is stale [s]", ge=0.05, le=3600.0)
    max_ahead_s: float = param(
        MAX_AHEAD_S, "an image with a stamp further in the future is refused [s]", ge=0.0, le=60.0
    )
    timeout_s: float = param(5.0, "how long to wait for an image that is young enough [s]", ge=0.0, le=60.0)


@dataclass
class _Parts:
    """The three messages of one frame, where its camera was, and the frame once decoded."""

    stamp_ns: int
    arrival: Arrival
    messages: dict[str, Any] = field(default_factory=dict)
    T_base_camera: F64 | None = None
    frame: RgbdFrame | None = None

    @property
    def complete(self) -> bool:
        return len(self.messages) == 3


class RgbdReceiver:
    """The newest frame of a camera.

    Args:
        node: Its executor must spin.
        config: Topics and limits.
        on_frame: Called in the executor's thread when a frame is complete and placed; must return at once.
        base_frame: Frame of the robot's base.
        keep_s: How much older than the newest frame those may be that :meth:`at` still finds.
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
        self._rectifier = Rectifier(config.rectified)
        self._pending: OrderedDict[int, _Parts] = OrderedDict()
        self._unplaced: deque[_Parts] = deque(maxlen=UNPLACED)
        self._newest: _Parts | None = None
        self._refused: str | None = None  # why the newest frame was not taken, if it was not
        self._kept: dict[int, _Parts] = {}
        self._keep_ns = round(keep_s * 1e9)
        self._pinned: deque[int] = deque(maxlen=PINNED)
        self._arrived = threading.Condition()
        self._decoding = threading.Lock()
        self._subscriptions: dict[str, Subscription] = {}
        self.dropped = 0
        """Parts that came too late to make a frame."""
        self.transforms = TransformBuffer(node, self._place)
        for part, kind in (("color", Image), ("depth", Image), ("info", CameraInfo)):
            self._subscriptions[part] = node.create_subscription(
                kind, getattr(config, part), partial(self._receive, part), qos.IMAGE_BEST_EFFORT
            )
        source = self._subscriptions["color"].topic_name
        self._rule = Freshness("camera image", source, config.max_age_s, config.max_ahead_s)

    def _receive(self, part: str, message: Any) -> None:
        stamp_ns = time_to_ns(message.header.stamp)
        with self._arrived:
            if stamp_ns <= self.stamp_ns and not self._clock_went_back(stamp_ns):
                self.dropped += 1
                return
            if stamp_ns not in self._pending:
                self._pending[stamp_ns] = _Parts(stamp_ns, Arrival(stamp_ns, now(self._node)))
            parts = self._pending[stamp_ns]
            parts.messages[part] = message
            if not parts.complete:
                while len(self._pending) > PENDING:
                    self._pending.popitem(last=False)
                    self.dropped += 1
                return
            for older in [s for s in self._pending if s <= stamp_ns]:
                del self._pending[older]
            self._refused = self._rule.ahead(parts.arrival)
            if self._refused is None:
                self._unplaced.append(parts)
        self._place()

    def _place(self) -> None:
        """Take the newest of the complete frames whose camera's pose is known by now."""
        if not self._unplaced:
            return
        with self._arrived:
            placed = [parts for parts in self._unplaced if self._find_camera(parts) is None]
            if not placed:
                return
            newest = self._newest = placed[-1]
            for parts in placed:
                self._keep(parts)
            self._unplaced = deque((p for p in self._unplaced if p.stamp_ns > newest.stamp_ns), maxlen=UNPLACED)
            self._arrived.notify_all()
        if self._on_frame:
            self._on_frame(newest.stamp_ns)

    def _find_camera(self, parts: _Parts) -> str | None:
        """Look up where a frame's camera was; why that is not known, or None when it is."""
        frame_id = parts.messages["info"].header.frame_id
        try:
            parts.T_base_camera = self.transforms.lookup(self._base_frame, frame_id, parts.stamp_ns)
        except TransformError as error:
            return str(error)
        return None

    def _keep(self, newest: _Parts) -> None:
        self._kept[newest.stamp_ns] = newest
        oldest_ns = newest.stamp_ns - self._keep_ns
        for stamp_ns in list(self._kept):
            if not oldest_ns <= stamp_ns <= newest.stamp_ns and stamp_ns not in self._pinned:
                del self._kept[stamp_ns]

    def pin(self, stamp_ns: int) -> None:
        """Keep the frame with this stamp, here already or still to come, until :data:`PINNED` others were pinned."""
        with self._arrived:
            if stamp_ns not in self._pinned:
                self._pinned.append(stamp_ns)

    def at(self, stamp_ns: int, timeout_s: float) -> RgbdFrame:
        """The frame with exactly this stamp; waited for only while no younger one is here.

        Raises:
            StageError: STALE_IMAGE when it is not here: lost on the way, or not kept; or when it cannot be used.
        """
        with self._arrived:
            self._arrived.wait_for(lambda: stamp_ns in self._kept or self.stamp_ns > stamp_ns, timeout_s)
            parts = self._kept.get(stamp_ns)
        if parts is None:
            raise StageError(
                OutcomeCode.STALE_IMAGE,
                f"The image of {stamp_ns / 1e9:.3f} s did not reach '{self._node.get_name()}' whole, or came before it was started.",
            )
        return self._decode(parts)

    def _clock_went_back(self, stamp_ns: int) -> bool:
        """A camera that was restarted with an older clock starts anew, instead of being late forever; so do all when our
        own clock was set back: the newest image is of the future then."""
        future = Arrival(self.stamp_ns, now(self._node)).ahead_s > self._config.max_ahead_s
        if stamp_ns > self.stamp_ns - 5_000_000_000 and not future:
            return False
        self._newest = None
        self._unplaced.clear()
        return True

    @property
    def stamp_ns(self) -> int:
        """Stamp of the newest frame that is complete and placed; 0 when there is none."""
        newest = self._newest
        return newest.stamp_ns if newest else 0

    def age_s(self) -> float:
        """Age of the newest frame, by stamp or by arrival, whichever is larger; infinite when there is none."""
        newest = self._newest
        return newest.arrival.age_s(now(self._node)) if newest else float("inf")

    def capture(self) -> RgbdFrame:
        """The newest frame, not older than ``max_age_s``. Raises StageError STALE_IMAGE."""
        return self.wait(0, CancelToken())

    def wait(self, not_before_ns: int, cancel: CancelToken, timeout_s: float | None = None) -> RgbdFrame:
        """The newest frame once it is younger than ``max_age_s`` and not older than ``not_before_ns``.

        Raises:
            StageError: STALE_IMAGE after the timeout, or when the images cannot be used; the reason of a cancel.
        """
        end = time.monotonic() + (self._config.timeout_s if timeout_s is None else timeout_s)
        release = cancel.on_cancel(self._wake)
        try:
            with self._arrived:
                while not self._young(not_before_ns):
                    cancel.raise_if_set()
                    left = end - time.monotonic()
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
        """Why the newest image cannot be relied on, with an age limit of one's own; None: it can."""
        newest = self._newest
        if newest is None:
            return self.why_stale(0)
        stale = replace(self._rule, max_age_s=max_age_s).stale(newest.arrival, now(self._node))
        return stale and (self._why_not_taken() or stale)

    def _why_not_taken(self) -> str | None:
        """Why the images that come do not count, if they do not: refused, or not placed."""
        with self._arrived:
            if self._refused or not self._unplaced:
                return self._refused
            missing = self._find_camera(self._unplaced[-1])
        return missing and f"The camera's images cannot be used: {missing}."

    def why_stale(self, not_before_ns: int) -> str:
        """A sentence for the operator: why there is no image young enough."""
        topics = {part: self._subscriptions[part].topic_name for part in self._subscriptions}
        silent = [topic for topic in topics.values() if not self._node.count_publishers(topic)]
        if silent:
            return f"No camera image: nobody publishes {', '.join(silent)}. Start the camera or set the camera topics."
        if not_taken := self._why_not_taken():
            return not_taken
        newest = self._newest
        if newest is None:
            return f"No camera image: no colour, depth and info with equal stamps came on {', '.join(topics.values())}."
        if self.stamp_ns < not_before_ns and self.age_s() <= self._config.max_age_s:
            return f"The newest image shows the scene {(not_before_ns - self.stamp_ns) / 1e9:.2f} s before the last motion ended."
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
            frame = frame_from_msgs(color, depth, self._rectifier.pinhole(info), parts.T_base_camera)
            return self._rectifier.rectify(_measured(frame), info)
        except ValueError as error:
            raise StageError(OutcomeCode.STALE_IMAGE, f"The camera's images cannot be used: {error}.") from error


def _measured(frame: RgbdFrame) -> RgbdFrame:
    """The frame with NaN where its depth is no measurement. Raises ValueError for a camera that cannot be computed with."""
    fault = calibration_fault(frame.camera)
    if fault is not None:
        raise ValueError(fault)
    depth = frame.depth_m
    wrong = (depth <= 0) | (depth >= SATURATED_M)
    return replace(frame, depth_m=np.where(wrong, np.float32(np.nan), depth)) if wrong.any() else frame
