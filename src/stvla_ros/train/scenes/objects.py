"""Objects of a rendered scene, and the one point on each that answers refer to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stvla_ros.planning.heatmap.words import PALETTE
from stvla_ros.sim.objects import (
    BLOCK_M,
    BOTTLE_RADIUS_M,
    BUTTON_BASE_M,
    BUTTON_CAP_M,
    BUTTON_RADIUS_M,
    PLATE_BASE_M,
    PLATE_RADIUS_M,
    Block,
    Bottle,
    Button,
    Plate,
    SceneObject,
)
from stvla_ros.types import F64

BOTTLE_M = 0.2

RADII_M = {"block": 0.7072 * BLOCK_M, "plate": PLATE_RADIUS_M, "button": BUTTON_RADIUS_M, "bottle": BOTTLE_RADIUS_M}
"""Radius around the centre that an object occupies on the table."""

_POINT_M = {
    "block": BLOCK_M,
    "plate": PLATE_BASE_M,
    "button": BUTTON_BASE_M + BUTTON_CAP_M,
    "bottle": BOTTLE_M,
}


@dataclass(frozen=True)
class PlacedObject:
    """An object at its place.

    Attributes:
        kind: One of :data:`stvla_ros.planning.heatmap.words.KINDS`.
        colour: One of the 20 named ones; "" for the plate.
        xyz_m: Its lowest point, in the base frame.
        yaw_rad: Rotation about the vertical.
    """

    kind: str
    colour: str
    xyz_m: tuple[float, float, float]
    yaw_rad: float = 0.0

    @property
    def name(self) -> str:
        """Name of the simulator's body."""
        return f"{self.colour}_{self.kind}" if self.colour else self.kind

    @property
    def origin_m(self) -> tuple[float, float, float]:
        """Origin of the simulator's body: the centre of a block, the lowest point of everything else."""
        x, y, z = self.xyz_m
        return x, y, z + (BLOCK_M / 2 if self.kind == "block" else 0.0)

    @property
    def point_m(self) -> F64:
        """(3,) centre of the surface that a gripper reaches from above: top of a block, cap of a button, floor of a
        plate, top of a bottle."""
        return np.add(self.xyz_m, (0.0, 0.0, _POINT_M[self.kind]))


def all_objects() -> list[SceneObject]:
    """Each kind in each colour, once, ordered by kind and colour."""
    nowhere = (0.0, 0.0)
    blocks: list[SceneObject] = [Block(c, nowhere, 0.0) for c in PALETTE]
    buttons = [Button(c, nowhere) for c in PALETTE]
    bottles = [Bottle(c, nowhere, BOTTLE_M) for c in PALETTE]
    return [*blocks, Plate(nowhere), *buttons, *bottles]
