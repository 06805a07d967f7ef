"""Objects of a rendered scene, and the one point on each that answers refer to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import mujoco
import numpy as np

from stvla_ros.planning.heatmap.words import PALETTE
from stvla_ros.sim.cupboard import FLOOR_M as SHELF_M
from stvla_ros.sim.cupboard import INSIDE_M, Cupboard
from stvla_ros.sim.groceries import BY_NAME, WARES, Grocery
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
    about_z,
)
from stvla_ros.sim.tasks.close_jar import JAR_M, LID_M, Jar, Lid
from stvla_ros.sim.tasks.light_bulb_in import DISH_M, GLASS_M, GLASS_RADIUS_M, MOUTH_M, Bulb, Holder, Lamp
from stvla_ros.types import F64

BOTTLE_M = 0.2

RADII_M = {"block": 0.7072 * BLOCK_M, "plate": PLATE_RADIUS_M, "button": BUTTON_RADIUS_M, "bottle": BOTTLE_RADIUS_M}
"""Radius around the centre that an object occupies on the table."""

_POINT_M = {
    "block": BLOCK_M,
    "plate": PLATE_BASE_M,
    "button": BUTTON_BASE_M + BUTTON_CAP_M,
    "bottle": BOTTLE_M,
    "lid": LID_M,
    "jar": JAR_M,
    "bulb": GLASS_M + GLASS_RADIUS_M,
    "holder": DISH_M,
    "lamp": MOUTH_M,
    "cupboard": SHELF_M,
}

SLOTS = ("jar", "holder", "bulb")
"""Kinds of which a model has :data:`PER_SLOT` bodies to repaint, because those in every colour would be too many."""

PER_SLOT = 2


@dataclass(frozen=True)
class PlacedObject:
    """An object at its place.

    Attributes:
        kind: One of :data:`stvla_ros.planning.heatmap.words.KINDS`.
        colour: One of the 20 named ones; "" for kinds without.
        xyz_m: Its lowest point, in the base frame; for a cupboard below the middle of its front.
        yaw_rad: Rotation about the vertical.
        lying: A grocery item that was put on its side.
    """

    kind: str
    colour: str
    xyz_m: tuple[float, float, float]
    yaw_rad: float = 0.0
    lying: bool = False

    @property
    def origin_m(self) -> tuple[float, float, float]:
        """Origin of the simulator's body: the centre of a block or an item, the lowest point of everything else."""
        x, y, z = self.xyz_m
        return x, y, z + (BLOCK_M / 2 if self.kind == "block" else self.high_m / 2 if self.kind in BY_NAME else 0.0)

    @property
    def quat(self) -> F64:
        """(4,) MuJoCo's quaternion of the simulator's body."""
        turned = about_z(self.yaw_rad)
        if not self.lying:
            return turned
        whole, quarter = np.zeros(4), np.array([1.0, 0.0, 1.0, 0.0]) / np.sqrt(2.0)  # about y: along
        mujoco.mju_mulQuat(whole, turned, quarter)
        return whole

    @property
    def high_m(self) -> float:
        """Height of :attr:`point_m` above the lowest point."""
        if self.kind in BY_NAME:
            return BY_NAME[self.kind].size_m[0 if self.lying else 2]
        return _POINT_M[self.kind]

    @property
    def point_m(self) -> F64:
        """(3,) centre of the surface that a gripper reaches from above: top of a block, a lid, a jar's neck, a bulb or an
        item, cap of a button, floor of a plate, dish of a holder, mouth of a lamp's socket, middle of the bottom shelf."""
        inwards = INSIDE_M[0] / 2 if self.kind == "cupboard" else 0.0
        at = (inwards * np.cos(self.yaw_rad), inwards * np.sin(self.yaw_rad), self.high_m)
        return np.asarray(np.add(self.xyz_m, at), np.float64)


def body_names(objects: Sequence[PlacedObject]) -> list[str]:
    """The simulator's bodies of objects, of which there are at most :data:`PER_SLOT` of a kind of :data:`SLOTS`."""
    used = Counter[str]()
    names = []
    for o in objects:
        if o.kind in SLOTS:
            names.append(f"{PALETTE[used[o.kind]]}_{o.kind}")
            used[o.kind] += 1
        elif o.kind == "cupboard":
            names.append(_CUPBOARDS[o.xyz_m[1] > 0])
        else:
            names.append(f"{o.colour}_{o.kind}" if o.colour else o.kind.replace(" ", "_"))
    return names


_CUPBOARDS = ("right_cupboard", "left_cupboard")


def all_objects() -> list[SceneObject]:
    """Each kind in each colour, once, or in the first colours, to be repainted; a cupboard for either side."""
    nowhere, slots = (0.0, 0.0), PALETTE[:PER_SLOT]
    blocks: list[SceneObject] = [Block(c, nowhere, 0.0) for c in PALETTE]
    buttons = [Button(c, nowhere) for c in PALETTE]
    bottles = [Bottle(c, nowhere, BOTTLE_M) for c in PALETTE]
    lamps: list[SceneObject] = [*(Bulb(c, nowhere) for c in slots), *(Holder(c, nowhere) for c in slots), Lamp(nowhere)]
    jars: list[SceneObject] = [Lid(nowhere), *(Jar(c, nowhere) for c in slots)]
    cupboards = [Cupboard(nowhere, 0.0, side, name) for side, name in zip((1, -1), _CUPBOARDS, strict=True)]
    items = [Grocery(ware, nowhere, 0.0) for ware in WARES]
    return [*blocks, Plate(nowhere), *buttons, *bottles, *lamps, *jars, *cupboards, *items]


def placed(thing: SceneObject) -> PlacedObject:
    """An object of a task as it was laid out."""
    x, y = thing.xy_m
    low = DISH_M if isinstance(thing, Bulb) else 0.0
    kind = thing.ware.name if isinstance(thing, Grocery) else type(thing).__name__.lower()
    return PlacedObject(kind, getattr(thing, "colour", ""), (x, y, low), getattr(thing, "yaw_rad", 0.0))
