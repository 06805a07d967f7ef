"""Calibration over ROS: the arm shows the board, the transform is published, the executor refuses a wrong one."""

import os
import signal
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import stalls
import yaml
from system.board_cell import BOARD, T_LINK_OPTICAL
from system.conftest import Process
from system.robot_harness import FAR_LEFT, RobotHarness

from stvla_ros.calibration.board import Board
from stvla_ros.calibration.session import read_folder, read_session
from stvla_ros.commands.exit_codes import NOT_CONFIRMED, USAGE, of_outcome
from stvla_ros.errors import OutcomeCode
from stvla_ros.geometry.se3 import inverse, to_quaternion
from stvla_ros.sim.camera import TripodCameraConfig, make_camera

CLI = "stvla_ros.cli"
TESTS = Path(__file__).parents[1]
PLACES = os.pathsep.join(filter(None, [str(TESTS), os.environ.get("PYTHONPATH")]))
CAMERA = make_camera(TripodCameraConfig()).T_base_camera
SQUARES = ("--columns", "5", "--rows", "4", "--square-mm", "40", "--marker-mm", "30")


@pytest.fixture(scope="module")
def harness():
    """The cell with a board in the hand; TF knows the camera's own frames only."""
    with RobotHarness() as made:
        cell = Process("system.board_cell", domain=made.domain, env={"PYTHONPATH": PLACES})
        try:
            assert not made.heartbeats.wait_for(["sim"], 40.0), cell.output
            yield made
        finally:
            cell.popen.send_signal(signal.SIGINT)
            cell.wait()


@contextmanager
def published(harness, path, shift_m=0.0):
    """`stvla calibrate --publish` of a transform that is off sideways."""
    T = CAMERA @ inverse(T_LINK_OPTICAL)
    T[1, 3] += shift_m
    pose = {"translation_m": T[:3, 3].tolist(), "quaternion_xyzw": to_quaternion(T[:3, :3]).tolist()}
    entry = {"parent": "panda_link0", "child": "camera_link", **pose}
    path.write_text(yaml.safe_dump({"format": "stvla-calibration-1", "transform": entry}))
    process = Process(CLI, "calibrate", "--publish", str(path), domain=harness.domain)
    try:
        until(lambda: "Publishing panda_link0 -> camera_link" in process.output, process)
        yield
    finally:
        process.popen.send_signal(signal.SIGINT)
        assert process.wait() == 0


def until(condition, process, timeout_s=60.0):
    end = stalls.clock() + timeout_s
    while not condition():
        assert process.popen.poll() is None, process.output
        assert stalls.clock() < end, process.output
        time.sleep(0.05)


def run(harness, *words):
    """Exit code and output of a command."""
    process = Process(CLI, *words, domain=harness.domain)
    return process.wait(90.0), process.output


def test_poses_are_taken_with_a_guess_and_kept_when_the_operator_stops(harness, tmp_path):
    code, said = run(harness, "calibrate", "--check")
    assert code == USAGE
    assert "say with --guess X,Y,Z,TX,TY,TZ" in said
    guess = ("--guess", "1.3,0.03,0.9,0.4,0.02,0.22", "--output", str(tmp_path / "s"))
    process = Process(CLI, "calibrate", *guess, *SQUARES, "--yes", "--poses", "8", domain=harness.domain)
    until(lambda: "1 of 8 poses" in process.output, process, 90.0)
    process.popen.send_signal(signal.SIGINT)
    assert process.wait(30.0) == of_outcome(OutcomeCode.CANCELED), process.output
    assert "goes on" in process.output
    assert harness.stands_still(0.3)
    session = read_session(tmp_path / "s")
    assert (session.camera_frame, session.root_frame) == ("camera_color_optical_frame", "camera_link")
    assert np.allclose(np.array(session.T_root_camera).reshape(4, 4), T_LINK_OPTICAL, atol=1e-6)
    assert len(read_folder(tmp_path / "s", Board(BOARD)).samples) >= 1


def test_the_check_the_doctor_and_the_executor_judge_the_published_transform(harness, tmp_path):
    with published(harness, tmp_path / "true.yaml"):
        said = run(harness, "doctor")[1]
        assert "ok       Calibration: drift" in said
    with published(harness, tmp_path / "wrong.yaml", 0.03):
        code, said = run(harness, "calibrate", "--check")
        assert (code, "Too much" in said) == (NOT_CONFIRMED, True), said
        harness.start("executor", "safety.supervisor:=''")
        code, sentence = harness.execute(FAR_LEFT)
        assert code is OutcomeCode.CAMERA_MOVED
        assert "The camera is not where its transform says" in sentence
        assert harness.stands_still(0.3)
        code, said = run(harness, "calibrate", "--guess", "1.3,0,0.9,0.4,0,0.2", "--output", str(tmp_path / "s"))
        assert (code, "end `stvla up` first" in said) == (USAGE, True), said
