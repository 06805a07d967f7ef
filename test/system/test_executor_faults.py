"""What the executor does when something it rests on is missing or dies: each case with processes of its own."""

import signal
import time

import stalls
from stvla_msgs.msg import Heartbeat
from system.conftest import Process
from system.robot_harness import FAR_LEFT, FAR_RIGHT, SLOW, RobotHarness

from stvla_ros.commands import exit_codes
from stvla_ros.errors import CancelToken, OutcomeCode
from stvla_ros.nodes.executor import CLEAR_S
from stvla_ros.ros import qos
from stvla_ros.ros.stop_state import StopKeeper


class Supervisor:
    """Heartbeats of a task node, as long as wanted, and the operator's stop, kept as it keeps it."""

    def __init__(self, harness):
        self.stop_state = StopKeeper(harness.node, lambda: None, decides=True)
        self._publisher = harness.node.create_publisher(Heartbeat, "stvla/heartbeat", qos.HEARTBEAT)
        self._timer = harness.node.create_timer(0.05, self._beat)

    def _beat(self):
        self._publisher.publish(Heartbeat(node="task", period_ms=100))

    def die(self):
        self._timer.cancel()


def test_without_its_supervisor_the_executor_does_not_move():
    with RobotHarness() as harness:
        harness.start("sim")
        harness.start("executor", SLOW)
        code, sentence = harness.execute(FAR_LEFT)
        assert code is OutcomeCode.NODE_LOST
        assert "'task'" in sentence
        supervisor = Supervisor(harness)
        time.sleep(0.5)
        call = harness.execute_later(FAR_LEFT)
        harness.wait_for_motion(call)
        supervisor.die()
        assert call.result()[0] is OutcomeCode.NODE_LOST
        assert harness.stands_still()


def test_a_robot_with_other_names():
    """Joints, actions, base frame and joint states are named once, and all that was said of a Panda holds."""
    with RobotHarness() as harness:
        names = ("robot.prefix:=my_fr3", "robot.joint_states:=my/joint_states")
        harness.start("sim", *names)
        harness.start("executor", "safety.supervisor:=''", *names)
        assert harness.execute(FAR_LEFT, frame="my_fr3_link0")[0] is OutcomeCode.OK
        assert harness.execute(FAR_LEFT, frame="panda_link0")[0] is OutcomeCode.KEYPOSE_OUT_OF_BOUNDS


def test_without_a_camera_nothing_moves():
    with RobotHarness() as harness:
        harness.start("sim")
        harness.start("executor", "safety.supervisor:=''", "camera.color:=/nowhere/image")
        assert harness.execute(FAR_LEFT)[0] is OutcomeCode.STALE_IMAGE
        assert harness.stands_still(0.3)


def test_robot_lost_during_motion_and_a_new_executor_after_it():
    """kill -9 of the robot's side, then of the executor: each ends typed, and what comes after finds the arm at rest."""
    with RobotHarness() as harness:
        harness.start("sim")
        harness.start("executor", "safety.supervisor:=''")
        call = harness.execute_later(FAR_LEFT)
        harness.wait_for_motion(call)
        harness.kill("sim")
        code, sentence = call.result()
        assert code in (OutcomeCode.STALE_STATE, OutcomeCode.STALE_IMAGE), sentence
        harness.start("sim")
        assert harness.execute(FAR_LEFT)[0] is OutcomeCode.OK
        forget = CancelToken()
        orphan = harness.execute_later(FAR_RIGHT, forget)
        harness.wait_for_motion(orphan)
        harness.kill("executor")
        harness.start("executor", "safety.supervisor:=''")
        forget.cancel()
        orphan.exception(timeout=10.0)
        until = stalls.clock() + CLEAR_S  # the new one has to find the controllers
        while not harness.stands_still(0.5):
            assert stalls.clock() < until
        assert harness.execute(FAR_LEFT)[0] is OutcomeCode.OK


def test_the_operators_stop_survives_the_executor():
    """kill -9 of a stopped executor: the new one learns from the task node that it is stopped, and waits for that word."""
    with RobotHarness() as harness:
        harness.start("sim")
        harness.start("executor", SLOW)
        supervisor = Supervisor(harness)
        call = harness.execute_later(FAR_LEFT)
        harness.wait_for_motion(call)
        assert harness.stop().success
        assert call.result()[0] is OutcomeCode.CANCELED
        harness.kill("executor")
        harness.start("executor")
        code, sentence = harness.execute(FAR_RIGHT)
        assert code is OutcomeCode.CANCELED, sentence
        assert "stvla stop --release" in sentence
        assert harness.stands_still(0.3)
        assert harness.resume().success
        assert harness.execute(FAR_RIGHT)[0] is OutcomeCode.OK
        assert not supervisor.stop_state.state.stopped


def stop_command(harness):
    """``stvla stop`` from a cold shell."""
    return Process("stvla_ros.cli", "stop", domain=harness.domain)


def refusal(harness):
    """Why the executor refuses a keypose, once it hears again what it rests on: it was just started, or hung."""
    until = time.monotonic() + 20.0
    while True:
        code, sentence = harness.execute(FAR_RIGHT)
        unheard = code in (OutcomeCode.NODE_LOST, OutcomeCode.STALE_STATE, OutcomeCode.STALE_IMAGE)
        if not unheard or time.monotonic() > until:
            return code, sentence


def test_stop_needs_no_executor():
    """Hung in mid-motion, then dead: the controllers are told, the arm stands still, and the task node keeps the stop."""
    with RobotHarness() as harness:
        harness.start("sim")
        harness.start("task")
        harness.start("executor")
        far = harness.execute_later(FAR_LEFT)
        harness.wait_for_motion(far)
        hung = harness.processes["executor"].popen
        hung.send_signal(signal.SIGSTOP)
        try:
            process = stop_command(harness)
            assert process.wait(30.0) == 0, process.output
        finally:
            hung.send_signal(signal.SIGCONT)
        assert "The arm stands still." in process.output
        assert "No answer within 5 s: executor." in process.output
        assert hung.wait(20.0) == 1, "the others may have forgotten it"
        assert "was suspended for" in harness.processes["executor"].output
        assert far.result()[0] is not OutcomeCode.OK
        harness.start("executor")
        code, sentence = refusal(harness)
        assert code is OutcomeCode.CANCELED, sentence
        assert "stvla stop --release" in sentence
        assert harness.stands_still(0.3)
        harness.kill("executor")
        process = stop_command(harness)
        assert process.wait(30.0) == 0, process.output
        harness.start("executor")
        code, sentence = refusal(harness)
        assert code is OutcomeCode.CANCELED, sentence
        release = Process("stvla_ros.cli", "stop", "--release", domain=harness.domain)
        assert release.wait(30.0) == 0, release.output
        assert harness.execute(FAR_RIGHT)[0] is OutcomeCode.OK


def test_stop_without_a_stack_is_honest(start):
    process = start("stvla_ros.cli", "stop")
    assert process.wait(60.0) == exit_codes.UNREACHABLE
    assert "Nobody answered" in process.output
    assert "emergency stop" in process.output
