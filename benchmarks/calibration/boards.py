"""Calibration on rendered boards: every run has its own camera, poses and noise."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from stvla_ros.calibration.board import Board, BoardConfig
from stvla_ros.calibration.cell import board_in_hand, off_by
from stvla_ros.calibration.poses import PoseConfig, mounted, show_board
from stvla_ros.calibration.solve import Calibration, Sample, calibrate, pose_errors
from stvla_ros.description.panda import HOME_Q_RAD
from stvla_ros.geometry.se3 import pose
from stvla_ros.motion import ik
from stvla_ros.sim.camera import TripodCameraConfig
from stvla_ros.sim.cell import Cell, CellConfig
from stvla_ros.types import U8, Camera, RgbdFrame

LOW_M, HIGH_M = np.array([0.15, -0.65, 0.1]), np.array([0.85, 0.65, 0.9])


@dataclass(frozen=True)
class Noise:
    """What the rendered images and the arm's joints get. Intrinsics are exact.

    Attributes:
        blur_px: Sigma of a Gaussian over the image.
        pixel: Sigma of each colour value, of 255.
        exposure: Brightness varies by this fraction from image to image (sigma).
        joint_offset_rad: Sigma of an error of each joint that stays the same in a run.
        joint_rad: Sigma of an error of each joint that differs from pose to pose.
        guess_m: Length of the error of the camera's rough pose, from which the poses are made.
        guess_rad: Its angle.
        mount_m: Sigma of how the board is held, per axis.
        mount_rad: The same, rotation about each axis.
    """

    blur_px: float = 0.8
    pixel: float = 4.0
    exposure: float = 0.1
    joint_offset_rad: float = 2e-4
    joint_rad: float = 1e-4
    guess_m: float = 0.05
    guess_rad: float = np.radians(3.0)
    mount_m: float = 0.005
    mount_rad: float = np.radians(2.0)


@dataclass(frozen=True, eq=False)
class BoardRun:
    """One run.

    Attributes:
        error_m: Distance of the found camera from the true one.
        error_rad: Angle between them.
        calibration: What was found.
        poses: Poses with a board in view.
    """

    error_m: float
    error_rad: float
    calibration: Calibration
    poses: int


def random_view(rng: np.random.Generator, base: TripodCameraConfig) -> TripodCameraConfig:
    """A tripod in front of the robot, somewhere else."""
    x, y, z = rng.uniform([1.15, -0.35, 0.75], [1.4, 0.35, 1.05])
    tx, ty, tz = rng.uniform([0.33, -0.06, 0.18], [0.45, 0.06, 0.3])
    return replace(base, x_m=x, y_m=y, z_m=z, target_x_m=tx, target_y_m=ty, target_z_m=tz)


def imperfect(rgb: U8, noise: Noise, rng: np.random.Generator) -> U8:
    """An image as a camera would give it."""
    soft = cv2.GaussianBlur(rgb, (0, 0), noise.blur_px).astype(np.float32) if noise.blur_px else rgb
    soft = soft * rng.normal(1.0, noise.exposure) + rng.normal(0.0, noise.pixel, rgb.shape)
    return np.clip(soft, 0, 255).astype(np.uint8)


def make_cell(width_px: int = 1280, height_px: int = 720) -> Cell:
    """A cell with a camera of this size."""
    return Cell(CellConfig(camera=TripodCameraConfig(width_px=width_px, height_px=height_px)))


def take(cell: Cell, seed: int, board: BoardConfig, poses: PoseConfig, noise: Noise) -> tuple[list[Sample], Camera]:
    """Lay out a run and take its samples; also the true camera."""
    rng = np.random.default_rng(seed)
    R = Rotation.from_rotvec(rng.normal(0.0, noise.mount_rad, 3)).as_matrix()
    Y = mounted(board, "edge") @ pose(R, rng.normal(0.0, noise.mount_m, 3))
    cell.reset_to(board_in_hand(board, Y), seed, random_view(rng, cell.config.camera))
    camera = cell.camera
    guess = replace(camera, T_base_camera=off_by(camera.T_base_camera, rng, noise.guess_m, noise.guess_rad))
    ways = show_board(guess, mounted(board, "edge"), board, replace(poses, seed=seed), LOW_M, HIGH_M)
    offset = rng.normal(0.0, noise.joint_offset_rad, 7)
    finder, samples = Board(board), []
    for T in ways[: poses.count]:
        postures = ik.solve(T, ik.seeds(HOME_Q_RAD, 24, rng))
        if not len(postures):
            continue
        q = postures[0]
        cell.set_state(q + offset + rng.normal(0.0, noise.joint_rad, 7), 0.003)
        frame: RgbdFrame = cell.render()
        found = finder.detect(imperfect(frame.rgb, noise, rng))
        if found is not None:
            samples.append(Sample.of(q, found, camera.K))
    return samples, camera


def run_board(cell: Cell, seed: int, board: BoardConfig, poses: PoseConfig, noise: Noise) -> BoardRun:
    """One calibration."""
    samples, camera = take(cell, seed, board, poses, noise)
    found = calibrate(samples, camera.K)
    return BoardRun(*pose_errors(found.T_base_camera, camera.T_base_camera), found, len(samples))
