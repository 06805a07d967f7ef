"""Timed paths keep the arm's limits, checked by differences of the samples, and stay on the given geometry."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from stvla_ros.description.kinematics import tcp_pose
from stvla_ros.description.panda import HOME_Q_RAD, Q_MAX_RAD, Q_MIN_RAD
from stvla_ros.description.robot import PANDA
from stvla_ros.motion import ik, timing
from stvla_ros.types import JointPath


def worst_ratios(path: JointPath, limits: timing.MotionLimits) -> tuple[float, float, float]:
    """Largest velocity, acceleration and jerk over their limits, from differences of neighbouring samples."""
    step = np.diff(path.t_s)[:, None]
    v = np.diff(path.q_rad, axis=0) / step
    a = np.diff(path.dq_rad_s, axis=0) / step
    centres = (path.t_s[1:] + path.t_s[:-1]) / 2
    j = np.diff(a, axis=0) / np.diff(centres)[:, None]
    every = ((v, limits.velocity), (a, limits.acceleration), (j, limits.jerk))
    return tuple(float((np.abs(x) / most).max(initial=0.0)) for x, most in every)  # type: ignore[return-value]


@pytest.mark.parametrize("scales", [(1.0, 1.0, 1.0), (0.5, 0.3, 0.1), (0.05, 0.05, 0.01)])
def test_polylines_keep_the_limits_and_use_them(scales: tuple[float, float, float]) -> None:
    rng, limits = np.random.default_rng(0), timing.scaled_limits(PANDA, *scales)
    for _ in range(20):
        waypoints = rng.uniform(Q_MIN_RAD, Q_MAX_RAD, (4, 7))
        path = timing.time_polyline(waypoints, limits)
        v, a, j = worst_ratios(path, limits)
        assert v <= 1.001
        assert a <= 1.001
        assert j <= 1.01
        assert max(v, a, j) > 0.5  # not needlessly slow
        np.testing.assert_allclose(path.q_rad[[0, -1]], waypoints[[0, -1]], atol=1e-9)
        np.testing.assert_allclose(path.dq_rad_s[[0, -1]], 0.0, atol=1e-6)


def test_a_controllers_cubics_are_exactly_the_profile() -> None:
    """Between samples the acceleration is linear, without steps at the samples, and its slope is within the limit."""
    rng, limits = np.random.default_rng(4), timing.scaled_limits(PANDA)
    for scale in (1.0, 0.3, 0.01):
        waypoints = HOME_Q_RAD + scale * rng.uniform(-0.8, 0.8, (3, 7))
        path = timing.time_polyline(waypoints, limits)
        h, v0, v1 = np.diff(path.t_s)[:, None], path.dq_rad_s[:-1], path.dq_rad_s[1:]
        mean = np.diff(path.q_rad, axis=0) / h
        begin, end = (6 * mean - 4 * v0 - 2 * v1) / h, (4 * v1 + 2 * v0 - 6 * mean) / h
        assert h.min() > 0.0004
        assert np.abs(begin[1:] - end[:-1]).max() < 0.001
        assert (np.abs(end - begin) / h / limits.jerk).max() < 1.001


def test_polylines_stay_on_their_segments() -> None:
    rng = np.random.default_rng(1)
    waypoints = rng.uniform(Q_MIN_RAD, Q_MAX_RAD, (3, 7))
    path = timing.time_polyline(waypoints, timing.scaled_limits(PANDA))
    for q in path.q_rad:
        distances = []
        for a, b in pairwise(waypoints):
            s = np.clip((q - a) @ (b - a) / ((b - a) @ (b - a)), 0, 1)
            distances.append(np.abs(a + s * (b - a) - q).max())
        assert min(distances) < 1e-9


@pytest.mark.parametrize("scales", [(1.0, 1.0, 1.0), (0.5, 0.3, 0.1)])
def test_curves_keep_the_limits(scales: tuple[float, float, float]) -> None:
    rng, limits = np.random.default_rng(2), timing.scaled_limits(PANDA, *scales)
    for _ in range(10):
        q = HOME_Q_RAD + rng.uniform(-0.3, 0.3, 7)
        T = tcp_pose(q)
        T[:3, 3] += rng.uniform(-0.15, 0.15, 3)
        line = ik.follow_line(q, T)
        v, a, j = worst_ratios(timing.time_curve(line, limits), limits)
        assert v <= 1.001
        assert a <= 1.001
        assert j <= 1.01


def test_curves_keep_the_tool_speed() -> None:
    T = tcp_pose(HOME_Q_RAD)
    T[2, 3] -= 0.2
    path = timing.time_curve(ik.follow_line(HOME_Q_RAD, T), timing.scaled_limits(PANDA), min_duration_s=0.2 / 0.1)
    speed = np.linalg.norm(np.diff(tcp_pose(path.q_rad)[:, :3, 3], axis=0), axis=1) / np.diff(path.t_s)
    assert speed.max() == pytest.approx(0.1, rel=0.05)


def test_a_path_of_no_length_takes_no_time() -> None:
    waypoints = np.stack([HOME_Q_RAD, HOME_Q_RAD])
    for path in (
        timing.time_polyline(waypoints, timing.scaled_limits(PANDA)),
        timing.time_curve(waypoints, timing.scaled_limits(PANDA)),
    ):
        assert path.t_s.tolist() == [0.0]
        np.testing.assert_array_equal(path.q_rad[0], HOME_Q_RAD)
