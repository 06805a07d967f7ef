"""The keypose as viewers show it."""

from __future__ import annotations

import numpy as np
import pytest
from visualization_msgs.msg import Marker

from stvla_ros.motion.approval import Proposal, Status
from stvla_ros.ros.markers import keypose_markers
from stvla_ros.types import Keypose


def proposal(status: Status, gripper_open: bool = True) -> Proposal:
    T = np.diag([1.0, -1.0, -1.0, 1.0])  # the hand points down
    T[:3, 3] = 0.5, 0.1, 0.2
    return Proposal("a-1", "plan", Keypose(T, gripper_open), (), status)


@pytest.mark.parametrize(("gripper_open", "width_m"), [(True, 0.08), (False, 0.02)])
def test_an_arrow_ends_at_the_tool_and_a_bar_shows_the_fingers(gripper_open: bool, width_m: float) -> None:
    arrow, fingers = keypose_markers(proposal(Status.WAITING, gripper_open), 7, "panda_link0").markers
    assert {m.header.frame_id for m in (arrow, fingers)} == {"panda_link0"}
    (above, tip), ends = arrow.points, fingers.points
    np.testing.assert_allclose([tip.x, tip.y, tip.z], [0.5, 0.1, 0.2])
    np.testing.assert_allclose([above.x, above.y, above.z], [0.5, 0.1, 0.3])
    assert abs(ends[1].y - ends[0].y) == pytest.approx(width_m)
    assert arrow.color.r > arrow.color.b, "it waits"


def test_it_is_blue_once_nobody_is_asked_and_gone_once_it_does_not_come() -> None:
    for status in Status:
        arrow, fingers = keypose_markers(proposal(status), 7, "panda_link0").markers
        gone = status in (Status.REFUSED, Status.EXPIRED, Status.WITHDRAWN)
        assert {arrow.action, fingers.action} == {Marker.DELETE if gone else Marker.ADD}
        if not gone and status is not Status.WAITING:
            assert arrow.color.b > arrow.color.r
