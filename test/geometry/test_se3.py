"""Rigid transforms."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stvla_ros.geometry.se3 import (
    finger_yaw,
    from_quaternion,
    inverse,
    is_rotation,
    pose,
    rotation_distance,
    rotation_z,
    to_quaternion,
    tool_down,
    wrap,
)

COMPONENT = st.floats(-1, 1)
QUATERNIONS = st.tuples(COMPONENT, COMPONENT, COMPONENT, COMPONENT).filter(lambda q: np.linalg.norm(q) > 1e-3)


@settings(deadline=None)
@given(QUATERNIONS)
def test_quaternions_round_trip(q: tuple[float, ...]) -> None:
    R = from_quaternion(q)
    np.testing.assert_allclose(R @ R.T, np.eye(3), atol=1e-9)
    assert np.linalg.det(R) == pytest.approx(1.0)
    back = to_quaternion(R)
    assert back[3] >= 0
    np.testing.assert_allclose(from_quaternion(back), R, atol=1e-9)


def test_quaternion_order_is_xyzw() -> None:
    np.testing.assert_allclose(to_quaternion(rotation_z(np.pi / 2)), [0, 0, np.sqrt(0.5), np.sqrt(0.5)], atol=1e-12)


def test_only_proper_rotations_are_rotations() -> None:
    assert is_rotation(rotation_z(0.3))
    assert not is_rotation(np.diag([1.0, 1.0, -1.0]))  # a mirror
    assert not is_rotation(1.01 * np.eye(3))
    assert not is_rotation(np.full((3, 3), np.nan))


@pytest.mark.parametrize("bad", [[0, 0, 0, 0], [np.nan, 0, 0, 1]])
def test_bad_quaternions_are_refused(bad: list[float]) -> None:
    with pytest.raises(ValueError, match="quaternion: wanted four finite numbers"):
        from_quaternion(bad)


@settings(deadline=None)
@given(QUATERNIONS, st.floats(-2, 2))
def test_inverse(q: tuple[float, ...], t: float) -> None:
    T = pose(from_quaternion(q), [t, -t, 0.3])
    np.testing.assert_allclose(inverse(T) @ T, np.eye(4), atol=1e-9)


@settings(deadline=None)
@given(st.floats(-3, 3))
def test_tool_down_looks_down_with_the_fingers_opening_along_yaw(yaw: float) -> None:
    T = tool_down([0.4, 0.1, 0.2], yaw)
    np.testing.assert_allclose(T[:3, 2], [0, 0, -1])
    assert np.linalg.det(T[:3, :3]) == pytest.approx(1)
    assert abs(wrap(finger_yaw(T) - yaw)) < 1e-9


def test_wrap_and_rotation_distance() -> None:
    assert wrap(3.5, np.pi) == pytest.approx(3.5 - np.pi)
    assert rotation_distance(rotation_z(0.2), rotation_z(0.5)) == pytest.approx(0.3)
