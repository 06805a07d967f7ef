"""A printed board in the simulated hand: a thin plate with a picture, for calibration."""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np

from stvla_ros.description.panda import TCP_LINK
from stvla_ros.sim.textures import add_texture
from stvla_ros.sim.world import World
from stvla_ros.types import F64, U8

PLATE_M = 0.003
_FLIP = np.diag([1.0, -1.0, -1.0])  # a box shows its texture upright towards +z, with y up


@dataclass(frozen=True, eq=False)
class HeldBoard:
    """Fixed to the tool; it collides with nothing, because a real one is held where it does not.

    Attributes:
        picture: (H, W) grey, drawn over the whole plate.
        size_m: Width and height of the plate.
        T_tcp_board: (4, 4) middle of the picture: x right, y down, z into the plate.
    """

    picture: U8
    size_m: tuple[float, float]
    T_tcp_board: F64
    name: str = "board"
    xy_m: tuple[float, float] = (0.0, 0.0)
    clearance_m: float = 0.0

    def add(self, spec: mujoco.MjSpec) -> None:
        roles = add_texture(spec, "board", np.repeat(self.picture[..., None], 3, axis=2))
        spec.add_material(name="board", textures=roles, specular=0.05, shininess=0.1)
        T = self.T_tcp_board
        quat = np.zeros(4)
        mujoco.mju_mat2Quat(quat, (T[:3, :3] @ _FLIP).ravel())
        behind = T[:3, 3] + (PLATE_M / 2) * T[:3, 2]  # the picture itself lies in the board's plane
        body = spec.body(TCP_LINK).add_body(name=self.name, pos=behind, quat=quat)
        body.gravcomp = 1.0
        body.add_geom(
            type=mujoco.mjtGeom.mjGEOM_BOX,
            size=[self.size_m[0] / 2, self.size_m[1] / 2, PLATE_M / 2],
            material="board",
            mass=0.05,
            contype=0,
            conaffinity=0,
            group=1,
        )


@dataclass(frozen=True)
class BoardInHand:
    """A task of :class:`stvla_ros.sim.cell.Cell` with a board in the hand and nothing on the table."""

    board: HeldBoard
    instruction: str = "Calibrate the camera."
    hold_s: float = 0.0

    @property
    def objects(self) -> tuple[HeldBoard, ...]:
        return (self.board,)

    def watch(self, world: World) -> None:
        """Nothing is scored."""

    def problem(self, world: World) -> str:
        """Nothing is missing."""
        return ""
