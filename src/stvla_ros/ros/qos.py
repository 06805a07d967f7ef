"""Quality of service of the stack's topics."""

from __future__ import annotations

from rclpy.duration import Duration
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy

DISCOVERY_S = 4.0
"""Time limit for two processes to discover each other. A lost announcement is repeated after ``leaseAnnouncement`` of
``config/fastdds.xml`` (0.75 s; Fast DDS's default is 3 s), and the endpoints follow."""

IMAGE = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=2, reliability=ReliabilityPolicy.RELIABLE)
"""Images and guidance as they are sent: compatible with every reader."""

IMAGE_BEST_EFFORT = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=2, reliability=ReliabilityPolicy.BEST_EFFORT)
"""Images and guidance as they are read: only the newest counts, and every camera driver is compatible. Never read
images reliably: a reliable reader that joins while an image is being sent in fragments can enter an endless loop
inside Fast DDS 2.14 (DataReader::take, after a gap in the fragments), and its process then receives nothing any
more."""

STATE = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=10, reliability=ReliabilityPolicy.BEST_EFFORT)
"""Joint states and TF as they are read: compatible with every publisher."""

FAST_STATE = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=50, reliability=ReliabilityPolicy.BEST_EFFORT)
"""The same for what is taken at times: at 1 kHz they are of the last 50 ms."""

LATCHED = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=8,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)
"""Plans, the stamps of their images, lifted paths, static transforms: a node that starts later gets the last ones."""

LATCHED_NEWEST = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=1,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)
"""The task state, and a camera info that is sent once: only the newest message matters."""

STATIC_LATCHED = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=100,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)
"""/tf_static as read from publishers that latch it, as they should (the depth is tf2's)."""

STATIC_VOLATILE = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=100, reliability=ReliabilityPolicy.BEST_EFFORT)
"""/tf_static as read from publishers that do not latch it (bridges, scripts): one reader cannot receive both."""

EVENT = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=10, reliability=ReliabilityPolicy.RELIABLE)
"""Small messages that must not be lost."""

HEARTBEAT = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=20,
    reliability=ReliabilityPolicy.BEST_EFFORT,
    lifespan=Duration(seconds=1.0),
)
"""Heartbeats: old ones are useless."""
