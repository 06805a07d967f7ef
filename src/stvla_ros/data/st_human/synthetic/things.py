"""Things for the videos: their names, sizes and places, from the household things of the simulator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from stvla_ros.colours import COLOURS
from stvla_ros.geometry.se3 import pose, rotation_z
from stvla_ros.sim.household import Box, Carton, Finish, Household, Shape, Turned, can, mug
from stvla_ros.sim.textures import Rgb
from stvla_ros.sim.things import BLACKS, GLAZES, KINDS, WHITES, WOODS
from stvla_ros.tabletop.relations import OrientedBox
from stvla_ros.types import F64

CONTAINERS = ("bin", "bowl", "white_bowl", "mug", "pot")
"""Kinds that things can be in."""


@dataclass(frozen=True)
class Lid(Turned):
    """A flat lid with a knob, which is what a hand takes it by."""

    def hulls(self) -> tuple[Box, ...]:
        """Knob and disc."""
        (_, top), (width, _), *_, (radius, disc), _, _ = self.profile_m[1], self.profile_m[2], *self.profile_m
        size = (2 * width, 2 * width, top - 0.026)
        return Box((0.0, 0.0, top - size[2] / 2), size), Box((0.0, 0.0, disc / 2), (2 * radius, 2 * radius, disc))


@dataclass(frozen=True, eq=False)
class Thing:
    """A thing in a video.

    Attributes:
        id: Name of its body, and its id in the truth.
        name: What the sentence calls it.
        kind: What it is.
        item: What is drawn.
        part_of: Id of the thing that it belongs to in the truth, e.g. the cap of a button; None: itself.
    """

    id: str
    name: str
    kind: str
    item: Household
    part_of: str | None = None

    @cached_property
    def points_m(self) -> F64:
        """(V, 3) its surface's corners in its own frame."""
        return self.item.shape.mesh().vertices_m

    @cached_property
    def low_m(self) -> F64:
        """(3,) of its box, in its own frame."""
        return self.points_m.min(axis=0)

    @cached_property
    def high_m(self) -> F64:
        """(3,) of its box, in its own frame."""
        return self.points_m.max(axis=0)

    @property
    def height_m(self) -> float:
        """Of its top."""
        return float(self.high_m[2])

    @property
    def radius_m(self) -> float:
        """Of the circle around its footprint."""
        return float(np.linalg.norm(self.points_m[:, :2], axis=1).max())

    @property
    def container(self) -> bool:
        """Whether things can be in it."""
        return self.kind in CONTAINERS

    def box(self, T_workspace_thing: F64) -> OrientedBox:
        """Its box where it stands."""
        return OrientedBox(
            T_workspace_thing @ pose(np.eye(3), (self.low_m + self.high_m) / 2),
            self.high_m - self.low_m,
            self.container,
        )

    def width_m(self, T_base_thing: F64, at_m: F64, direction: F64, band_m: float = 0.014) -> tuple[float, F64]:
        """How wide it is along a direction at about the height of a point, and the middle of that width.

        Args:
            T_base_thing: Where it stands.
            at_m: (3,) in the base frame.
            direction: (3,) unit vector.
            band_m: Corners further below or above the point do not count, if there are others.
        """
        points = self.points_m @ T_base_thing[:3, :3].T + T_base_thing[:3, 3]
        near = np.abs(points[:, 2] - at_m[2]) < band_m
        across = points[near if near.sum() > 8 else slice(None)] @ direction
        low, high = float(across.min()), float(across.max())
        middle: F64 = at_m + ((low + high) / 2 - at_m @ direction) * direction
        return high - low, middle


Maker = Callable[[np.random.Generator], tuple[Shape, Finish]]


def _finish(rng: np.random.Generator, pattern: str, colours: Sequence[Rgb], gloss: float = 0.3) -> Finish:
    return Finish(pattern, colours[int(rng.integers(len(colours)))], gloss, seed=int(rng.integers(1 << 31)))


def _box(pattern: str, colours: Sequence[Rgb], low: Sequence[float], high: Sequence[float]) -> Maker:
    def make(rng: np.random.Generator) -> tuple[Shape, Finish]:
        x, y, z = (float(edge) for edge in rng.uniform(low, high))
        return Carton((x, y, z)), _finish(rng, pattern, colours)

    return make


def _block(rng: np.random.Generator) -> tuple[Shape, Finish]:
    edge = float(rng.uniform(0.038, 0.05))
    return Carton((edge, edge, edge)), _finish(rng, "paint", list(COLOURS.values()))


def _cup(rng: np.random.Generator) -> tuple[Shape, Finish]:
    return mug(rng.uniform(0.034, 0.04), rng.uniform(0.095, 0.115), False), _finish(
        rng, "paint", (*GLAZES, *WHITES), 0.6
    )


def _tin(rng: np.random.Generator) -> tuple[Shape, Finish]:
    return can(rng.uniform(0.03, 0.039), rng.uniform(0.10, 0.125)), _finish(rng, "prints", (*GLAZES, *WHITES), 0.5)


def _pot(rng: np.random.Generator) -> tuple[Shape, Finish]:
    return mug(rng.uniform(0.065, 0.08), rng.uniform(0.06, 0.085), False), _finish(
        rng, "paint", (*GLAZES, *WHITES), 0.7
    )


def lid_for(pot: Shape) -> Lid:
    """A lid that covers a pot."""
    r = pot.radius_m + 0.004
    knob = [(0.0, 0.042), (0.013, 0.042), (0.017, 0.036), (0.017, 0.028), (0.009, 0.022), (0.009, 0.010)]
    return Lid(tuple((float(a), float(b)) for a, b in [*knob, (r, 0.006), (r, 0.0), (0.0, 0.0)]))


def _dial(rng: np.random.Generator) -> tuple[Shape, Finish]:
    return can(rng.uniform(0.024, 0.031), rng.uniform(0.03, 0.042)), _finish(rng, "prints", (*GLAZES, *WHITES), 0.4)


def _button(rng: np.random.Generator) -> tuple[Shape, Finish]:
    return can(rng.uniform(0.036, 0.046), 0.025), _finish(rng, "paint", (BLACKS[1], (0.24, 0.25, 0.28), WHITES[0]), 0.2)


def _cap(rng: np.random.Generator) -> tuple[Shape, Finish]:
    return can(0.022, 0.014), _finish(rng, "paint", list(COLOURS.values()), 0.3)


MAKERS: dict[str, Maker] = {
    **{kind: KINDS[kind] for kind in ("bowl", "white_bowl", "carton", "flask", "fruit", "bin", "mug", "can", "tray")},
    "block": _block, "cup": _cup, "tin": _tin, "pot": _pot, "dial": _dial, "button": _button, "cap": _cap,
    "board": _box("veneer", WOODS, (0.15, 0.19, 0.012), (0.19, 0.25, 0.02)),
    "book": _box("prints", (*GLAZES, *WHITES), (0.12, 0.16, 0.018), (0.16, 0.21, 0.035)),
    "sponge": _box("weave", GLAZES, (0.055, 0.08, 0.028), (0.065, 0.10, 0.036)),
}  # fmt: skip

_SAID = {"white_bowl": "bowl", "tin": "can", "flask": "bottle", "carton": "box"}


def colour_name(rgb: Rgb) -> str:
    """The nearest of the 20 colours."""
    return min(COLOURS, key=lambda name: float(np.linalg.norm(np.subtract(COLOURS[name], rgb))))


def make(kind: str, id_: str, rng: np.random.Generator) -> Thing:
    """A random thing of a kind."""
    shape, finish = MAKERS[kind](rng)
    finish = replace(finish, opacity=1.0)  # what one sees through has no depth of its own: another room's subject
    said = f"{colour_name(finish.rgb)} {_SAID.get(kind, kind)}"
    return Thing(id_, said, kind, Household(id_, shape, finish, (0.0, 0.0)))


def stood(xy_m: F64, z_m: float = 0.0, yaw_rad: float = 0.0) -> F64:
    """(4, 4) pose of a thing that stands somewhere."""
    return pose(rotation_z(yaw_rad), [float(xy_m[0]), float(xy_m[1]), z_m])
