"""Sessions: kept as taken, continued and solved again; what cannot be used is refused with its reason."""

import json
import time
from dataclasses import replace

import numpy as np
import pytest
from calibration.synthetic import BOARD, CAMERA, Y

from stvla_ros.calibration.board import Board, BoardConfig
from stvla_ros.calibration.cell import simulated_arm
from stvla_ros.calibration.postures import swing
from stvla_ros.calibration.report import StaticTransform, read_transform, write_report
from stvla_ros.calibration.session import (
    BLIND_POSES,
    Session,
    SessionConfig,
    at_rest,
    by_hand,
    read_folder,
    read_session,
    read_views,
    visit,
)
from stvla_ros.calibration.solve import CalibrationError, calibrate, pose_errors
from stvla_ros.camera.place import PlaceConfig, calibrated_ns
from stvla_ros.config import ConfigError
from stvla_ros.data.recording import RecordedFrame
from stvla_ros.description.kinematics import tcp_pose
from stvla_ros.description.panda import HOME_Q_RAD
from stvla_ros.errors import CancelToken, OutcomeCode, StageError
from stvla_ros.files import read_image
from stvla_ros.geometry.se3 import inverse, pose
from stvla_ros.motion.collision import VoxelConfig
from stvla_ros.registry import create
from stvla_ros.sim.cell import CellConfig
from stvla_ros.types import RgbdFrame, RobotState

SMALL = replace(CAMERA, width_px=640, height_px=360, K=np.array([[900.0, 0, 320], [0, 900, 180], [0, 0, 1]]))


def state(q_rad=HOME_Q_RAD, speed=0.0):
    return RobotState(q_rad, np.full(7, speed), tcp_pose(q_rad), 0.004, 1)


def seen(rgb, q_rad=HOME_Q_RAD, speed=0.0, K=SMALL.K):
    frame = RgbdFrame(rgb, np.ones(rgb.shape[:2], np.float32), replace(SMALL, K=K), 1)
    return RecordedFrame(frame, state(q_rad, speed))


def with_board():
    """The board flat in the image."""
    page = np.full((360, 640, 3), 160, np.uint8)
    drawn = Board(BOARD).picture(1600.0, 0.01)
    page[60 : 60 + drawn.shape[0], 100 : 100 + drawn.shape[1]] = drawn[..., None]
    return page


def nothing():
    return np.full((360, 640, 3), 160, np.uint8)


def test_a_session_goes_on_where_it_ended(tmp_path):
    session = Session(tmp_path / "s", SessionConfig())
    assert len(session.add(seen(with_board())).px) == 24
    assert session.add(seen(nothing())) is None
    again = Session(tmp_path / "s", SessionConfig())
    assert len(again) == 1
    again.add(seen(with_board(), HOME_Q_RAD + 0.1))
    views = read_folder(tmp_path / "s", Board(BOARD))
    assert [len(s.detection.px) for s in views.samples] == [24, 24]
    assert np.array_equal(views.samples[1].q_rad, HOME_Q_RAD + 0.1)
    assert np.array_equal(views.K, SMALL.K)


def test_another_board_and_another_folder_are_refused(tmp_path):
    Session(tmp_path / "s", SessionConfig())
    with pytest.raises(CalibrationError, match="was taken with the board charuco 7 x 5"):
        Session(tmp_path / "s", SessionConfig(board=BoardConfig(columns=6)))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "photo.jpg").touch()
    with pytest.raises(CalibrationError, match="found other files"):
        Session(tmp_path / "other", SessionConfig())
    (tmp_path / "s" / "session.json").write_text(json.dumps([1]))
    with pytest.raises(CalibrationError, match="wanted settings of a session, found list"):
        read_session(tmp_path / "s")


def test_of_a_recording_only_resting_postures_count_and_each_once():
    frames = [seen(with_board()), seen(with_board()), seen(with_board(), HOME_Q_RAD + 0.2, speed=0.5)]
    frames += [seen(with_board(), HOME_Q_RAD + 0.3), seen(nothing(), HOME_Q_RAD + 0.4)]
    frames.append(RecordedFrame(frames[0].frame, None))
    views = read_views(frames, Board(BOARD))
    assert (len(views.samples), views.frames) == (2, 6)


def test_a_recording_without_the_board_or_with_two_resolutions_is_refused():
    with pytest.raises(CalibrationError, match="in none of 1 frames"):
        read_views([seen(nothing())], Board(BOARD))
    other = seen(with_board(), HOME_Q_RAD + 0.3, K=SMALL.K * [[1.1], [1.1], [1.0]])
    with pytest.raises(CalibrationError, match="intrinsics change"):
        read_views([seen(with_board()), other], Board(BOARD))


def test_an_image_during_motion_is_refused():
    states = iter([state(), state(HOME_Q_RAD + 0.01)])
    with pytest.raises(StageError, match="moved while the image was taken") as caught:
        at_rest(lambda: seen(with_board()).frame, lambda: next(states))
    assert caught.value.code is OutcomeCode.STALE_STATE


def test_by_hand_says_what_was_taken(tmp_path):
    def look():
        step = next(steps)
        if isinstance(step, StageError):
            raise step
        return step

    steps = iter([seen(with_board()), StageError(OutcomeCode.STALE_IMAGE, "No image."), seen(nothing())])
    more, said = iter([True, True, True, False]), []
    by_hand(Session(tmp_path / "s", SessionConfig()), look, lambda: next(more), said.append)
    assert said == ["24 corners; 1 poses", "not taken: No image.", "not taken: the board is not seen"]


class StandIn:
    """A robot and a planner that do as told."""

    def __init__(self, refuse=()):
        self.refuse, self.moves = set(refuse), 0

    def state(self):
        return state()

    def plan(self, request):
        assert request.world.held is not None
        if request.T_base_tcp[0, 3] in self.refuse:
            raise StageError(OutcomeCode.NO_PATH, "No free path.")
        return request

    def follow(self, path, cancel):
        cancel.raise_if_set()
        self.moves += 1


def ways(count):
    return [pose(np.eye(3), [i, 0.0, 0.5]) for i in range(count)]


def go(tmp_path, robot, image, count=3, agreed=lambda: True, cancel=None):
    said, session = [], Session(tmp_path / "s", SessionConfig())
    visit(session, robot, robot, lambda: seen(image), ways(9), count, Y, agreed, said.append, cancel or CancelToken())
    return session, said


def test_poses_without_a_path_are_passed_over(tmp_path):
    robot = StandIn(refuse=[1])
    session, said = go(tmp_path, robot, with_board())
    assert len(session) == robot.moves == 3
    assert said[1] == "pose 2: passed over, No free path."


def test_it_gives_up_when_the_board_is_never_seen(tmp_path):
    robot = StandIn()
    with pytest.raises(CalibrationError, match=f"not seen in the first {BLIND_POSES} poses"):
        go(tmp_path, robot, nothing())
    assert robot.moves == BLIND_POSES


def test_nothing_moves_without_agreement_or_after_a_cancel(tmp_path):
    robot, cancel = StandIn(), CancelToken()
    go(tmp_path, robot, with_board(), agreed=lambda: False)
    cancel.cancel()
    with pytest.raises(StageError, match="CANCELED"):
        go(tmp_path, robot, with_board(), cancel=cancel)
    assert robot.moves == 0


def test_the_transform_is_that_of_the_root_of_the_cameras_frames(tmp_path):
    """A driver publishes the optical frame below its own root, so the calibration must place the root."""
    from calibration.synthetic import samples

    from stvla_ros.calibration.session import Views

    found = calibrate(samples(10), CAMERA.K)
    T = pose(np.array([[0, 0, 1], [-1, 0, 0], [0, -1, 0]]), [0.0, 0.015, 0.0])
    session = SessionConfig(root_frame="camera_link", T_root_camera=tuple(T.ravel().tolist()))
    views = Views(samples(10), CAMERA.K, np.zeros((720, 1280, 3), np.uint8), 10)
    written = write_report(tmp_path, found, views, session)
    assert (written.parent, written.child) == ("panda_link0", "camera_link")
    assert max(pose_errors(written.T_parent_child @ T, found.T_base_camera)) < 1e-6
    read = read_transform(tmp_path / "calibration.yaml")
    place = PlaceConfig(file=str(tmp_path / "calibration.yaml")).T_base_camera()
    assert max(pose_errors(place, found.T_base_camera)) < 2e-6
    assert abs(calibrated_ns(tmp_path / "calibration.yaml") - time.time_ns()) < 600e9
    assert max(pose_errors(read.T_parent_child, written.T_parent_child)) < 2e-6
    line = (tmp_path / "static_transform.sh").read_text()
    assert "--frame-id panda_link0 --child-frame-id camera_link" in line
    assert f"--x {written.T_parent_child[0, 3]:.6f}" in line
    assert read_image(tmp_path / "calibration.png", CalibrationError, "a picture").shape[1] == 1280


POSE = "translation_m: [0, 0, 1], quaternion_xyzw: [0, 0, 0, 1]"


@pytest.mark.parametrize(
    "text",
    ["", "a: 1", "[1, 2]", "a: [", "transform: {parent: a}", "format: x", f"transform: {{{POSE}, parent: a}}"],
)
def test_another_file_is_no_calibration(tmp_path, text):
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"c\.yaml: "):
        read_transform(tmp_path / "c.yaml")


def test_the_line_for_ros_turns_the_matrix_into_its_options():
    line = StaticTransform("panda_link0", "camera link", inverse(pose(np.eye(3), [1.0, 0.0, 0.0]))).command
    assert line.startswith("ros2 run tf2_ros static_transform_publisher --x -1.000000 --y ")
    assert line.endswith("--qw 1.000000 --frame-id panda_link0 --child-frame-id 'camera link'")


def test_the_simulated_arm_swings_to_other_postures_and_comes_back():
    with simulated_arm(CellConfig(), None, 0) as arm:
        planner = create("motion", "roboplan", {})
        taken = swing(arm.robot, planner, arm.look, 2, VoxelConfig(), 0, arm.cancel)
        assert np.abs(taken[1].robot.q_rad - taken[0].robot.q_rad).max() > 0.1
        T = arm.robot.state().T_base_tcp
    assert np.linalg.norm(T[:3, 3] - tcp_pose(HOME_Q_RAD)[:3, 3]) < 0.01
