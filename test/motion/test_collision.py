"""Obstacles from synthetic depth images."""

from __future__ import annotations

import numpy as np
import pytest
from motion.scenes import box, depth_image
from ray_caster import Scene, front_camera, home_robot

from stvla_ros.description.body import robot_distance
from stvla_ros.description.kinematics import link_poses
from stvla_ros.description.panda import HOME_Q_RAD
from stvla_ros.geometry.se3 import pose, tool_down
from stvla_ros.motion.collision import DepthScene, VoxelConfig, held_box, in_box, obstacle_points, voxelise
from stvla_ros.types import Box, RgbdFrame

CONFIG = VoxelConfig(stride_px=1)
BLOCK = box(0.5, 0.1, 0.03, 0.06, 0.06, 0.06)


def scene(*things: object, config: VoxelConfig = CONFIG) -> DepthScene:
    return DepthScene.from_frame(depth_image(list(things)), home_robot(), config)  # type: ignore[arg-type]


def test_voxels_cover_a_block_and_nothing_else() -> None:
    voxels = scene(BLOCK).voxels_m
    low, high = np.array([0.47, 0.07, 0.0]), np.array([0.53, 0.13, 0.06])
    edge = CONFIG.size_m
    assert ((voxels > low - edge) & (voxels < high + edge)).all()
    inner = np.stack(np.meshgrid(*[np.arange(a + edge / 2, b, edge) for a, b in zip(low, high, strict=True)]), -1)
    for point in inner.reshape(-1, 3)[:, :3]:
        assert np.abs(voxels - point).max(axis=1).min() < 0.75 * edge, point  # column fill reaches the hidden side


def test_an_empty_table_has_no_voxels_even_with_noise_and_holes() -> None:
    frame = Scene([]).render(front_camera(), noise_m=0.002)[0]
    holes = np.where(np.random.default_rng(0).random(frame.depth_m.shape) < 0.1, np.nan, frame.depth_m)
    noisy = RgbdFrame(frame.rgb, holes.astype(np.float32), frame.camera, 0)
    assert len(DepthScene.from_frame(noisy, home_robot(), VoxelConfig()).voxels_m) < 5


def test_an_image_without_depth_has_no_obstacles() -> None:
    frame = depth_image([])
    blind = RgbdFrame(frame.rgb, np.full_like(frame.depth_m, np.nan), frame.camera, 0)
    assert DepthScene.from_frame(blind, home_robot(), CONFIG).voxels_m.shape == (0, 3)


def test_the_arm_itself_is_no_obstacle() -> None:
    """Boxes drawn exactly where hand and forearm are: all their points go."""
    poses = link_poses(HOME_Q_RAD, 0.08)
    hand, elbow = poses["panda_hand"][:3, 3], poses["panda_link4"][:3, 3]
    things = [box(*hand, 0.04, 0.15, 0.04), box(*elbow, 0.06, 0.06, 0.06), BLOCK]
    points, _ = obstacle_points(depth_image(things), home_robot(), CONFIG)
    assert len(points)
    assert (points[:, 2] < 0.07).all()
    assert np.isinf(robot_distance(points, HOME_Q_RAD, 0.08, CONFIG.self_margin_m)).all()


def test_what_is_between_the_fingers_is_no_obstacle() -> None:
    tcp = link_poses(HOME_Q_RAD)["panda_hand_tcp"][:3, 3]
    frame = depth_image([box(*tcp, 0.04, 0.04, 0.04), BLOCK])
    points, _ = obstacle_points(frame, home_robot(gripper_m=0.04), CONFIG)
    assert (points[:, 2] < 0.07).all()


def test_lone_points_are_noise_and_columns_are_filled() -> None:
    tower = np.tile([[0.505, 0.105, 0.055]], (5, 1)).astype(np.float32)
    lone = np.array([[0.3, 0.3, 0.5]], dtype=np.float32)
    points, areas = np.concatenate([tower, lone]), np.full(6, 1e-5, np.float32)  # a tenth of a voxel's face each
    voxels = voxelise(points, areas, VoxelConfig(least_share=0.3))
    np.testing.assert_allclose(voxels[:, :2], [[0.505, 0.105]] * 6, atol=1e-6)
    np.testing.assert_allclose(np.sort(voxels[:, 2]), np.arange(6) * 0.01 + 0.005, atol=1e-6)
    assert len(voxelise(points, areas, VoxelConfig(least_share=0.3, column_fill=False))) == 1


@pytest.mark.parametrize(("width", "stride"), [(320, 1), (320, 2), (640, 2), (1280, 4)])
def test_resolution_does_not_matter(width: int, stride: int) -> None:
    frame = Scene([BLOCK]).render(front_camera(width, width * 3 // 4))[0]
    voxels = DepthScene.from_frame(frame, home_robot(), VoxelConfig(stride_px=stride)).voxels_m
    assert 200 <= len(voxels) <= 450  # 6 x 6 x 6 and what the edges touch


def test_target_is_cut_out_but_its_neighbour_stays() -> None:
    neighbour = box(0.5, -0.02, 0.02, 0.04, 0.04, 0.04)
    whole = scene(box(0.5, 0.1, 0.02, 0.04, 0.04, 0.04), neighbour)
    T = tool_down([0.5, 0.1, 0.02], -np.pi / 2)
    cut = whole.world(touched=(T,)).voxels_m
    assert not (np.abs(cut - [0.5, 0.1, 0.02]).max(axis=1) < 0.025).any()
    near = np.abs(whole.voxels_m - [0.5, -0.02, 0.02]).max(axis=1) < 0.03
    assert near.sum() == (np.abs(cut - [0.5, -0.02, 0.02]).max(axis=1) < 0.03).sum() > 10


def test_held_object_is_cut_out_where_it_is_and_where_it_goes() -> None:
    held = Box(pose(np.eye(3), [0.0, 0.0, 0.0]), np.array([0.04, 0.04, 0.04]))
    T = tool_down([0.5, 0.1, 0.05], -np.pi / 2)
    world = scene(BLOCK).world(held=held, holding=(T,))
    assert world.held is held
    assert not in_box(world.voxels_m, T, held.size_m, 0.01).any()
    assert len(world.voxels_m)


@pytest.mark.parametrize("yaw", [-np.pi / 2, -np.pi / 2 + 0.3])
def test_held_box_is_measured_from_the_image(yaw: float) -> None:
    """A block 5 x 4 x 6 cm held across its 4 cm; another block 4 cm beside it is not taken along."""
    along = yaw + np.pi / 2
    beside = 0.5 + 0.09 * np.cos(along), 0.1 + 0.09 * np.sin(along)
    things = [box(x, y, 0.03, 0.05, 0.04, 0.06, along) for x, y in ((0.5, 0.1), beside)]
    T = tool_down([0.5, 0.1, 0.035], yaw)
    measured = held_box(scene(*things).points_m, T, 0.04)
    assert measured.size_m[1] == pytest.approx(0.04)
    assert 0.045 <= measured.size_m[0] <= 0.075
    top = measured.T_frame_box[2, 3] - measured.size_m[2] / 2
    bottom = measured.T_frame_box[2, 3] + measured.size_m[2] / 2
    assert top == pytest.approx(-0.025, abs=0.006)
    assert 0.015 < bottom < 0.04  # not into the table, 3.5 cm below the tool


def test_held_box_without_points_is_what_the_fingers_tell() -> None:
    measured = held_box(np.zeros((0, 3), np.float32), tool_down([0.5, 0.1, 0.03], 0.0), 0.03)
    np.testing.assert_allclose(measured.size_m[:2], [0.03, 0.03])
    assert 0 < measured.size_m[2] < 0.03
