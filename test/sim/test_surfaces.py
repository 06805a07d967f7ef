"""Sampled surfaces lie on the objects, reach all their sides, and leave no gaps."""

import numpy as np
import pytest
from scipy.spatial import cKDTree

from stvla_ros.description.kinematics import tcp_pose
from stvla_ros.description.panda import HOME_Q_RAD
from stvla_ros.sim.cell import Cell
from stvla_ros.sim.objects import BLOCK_M, BUTTON_BASE_M, BUTTON_CAP_M, BUTTON_RADIUS_M, PLATE_RADIUS_M, PLATE_RIM_M
from stvla_ros.sim.surfaces import cylinder_points, mesh_points


def test_block_and_plate_have_their_sizes_and_no_gaps(cell: Cell) -> None:
    cell.reset("pick_place", 3)
    surfaces, truth = cell.surfaces(0.004), cell.truth()
    assert set(surfaces) == set(truth.names)
    block = next(n for n in truth.names if n.endswith("_block"))
    T = truth.T_base_object[block]
    local = (surfaces[block] - T[:3, 3]) @ T[:3, :3]
    assert np.abs(local).max(axis=1) == pytest.approx(BLOCK_M / 2, abs=1e-9)
    assert cKDTree(local).query(local, k=2)[0].max() < 0.005
    plate = surfaces["plate"] - truth.T_base_object["plate"][:3, 3]
    assert np.hypot(plate[:, 0], plate[:, 1]).max() == pytest.approx(PLATE_RADIUS_M, abs=0.001)
    assert np.ptp(plate[:, 2]) == pytest.approx(PLATE_RIM_M, abs=0.001)


def test_button_is_base_and_cap(cell: Cell) -> None:
    cell.reset("push_buttons", 1)
    name, points = next((n, p) for n, p in cell.surfaces().items() if n.endswith("_button"))
    assert points[:, 2].max() == pytest.approx(BUTTON_BASE_M + BUTTON_CAP_M, abs=0.001)
    centre = cell.truth().T_base_object[name][:2, 3]
    assert np.hypot(*(points[:, :2] - centre).T).max() == pytest.approx(BUTTON_RADIUS_M, abs=1e-6)


def test_points_of_simple_shapes_are_dense() -> None:
    points = cylinder_points(0.03, 0.05, 0.004)
    assert np.hypot(points[:, 0], points[:, 1]).max() == pytest.approx(0.03)
    assert [points[:, 2].min(), points[:, 2].max()] == pytest.approx([-0.05, 0.05])
    triangle = mesh_points(np.array([[0.0, 0, 0], [0.1, 0, 0], [0, 0.1, 0]]), np.array([[0, 1, 2]], np.int32), 0.01)
    inside = np.random.default_rng(0).dirichlet([1, 1, 1], 200)[:, 1:] * 0.1
    assert cKDTree(triangle[:, :2]).query(inside)[0].max() < 0.01


def test_another_moment_of_the_scene_is_put_at_once(cell: Cell) -> None:
    cell.reset("stack_cube", 2)
    q = HOME_Q_RAD + np.array([0.2, 0.1, 0.0, 0.1, 0.0, 0.0, 0.0])
    name, before = cell.truth().names[0], cell.time_ns
    held = np.eye(4)
    held[:3, 3] = tcp_pose(q)[:3, 3]
    cell.set_state(q, 0.04, {name: held})
    assert cell.time_ns == before
    assert cell.state().q_rad == pytest.approx(q)
    assert cell.state().gripper_m == pytest.approx(0.04)
    assert cell.truth().T_base_object[name] == pytest.approx(held)
    cell.advance(0.05)
    assert cell.state().q_rad == pytest.approx(q, abs=0.01), "the arm stays where it was put"
    assert not cell.moving
