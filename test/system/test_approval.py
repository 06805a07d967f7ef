"""Motions that wait for a person: enforced by the executor, whoever asks for them and whatever dies meanwhile."""

import time

import pytest
import stalls
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from stvla_msgs.msg import MotionProposal
from stvla_msgs.srv import ApproveMotion
from system.robot_harness import FAR_LEFT, FAR_RIGHT, RobotHarness
from visualization_msgs.msg import InteractiveMarkerControl as Control
from visualization_msgs.msg import InteractiveMarkerFeedback as Feedback
from visualization_msgs.msg import InteractiveMarkerUpdate as Update
from visualization_msgs.msg import Marker, MarkerArray
from visualization_msgs.srv import GetInteractiveMarkers

from stvla_ros.errors import CancelToken, OutcomeCode
from stvla_ros.motion.approval import Status
from stvla_ros.ros import convert, qos
from stvla_ros.ros.approvals import SERVICE, TOPIC, proposal_from_msg
from stvla_ros.ros.keypose_marker import ALL, FEEDBACK, UPDATE, UPDATES


class Arm(RobotHarness):
    """The executor alone, what it says of motions, and a person's answers."""

    def __enter__(self):
        super().__enter__()
        self.heard = []
        self.node.create_subscription(MotionProposal, TOPIC, self.heard.append, qos.LATCHED)
        return self

    def proposal(self, status=Status.WAITING, after=0, timeout_s=20.0):
        """The first proposal of this status from here on."""
        late = stalls.clock() + timeout_s
        while not (found := [m for m in self.heard[after:] if m.status == status]):
            assert stalls.clock() < late, [(m.proposal_id, m.status) for m in self.heard]
            stalls.time.sleep(0.01)
        return proposal_from_msg(found[0])

    def answer(self, name, approve=True, who="Ada", reason=""):
        request = ApproveMotion.Request(proposal_id=name, approve=approve, who=who, reason=reason)
        return self.service(ApproveMotion, f"/{SERVICE}", request).success


class Rviz:
    """Does with the keypose's marker what RViz does (interactive_markers 2.5, ``interactive_marker_client.cpp``)."""

    def __init__(self, arm):
        self.arm, self.updates, self.queue = arm, [], []
        arm.node.create_subscription(Update, UPDATE, self.queue.append, UPDATES)
        self.out = arm.node.create_publisher(Feedback, FEEDBACK, UPDATES)
        first = arm.service(GetInteractiveMarkers, f"/{ALL}")
        self.markers, self.number = {marker.name: marker for marker in first.markers}, first.sequence_number
        while self.out.get_subscription_count() == 0:
            stalls.time.sleep(0.01)

    def update(self):
        """Apply what has come since; RViz begins anew when a number is missing."""
        while self.queue:
            update = self.queue.pop(0)
            if update.seq_num <= self.number:
                continue
            assert (update.type, update.seq_num) == (Update.UPDATE, self.number + 1)
            self.number = update.seq_num
            self.markers |= {marker.name: marker for marker in update.markers}
            for name in update.erases:
                self.markers.pop(name, None)

    def until(self, condition, timeout_s=20.0):
        late = stalls.clock() + timeout_s
        while not condition():
            assert stalls.clock() < late, list(self.markers)
            stalls.time.sleep(0.01)
            self.update()

    def choose(self, marker, title):
        """Click on an entry of the menu."""
        (entry,) = (entry for entry in marker.menu_entries if entry.title == title)
        self.send(marker.name, Feedback.MENU_SELECT, menu_entry_id=entry.id)

    def send(self, name, event, **more):
        self.out.publish(Feedback(client_id="rviz2", marker_name=name, control_name="menu", event_type=event, **more))


@pytest.fixture(scope="module")
def arm():
    with Arm() as harness:
        harness.start("sim")
        harness.start("executor", "safety.supervisor:=''")
        assert harness.execute(FAR_RIGHT)[0] is OutcomeCode.OK
        yield harness


def test_an_automatic_motion_is_told_and_waits_for_nobody(arm):
    before = len(arm.heard)
    assert arm.execute(FAR_LEFT)[0] is OutcomeCode.OK
    told = arm.proposal(Status.NOT_NEEDED, before)
    assert told.keypose.T_base_tcp[1, 3] == pytest.approx(0.4)
    assert told.paths[-1].t_s[-1] > 0.5
    assert arm.execute(FAR_RIGHT)[0] is OutcomeCode.OK


def test_nothing_moves_before_the_approval_and_then_it_does(arm):
    before = len(arm.heard)
    call = arm.execute_later(FAR_LEFT, approval="each_keypose")
    waiting = arm.proposal(after=before)
    assert arm.stands_still(0.5)
    assert not call.done()
    assert not arm.answer("another")
    assert arm.answer(waiting.proposal_id)
    assert call.result()[0] is OutcomeCode.OK
    assert arm.states.state().T_base_tcp[1, 3] == pytest.approx(0.4, abs=0.01)
    assert arm.proposal(Status.APPROVED, before).who == "Ada"


def test_a_refused_motion_does_not_happen(arm):
    before = len(arm.heard)
    call = arm.execute_later(FAR_RIGHT, approval="each_keypose")
    arm.answer(arm.proposal(after=before).proposal_id, False, "Ada", "not\nthere")
    code, sentence = call.result()
    assert (code, sentence) == (OutcomeCode.MOTION_REFUSED, "The motion was refused by Ada: not there.")
    assert arm.stands_still(0.3)


def test_a_dry_run_moves_nothing(arm):
    before = len(arm.heard)
    assert arm.execute(FAR_RIGHT, approval="dry_run")[0] is OutcomeCode.DRY_RUN
    assert arm.proposal(Status.DRY_RUN, before).paths
    assert arm.stands_still(0.3)


def test_viewers_get_the_proposed_keypose_as_markers(arm):
    heard = []
    arm.node.create_subscription(MarkerArray, "/stvla/markers", heard.append, qos.LATCHED)
    assert arm.execute(FAR_LEFT, approval="dry_run")[0] is OutcomeCode.DRY_RUN
    late = stalls.clock() + 20.0
    while not heard:
        assert stalls.clock() < late
        time.sleep(0.05)
    assert {(m.ns, m.type) for m in heard[-1].markers} == {("keypose", Marker.ARROW), ("keypose", Marker.LINE_LIST)}


def test_rviz_shows_the_keypose_that_waits_and_its_menu_approves(arm):
    """The marker stays where it is: a program that drags it moves nothing, neither the marker nor the keypose."""
    rviz, before = Rviz(arm), len(arm.heard)
    assert not rviz.markers
    call = arm.execute_later(FAR_RIGHT, approval="each_keypose")
    waiting = arm.proposal(after=before)
    rviz.until(lambda: rviz.markers)
    assert [*rviz.markers] == [waiting.proposal_id]
    marker = rviz.markers[waiting.proposal_id]
    assert convert.pose_to_matrix(marker.pose) == pytest.approx(FAR_RIGHT.T_base_tcp, abs=1e-6)
    assert marker.header.frame_id == "panda_link0"
    assert [entry.title for entry in marker.menu_entries] == ["Approve", "Refuse"]
    assert [control.interaction_mode for control in marker.controls] == [Control.MENU]
    late = Rviz(arm)
    assert late.markers == rviz.markers, "one that is started later"
    dragged = convert.matrix_to_pose(FAR_LEFT.T_base_tcp)
    for event in (Feedback.MOUSE_DOWN, Feedback.POSE_UPDATE, Feedback.MOUSE_UP, Feedback.BUTTON_CLICK):
        rviz.send(marker.name, event, pose=dragged)
    rviz.send(marker.name, Feedback.MENU_SELECT, menu_entry_id=7)
    assert arm.stands_still(0.5)
    assert not call.done()
    rviz.choose(marker, "Approve")
    assert call.result()[0] is OutcomeCode.OK
    assert arm.states.state().T_base_tcp[1, 3] == pytest.approx(-0.4, abs=0.01)
    assert arm.proposal(Status.APPROVED, before).who == "rviz2"
    for viewer in (rviz, late):
        viewer.until(lambda viewer=viewer: not viewer.markers)


def test_rvizs_menu_refuses_and_answers_no_other_motion(arm):
    rviz, before = Rviz(arm), len(arm.heard)
    call = arm.execute_later(FAR_LEFT, approval="each_keypose")
    arm.proposal(after=before)
    rviz.until(lambda: rviz.markers)
    (old,) = rviz.markers.values()
    rviz.choose(old, "Refuse")
    assert call.result() == (OutcomeCode.MOTION_REFUSED, "The motion was refused by rviz2.")
    before = len(arm.heard)
    call = arm.execute_later(FAR_LEFT, approval="each_keypose")
    arm.proposal(after=before)
    rviz.until(lambda: rviz.markers and old.name not in rviz.markers)
    rviz.choose(old, "Approve")  # a click that comes late
    assert arm.stands_still(0.5)
    assert not call.done()
    (marker,) = rviz.markers.values()
    rviz.choose(marker, "Approve")
    rviz.choose(marker, "Approve")  # twice
    assert call.result()[0] is OutcomeCode.OK
    rviz.until(lambda: not rviz.markers)
    call = arm.execute_later(FAR_RIGHT, approval="each_keypose")
    rviz.until(lambda: rviz.markers)
    assert arm.stands_still(0.5)
    assert not call.done(), "the second click was for the motion before"
    assert arm.stop().success
    rviz.until(lambda: not rviz.markers)
    assert call.result()[0] is OutcomeCode.CANCELED
    assert arm.resume().success


def test_an_unknown_approval_is_no_approval(arm):
    code, sentence = arm.execute(FAR_RIGHT, approval="yes")
    assert code is OutcomeCode.INVALID_GOAL
    assert "automatic, each_plan, each_keypose, dry_run" in sentence
    assert arm.stands_still(0.2)


def test_goals_cannot_waive_what_the_executor_is_set_to(arm):
    def at_least(value, wait_s=60.0):
        values = {"approval.at_least": value, "approval.wait_s": wait_s}
        request = SetParameters.Request(
            parameters=[Parameter(n, value=v).to_parameter_msg() for n, v in values.items()]
        )
        assert all(r.successful for r in arm.service(SetParameters, "/executor/set_parameters", request).results)

    at_least("each_keypose", 1.0)
    try:
        assert arm.execute(FAR_RIGHT)[0] is OutcomeCode.NOT_APPROVED
        assert arm.stands_still(0.2)
    finally:
        at_least("automatic")


def test_a_stop_ends_the_wait_and_a_late_approval_moves_nothing(arm):
    before = len(arm.heard)
    call = arm.execute_later(FAR_RIGHT, approval="each_keypose")
    waiting = arm.proposal(after=before)
    assert arm.stop().success
    assert call.result()[0] is OutcomeCode.CANCELED
    assert not arm.answer(waiting.proposal_id)
    assert arm.stands_still(0.3)
    assert arm.resume().success
    assert arm.proposal(Status.WITHDRAWN, before)


def test_an_approval_does_not_outlive_the_executor_that_asked(arm):
    before = len(arm.heard)
    arm.execute_later(FAR_RIGHT, approval="each_keypose")
    old = arm.proposal(after=before)
    arm.kill("executor")
    arm.start("executor", "safety.supervisor:=''")
    assert not arm.answer(old.proposal_id)
    before = len(arm.heard)
    cancel = CancelToken()
    call = arm.execute_later(FAR_RIGHT, cancel, approval="each_keypose")
    waiting = arm.proposal(after=before)
    assert waiting.proposal_id != old.proposal_id
    assert not arm.answer(old.proposal_id)
    assert arm.stands_still(0.3)
    cancel.cancel()
    assert call.result()[0] is OutcomeCode.CANCELED
