"""Samples without images: corners projected by a known camera from known joints."""

from dataclasses import replace

import numpy as np

from stvla_ros.calibration.board import BoardConfig, Detection
from stvla_ros.calibration.poses import mounted
from stvla_ros.calibration.solve import Sample
from stvla_ros.description.kinematics import tcp_pose
from stvla_ros.description.panda import HOME_Q_RAD
from stvla_ros.geometry.cameras import project
from stvla_ros.sim.camera import TripodCameraConfig, make_camera

BOARD = BoardConfig()
CAMERA = make_camera(TripodCameraConfig(width_px=1280, height_px=720))
Y = mounted(BOARD, "edge")
SWING_RAD = np.array([0.3, 0.25, 0.3, 0.3, 0.5, 0.5, 0.6])


def corners():
    """(24, 3) corners between the squares."""
    x, y = np.meshgrid(np.arange(1, BOARD.columns), np.arange(1, BOARD.rows))
    grid = np.stack([x.ravel(), y.ravel(), np.zeros(x.size)], axis=1) * BOARD.square_m
    return grid - [*np.array(BOARD.size_m) / 2, 0.0]


def sample(q_rad, rng, px=0.1, joints_rad=0.0, focal=1.0):
    """A sample with noise of the pixels and of the joints; the truth has another focal length than is said."""
    points, T = corners(), tcp_pose(q_rad + rng.normal(0.0, joints_rad, 7)) @ Y
    K = CAMERA.K * np.array([[focal], [focal], [1.0]])
    K[:2, 2] = CAMERA.K[:2, 2]
    found, _ = project(replace(CAMERA, K=K), points @ T[:3, :3].T + T[:3, 3])
    seen = Detection(points, found + rng.normal(0.0, px, found.shape), np.arange(len(points), dtype=np.int32))
    return Sample.of(q_rad, seen, CAMERA.K)


def samples(count=12, seed=0, swing_rad=SWING_RAD, **noise):
    rng = np.random.default_rng(seed)
    return [sample(HOME_Q_RAD + rng.uniform(-1, 1, 7) * swing_rad, rng, **noise) for _ in range(count)]
