"""The executor over real processes: it goes to a keypose, and stops for every reason there is."""

import time
from types import SimpleNamespace

import numpy as np
import pytest
import stalls
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from stvla_msgs.msg import Trace3d
from system.robot_harness import FAR_LEFT, FAR_RIGHT, RobotHarness, keypose
from tf2_msgs.msg import TFMessage

from stvla_ros.errors import CancelToken, OutcomeCode, StageError
from stvla_ros.geometry.se3 import pose, rotation_z
from stvla_ros.nodes.executor import ExecutorNode, ExecutorNodeConfig
from stvla_ros.ros import convert, qos
from stvla_ros.ros.action_server import GoalHandle
from stvla_ros.ros.motion_guard import guard, publishing_feedback
from stvla_ros.types import Keypose

FURTHER_IMAGES = "further images in the planning scene"


@pytest.fixture(scope="module")
def harness():
    with RobotHarness() as harness:
        harness.start("sim")
        harness.start("executor", "safety.supervisor:=''")
        yield harness


@pytest.fixture
def home(harness):
    """The arm at home with an open hand."""
    assert harness.reset(distractors=0).ok
    return harness


def test_keypose_is_reached_and_the_gripper_acts_after_the_motion(home):
    target = keypose(0.45, 0.2, 0.3, gripper_open=False)
    call = home.execute_later(target)
    home.wait_for_motion(call)
    assert home.states.state().gripper_m > 0.075, "the hand keeps its old state on the way"
    assert call.result()[0] is OutcomeCode.OK
    state = home.states.state()
    np.testing.assert_allclose(state.T_base_tcp, target.T_base_tcp, atol=0.01)
    assert state.gripper_m < 0.002
    assert np.abs(state.dq_rad_s).max() < 0.01


def test_images_of_a_motion_reach_the_planning_scene(home):
    told = []
    values = lambda message: {v.key: v.value for status in message.status for v in status.values}  # noqa: E731
    diagnostics = home.node.create_subscription(
        DiagnosticArray, "/diagnostics", lambda m: told.append(values(m).get(FURTHER_IMAGES)), qos.STATE
    )
    assert home.execute(keypose(0.45, 0.1, 0.35))[0] is OutcomeCode.OK
    until = stalls.clock() + 10.0
    while not any(told) or max(int(n) for n in told if n) < 2:
        assert stalls.clock() < until, told
        time.sleep(0.05)
    home.drop(diagnostics)


def test_a_motion_of_the_future_is_not_waited_for():
    """The clock was set back since: no image would ever be young enough."""
    for left, now_ns, expected in ((None, 5, 0), (7, 8, 7), (10**9, 10**9 - 10**7, 10**9), (100 * 10**9, 10**9, 0)):
        node = SimpleNamespace(_left=left and SimpleNamespace(stamp_ns=left), now_ns=lambda now_ns=now_ns: now_ns)
        node.config = ExecutorNodeConfig()
        assert ExecutorNode._left_ns(node) == expected


@pytest.mark.parametrize("phase_s", [0.0, 0.05, 0.3, 0.7])
def test_cancel_stops_the_arm_at_any_phase(home, phase_s):
    cancel = CancelToken()
    call = home.execute_later(FAR_LEFT, cancel)
    home.wait_for_motion(call)
    time.sleep(phase_s)
    cancel.cancel()
    assert call.result()[0] is OutcomeCode.CANCELED
    assert home.stands_still()


def test_a_new_keypose_preempts_the_old_one(home):
    first = home.execute_later(FAR_LEFT)
    home.wait_for_motion(first)
    second = home.execute_later(FAR_RIGHT)
    assert first.result()[0] is OutcomeCode.PREEMPTED
    assert second.result()[0] is OutcomeCode.OK
    assert home.states.state().T_base_tcp[1, 3] == pytest.approx(-0.4, abs=0.01)


def test_operators_stop_holds_until_resume(home):
    call = home.execute_later(FAR_LEFT)
    home.wait_for_motion(call)
    assert home.stop().success
    code, sentence = call.result()
    assert code is OutcomeCode.CANCELED
    assert "operator" in sentence
    assert home.stands_still()
    code, sentence = home.execute(FAR_RIGHT)
    assert code is OutcomeCode.CANCELED
    assert "/stvla/resume" in sentence
    assert "stvla stop --release" in sentence
    assert home.stands_still(0.3)
    assert home.resume().success
    assert home.execute(FAR_RIGHT)[0] is OutcomeCode.OK


@pytest.mark.parametrize("target", [keypose(2.0, 0.0, 0.3), keypose(float("nan"), 0.0, 0.3)])
def test_a_keypose_out_of_bounds_is_refused_without_motion(home, target):
    assert home.execute(target)[0] is OutcomeCode.KEYPOSE_OUT_OF_BOUNDS
    assert home.stands_still(0.2)


def test_a_keypose_in_another_frame_is_transformed_or_refused(home):
    place = home.node.create_publisher(TFMessage, "/tf_static", qos.LATCHED)
    T = pose(rotation_z(np.pi / 2), (0.1, 0.0, 0.0))
    place.publish(TFMessage(transforms=[convert.matrix_to_transform(T, "panda_link0", "shelf", 0)]))
    target = keypose(0.45, 0.2, 0.3)
    there = Keypose(np.linalg.inv(T) @ target.T_base_tcp, True, False)
    assert home.execute(there, frame="shelf")[0] is OutcomeCode.OK
    np.testing.assert_allclose(home.states.state().T_base_tcp, target.T_base_tcp, atol=0.01)
    code, sentence = home.execute(FAR_LEFT, frame="nowhere")
    assert code is OutcomeCode.KEYPOSE_OUT_OF_BOUNDS
    assert "no transform from panda_link0 to nowhere is known" in sentence
    code, sentence = home.execute(FAR_LEFT, frame="")
    assert code is OutcomeCode.KEYPOSE_OUT_OF_BOUNDS
    assert "wanted a pose in the frame panda_link0, got one in ''" in sentence
    assert home.stands_still(0.2)
    home.drop(place)


def trace(plan_id, age_s):
    message = Trace3d(plan_id=plan_id, outcome=convert.ok_msg())
    message.header = convert.header(time.time_ns() - round(age_s * 1e9), "panda_link0")
    return message


def test_the_path_of_the_plan_must_be_there_and_young(home):
    publisher = home.node.create_publisher(Trace3d, "stvla/trace", qos.LATCHED)
    publisher.publish(trace("young", 1.0))
    publisher.publish(trace("old", 1000.0))
    assert home.execute(keypose(0.45, 0.1, 0.35), plan_id="young")[0] is OutcomeCode.OK
    code, sentence = home.execute(FAR_LEFT, plan_id="old")
    assert code is OutcomeCode.STALE_IMAGE
    assert "plan again" in sentence
    code, sentence = home.execute(FAR_LEFT, plan_id="never heard of")
    assert code is OutcomeCode.SERVER_TIMEOUT
    assert "never heard of" in sentence
    home.drop(publisher)


def test_scene_laid_anew_while_something_was_held_is_noticed(home):
    assert home.execute(keypose(0.45, 0.0, 0.35, gripper_open=False))[0] is OutcomeCode.OK
    home.reset(distractors=0)
    assert home.states.state().gripper_m > 0.075
    assert home.execute(keypose(0.45, 0.1, 0.35, gripper_open=False))[0] is OutcomeCode.OK
    assert home.states.state().gripper_m < 0.002, "closed again, although the last command was to close"


def test_reset_during_motion_ends_the_keypose(home):
    call = home.execute_later(FAR_LEFT)
    home.wait_for_motion(call)
    home.reset(distractors=0)
    assert call.result()[0] is not OutcomeCode.OK
    assert home.stands_still(0.3)


def test_speed_is_a_live_parameter(home):
    """What ``ros2 param set /executor roboplan.velocity_scale 0.1`` does acts on the next motion."""

    def peak(scale, pose):
        parameter = Parameter("roboplan.velocity_scale", value=scale).to_parameter_msg()
        answer = home.service(SetParameters, "/executor/set_parameters", SetParameters.Request(parameters=[parameter]))
        assert answer.results[0].successful, answer.results[0].reason
        home.speeds.clear()
        assert home.execute(pose)[0] is OutcomeCode.OK
        return max(speed for _, speed in list(home.speeds))

    home.execute(FAR_LEFT)
    try:
        fast, slow = peak(0.2, FAR_RIGHT), peak(0.1, FAR_LEFT)
    finally:
        peak(0.5, FAR_RIGHT)
    assert slow == pytest.approx(0.5 * fast, rel=0.1)


# --- the guard, without the node ------------------------------------------------------------------------------------


def guarded(check, for_s=1.0):
    """A motion of ``for_s`` under guard: (the cancel's reason, how often the robot was stopped, defects)."""
    cancel, stops, defects = CancelToken(), [], []
    with guard(check, cancel, lambda: stops.append(True), defects.append):
        cancel.wait(for_s)
    try:
        cancel.raise_if_set()
    except StageError as error:
        return error.code, len(stops), defects
    return None, len(stops), defects


def test_nothing_but_the_end_of_the_motion_ends_the_guard():
    looks = []
    assert guarded(lambda: looks.append(True), 0.5) == (None, 0, [])
    assert len(looks) > 3

    def stale():
        raise StageError(OutcomeCode.STALE_STATE, "Old.")

    assert guarded(stale, 10.0) == (OutcomeCode.STALE_STATE, 0, [])
    for defect in (RuntimeError("rcl"), SystemExit(1), KeyError("x")):

        def broken(defect=defect):
            raise defect

        assert guarded(broken, 10.0) == (OutcomeCode.INTERNAL, 1, [defect])


def test_feedback_that_raises_does_not_touch_the_guard():
    defects = []

    def feedback(message):
        raise RuntimeError("rcl")

    cancel, looks = CancelToken(), []
    goal_handle = GoalHandle(None, cancel, feedback)
    with (
        guard(lambda: looks.append(True), cancel, lambda: None, defects.append),
        publishing_feedback(goal_handle, lambda: "moving", defects.append),
    ):
        until = time.monotonic() + 30.0
        while not defects and time.monotonic() < until:
            time.sleep(0.02)
        before = len(looks)
        while len(looks) < before + 5 and time.monotonic() < until:
            time.sleep(0.02)
    assert [str(defect) for defect in defects] == ["rcl"]
    assert len(looks) >= before + 5, "it still looks"
    assert not cancel.is_set()
