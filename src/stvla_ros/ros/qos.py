"""Quality of service of the stack's topics."""

from __future__ import annotations

from rclpy.duration import Duration
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy

DISCOVERY_S = 4.0
"""How long two processes may take to find each other. An announcement that is lost is repeated after
``leaseAnnouncement`` of ``config/fastdds.xml`` (1 s; 3 s with Fast DDS's own settings), and the endpoints follow."""

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
"""Plans, lifted paths and static transforms: a node that starts later still gets the last ones."""

LATCHED_IMAGE = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=1,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)
"""The image of the last plan: with it, a lifter that was found late can still lift that plan."""

LATCHED_NEWEST = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=1,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)
"""Where a task stands: only the present state means anything."""

EVENT = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=10, reliability=ReliabilityPolicy.RELIABLE)
"""Small messages of which none may be lost."""

HEARTBEAT = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=20,
    reliability=ReliabilityPolicy.BEST_EFFORT,
    lifespan=Duration(seconds=1.0),
)
"""Heartbeats: an old one says nothing."""
