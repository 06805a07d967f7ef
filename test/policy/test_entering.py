"""The way into a cupboard, read from the path's last leg."""

from __future__ import annotations

import numpy as np
import pytest

from stvla_ros.geometry.se3 import backed_off, is_rotation, rotation_distance, tool_down
from stvla_ros.policy.entering import at, is_tilted, tilted, way_in

RISE = np.array([[0.5, 0.0, 0.1], [0.5, 0.0, 0.4], [0.4, 0.2, 0.4]])


def path_into(yaw_rad: float, tilt_rad: float, length_m: float = 0.2) -> np.ndarray:
    axis = [np.sin(tilt_rad) * np.cos(yaw_rad), np.sin(tilt_rad) * np.sin(yaw_rad), -np.cos(tilt_rad)]
    return np.vstack([RISE, RISE[-1] + length_m * np.array(axis)])


@pytest.mark.parametrize("yaw", [-1.8, 0.3, 1.6])
@pytest.mark.parametrize("tilt_deg", [35.0, 50.0, 60.0])
def test_a_path_that_ends_sideways_says_where_the_tool_points(yaw: float, tilt_deg: float) -> None:
    axis = way_in(path_into(yaw, np.radians(tilt_deg)))
    assert axis is not None
    assert np.degrees(np.arccos(-axis[2])) == pytest.approx(tilt_deg, abs=0.1)
    assert np.arctan2(axis[1], axis[0]) == pytest.approx(yaw)


@pytest.mark.parametrize("tilt_deg", [0.0, 5.0, 20.0])
def test_a_path_that_ends_downwards_does_not(tilt_deg: float) -> None:
    assert way_in(path_into(1.0, np.radians(tilt_deg))) is None


def test_a_short_path_does_not() -> None:
    assert way_in(np.array([[0.5, 0.0, 0.1], [0.55, 0.0, 0.1]])) is None
    assert way_in(np.array([[0.5, 0.0, 0.1]])) is None


def test_a_level_way_in_is_taken_with_a_tilt_that_the_arm_has() -> None:
    axis = way_in(path_into(0.0, np.radians(90.0)))
    assert axis is not None
    assert np.degrees(np.arccos(-axis[2])) == pytest.approx(65.0)
    assert axis[1] == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("yaw_now", [-2.0, 0.0, 1.5, 3.0])
def test_the_tool_points_in_with_level_fingers_and_turns_little(yaw_now: float) -> None:
    axis, now = np.array([0.0, np.sin(0.9), -np.cos(0.9)]), tool_down([0.4, 0.1, 0.3], yaw_now)
    T = tilted(np.array([0.4, 0.4, 0.2]), axis, now)
    assert is_rotation(T[:3, :3])
    np.testing.assert_allclose(T[:3, 2], axis, atol=1e-12)
    assert T[2, 1] == pytest.approx(0.0, abs=1e-12)
    half = T[:3, :3] @ np.diag([-1.0, -1.0, 1.0])
    assert rotation_distance(T[:3, :3], now[:3, :3]) <= rotation_distance(half, now[:3, :3])
    assert is_tilted(T)
    assert not is_tilted(now)
    back = backed_off(T, 0.2)
    assert back[2, 3] > T[2, 3] + 0.1
    assert back[1, 3] < T[1, 3] - 0.1
    assert at(T, T, 0.001, 0.01)
    assert not at(back, T, 0.015, 0.1)
