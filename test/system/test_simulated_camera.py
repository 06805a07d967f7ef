"""The simulated camera is another process than the simulated robot: what becomes of the one does not hold up the other."""

import contextlib
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from sensor_msgs.msg import Image
from system.robot_harness import RobotHarness
from system.test_sim import JOINT1, path_to

from stvla_ros.description.panda import HOME_Q_RAD
from stvla_ros.description.robot import RobotConfig
from stvla_ros.errors import CancelToken, OutcomeCode
from stvla_ros.ros import qos
from stvla_ros.ros.backends.ros2_control import Ros2ControlConfig, Ros2ControlRobot
from stvla_ros.ros.convert import image_to_rgb, time_to_ns
from stvla_ros.sim.cell import Cell


@pytest.fixture(scope="module")
def harness():
    with RobotHarness() as harness:
        harness.start("sim")
        harness.robot = Ros2ControlRobot(harness.node, harness.states.state, Ros2ControlConfig(), RobotConfig())
        harness.images = []
        harness.node.create_subscription(
            Image, "/camera/camera/color/image_raw", harness.images.append, qos.IMAGE_BEST_EFFORT
        )
        yield harness


def wait(condition, what, timeout_s=30.0):
    until = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until, what
        time.sleep(0.02)


def camera_pids(process):
    """Processes that the robot's process has started."""
    tasks = Path(f"/proc/{process.popen.pid}/task")
    pids = []
    for task in tasks.iterdir():
        with contextlib.suppress(OSError):  # a thread that has ended meanwhile
            pids += map(int, (task / "children").read_text().split())
    return pids


def camera_pid(process):
    wait(lambda: camera_pids(process), "no process for the camera")
    (pid,) = camera_pids(process)
    return pid


def runs(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def images_come(harness):
    harness.images.clear()
    wait(lambda: len(harness.images) > 2, "no images")


def test_a_camera_that_hangs_holds_up_neither_joint_states_nor_a_cancel_nor_the_heartbeat(harness):
    harness.reset()
    images_come(harness)
    pid = camera_pid(harness.processes["sim"])
    os.kill(pid, signal.SIGSTOP)
    try:
        cancel, since = CancelToken(), time.monotonic()
        call = harness.pool.submit(harness.robot.follow, path_to(HOME_Q_RAD + 0.6 * JOINT1, 6.0), cancel)
        wait(lambda: harness.speed() > 0.05, "the arm does not move")
        cancel.cancel()
        assert call.exception(timeout=20.0).code is OutcomeCode.CANCELED
        assert harness.states.state().q_rad[0] < HOME_Q_RAD[0] + 0.5
        laying = harness.pool.submit(harness.reset, "pick_place", 1)  # waits for an image that does not come
        while not laying.done():
            assert harness.heartbeats.age_s("sim") < 1.0, "laying a scene holds up the heartbeat"
            time.sleep(0.05)
        assert not laying.result().ok
        assert "no image of it was sent" in laying.result().message
        assert harness.held_up_s(since) < 1.0, "joint states stopped"
        assert camera_pids(harness.processes["sim"]) == [pid], "it hangs, it is not dead"
    finally:
        os.kill(pid, signal.SIGCONT)
    wait(lambda: pid not in (pids := camera_pids(harness.processes["sim"])) and pids, "it was suspended: no new camera")
    images_come(harness)
    assert harness.reset().ok


def test_a_camera_that_dies_is_started_again_and_the_log_says_so(harness):
    images_come(harness)
    pid, since = camera_pid(harness.processes["sim"]), time.monotonic()
    os.kill(pid, signal.SIGKILL)
    wait(lambda: pid not in (pids := camera_pids(harness.processes["sim"])) and pids, "no new camera")
    images_come(harness)
    assert "camera's process ended with SIGKILL: no images until" in harness.processes["sim"].output
    assert harness.held_up_s(since) < 1.0, "joint states went on"


def test_only_the_robot_has_a_raised_priority(harness):
    images_come(harness)
    robot, camera, here = (
        os.getpriority(os.PRIO_PROCESS, pid)
        for pid in (harness.processes["sim"].popen.pid, camera_pid(harness.processes["sim"]), 0)
    )
    permitted = os.geteuid() == 0
    assert robot == here - 10 if permitted else robot <= here
    assert camera == here


def test_a_scene_is_laid_when_an_image_of_it_is_out(harness):
    cell = Cell()
    for seed in range(4):
        harness.images.clear()
        assert harness.reset("pick_place", seed).ok
        answered_ns = time.time_ns()
        wait(lambda at=answered_ns: any(time_to_ns(m.header.stamp) > at for m in harness.images), "no images")
        cell.reset("pick_place", seed)
        new = cell.render().rgb.astype(int)
        shown = [m for m in harness.images if np.abs(image_to_rgb(m).astype(int) - new).mean() < 0.5]
        assert any(time_to_ns(m.header.stamp) < answered_ns for m in shown), "answered before an image of it was out"
    cell.close()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_camera_ends_with_the_robot(start, number):
    process = start("stvla_ros.nodes.sim")
    pid = camera_pid(process)
    time.sleep(0.5)  # amid its imports for some, at work for others
    process.popen.send_signal(number)
    assert process.wait() == (-9 if number == signal.SIGKILL else 0), process.output
    wait(lambda: not runs(pid), "the camera lives on", 10.0)


def test_no_opengl_ends_the_node_in_one_sentence(start):
    process = start("stvla_ros.nodes.sim", env={"MUJOCO_GL": "glx"})
    assert process.wait() == 2
    assert "MUJOCO_GL: wanted one of" in process.output
    assert "Traceback" not in process.output
