"""Motions that wait for a person: enforced by the executor, whoever asks for them and whatever dies meanwhile."""

import time

import pytest
import stalls
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from stvla_msgs.msg import MotionProposal
from stvla_msgs.srv import ApproveMotion
from system.robot_harness import FAR_LEFT, FAR_RIGHT, RobotHarness
from visualization_msgs.msg import Marker, MarkerArray

from stvla_ros.errors import CancelToken, OutcomeCode
from stvla_ros.motion.approval import Status
from stvla_ros.ros import qos
from stvla_ros.ros.approvals import SERVICE, TOPIC, proposal_from_msg


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
