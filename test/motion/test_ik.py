"""Inverse kinematics: how often it finds a posture, and that forward kinematics agrees."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from stvla_ros.description.kinematics import tcp_pose
from stvla_ros.description.panda import HOME_Q_RAD, Q_MAX_RAD, Q_MIN_RAD
from stvla_ros.geometry.se3 import pose, tool_down
from stvla_ros.motion import ik


def solved(tilt_rad: float, count: int = 60) -> float:
    """Share of random poses over the table for which a posture is found; every posture is verified."""
    rng, hits = np.random.default_rng(3), 0
    for _ in range(count):
        T = tool_down(rng.uniform([0.3, -0.35, 0.02], [0.65, 0.35, 0.4]), rng.uniform(-np.pi, np.pi))
        axis = rng.normal(size=3)
        T[:3, :3] = Rotation.from_rotvec(rng.uniform(0, tilt_rad) * axis / np.linalg.norm(axis)).as_matrix() @ T[:3, :3]
        solutions = ik.solve(T, ik.seeds(HOME_Q_RAD, 24, rng))
        hits += len(solutions) > 0
        if len(solutions):
            assert np.abs(tcp_pose(solutions) - T).max() < 1e-4
            assert ((solutions > Q_MIN_RAD) & (solutions < Q_MAX_RAD)).all()
    return hits / count


def test_top_down_poses_are_always_reached() -> None:
    assert solved(0.0) == 1.0


def test_tilted_poses_are_nearly_always_reached() -> None:
    assert solved(np.pi / 4) >= 0.95


def test_several_distinct_postures_nearest_first() -> None:
    T = tool_down([0.5, 0.1, 0.2], -np.pi / 2)
    solutions = ik.solve(T, ik.seeds(HOME_Q_RAD, 24, np.random.default_rng(0)))
    assert len(solutions) >= 3
    distance = np.linalg.norm(solutions - HOME_Q_RAD, axis=1)
    assert (np.diff(distance) >= 0).all()
    assert min(np.abs(a - b).max() for i, a in enumerate(solutions) for b in solutions[:i]) > 0.05


def test_out_of_reach_gives_nothing() -> None:
    assert len(ik.solve(tool_down([1.2, 0.0, 0.3], 0.0), ik.seeds(HOME_Q_RAD, 12, np.random.default_rng(0)))) == 0


def test_pose_error_is_the_rotation_vector() -> None:
    rng = np.random.default_rng(0)
    for angle in (1e-7, 0.3, 2.0, 3.1):
        axis = rng.normal(size=3)
        turn = angle * axis / np.linalg.norm(axis)
        start = Rotation.random(rng=rng).as_matrix()
        T = pose(start, [1.0, 2.0, 3.0])
        goal = pose(Rotation.from_rotvec(turn).as_matrix() @ start, [1.5, 2.0, 3.0])
        np.testing.assert_allclose(ik.pose_error(T, goal), [0.5, 0, 0, *turn], atol=1e-8)


def test_lines_are_straight_and_stop_at_the_end_of_a_joint() -> None:
    T = tcp_pose(HOME_Q_RAD)
    goal = T.copy()
    goal[:3, 3] += [0.15, 0.1, -0.3]
    line = ik.follow_line(HOME_Q_RAD, goal)
    xyz = tcp_pose(line)[:, :3, 3]
    way = (goal[:3, 3] - T[:3, 3]) / np.linalg.norm(goal[:3, 3] - T[:3, 3])
    assert np.linalg.norm(np.cross(xyz - xyz[0], way), axis=1).max() < 1e-4
    np.testing.assert_allclose(xyz[-1], goal[:3, 3], atol=1e-4)
    goal[:3, 3] = [1.5, 0.0, 0.3]
    assert np.linalg.norm(tcp_pose(ik.follow_line(HOME_Q_RAD, goal)[-1])[:3, 3] - goal[:3, 3]) > 0.3
