"""Obstacles from depth with the faults of a stereo camera: noise, bridges between surfaces, errors along the ray."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from motion.scenes import box, depth_image
from ray_caster import front_camera, home_robot

from stvla_ros.description.kinematics import link_poses
from stvla_ros.description.panda import HOME_Q_RAD
from stvla_ros.geometry.se3 import tool_down
from stvla_ros.motion import ik
from stvla_ros.motion.collision import VoxelConfig, bridges
from stvla_ros.motion.scene import PlanningScene
from stvla_ros.types import F32, RgbdFrame, RobotState

PER_M2 = 0.0025
"""Standard deviation of the depth at 1 m, m."""


def noisy(frame: RgbdFrame, seed: int = 0, per_m2: float = PER_M2) -> RgbdFrame:
    """Noise that neighbours share over 2.5 pixels (5 of an image 640 wide), and that grows with the squared depth."""
    field = cv2.GaussianBlur(np.random.default_rng(seed).standard_normal(frame.depth_m.shape), (0, 0), 2.5)
    depth = frame.depth_m + per_m2 * frame.depth_m**2 * field / field.std()
    return replace(frame, depth_m=depth.astype(np.float32))


def seen(frame: RgbdFrame, robot: RobotState | None = None) -> PlanningScene:
    scene = PlanningScene(VoxelConfig())
    scene.observe(frame, robot or home_robot())
    return scene


@pytest.mark.parametrize("seed", range(3))
def test_the_far_end_of_a_noisy_table_is_no_obstacle(seed: int) -> None:
    assert len(seen(noisy(depth_image([]), seed, 0.0035)).voxels_m) < 5


@pytest.mark.parametrize("width_m", [0.012, 0.02, 0.04])
def test_thin_and_low_things_are_seen_through_the_noise(width_m: float) -> None:
    post, low = box(0.45, 0.2, 0.05, width_m, width_m, 0.10), box(0.45, -0.1, 0.0125, 0.04, 0.04, 0.025)
    voxels = seen(noisy(depth_image([post, low]))).voxels_m
    for thing in (post, low):
        over = np.abs(voxels[:, :2] - thing.centre_m[:2]).max(axis=1) < thing.size_m[0] / 2 + 0.01
        assert voxels[over, 2].max() > thing.size_m[2] - 0.011, thing


def test_the_noisy_arm_is_no_obstacle_though_it_is_measured_nearer_than_it_is() -> None:
    """Light between links brings the farther one nearer to the camera, here by 3 cm."""
    q = ik.solve(tool_down([0.5, 0.1, 0.12], -np.pi / 2), HOME_Q_RAD[None])[0]
    robot, hand = home_robot(0.08, q), link_poses(q, 0.08)["panda_hand"][:3, 3]
    ray = front_camera().T_base_camera[:3, 3] - hand
    frame = depth_image([box(*hand, 0.03, 0.10, 0.03)])
    arm = frame.depth_m < depth_image([]).depth_m - 0.001
    frame = replace(noisy(frame), depth_m=np.where(arm, frame.depth_m - np.float32(0.03), noisy(frame).depth_m))
    assert arm.sum() > 300
    assert len(seen(frame, robot).voxels_m) == 0
    before_it = box(*(hand + 0.14 * ray / np.linalg.norm(ray)), 0.06, 0.06, 0.06)
    assert len(seen(noisy(depth_image([before_it])), robot).voxels_m) > 20, "a thing in front of the arm stays"


def row(*depths: float) -> F32:
    return np.tile(np.array(depths, np.float32), (5, 1))


@pytest.mark.parametrize(
    ("depths", "bridge"),
    [
        ((1.2, 1.2, 1.23, 1.27, 1.3, 1.3), (0, 0, 1, 1, 0, 0)),
        ((1.3, 1.3, 1.27, 1.23, 1.2, 1.2), (0, 0, 1, 1, 0, 0)),
        ((1.2, 1.2, 1.23, np.nan, 1.3, 1.3), (0, 0, 1, 0, 0, 0)),
        ((1.2, 1.2, 1.2, np.nan, 1.3, 1.3), (0, 0, 0, 0, 0, 0)),
        ((1.3, 1.3, 1.2, 1.3, 1.3, 1.3), (0, 0, 0, 0, 0, 0)),  # a rod
        ((1.2, 1.21, 1.22, 1.23, 1.24, 1.25), (0, 0, 0, 0, 0, 0)),  # a steep surface
    ],
)
def test_bridges_between_surfaces_are_told_from_outlines_rods_and_slopes(
    depths: tuple[float, ...], bridge: tuple[int, ...]
) -> None:
    camera = replace(front_camera(320, 240), K=np.array([[300.0, 0, 3], [0, 300.0, 2.5], [0, 0, 1]]))
    for depth in (row(*depths), row(*depths).T):
        expected = np.tile(np.array(bridge, bool), (5, 1))
        np.testing.assert_array_equal(bridges(depth, camera), expected if depth.shape == (5, 6) else expected.T)
