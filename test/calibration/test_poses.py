"""Generated poses show the whole board, stay in the workspace, and are different enough for the solver."""

from dataclasses import replace

import numpy as np
import pytest
from calibration.synthetic import BOARD, CAMERA, Y

from stvla_ros.calibration.poses import MOUNTS, PoseConfig, mounted, show_board
from stvla_ros.calibration.solve import CalibrationError
from stvla_ros.geometry.cameras import project
from stvla_ros.geometry.se3 import is_rotation, pose

LOW_M, HIGH_M = np.array([0.15, -0.65, 0.1]), np.array([0.85, 0.65, 0.9])
CONFIG = PoseConfig(count=8)


@pytest.fixture(scope="module")
def ways():
    return show_board(CAMERA, Y, BOARD, CONFIG, LOW_M, HIGH_M)


def test_the_whole_board_is_seen_from_its_front_and_stays_over_the_table(ways):
    assert len(ways) >= CONFIG.count
    w, h = BOARD.size_m
    for tool in ways:
        T = tool @ Y
        corners = np.array([[x, y, 0, 1] for x in (-w / 2, w / 2) for y in (-h / 2, h / 2)]) @ T.T
        px, depth = project(CAMERA, corners[:, :3])
        assert ((px > 0) & (px < [CAMERA.width_px, CAMERA.height_px])).all()
        assert (depth > 0.3).all()
        assert T[:3, 2] @ (T[:3, 3] - CAMERA.T_base_camera[:3, 3]) > 0  # z points away from the camera
        assert corners[:, 2].min() >= CONFIG.floor_m
        assert ((tool[:3, 3] >= LOW_M) & (tool[:3, 3] <= HIGH_M)).all()


def test_they_differ_in_place_and_in_tilt(ways):
    places = np.array([T[:3, 3] for T in ways])
    assert np.ptp(places, axis=0).min() > 0.15
    axes = np.array([T[:3, 2] for T in ways])
    assert np.degrees(np.arccos(np.clip(axes @ axes.T, -1, 1))).max() > 40


def test_the_same_seed_gives_the_same_poses(ways):
    again = show_board(CAMERA, Y, BOARD, CONFIG, LOW_M, HIGH_M)
    assert all(np.array_equal(a, b) for a, b in zip(ways, again, strict=True))
    other = show_board(CAMERA, Y, BOARD, replace(CONFIG, seed=1), LOW_M, HIGH_M)
    assert not np.array_equal(ways[0], other[0])


def test_a_camera_that_looks_elsewhere_is_refused():
    away = replace(CAMERA, T_base_camera=pose(np.diag([1.0, -1.0, -1.0]), [4.0, 0.0, 3.0]))
    with pytest.raises(CalibrationError, match="in 0 poses only"):
        show_board(away, Y, BOARD, CONFIG, LOW_M, HIGH_M)


@pytest.mark.parametrize("mount", MOUNTS)
def test_mounts_are_rotations_with_the_pattern_clear_of_the_fingers(mount):
    T = mounted(BOARD, mount)
    assert is_rotation(T[:3, :3])
    if mount == "edge":  # the upper edge of the pattern lies below the fingertips
        assert T[2, 3] - BOARD.size_m[1] / 2 > 0.01
    else:
        assert T[2, 3] > 0.03
