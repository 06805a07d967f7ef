"""A small transform buffer over /tf and /tf_static (tf2's own Python client is no wheel).

Enough for a camera: a tree of frames, linear interpolation of translation and spherical interpolation of rotation
between the two samples around a stamp (as tf2 does), no extrapolation.
"""

from __future__ import annotations

import contextlib
import threading
import time
from bisect import bisect_left, insort
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from builtin_interfaces.msg import Time
from rclpy.node import Node
from tf2_msgs.msg import TFMessage

from stvla_ros.errors import CancelToken
from stvla_ros.ros import qos
from stvla_ros.ros.convert import time_to_ns, transform_to_matrix
from stvla_ros.types import F64

KEEP_NS = 10_000_000_000
"""Length of the buffer, as in tf2."""


class TransformError(LookupError):
    """No transform; the message says between which frames and why."""


@dataclass
class _Edge:
    """Samples of one frame in its parent, by stamp; a single one at any time when static."""

    parent: str
    static: bool
    samples: list[tuple[int, F64]] = field(default_factory=list)

    def add(self, stamp_ns: int, T_parent_child: F64) -> None:
        if self.static:
            self.samples = [(0, T_parent_child)]
            return
        insort(self.samples, (stamp_ns, T_parent_child), key=lambda s: s[0])
        while self.samples[0][0] < self.samples[-1][0] - KEEP_NS:
            self.samples.pop(0)

    def at(self, stamp_ns: int, child: str) -> F64:
        if self.static or stamp_ns == 0:
            return self.samples[-1][1]
        i = bisect_left(self.samples, stamp_ns, key=lambda s: s[0])
        if i < len(self.samples) and self.samples[i][0] == stamp_ns:
            return self.samples[i][1]
        if i == 0 or i == len(self.samples):
            nearest = self.samples[0][0] if i == 0 else self.samples[-1][0]
            raise TransformError(
                f"the transform {self.parent} -> {child} is not known at the image's stamp "
                f"(nearest sample is {abs(stamp_ns - nearest) / 1e9:.3f} s {'younger' if i == 0 else 'older'})"
            )
        (t0, T0), (t1, T1) = self.samples[i - 1], self.samples[i]
        return interpolate(T0, T1, (stamp_ns - t0) / (t1 - t0))


def interpolate(T0: F64, T1: F64, s: float) -> F64:
    """(4, 4) pose at ``s`` in 0..1 between two poses: constant velocity about one axis."""
    R = T0[:3, :3].T @ T1[:3, :3]
    cosine = float(np.clip((np.trace(R) - 1) / 2, -1, 1))
    angle = float(np.arccos(cosine))
    T = np.eye(4)
    T[:3, 3] = (1 - s) * T0[:3, 3] + s * T1[:3, 3]
    T[:3, :3] = T0[:3, :3] if angle < 1e-9 else T0[:3, :3] @ _rotation(_axis(R, angle), s * angle)
    return T


def _axis(R: F64, angle: float) -> F64:
    vector = np.array([R[2, 1] - R[1, 2], R[0, 2] - R[2, 0], R[1, 0] - R[0, 1]])
    if np.linalg.norm(vector) > 1e-6:
        return vector / np.linalg.norm(vector)
    column = (R + np.eye(3))[:, int(np.argmax(np.diag(R)))]  # half a turn: R + I = 2 a a^T
    return column / np.linalg.norm(column)


def _rotation(axis: F64, angle: float) -> F64:
    """Rodrigues' formula."""
    x, y, z = axis
    K = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * K + (1 - np.cos(angle)) * K @ K


class TransformBuffer:
    """Transforms as heard by a node. Thread safe.

    Args:
        node: Its executor must spin.
        on_change: Called in the executor's thread after transforms have come; must return at once.
    """

    def __init__(self, node: Node, on_change: Callable[[], None] | None = None) -> None:
        self._lock = threading.Condition()
        self._on_change = on_change
        self._edges: dict[str, _Edge] = {}
        node.create_subscription(TFMessage, "/tf_static", lambda m: self.add(m, True), qos.LATCHED)
        node.create_subscription(TFMessage, "/tf", lambda m: self.add(m, False), qos.STATE)

    def add(self, message: TFMessage, static: bool) -> None:
        """Take what is usable; a transform without a rotation is passed over, as tf2 does."""
        for t in message.transforms:
            with contextlib.suppress(ValueError):
                matrix = transform_to_matrix(t.transform)
                self._set(t.header.frame_id.lstrip("/"), t.child_frame_id.lstrip("/"), static, t.header.stamp, matrix)
        with self._lock:
            self._lock.notify_all()
        if self._on_change:
            self._on_change()

    def _set(self, parent: str, child: str, static: bool, stamp: Time, T_parent_child: F64) -> None:
        with self._lock:
            edge = self._edges.get(child)
            if edge is None or edge.parent != parent or edge.static != static:
                edge = self._edges[child] = _Edge(parent, static)
            edge.add(time_to_ns(stamp), T_parent_child)

    def lookup(self, target: str, source: str, stamp_ns: int) -> F64:
        """(4, 4) ``T_target_source`` at a stamp; 0: the newest that is known, as in tf2.

        Raises:
            TransformError: The frames are not connected, or not at that time.
        """
        with self._lock:
            up_source, up_target = self._ancestors(source), self._ancestors(target)
            common = next((f for f in up_source if f in up_target), None)
            if common is None:
                raise TransformError(f"no transform from {target} to {source} is known: publish it on /tf_static")
            T_common_source = self._climb(up_source[: up_source.index(common)], stamp_ns)
            T_common_target = self._climb(up_target[: up_target.index(common)], stamp_ns)
        return np.linalg.inv(T_common_target) @ T_common_source if up_target[0] != common else T_common_source

    def wait(self, target: str, source: str, stamp_ns: int, timeout_s: float, cancel: CancelToken) -> F64:
        """The same, but a transform that is still on its way is waited for, as tf2 does.

        Raises:
            TransformError: It did not come in time.
            StageError: The reason of the cancel.
        """
        end = time.monotonic() + timeout_s
        with self._lock:
            while True:
                cancel.raise_if_set()
                try:
                    return self.lookup(target, source, stamp_ns)
                except TransformError:
                    if time.monotonic() >= end:
                        raise
                self._lock.wait(min(0.1, timeout_s))

    def _ancestors(self, frame: str) -> list[str]:
        """The frame and those above it, nearest first; a loop ends the list."""
        found = [frame]
        while (edge := self._edges.get(found[-1])) is not None and edge.parent not in found:
            found.append(edge.parent)
        return found

    def _climb(self, frames: list[str], stamp_ns: int) -> F64:
        T = np.eye(4)
        for frame in frames:
            T = self._edges[frame].at(stamp_ns, frame) @ T
        return T
