"""The obstacles that motions are planned around, for people: published only while somebody looks, and when they changed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from geometry_msgs.msg import Point, Vector3
from rclpy.node import Node
from std_msgs.msg import ColorRGBA
from visualization_msgs.msg import Marker

from stvla_ros.motion.scene import coarser
from stvla_ros.ros import qos
from stvla_ros.ros.convert import header
from stvla_ros.ros.freshness import STEADY
from stvla_ros.types import F32

TOPIC = "stvla/obstacles"
EVERY_S = 1.0
MOST = 2500
"""More cells than these are shown as fewer, larger ones: a message stays below the size at which the middleware splits
it (64 kB)."""


class ObstacleMarkers:
    """Publishes a marker of cubes.

    Args:
        node: Publishes.
        voxels_m: (N, 3) centres of the occupied cells now; another array after each change.
        edge_m: Of a cell.
        base_frame: Of the centres.
        now_ns: The clock of the messages.
    """

    def __init__(
        self, node: Node, voxels_m: Callable[[], F32], edge_m: float, base_frame: str, now_ns: Callable[[], int]
    ) -> None:
        self._voxels_m, self._edge_m, self._base_frame, self._now_ns = voxels_m, edge_m, base_frame, now_ns
        self._sent: tuple[F32, int] | None = None
        self._out = node.create_publisher(Marker, TOPIC, qos.EVENT)
        node.create_timer(EVERY_S, self._publish, clock=STEADY)

    def _publish(self) -> None:
        watching, voxels = self._out.get_subscription_count(), self._voxels_m()
        if not watching:
            self._sent = None
        elif self._sent is None or self._sent[0] is not voxels or self._sent[1] != watching:
            self._sent = voxels, watching
            points, edge_m = coarser(voxels, self._edge_m, MOST)
            self._out.publish(cubes(points, edge_m, self._base_frame, self._now_ns()))


def cubes(centres_m: F32, edge_m: float, base_frame: str, stamp_ns: int) -> Marker:
    """A marker of cubes, as RViz shows it."""
    marker = Marker(header=header(stamp_ns, base_frame), ns="obstacles", type=Marker.CUBE_LIST, action=Marker.ADD)
    marker.pose.orientation.w = 1.0
    marker.scale, marker.color = Vector3(x=edge_m, y=edge_m, z=edge_m), ColorRGBA(r=0.9, g=0.6, b=0.2, a=0.6)
    marker.points = [Point(x=x, y=y, z=z) for x, y, z in centres_m.tolist()]
    return marker


def centres_of(marker: Marker) -> F32:
    """(N, 3) centres of the cubes in a marker."""
    return np.array([(p.x, p.y, p.z) for p in marker.points], np.float32).reshape(-1, 3)
