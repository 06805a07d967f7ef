"""Poses of the arm that show the board to the camera from many sides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from stvla_ros.calibration.board import BoardConfig
from stvla_ros.calibration.solve import CalibrationError
from stvla_ros.config import param
from stvla_ros.description.panda import HOME_Q_RAD
from stvla_ros.description.robot import PANDA, ArmLimits
from stvla_ros.geometry.cameras import back_project, project
from stvla_ros.geometry.se3 import inverse, pose
from stvla_ros.motion import ik
from stvla_ros.types import F64, Camera

GRIP_M = 0.02
"""Part of the board between the fingers, above the pattern."""

TRIES, SEEDS = 1500, 6
CANDIDATES_PER_POSE = 6
"""From so many postures for each wanted one, the most different ones are chosen."""

APART_M, APART_RAD = 0.15, 0.35
"""Differences of place and of orientation that count as much."""


@dataclass(frozen=True)
class PoseConfig:
    """Where the board is shown. The speed belongs to the motion planner."""

    count: int = param(18, "poses to take", ge=8, le=100)
    near_m: float = param(0.55, "smallest distance of the board from the camera [m]", ge=0.2, le=2.0)
    far_m: float = param(1.15, "largest distance [m]", ge=0.3, le=3.0)
    tilt_deg: float = param(30.0, "largest tilt of the board out of the image plane [deg]", ge=10.0, le=50.0)
    roll_deg: float = param(25.0, "largest rotation of the board in the image plane [deg]", ge=0.0, le=90.0)
    floor_m: float = param(0.06, "no corner of the board comes lower above the table [m]", ge=0.0, le=0.5)
    seed: int = param(0, "another number gives other poses", ge=0)


def mounted(board: BoardConfig, mount: str) -> F64:
    """(4, 4) ``T_tcp_board``, roughly, of a board that is held in a usual way.

    Args:
        board: Its size counts.
        mount: ``edge``: the fingers hold its upper edge, the pattern hangs below and faces the tool's y axis;
            ``plate``: it is fixed across the hand's axis, 5 cm beyond the fingertips, and faces away from the hand.
    """
    height = board.size_m[1]
    if mount == "edge":
        return pose(np.column_stack([[1, 0, 0], [0, 0, 1], [0, -1, 0]]), [0.0, 0.0, GRIP_M + height / 2])
    return pose(np.column_stack([[0, 1, 0], [1, 0, 0], [0, 0, -1]]), [0.0, 0.0, 0.05])


MOUNTS = ("edge", "plate")


def show_board(
    camera: Camera, T_tcp_board: F64, board: BoardConfig, config: PoseConfig, low_m: F64, high_m: F64,
    start_rad: F64 = HOME_Q_RAD, arm: ArmLimits = PANDA,
) -> list[F64]:  # fmt: skip
    """Tool poses that show the board, as different as possible, in an order of short ways.

    Args:
        camera: Its pose need only be about right: the board stays away from the image's edge.
        T_tcp_board: (4, 4) how the board is held, roughly.
        board: Its size.
        config: Settings.
        low_m: (3,) lowest corner of the tool's workspace, base frame.
        high_m: (3,) highest corner.
        start_rad: (7,) where the arm is.
        arm: Range of its joints.

    Returns:
        (4, 4) ``T_base_tcp``; up to ``config.count`` plus a third, for those to which no path is found.

    Raises:
        CalibrationError: The arm can hold the board into hardly any part of the camera's view.
    """
    rng = np.random.default_rng(config.seed)
    wanted = config.count + config.count // 3
    poses: list[F64] = []
    postures: list[F64] = []
    for _ in range(TRIES):
        if len(poses) >= CANDIDATES_PER_POSE * wanted:
            break
        T = _seen_pose(camera, board, config, rng)
        tool = T @ inverse(T_tcp_board)
        inside = ((tool[:3, 3] >= low_m) & (tool[:3, 3] <= high_m)).all()
        if T is None or not inside or _corners(T, board)[:, 2].min() < config.floor_m:
            continue
        found = ik.solve(tool, ik.seeds(HOME_Q_RAD, SEEDS, rng, arm), arm=arm)
        if len(found):
            poses.append(tool)
            postures.append(found[0])
    if len(poses) < config.count:
        raise CalibrationError(
            f"The arm can show the board to the camera in {len(poses)} poses only (wanted {config.count}): is the camera's "
            "rough pose right (--guess), is the board held as --mount says, does the camera see the workspace?"
        )
    chosen = _most_different(poses, wanted)
    return [poses[i] for i in _short_way(np.array([postures[i] for i in chosen]), start_rad, chosen)]


def _seen_pose(camera: Camera, board: BoardConfig, config: PoseConfig, rng: np.random.Generator) -> F64:
    """(4, 4) ``T_base_board`` at a random place of the view, its side towards the camera."""
    size = np.array([camera.width_px, camera.height_px])
    while True:
        px, depth = rng.uniform(0.1, 0.9, 2) * size, rng.uniform(config.near_m, config.far_m)
        around = rng.uniform(0.0, 2 * np.pi)
        tilt = np.radians(config.tilt_deg) * np.sqrt(rng.uniform()) * np.array([np.cos(around), np.sin(around), 0.0])
        roll = np.radians(config.roll_deg) * rng.uniform(-1.0, 1.0)
        R = Rotation.from_rotvec(tilt) * Rotation.from_rotvec([0.0, 0.0, roll])
        T = pose(camera.T_base_camera[:3, :3] @ R.as_matrix(), back_project(camera, px, depth))
        corners, _ = project(camera, _corners(T, board))
        if (corners > 0.05 * size).all() and (corners < 0.95 * size).all():  # False for NaN
            return T


def _corners(T: F64, board: BoardConfig) -> F64:
    """(4, 3) the pattern's corners at a pose."""
    half = np.array([*board.size_m, 0.0]) / 2
    signs = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]])
    return np.asarray((signs * half) @ T[:3, :3].T + T[:3, 3])


def _most_different(poses: Sequence[F64], count: int) -> list[int]:
    """Indices of poses far apart in place and orientation: each next one is the furthest from those before."""
    R = Rotation.from_matrix([T[:3, :3] for T in poses])
    features = np.hstack([np.array([T[:3, 3] for T in poses]) / APART_M, (R.mean().inv() * R).as_rotvec() / APART_RAD])
    chosen = [int(np.argmax(np.linalg.norm(features - features.mean(axis=0), axis=1)))]
    nearest = np.full(len(poses), np.inf)
    while len(chosen) < min(count, len(poses)):
        nearest = np.minimum(nearest, np.linalg.norm(features - features[chosen[-1]], axis=1))
        chosen.append(int(np.argmax(nearest)))
    return chosen


def _short_way(postures: F64, start_rad: F64, names: Sequence[int]) -> list[int]:
    """The names of postures in an order in which each next one is the nearest; the chosen number stays first."""
    left, order, here = list(range(len(names))), [], start_rad
    while left:
        i = min(left, key=lambda k: float(np.linalg.norm(postures[k] - here)))
        left.remove(i)
        order.append(names[i])
        here = postures[i]
    return order
