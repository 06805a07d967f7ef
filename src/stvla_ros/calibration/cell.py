"""The arm and the camera that ``stvla calibrate`` works with, and the simulated ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial.transform import Rotation

from stvla_ros.calibration.board import Board, BoardConfig
from stvla_ros.calibration.session import Look, SessionConfig, at_rest
from stvla_ros.data.recording import RecordedFrame
from stvla_ros.errors import CancelToken
from stvla_ros.geometry.se3 import pose
from stvla_ros.interfaces import Robot
from stvla_ros.robot.sim import SimRobot
from stvla_ros.sim.board import BoardInHand, HeldBoard
from stvla_ros.sim.cell import Cell, CellConfig
from stvla_ros.sim.tasks import make_task
from stvla_ros.types import F64, Camera

WIDTH_PX, HEIGHT_PX = 1280, 720
PAPER_M = 0.007
"""White paper around the pattern."""

TEXTURE_PX_PER_M = 5000.0
SETTLE_S = 0.5
GUESS_OFF_M, GUESS_OFF_RAD = 0.03, np.radians(2.0)


@dataclass(frozen=True, eq=False)
class CalibrationArm:
    """An arm and its camera.

    Attributes:
        robot: Moves.
        look: Takes an image at rest, with the state of the arm.
        camera: With its pose as far as it is known.
        session: Names of the frames.
        cancel: Stops the arm when set.
        truth: (4, 4) the simulated camera's pose.
    """

    robot: Robot
    look: Look
    camera: Camera
    session: SessionConfig
    cancel: CancelToken
    truth: F64 | None = None


def board_in_hand(board: BoardConfig, T_tcp_board: F64) -> BoardInHand:
    """A task of the cell: this board in the hand, with a margin of white paper."""
    w, h = board.size_m
    picture = Board(board).picture(TEXTURE_PX_PER_M, PAPER_M)
    return BoardInHand(HeldBoard(picture, (w + 2 * PAPER_M, h + 2 * PAPER_M), T_tcp_board))


def off_by(T: F64, rng: np.random.Generator, distance_m: float, angle_rad: float) -> F64:
    """A pose that is off by exactly this distance and angle, in random directions."""
    way, axis = (v / np.linalg.norm(v) for v in rng.normal(size=(2, 3)))
    return pose(Rotation.from_rotvec(angle_rad * axis).as_matrix() @ T[:3, :3], T[:3, 3] + distance_m * way)


@contextmanager
def simulated_arm(config: CellConfig, board: tuple[BoardConfig, F64] | None, seed: int) -> Iterator[CalibrationArm]:
    """The cell with a noisy camera of 1280x720.

    With a board, its transform is off by 3 cm and 2 deg, as an operator's guess may be; without one, it is right and
    there is a task on the table.

    Args:
        config: Of the cell.
        board: What is in the hand, and (4, 4) ``T_tcp_board``.
        seed: Decides the error of the transform and the noise.
    """
    view = replace(config.camera, width_px=WIDTH_PX, height_px=HEIGHT_PX)
    cell = Cell(replace(config, camera=view, sensor=replace(config.sensor, enabled=True)))
    try:
        truth = known = cell.camera.T_base_camera
        if board is None:
            cell.reset_to(make_task("pick_place", seed, -1), seed)
        else:
            known = off_by(truth, np.random.default_rng(seed), GUESS_OFF_M, GUESS_OFF_RAD)
            cell.reset_to(board_in_hand(*board), seed)
            cell.set_state(cell.state().q_rad, 0.004)
        robot, camera = SimRobot(cell), replace(cell.camera, T_base_camera=known)
        yield CalibrationArm(robot, _look(cell, camera), camera, SessionConfig(), CancelToken(), truth)
    finally:
        cell.close()


def _look(cell: Cell, camera: Camera) -> Callable[[], RecordedFrame]:
    def look() -> RecordedFrame:
        cell.advance(SETTLE_S)
        taken = at_rest(cell.render, cell.state)
        return replace(taken, frame=replace(taken.frame, camera=camera))

    return look
