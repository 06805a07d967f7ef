"""The solver: exact without noise, as good as it says with noise, and it refuses what determines nothing."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from calibration.synthetic import CAMERA, SWING_RAD, Y, sample, samples

from benchmarks.calibration.boards import Noise, make_cell, run_board
from stvla_ros.calibration.board import BoardConfig, Detection
from stvla_ros.calibration.poses import PoseConfig
from stvla_ros.calibration.solve import (
    MIN_POSES,
    SOLVERS,
    CalibrationError,
    calibrate,
    check_poses,
    moved,
    opencv_solvers,
    pose_errors,
    residuals,
)
from stvla_ros.description.panda import HOME_Q_RAD

X, K = CAMERA.T_base_camera, CAMERA.K


@pytest.mark.parametrize("name", [*SOLVERS, *opencv_solvers()])
def test_every_closed_form_is_exact_without_noise(name):
    clean = samples(px=0.0)
    found = (SOLVERS | opencv_solvers())[name]([s.T_base_tcp for s in clean], [s.T_camera_board for s in clean])
    for got, want in zip(found, (X, Y), strict=True):
        assert max(pose_errors(got, want)) < 1e-4


def test_the_closed_forms_do_not_depend_on_where_the_base_is():
    """A half turn between camera and base is where Tsai's half angles are largest."""
    for turn in ([np.pi - 0.01, 0, 0], [0, 2.5, 0], [1, 1, 1]):
        D = np.eye(4)
        D[:3, :3] = cv2.Rodrigues(np.array(turn, dtype=float))[0]
        clean = samples(px=0.0)
        for solver in SOLVERS.values():
            got, _ = solver([D @ s.T_base_tcp for s in clean], [s.T_camera_board for s in clean])
            assert max(pose_errors(got, D @ X)) < 1e-3


def test_a_camera_from_noisy_samples_is_as_good_as_it_says():
    """Six calibrations: the errors have the size of the standard deviations that they come with."""
    found = [calibrate(samples(seed=i, px=0.15, joints_rad=1e-4), K) for i in range(6)]
    errors = np.array([pose_errors(c.T_base_camera, X) for c in found])
    assert errors[:, 0].max() < 0.002
    assert errors[:, 1].max() < np.radians(0.2)
    said = np.array([(c.std_m, c.std_rad) for c in found])
    assert (np.sqrt((errors**2).mean(axis=0)) < 2.0 * said.mean(axis=0)).all()
    assert (said.mean(axis=0) < [0.0015, np.radians(0.1)]).all()
    for c in found:
        assert c.doubt is None
        assert len(c.left_out_px) == len(c.left_out_m) == len(c.residuals_px) == len(c.used) == 12
        assert c.rms_px <= np.sqrt((c.left_out_px**2).mean())  # what was fitted fits better than what was not
        assert np.allclose(c.covariance, c.covariance.T)
        assert np.linalg.eigvalsh(c.covariance).min() > 0


def test_refinement_is_better_than_any_closed_form():
    c = calibrate(samples(px=0.3, joints_rad=2e-4), K)
    assert set(c.methods) >= {"Tsai", "Park", "Shah"}
    assert c.rms_px < min(c.methods.values())


def test_a_pose_that_does_not_fit_is_left_out():
    good = samples(12)
    seen = good[5].detection
    bumped = replace(good[5], detection=replace(seen, px=seen.px + np.array([12.0, 5.0])))
    c = calibrate([*good[:5], bumped, *good[6:]], K)
    assert c.used == (0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11)
    assert pose_errors(c.T_base_camera, X)[0] < 0.001


def test_a_wrong_focal_length_is_seen_in_the_images():
    c = calibrate(samples(15, focal=1.02), K)
    assert c.focal_scale[0] == pytest.approx(1.02, abs=0.004)
    assert "focal length +2.0 %" in c.doubt
    assert calibrate(samples(15), K).doubt is None


def one_axis(seed=0):
    """The wrist's last joint alone, and the board moved along with the first."""
    rng = np.random.default_rng(seed)
    turns = np.linspace(-0.6, 0.6, 12)
    return [sample(HOME_Q_RAD + np.array([0, 0, 0, 0, 0, 0, t]), rng) for t in turns]


def still(seed=0):
    rng = np.random.default_rng(seed)
    return [sample(HOME_Q_RAD + rng.normal(0, 0.01, 7), rng) for _ in range(12)]


@pytest.mark.parametrize(
    ("poses", "said"),
    [
        (samples(MIN_POSES - 1), f"at least {MIN_POSES} poses with the board in view, found {MIN_POSES - 1}"),
        ([], "found 0"),
        (one_axis(), "rotates about one axis only"),
        (still(), "rotates about one axis only .about a second one by 0"),
        (samples(12, swing_rad=0.25 * SWING_RAD), "rotates about one axis only"),
    ],
)
def test_sets_of_poses_that_determine_nothing_are_refused(poses, said):
    with pytest.raises(CalibrationError, match=said):
        calibrate(poses, K)


def test_poses_at_one_place_are_refused():
    rng = np.random.default_rng(0)
    about_a_point = [replace(s, T_base_tcp=_at_a_point(s.T_base_tcp, rng)) for s in samples(12)]
    with pytest.raises(CalibrationError, match="stays on a line or at a point"):
        check_poses(about_a_point)


def _at_a_point(T, rng):
    """The same rotation, with the point 10 cm before the tool at one place."""
    out = T.copy()
    out[:3, 3] = [0.5, 0.0, 0.5] - 0.1 * T[:3, 2] + rng.normal(0, 1e-3, 3)
    return out


def test_moved_and_residuals_speak_the_same_frame():
    s = samples(1, px=0.0)[0]
    assert np.abs(residuals(s, X, Y, K)).max() < 1e-6
    assert isinstance(s.detection, Detection)
    nearer = moved(X, np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.01]))
    assert np.abs(residuals(s, nearer, Y, K)).max() > 5.0  # 10 mrad at a focal length of 925 px


def test_rendered_boards_with_noise_give_the_camera():
    """One run of benchmarks/calibration; 50 of them are in its README."""
    cell = make_cell()
    try:
        run = run_board(cell, 1, BoardConfig(), PoseConfig(count=10), Noise())
    finally:
        cell.close()
    assert run.poses >= MIN_POSES
    assert run.error_m < 0.002
    assert run.error_rad < np.radians(0.2)
    assert run.calibration.rms_px < 0.5
