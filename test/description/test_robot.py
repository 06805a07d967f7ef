"""Limits of the arms: the FR3's constant velocities are allowed by its position-dependent ones in the whole range."""

from __future__ import annotations

import numpy as np

from stvla_ros.description import panda
from stvla_ros.description.robot import FR3, LIMITS, PANDA

ABSOLUTE_MIN = np.array([-2.7437, -1.7837, -2.9007, -3.0421, -2.8065, 0.5445, -3.0159])
ABSOLUTE_MAX = np.array([2.7437, 1.7837, 2.9007, -0.1518, 2.8065, 4.5169, 3.0159])
ABSOLUTE_VELOCITY = np.array([2.62, 2.62, 2.62, 2.62, 5.26, 4.18, 5.26])


def upper_velocity(q: np.ndarray) -> np.ndarray:
    """(7,) velocity that an FR3 allows towards the upper ends (FCI documentation, "Limits for Franka Research 3")."""
    offset = np.array([0.30, 0.20, 0.20, 0.30, 0.35, 0.35, 0.35])
    slope = np.array([12.0, 5.17, 7.0, 8.0, 34.0, 11.0, 34.0])
    end = np.array([2.75010, 1.79180, 2.90650, -0.1458, 2.81010, 4.52050, 3.01960])
    return np.clip(np.sqrt(np.maximum(slope * (end - q), 0)) - offset, 0, ABSOLUTE_VELOCITY)


def lower_velocity(q: np.ndarray) -> np.ndarray:
    """The same towards the lower ends."""
    offset = np.array([0.30, 0.20, 0.20, 0.30, 0.35, 0.35, 0.35])
    slope = np.array([12.0, 5.17, 7.0, 8.0, 34.0, 11.0, 34.0])
    end = np.array([-2.75010, -1.79180, -2.90650, -3.0481, -2.81010, 0.54092, -3.01960])
    return np.clip(np.sqrt(np.maximum(slope * (q - end), 0)) - offset, 0, ABSOLUTE_VELOCITY)


def test_the_constant_velocities_of_an_fr3_are_allowed_everywhere_and_use_what_is_allowed() -> None:
    for s in np.linspace(0.0, 1.0, 101):
        q = FR3.q_min_rad + s * (FR3.q_max_rad - FR3.q_min_rad)
        assert (np.minimum(upper_velocity(q), lower_velocity(q)) >= FR3.velocity - 1e-3).all()
    np.testing.assert_allclose(upper_velocity(FR3.q_max_rad), FR3.velocity, atol=2e-3)
    np.testing.assert_allclose(lower_velocity(FR3.q_min_rad), FR3.velocity, atol=2e-3)
    assert (FR3.q_min_rad > ABSOLUTE_MIN).all()
    assert (FR3.q_max_rad < ABSOLUTE_MAX).all()


def test_limits_by_model() -> None:
    assert (LIMITS["panda"], LIMITS["fr3"]) == (PANDA, FR3)
    np.testing.assert_array_equal(PANDA.velocity, panda.V_MAX_RAD_S)
    assert (FR3.acceleration == 10.0).all()
    assert (FR3.jerk == 5000.0).all()
    assert (FR3.q_min_rad < panda.HOME_Q_RAD).all(), "home is home for both"
    assert (FR3.q_max_rad > panda.HOME_Q_RAD).all()


def test_the_velocity_bounds_of_an_fr3_are_the_documentations() -> None:
    q = np.random.default_rng(0).uniform(ABSOLUTE_MIN - 0.1, ABSOLUTE_MAX + 0.1, (200, 7))
    low, high = FR3.velocity_bounds(q)
    np.testing.assert_allclose(high, [upper_velocity(x) for x in q])
    np.testing.assert_allclose(low, [-lower_velocity(x) for x in q])
    np.testing.assert_array_equal(FR3.hard_range_rad, [ABSOLUTE_MIN, ABSOLUTE_MAX])


def test_a_panda_has_the_same_limit_everywhere() -> None:
    low, high = PANDA.velocity_bounds(np.stack([PANDA.q_min_rad, PANDA.q_max_rad]))
    np.testing.assert_array_equal(high, np.stack([PANDA.velocity] * 2))
    np.testing.assert_array_equal(low, -high)
    np.testing.assert_array_equal(PANDA.hard_range_rad, [PANDA.q_min_rad, PANDA.q_max_rad])
