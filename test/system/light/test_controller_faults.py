"""Controllers that fail in every way there is: fault -> outcome code -> sentence (the table of docs/troubleshooting.md)."""

import re
import time
from dataclasses import dataclass, field
from functools import partial
from threading import Event

import numpy as np
import pytest
from control_msgs.action import GripperCommand
from rclpy.action.client import ClientGoalHandle
from rclpy.task import Future
from stvla_msgs.msg import RobotStatus
from system.faulty_robot import FaultyRobot, Result, SlowClient

from stvla_ros.errors import CancelToken, OutcomeCode, StageError
from stvla_ros.ros.controller_server import TerminalState
from stvla_ros.types import JointPath, TrajectoryTolerances

OK, FAILED, STALE = OutcomeCode.OK, OutcomeCode.CONTROLLER_FAILED, OutcomeCode.STALE_STATE
REFLEX, LOST, PREEMPTED = OutcomeCode.REFLEX, OutcomeCode.ROBOT_LOST, OutcomeCode.PREEMPTED
USER_STOPPED, SAFETY = OutcomeCode.USER_STOPPED, OutcomeCode.SAFETY_FUNCTION
DEACTIVATED = "Current goal cancelled during deactivate transition."
LIBFRANKA = "libfranka: Move command aborted: "


@pytest.fixture(scope="module")
def faulty():
    with FaultyRobot() as robot:
        yield robot


@pytest.fixture(autouse=True)
def as_usual(faulty):
    faulty.work_as_usual()
    faulty.wait_for_state()


def ends(state, code=0, text="", moving=0.3):
    """A controller that moves for a share of the path, then ends the goal so."""

    def fault(robot, path, canceled):
        if moving:
            robot.move(path, canceled, moving)
        return state, Result(error_code=code, error_string=text)

    return fault


def aborts(code, text="", moving=0.3):
    return ends(TerminalState.ABORTED, code, text, moving)


def hangs(robot, path, canceled):
    canceled.wait(10.0)
    return TerminalState.CANCELED, Result()


def moves_and_hangs(robot, path, canceled):
    robot.move(path, canceled)
    return hangs(robot, path, canceled)


def canceled_by_others(robot, path, canceled):
    robot.client("sim").stop()
    robot.move(path, canceled)
    return TerminalState.CANCELED, Result()


def late(robot, path, canceled):
    robot.move(path, canceled)
    time.sleep(0.3)
    return TerminalState.SUCCEEDED, Result()


def reflex(states, text=LIBFRANKA + 'motion aborted by reflex! ["joint_reflex"]', answer=True):
    """As franka_ros2: its log says why, its controllers are deactivated, and its joint states fall silent or freeze."""

    def fault(robot, path, canceled):
        robot.move(path, canceled, 0.3)
        robot.states = states
        if text:
            robot.log(text)
        if not answer:
            canceled.wait(10.0)
        return TerminalState.ABORTED, Result(error_code=Result.INVALID_GOAL, error_string=DEACTIVATED)

    return fault


@dataclass
class Fault:
    """What happens, to which kind of robot, and how it is told."""

    act: object
    code: OutcomeCode
    words: str = ""
    kind: str = "sim"
    settings: dict = field(default_factory=dict)


ARM = {
    "rejected": Fault(None, FAILED, "rejected the trajectory", settings={"refuse": "It is inactive."}),
    "never moves": Fault(hangs, STALE, "have not changed for .* although the arm should have moved"),
    "never ends": Fault(moves_and_hangs, FAILED, "did not finish a goal within"),
    "answers late": Fault(late, OK),
    "invalid": Fault(aborts(Result.INVALID_GOAL, "why"), FAILED, r"as invalid \(why\)"),
    "joints": Fault(aborts(Result.INVALID_JOINTS), FAILED, "set robot.model or robot.prefix"),
    "old": Fault(aborts(Result.OLD_HEADER_TIMESTAMP), FAILED, "synchronise the clocks"),
    "path tolerance": Fault(aborts(Result.PATH_TOLERANCE_VIOLATED), FAILED, "path_tolerance_rad is the limit"),
    "goal tolerance": Fault(aborts(Result.GOAL_TOLERANCE_VIOLATED), FAILED, "goal_tolerance_rad and goal_time_s"),
    "unknown code": Fault(aborts(-42), FAILED, "unknown code -42"),
    "halfway": Fault(ends(TerminalState.SUCCEEDED, moving=0.1), FAILED, "reports success, but panda_joint. is"),
    "lies": Fault(ends(TerminalState.SUCCEEDED, moving=0), FAILED, "reports success, but"),
    "canceled": Fault(canceled_by_others, OutcomeCode.CANCELED, "canceled by another node"),
    "preempted": Fault(aborts(-1, "Current goal preempted by new incoming action."), PREEMPTED, "Another program"),
    "deactivated": Fault(aborts(-1, DEACTIVATED), REFLEX, "deactivated while the arm moved.*stvla recover"),
    "reflex": Fault(reflex("silent"), REFLEX, 'reflex! \\["joint_reflex"\\].*stvla recover', "real"),
    "reflex, frozen states": Fault(reflex("frozen"), REFLEX, "joint_reflex", "real"),
    "reflex, not logged": Fault(reflex("silent", ""), REFLEX, "deactivated while the arm moved", "real"),
    "reflex, no answer": Fault(reflex("silent", answer=False), REFLEX, "joint_reflex", "real"),
    "user stop": Fault(reflex("silent", LIBFRANKA + "User Stop pressed!"), USER_STOPPED, "release it", "real"),
    "safety": Fault(
        reflex("silent", LIBFRANKA + "motion aborted due to activated safety function!"), SAFETY, "end it", "real"
    ),
    "network": Fault(reflex("silent", "libfranka: UDP receive: Timeout"), LOST, "its cable", "real"),
    "silent states": Fault(reflex("silent", "", answer=False), STALE, "joint state", "real"),
    "own driver": Fault(aborts(-4, "REFLEX: joint_reflex on joint 4."), REFLEX, "^joint_reflex on joint 4.$", "franka"),
    "own driver, user": Fault(aborts(-4, "USER_STOPPED: Released?"), USER_STOPPED, "^Released", "franka"),
    "own driver, safety": Fault(aborts(-4, "SAFETY_FUNCTION: SLS."), SAFETY, "^SLS", "franka"),
    "own driver, lost": Fault(aborts(-4, "ROBOT_LOST: No state."), LOST, "^No state", "franka"),
    "accepted late": Fault(None, FAILED, "did not accept a goal within 0.3 s", "impatient", {"accept_s": 0.7}),
}


def path_from(q_rad):
    """0.12 rad further in 0.3 s, or back."""
    s = np.linspace(0.0, 1.0, 31)
    rad = 0.12 if q_rad[0] < 0.3 else -0.12
    blend, rate = 3 * s**2 - 2 * s**3, 6 * s - 6 * s**2
    return JointPath(q_rad + rad * blend[:, None], rad / 0.3 * rate[:, None] * np.ones((1, 7)), 0.3 * s)


def outcome(work):
    try:
        work()
    except StageError as error:
        return error.code, error.sentence
    return OK, ""


@pytest.mark.parametrize("name", ARM)
def test_every_fault_of_the_arms_controller_has_its_code_and_sentence(faulty, name):
    fault = ARM[name]
    faulty.arm_fault = fault.act and (lambda path, canceled: fault.act(faulty, path, canceled))
    for setting, value in fault.settings.items():
        setattr(faulty, setting, value)
    path = path_from(faulty.arm.q_rad())
    code, sentence = outcome(lambda: faulty.client(fault.kind).follow(path, CancelToken()))
    assert code is fault.code, sentence
    assert re.search(fault.words, sentence), sentence


def test_a_stop_cancels_no_goal_that_is_sent_after_it(faulty, monkeypatch):
    """Goals and cancel requests take different ways: the later one may arrive first."""
    client = faulty.client("sim")
    slow = {name: SlowClient(service) for name, service in client._canceler._clients.items()}
    monkeypatch.setattr(client._canceler, "_clients", slow)
    client.stop()
    code, sentence = outcome(lambda: client.follow(path_from(faulty.arm.q_rad()), CancelToken()))
    assert code is OK, sentence


def fingers_hang(robot, width_m, canceled):
    canceled.wait(5.0)
    return TerminalState.ABORTED, GripperCommand.Result()


def grips(state, width_m=None, **result):
    """A gripper that goes to a width, if any, and ends the goal so."""

    def fault(robot, wanted_m, canceled):
        if width_m is not None:
            robot.gripper.object_m = width_m
            robot.gripper.move(width_m, 40.0)
            time.sleep(0.5)
        return state, GripperCommand.Result(**result)

    return fault


ABORTED, DONE = TerminalState.ABORTED, TerminalState.SUCCEEDED
GRIPPER = {
    "rejected": (Fault(None, FAILED, "rejected the goal of 0 mm", settings={"refuse": "No."}), 0.0),
    "not homed": (Fault(grips(ABORTED), FAILED, "home the hand.*robot.open_width_m", "real"), 0.0),
    "failed grasp": (
        Fault(grips(ABORTED, 0.04, position=0.04), FAILED, "40 mm wide and let go.*default_grasp_epsilon", "real"), 0.0
    ),
    "stalled": (Fault(grips(ABORTED, 0.04, stalled=True), OK, "", "real"), 0.0),
    "lies": (Fault(grips(DONE), FAILED, "commanded to 0 mm but is at 80 mm: look"), 0.0),
    "halfway": (Fault(grips(DONE, 0.05), FAILED, "commanded to 78 mm but is at 50 mm"), 0.078),
    "never ends": (Fault(fingers_hang, FAILED, "did not finish"), 0.0),
}  # fmt: skip


@pytest.mark.parametrize("name", GRIPPER)
def test_every_fault_of_the_gripper_has_its_code_and_sentence(faulty, name):
    fault, width_m = GRIPPER[name]
    faulty.gripper.move(0.08, 40.0)
    time.sleep(0.5)
    faulty.gripper_fault = fault.act and (lambda wanted_m, canceled: fault.act(faulty, wanted_m, canceled))
    for setting, value in fault.settings.items():
        setattr(faulty, setting, value)
    code, sentence = outcome(lambda: faulty.client(fault.kind).move_gripper(width_m, CancelToken()))
    assert code is fault.code, sentence
    assert re.search(fault.words, sentence), sentence


def test_a_silent_robot_that_stopped_itself_says_so_again(faulty):
    """Not that its joint states are old: that is the consequence, and `stvla recover` the remedy."""
    client, fault = faulty.client("real"), reflex("silent")
    faulty.arm_fault = lambda path, canceled: fault(faulty, path, canceled)
    path = path_from(faulty.arm.q_rad())
    first = outcome(lambda: client.follow(path, CancelToken()))
    assert first[0] is REFLEX
    while client._unready() is None:
        time.sleep(0.05)
    assert outcome(lambda: client.follow(path, CancelToken())) == first
    faulty.work_as_usual()
    faulty.wait_for_state()
    assert outcome(lambda: client.follow(path_from(faulty.arm.q_rad()), CancelToken()))[0] is OK


MODES = {
    RobotStatus.INACTIVE: FAILED,
    RobotStatus.REFLEX: REFLEX,
    RobotStatus.USER_STOPPED: USER_STOPPED,
    RobotStatus.SAFETY_FUNCTION: SAFETY,
    RobotStatus.GUIDING: FAILED,
    RobotStatus.LOST: LOST,
    RobotStatus.OTHER: FAILED,
    RobotStatus.IDLE: OK,
}


def test_a_driver_that_is_not_ready_gets_no_goal(faulty):
    """Its own sentence is told at once, whatever the controller would do."""
    client = faulty.client("franka")
    for mode, code in MODES.items():
        faulty.status(mode, f"Mode {mode}.")
        until = time.monotonic() + 5.0
        while (client._reports.newest is None or client._reports.newest.mode != mode) and time.monotonic() < until:
            time.sleep(0.01)
        before = faulty.arm.q_rad()
        found, sentence = outcome(partial(client.follow, path_from(before), CancelToken()))
        assert found is code, sentence
        if code is not OK:
            assert sentence == f"Mode {mode}."
            np.testing.assert_array_equal(faulty.arm.q_rad(), before)


@pytest.mark.parametrize("answers", [True, False])
@pytest.mark.parametrize(("slower", "words"), [(None, "but the arm stands still"), (20.0, "use the emergency stop")])
def test_a_controller_that_does_not_confirm_a_cancel(faulty, monkeypatch, answers, slower, words):
    """Whether the arm moves is what the operator must know first."""
    cancel, over = CancelToken(), Event()

    def deaf(path, canceled):
        if slower:
            slow = JointPath(path.q_rad, path.dq_rad_s / slower, path.t_s * slower)
            motion = faulty.arm.start(slow, TrajectoryTolerances(path.q_rad[0], path.q_rad[0], 1.0))
        cancel.cancel()
        over.wait(20.0)
        if slower:
            faulty.arm.stop(motion)
        return TerminalState.ABORTED, Result()

    if not answers:
        monkeypatch.setattr(ClientGoalHandle, "cancel_goal_async", lambda handle: Future())  # every request gets lost
    faulty.arm_fault = deaf
    code, sentence = outcome(lambda: faulty.client("sim").follow(path_from(faulty.arm.q_rad()), cancel))
    over.set()
    assert code is FAILED, sentence
    assert ("answered a cancel but did not end its goal" if answers else "did not answer a cancel") in sentence
    assert words in sentence


def test_a_reflex_is_told_even_during_a_cancel(faulty):
    cancel = CancelToken()

    def fault(path, canceled):
        cancel.cancel(OutcomeCode.PREEMPTED, "A newer goal took over.")
        canceled.wait(5.0)
        return TerminalState.ABORTED, Result(error_code=-4, error_string="motion aborted by reflex!")

    faulty.arm_fault = fault
    path = path_from(faulty.arm.q_rad())
    assert outcome(lambda: faulty.client("sim").follow(path, cancel))[0] is REFLEX
    faulty.arm_fault = lambda path, canceled: (canceled.wait(5.0), (TerminalState.CANCELED, Result()))[1]
    assert outcome(lambda: faulty.client("sim").follow(path, cancel)) == (PREEMPTED, "A newer goal took over.")
