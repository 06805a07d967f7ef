"""Inverse kinematics in closed form: complete for a given last joint, and true by forward kinematics."""

from __future__ import annotations

import numpy as np

from stvla_ros.description.kinematics import tcp_pose
from stvla_ros.description.panda import HOME_Q_RAD, Q_MAX_RAD, Q_MIN_RAD
from stvla_ros.description.robot import FR3, PANDA, ArmLimits
from stvla_ros.geometry.se3 import tool_down
from stvla_ros.motion.closed_form import postures
from stvla_ros.types import F64

WHOLE = ArmLimits(np.full(7, -np.pi), np.full(7, np.pi), PANDA.velocity, PANDA.acceleration, PANDA.jerk)


def test_the_posture_that_made_the_pose_is_among_them() -> None:
    rng = np.random.default_rng(0)
    for q in rng.uniform(Q_MIN_RAD, Q_MAX_RAD, (300, 7)):
        found = postures(tcp_pose(q), q[6:], PANDA)
        assert np.abs(found - q).max(axis=1).min() < 1e-6


def test_every_posture_reaches_the_pose_and_is_listed_once() -> None:
    rng = np.random.default_rng(1)
    for q in rng.uniform(Q_MIN_RAD, Q_MAX_RAD, (60, 7)):
        T = tcp_pose(q)
        for q7 in (float(q[6]), 0.4):
            found = postures(T, np.array([q7]), WHOLE)
            assert len(found) <= 8
            assert np.abs(tcp_pose(found) - T).max(initial=0.0) < 1e-7
            assert all(np.abs(a - b).max() > 1e-6 for i, a in enumerate(found) for b in found[:i])


def test_a_whole_grid_at_once_is_the_same_as_one_by_one() -> None:
    T, grid = tool_down([0.5, 0.1, 0.2], -1.0), np.linspace(-2.8, 2.8, 15)

    def ordered(q: F64) -> F64:
        return q[np.lexsort(q.T.round(9))]

    one_by_one = np.concatenate([postures(T, grid[i : i + 1]) for i in range(len(grid))])
    np.testing.assert_allclose(ordered(postures(T, grid)), ordered(one_by_one), atol=1e-9)
    assert len(one_by_one) > 5


def test_a_straight_shoulder_has_its_posture() -> None:
    """At joint 2 = 0, joints 1 and 3 share an axis: one of the postures is given, and it is true."""
    q = np.array([0.4, 0.0, 0.3, -1.8, 0.2, 1.9, 0.5])
    found = postures(tcp_pose(q), q[6:])
    shared = found[np.abs(found[:, 1]) < 1e-6]
    assert len(shared)
    np.testing.assert_allclose(np.cos(shared[:, 0] + shared[:, 2] - 0.7), 1.0)
    np.testing.assert_allclose(tcp_pose(shared), np.broadcast_to(tcp_pose(q), (len(shared), 4, 4)), atol=1e-7)


def test_the_range_and_its_margin_are_kept() -> None:
    T, grid = tcp_pose(HOME_Q_RAD), np.linspace(-2.8, 2.8, 40)
    wide, narrow = postures(T, grid, PANDA, 0.01), postures(T, grid, FR3, 0.3)
    assert ((wide >= Q_MIN_RAD + 0.01) & (wide <= Q_MAX_RAD - 0.01)).all()
    assert ((narrow >= FR3.q_min_rad + 0.3) & (narrow <= FR3.q_max_rad - 0.3)).all()
    assert 0 < len(narrow) < len(wide)


def test_out_of_reach_gives_nothing() -> None:
    assert postures(tool_down([1.2, 0.0, 0.3], 0.0), np.linspace(-2.8, 2.8, 20)).shape == (0, 7)
