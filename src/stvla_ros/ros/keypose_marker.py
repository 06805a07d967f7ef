"""The motion that waits, in RViz: an interactive marker at its keypose, whose menu approves or refuses it.

It speaks the protocol of the ROS package ``interactive_markers``, of which there is no wheel: RViz asks a service for all
markers, and then gets numbered updates; if one is missing, it asks again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from geometry_msgs.msg import Point, Pose, Vector3
from rclpy.node import Node
from rclpy.qos import QoSProfile
from std_msgs.msg import Header
from visualization_msgs.msg import (
    InteractiveMarker,
    InteractiveMarkerControl,
    InteractiveMarkerFeedback,
    InteractiveMarkerUpdate,
    Marker,
    MenuEntry,
)
from visualization_msgs.srv import GetInteractiveMarkers

from stvla_ros.description.panda import MAX_WIDTH_M, TCP_OFFSET_M
from stvla_ros.motion.approval import Proposal, Status, describe
from stvla_ros.ros.convert import matrix_to_pose
from stvla_ros.ros.markers import ASKED, CLOSED_M

UPDATE, FEEDBACK = "stvla/keypose/update", "stvla/keypose/feedback"
ALL = "stvla/keypose/get_interactive_markers"
"""To RViz they are one: the namespace ``/stvla/keypose``."""

UPDATES = QoSProfile(depth=100)
"""That of RViz's subscription, and of its publisher of feedback."""

APPROVE, REFUSE = 1, 2
"""Entries of the menu."""

SIZE_M = 0.25
PALM_M, FINGER_M = (0.06, 0.2, 0.066), (0.02, 0.02, 0.054)
"""Franka's hand and fingers as boxes: easier to hit with the mouse than the arrow on ``stvla/markers``."""

Answer = Callable[[str, bool, str], object]
"""Takes an answer: (id of the motion, whether it may happen, who says so)."""


class KeyposeMarker:
    """Shows the motion that waits to every RViz, and passes on what people choose in its menu. Thread safe.

    The marker cannot be dragged: the executor moves to no other keypose than the one that was predicted and planned.

    Args:
        node: Publishes and serves.
        base_frame: Of the keyposes.
        answer: Called in the thread that spins the node.
    """

    def __init__(self, node: Node, base_frame: str, answer: Answer) -> None:
        self._base_frame, self._answer = base_frame, answer
        self._lock = threading.Lock()
        self._marker: InteractiveMarker | None = None
        self._number = 0
        self._out = node.create_publisher(InteractiveMarkerUpdate, UPDATE, UPDATES)
        node.create_subscription(InteractiveMarkerFeedback, FEEDBACK, self._hear, UPDATES)
        node.create_service(GetInteractiveMarkers, ALL, self._all)

    def show(self, proposal: Proposal) -> None:
        """The marker of a motion that waits; none once it does not."""
        marker = marker_of(proposal, self._base_frame) if proposal.status is Status.WAITING else None
        with self._lock:
            before, self._marker = self._marker, marker
            if before is None and marker is None:
                return
            self._number += 1
            self._out.publish(
                InteractiveMarkerUpdate(
                    type=InteractiveMarkerUpdate.UPDATE,
                    seq_num=self._number,
                    markers=[marker] if marker is not None else [],
                    erases=[before.name] if before is not None else [],
                )
            )

    def _all(
        self, request: GetInteractiveMarkers.Request, response: GetInteractiveMarkers.Response
    ) -> GetInteractiveMarkers.Response:
        with self._lock:
            response.sequence_number = self._number
            response.markers = [self._marker] if self._marker is not None else []
        return response

    def _hear(self, message: InteractiveMarkerFeedback) -> None:
        """A marker has its motion's id for a name: a choice that comes late answers no other motion."""
        if message.event_type == InteractiveMarkerFeedback.MENU_SELECT and message.menu_entry_id in (APPROVE, REFUSE):
            self._answer(message.marker_name, message.menu_entry_id == APPROVE, message.client_id)


def marker_of(proposal: Proposal, base_frame: str) -> InteractiveMarker:
    """The hand at the keypose, with a menu. Its name is the motion's id."""
    keypose = proposal.keypose
    beside_m = ((MAX_WIDTH_M if keypose.gripper_open else CLOSED_M) + FINGER_M[1]) / 2
    hand = [
        _box((0.0, 0.0, PALM_M[2] / 2 - TCP_OFFSET_M), PALM_M),
        *(_box((0.0, side * beside_m, -FINGER_M[2] / 2), FINGER_M) for side in (-1, 1)),
    ]
    menu = InteractiveMarkerControl(
        name="menu", interaction_mode=InteractiveMarkerControl.MENU, always_visible=True, markers=hand
    )
    return InteractiveMarker(
        header=Header(frame_id=base_frame),  # without a stamp: it stays where the frame is
        name=proposal.proposal_id,
        pose=matrix_to_pose(keypose.T_base_tcp),
        description=describe(proposal),
        scale=SIZE_M,
        menu_entries=[MenuEntry(id=APPROVE, title="Approve"), MenuEntry(id=REFUSE, title="Refuse")],
        controls=[menu],
    )


def _box(centre_m: tuple[float, float, float], size_m: tuple[float, float, float]) -> Marker:
    """A part of the hand, in the frame of the marker that it belongs to: it names none itself."""
    (x, y, z), (dx, dy, dz) = centre_m, size_m
    centre, size = Pose(position=Point(x=x, y=y, z=z)), Vector3(x=dx, y=dy, z=dz)
    return Marker(type=Marker.CUBE, action=Marker.ADD, pose=centre, scale=size, color=ASKED)
