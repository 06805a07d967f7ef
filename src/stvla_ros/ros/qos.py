"""Quality of service of the stack's topics."""

from __future__ import annotations

from rclpy.duration import Duration
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy

DISCOVERY_S = 4.0
"""How long two processes may take to find each other. An announcement that is lost is repeated after
``leaseAnnouncement`` of ``config/fastdds.xml`` (0.75 s; 3 s with Fast DDS's own settings), and the endpoints follow."""

IMAGE = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=2, reliability=ReliabilityPolicy.RELIABLE)
"""Images and guidance as they are sent: every reader can hear it."""

IMAGE_BEST_EFFORT = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=2, reliability=ReliabilityPolicy.BEST_EFFORT)
"""Images and guidance as they are read: only the newest counts, and every camera's driver can be heard. A reliable
reader of images that joins while one is on its way in fragments can end in an endless loop inside Fast DDS 2.14
(DataReader::take, after a gap in the fragments), with the process deaf for good: never read images reliably."""

STATE = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=10, reliability=ReliabilityPolicy.BEST_EFFORT)
"""Joint states and TF as read: compatible with every publisher."""

LATCHED = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=8,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)
"""Plans, stamps of their images and lifted paths, and static transforms as they are sent: a node that starts later still gets
the last ones."""

LATCHED_NEWEST = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=1,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)
"""Where a task stands, and a camera info that is sent once: only the newest means anything."""

STATIC_LATCHED = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=100,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)
"""/tf_static as read from those who latch it, as they should (the depth is tf2's)."""

STATIC_VOLATILE = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=100, reliability=ReliabilityPolicy.BEST_EFFORT)
"""/tf_static as read from those who do not (bridges, players, scripts); a reader asks for latching or does not, never both."""

EVENT = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=10, reliability=ReliabilityPolicy.RELIABLE)
"""Small messages of which none may be lost."""

HEARTBEAT = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=20,
    reliability=ReliabilityPolicy.BEST_EFFORT,
    lifespan=Duration(seconds=1.0),
)
"""Heartbeats: an old one says nothing."""
