"""A small transform buffer for /tf and /tf_static (there is no wheel of tf2's Python client).

Enough for a camera: a tree of frames, linear interpolation of translation and spherical interpolation of rotation
between the two samples around a stamp (as tf2 does), no extrapolation.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left, insort
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from geometry_msgs.msg import TransformStamped
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.node import Node
from tf2_msgs.msg import TFMessage

from stvla_ros.errors import CancelToken
from stvla_ros.geometry.se3 import inverse, rotation_distance
from stvla_ros.ros import qos
from stvla_ros.ros.convert import time_to_ns, transform_to_matrix
from stvla_ros.ros.freshness import OutOfOrder
from stvla_ros.types import F64

KEEP_NS = 10_000_000_000
"""Length of the buffer, as in tf2."""

BACK_NS = 500_000_000
"""Samples older than the newest one by more than this are out of order (:class:`OutOfOrder`). When the clock went
back, all earlier samples are forgotten: between samples of two rounds of a bag there is no pose."""

SAME_M, SAME_RAD = 1e-3, 2e-3
"""Poses nearer than this count as equal."""

SILENT = SubscriptionEventCallbacks(use_default_callbacks=False)
"""One of the two readers is always incompatible with a given publisher: no reason for a warning."""


class TransformError(LookupError):
    """No transform; the message says between which frames and why."""


@dataclass
class _Edge:
    """Samples of one frame in one parent, by stamp; a static edge has a single sample that holds at any time."""

    parent: str
    child: str
    static: bool
    samples: list[tuple[int, F64]] = field(default_factory=list)
    out_of_order: OutOfOrder = field(default_factory=OutOfOrder)

    def add(self, stamp_ns: int, T_parent_child: F64) -> None:
        if self.static:
            self.samples = [(0, T_parent_child)]
            return
        if self.samples and stamp_ns < self.samples[-1][0] - BACK_NS:
            if not self.out_of_order.clock_went_back():
                return
            self.samples = []
        self.out_of_order.reset()
        insort(self.samples, (stamp_ns, T_parent_child), key=lambda s: s[0])
        while self.samples[0][0] < self.samples[-1][0] - KEEP_NS:
            self.samples.pop(0)

    def at(self, stamp_ns: int) -> F64:
        if self.static or stamp_ns == 0:
            return self.samples[-1][1]
        i = bisect_left(self.samples, stamp_ns, key=lambda s: s[0])
        if i < len(self.samples) and self.samples[i][0] == stamp_ns:
            return self.samples[i][1]
        if i == 0 or i == len(self.samples):
            nearest = self.samples[0][0] if i == 0 else self.samples[-1][0]
            once = (
                ": it came only once on /tf; publish it on /tf_static if it is fixed" if len(self.samples) == 1 else ""
            )
            raise TransformError(
                f"the transform {self.parent} -> {self.child} is not known at the image's stamp "
                f"(the nearest sample is {abs(stamp_ns - nearest) / 1e9:.3f} s {'newer' if i == 0 else 'older'}){once}"
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
    """The transforms that a node receives. Thread safe.

    Args:
        node: Its executor must spin.
        on_change: Called in the executor's thread after transforms have come; must return at once.
    """

    def __init__(self, node: Node, on_change: Callable[[], None] | None = None) -> None:
        self._lock = threading.Condition()
        self._on_change = on_change
        self._edges: dict[str, dict[str, _Edge]] = {}  # child -> parent -> edge
        self._refused: dict[str, str] = {}  # child -> why its last transform was not taken
        for profile in (qos.STATIC_LATCHED, qos.STATIC_VOLATILE):
            node.create_subscription(
                TFMessage, "/tf_static", lambda m: self.add(m, True), profile, event_callbacks=SILENT
            )
        node.create_subscription(TFMessage, "/tf", lambda m: self.add(m, False), qos.STATE)

    def add(self, message: TFMessage, static: bool) -> None:
        """Take the usable transforms of a message; invalid ones are ignored, as in tf2."""
        with self._lock:
            for t in message.transforms:
                parent, child = _name(t.header.frame_id), _name(t.child_frame_id)
                try:
                    self._set(parent, child, static, time_to_ns(t.header.stamp), _matrix(t, static))
                except ValueError as error:
                    topic = "/tf_static" if static else "/tf"
                    self._refused[child] = f"the transform {parent} -> {child} on {topic} cannot be used: {error}"
            self._lock.notify_all()
        if self._on_change:
            self._on_change()

    def _set(self, parent: str, child: str, static: bool, stamp_ns: int, T_parent_child: F64) -> None:
        edges = self._edges.setdefault(child, {})
        edge = edges.get(parent)
        if edge is None or edge.static != static:
            edge = edges[parent] = _Edge(parent, child, static)
        edge.add(stamp_ns, T_parent_child)
        self._refused.pop(child, None)

    def connects(self, target: str, source: str) -> bool:
        """Whether two frames are connected at any time."""
        with self._lock:
            return bool(self._ways(_name(target), _name(source)))

    def root(self, target: str, source: str) -> str:
        """The highest frame above the source that is not above the target too: the root of a camera's own frames."""
        target, source = _name(target), _name(source)
        with self._lock:
            for up, _ in self._ways(target, source):
                if up:
                    return up[-1].child
            return next((root for root in self._roots(source) if root != source), source)

    def lookup(self, target: str, source: str, stamp_ns: int) -> F64:
        """(4, 4) ``T_target_source`` at a stamp; 0: the newest one, as in tf2.

        A frame may have several parents (a driver's and a calibration's). Those that do not lead to the target are
        ignored; those that do must agree.

        Raises:
            TransformError: The frames are not connected, or not at that time, or by two chains that disagree.
        """
        target, source = _name(target), _name(source)
        with self._lock:
            ways = self._ways(target, source)
            if not ways:
                raise TransformError(
                    f"no transform from {target} to {source} is known{self._why_apart(target, source)}"
                )
            poses: list[F64] = []
            late: TransformError | None = None
            for up, down in ways:
                try:
                    poses.append(inverse(_climb(down, stamp_ns)) @ _climb(up, stamp_ns))
                except TransformError as error:
                    late = late or error
        if not poses:
            assert late is not None
            raise late
        for pose in poses[1:]:
            if not same_pose(pose, poses[0]):
                apart = np.linalg.norm(pose[:3, 3] - poses[0][:3, 3])
                chains = " and ".join("-".join([source, *(edge.parent for edge in up)]) for up, _ in ways)
                raise TransformError(
                    f"the frame {source} has two poses {apart:.3f} m apart, by {chains}: stop one of their publishers"
                )
        return poses[0]

    def wait(self, target: str, source: str, stamp_ns: int, timeout_s: float, cancel: CancelToken) -> F64:
        """Like :meth:`lookup`, but wait for a transform that is still on its way, as tf2 does.

        Raises:
            TransformError: It did not come in time.
            StageError: The cancel's reason.
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

    def _why_apart(self, target: str, source: str) -> str:
        """The end of the sentence about two frames that are not connected."""
        roots = {frame: self._roots(frame) for frame in (source, target)}
        for root in roots[source] + roots[target]:
            if root in self._refused:
                return f": {self._refused[root]}"
        known = self._edges.keys() | {parent for edges in self._edges.values() for parent in edges}
        found = [
            f"no transform has {frame}" if frame not in known else f"{frame} hangs on {' and '.join(ends) or 'a loop'}"
            for frame, ends in roots.items()
            if frame not in known or ends != [frame]
        ]
        if not found:
            return ": publish it on /tf_static"
        return f" ({', '.join(found)}): publish the missing transform, on /tf_static if it is fixed"

    def _roots(self, frame: str) -> list[str]:
        """The frames at which the ways up from a frame end."""
        return [above for above in self._climbs(frame) if above not in self._edges]

    def _ways(self, target: str, source: str) -> list[tuple[list[_Edge], list[_Edge]]]:
        """The edges from the source and from the target up to each of their nearest common frames."""
        ups, downs = self._climbs(source), self._climbs(target)
        ways = ((up, down) for frame in ups if frame in downs for up in ups[frame] for down in downs[frame])
        return [(up, down) for up, down in ways if not (up and down and up[-1] is down[-1])]

    def _climbs(self, frame: str) -> dict[str, list[list[_Edge]]]:
        """Every way up from a frame, by the frame at which it ends; no way visits a frame twice."""
        found: dict[str, list[list[_Edge]]] = {frame: [[]]}
        rest: list[list[_Edge]] = [[]]
        while rest:
            way = rest.pop()
            passed = {frame, *(edge.parent for edge in way)}
            for parent, edge in self._edges.get(way[-1].parent if way else frame, {}).items():
                if parent not in passed:
                    rest.append([*way, edge])
                    found.setdefault(parent, []).append(rest[-1])
        return found


def same_pose(A: F64, B: F64) -> bool:
    """Whether two (4, 4) poses are equal, within :data:`SAME_M` and :data:`SAME_RAD`."""
    return bool(np.linalg.norm(A[:3, 3] - B[:3, 3]) < SAME_M and rotation_distance(A[:3, :3], B[:3, :3]) < SAME_RAD)


def _name(frame: str) -> str:
    """A frame's name without the leading slash of tf."""
    return frame.lstrip("/")


def _matrix(message: TransformStamped, static: bool) -> F64:
    """(4, 4) of a transform. Raises ValueError for an invalid one."""
    parent, child = _name(message.header.frame_id), _name(message.child_frame_id)
    if not parent or not child or parent == child:
        raise ValueError("wanted two frames")
    if not static and time_to_ns(message.header.stamp) <= 0:
        raise ValueError("it has no stamp (0): publish it on /tf_static, or stamp it")
    T = transform_to_matrix(message.transform)
    if not np.isfinite(T).all():
        raise ValueError(f"wanted finite numbers, got the translation {T[:3, 3].tolist()}")
    return T


def _climb(edges: list[_Edge], stamp_ns: int) -> F64:
    T = np.eye(4)
    for edge in edges:
        T = edge.at(stamp_ns) @ T
    return T
