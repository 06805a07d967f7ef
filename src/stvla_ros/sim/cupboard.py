"""A cupboard on the table: open in front and at one side, so that a camera beside it sees what is inside."""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np

from stvla_ros.sim.objects import about_z
from stvla_ros.types import F64

FLOOR_M = 0.15
"""Height of its bottom shelf above the table."""

INSIDE_M = (0.24, 0.36, 0.50)
"""Free space above the bottom shelf: depth, width, height. The hand is 0.20 m wide and comes in tilted. Below a lower top
the camera, which looks down, would not see where the hand goes in."""

SIDE_M = 0.12
"""The one side begins this far behind the front: before it the forearm passes."""

BOARD_M = 0.012
_RGB = (0.50, 0.60, 0.64)
_PLINTH_RGB = (0.36, 0.43, 0.46)


@dataclass(frozen=True)
class Cupboard:
    """Boards that are fixed to the table. In its frame x points in, z up; the origin lies below its front's middle.

    Attributes:
        xy_m: Middle of its front.
        yaw_rad: Direction that points in.
        open_side: -1: it has no board at its right side, seen from its front; 1: at its left side.
    """

    xy_m: tuple[float, float]
    yaw_rad: float
    open_side: int
    name: str = "cupboard"

    @property
    def clearance_m(self) -> float:
        return float(np.hypot(INSIDE_M[0], INSIDE_M[1]) / 2) + BOARD_M

    @property
    def boards(self) -> tuple[tuple[tuple[float, float, float], tuple[float, float, float]], ...]:
        """Middle and edges of each board, in its frame; the first one is the plinth with the bottom shelf."""
        depth, width, height = INSIDE_M
        deep, wide, top = depth + BOARD_M, width + 2 * BOARD_M, FLOOR_M + height
        side = -self.open_side * (width + BOARD_M) / 2
        return (
            ((deep / 2, 0.0, FLOOR_M / 2), (deep, wide, FLOOR_M)),
            ((deep / 2, 0.0, top + BOARD_M / 2), (deep, wide, BOARD_M)),
            ((depth + BOARD_M / 2, 0.0, FLOOR_M + height / 2), (BOARD_M, wide, height)),
            (((depth + SIDE_M) / 2, side, FLOOR_M + height / 2), (depth - SIDE_M, BOARD_M, height)),
        )

    def add(self, spec: mujoco.MjSpec) -> None:
        body = spec.worldbody.add_body(name=self.name, pos=[*self.xy_m, 0.0], quat=about_z(self.yaw_rad))
        if spec.material("cupboard") is None:
            spec.add_material(name="cupboard", rgba=[*_RGB, 1.0], specular=0.1, shininess=0.2)
        for centre, size in self.boards:
            half = [edge / 2 for edge in size]
            body.add_geom(
                type=mujoco.mjtGeom.mjGEOM_BOX, pos=centre, size=half, material="cupboard", friction=[0.6, 0.005, 0.001]
            )


def depth_inside_m(points_m: F64, T_base_cupboard: F64) -> F64:
    """(N,) how far (N, 3) points in the base frame are inside the space above the bottom shelf; negative outside."""
    depth, width, height = INSIDE_M
    local = (points_m - T_base_cupboard[:3, 3]) @ T_base_cupboard[:3, :3]
    low, high = np.array([0.0, -width / 2, FLOOR_M]), np.array([depth, width / 2, FLOOR_M + height])
    return np.asarray(np.minimum(local - low, high - local).min(axis=1))
