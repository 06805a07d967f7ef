"""The check without a board: rendered arms, seen by a camera whose transform is off by a known drift."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from benchmarks.calibration.boards import Noise, random_view
from stvla_ros.calibration.cell import off_by
from stvla_ros.calibration.drift import WORKPLACE_M, Drift, measure
from stvla_ros.description.kinematics import tcp_pose
from stvla_ros.description.panda import HOME_Q_RAD
from stvla_ros.geometry.se3 import inverse
from stvla_ros.sim.cell import Cell, CellConfig
from stvla_ros.sim.sensor import SensorConfig
from stvla_ros.sim.tasks import BASIC_TASKS, make_task
from stvla_ros.types import F64, RgbdFrame, RobotState

SWING_RAD = 0.4
"""Joints differ from home by at most this much."""


@dataclass(frozen=True, eq=False)
class ArmRun:
    """One run.

    Attributes:
        drift: What was measured.
        true_shift_m: How far the workplace really appears to be off.
        true_rad: Angle by which the transform is really off.
    """

    drift: Drift
    true_shift_m: float
    true_rad: float


def make_noisy_cell(width_px: int = 640, height_px: int = 480) -> Cell:
    """A cell with the default depth camera's defects on (``sim.cell.sensor``)."""
    cell = Cell(CellConfig(sensor=SensorConfig(enabled=True)))
    camera = replace(cell.config.camera, width_px=width_px, height_px=height_px)
    cell.reset_to(make_task("pick_place", 0, -1), 0, camera)
    return cell


def take_views(cell: Cell, seed: int, postures: int, noise: Noise) -> list[tuple[RgbdFrame, RobotState]]:
    """Images of some postures, with the true transform and joints that are a little off."""
    rng = np.random.default_rng(seed)
    task = sorted(BASIC_TASKS)[seed % len(BASIC_TASKS)]
    cell.reset_to(make_task(task, seed, -1), seed, random_view(rng, cell.config.camera))
    offset, views = rng.normal(0.0, noise.joint_offset_rad, 7), []
    for i in range(postures):
        q = HOME_Q_RAD + (rng.uniform(-SWING_RAD, SWING_RAD, 7) if i else 0.0)
        cell.advance(0.01)  # the noise of an image depends on its stamp
        cell.set_state(q + offset + rng.normal(0.0, noise.joint_rad, 7), 0.08)
        state = RobotState(q, np.zeros(7), tcp_pose(q), 0.08, cell.time_ns)
        views.append((cell.render(), state))
    return views


def run_arm(views: list[tuple[RgbdFrame, RobotState]], seed: int, distance_m: float, angle_rad: float) -> ArmRun:
    """Measure with a transform that is off by this distance (of the camera) and angle, in random directions."""
    truth = views[0][0].camera.T_base_camera
    wrong = off_by(truth, np.random.default_rng([seed, 1]), distance_m, angle_rad)
    drifted = [(replace(f, camera=replace(f.camera, T_base_camera=wrong)), s) for f, s in views]
    return ArmRun(measure(drifted), _shift(truth @ inverse(wrong)), angle_rad)


def _shift(D: F64) -> float:
    return float(np.linalg.norm((D @ [*WORKPLACE_M, 1.0])[:3] - WORKPLACE_M))
