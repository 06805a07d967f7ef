"""Household things that stand on a table and are hard to see: bowls, mugs, glasses, bins, trays, cables, cloths.

They are fixed to the table, so that a still scene stays still; the robot runs into them. Their masks and surfaces are
known to the simulator as those of all objects are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import mujoco
import numpy as np

from stvla_ros.sim.meshes import Mesh, cuboid, joined, sheet, tub, tube, turned
from stvla_ros.sim.objects import about_z
from stvla_ros.sim.textures import Rgb, add_texture, cloudy, texture
from stvla_ros.types import F64

CLOTH_M = 0.0015
"""Thickness of a cloth."""

_TEXTURE_PX = 256
_COLLISION = {"group": 3, "rgba": [0.5, 0.5, 0.5, 0.0]}
_SEEN = {"contype": 0, "conaffinity": 0, "group": 1}


@dataclass(frozen=True)
class Finish:
    """What a surface looks like.

    Attributes:
        pattern: One of :data:`stvla_ros.sim.textures.PATTERNS`.
        rgb: Its main colour.
        gloss: 0 is matt, 1 a mirror-like highlight.
        opacity: 1 is opaque.
        seed: Decides the pattern.
    """

    pattern: str
    rgb: Rgb
    gloss: float = 0.1
    opacity: float = 1.0
    seed: int = 0

    def add(self, spec: mujoco.MjSpec, name: str) -> None:
        """Add it to a model as a material."""
        roles = add_texture(spec, name, texture(self.pattern, self.seed, _TEXTURE_PX, self.rgb))
        spec.add_material(
            name=name,
            textures=roles,
            rgba=[1, 1, 1, self.opacity],
            specular=self.gloss,
            shininess=0.2 + 0.7 * self.gloss,
        )


@dataclass(frozen=True)
class Box:
    """An upright box that the robot runs into: middle, edges and turn about z, in the thing's frame."""

    centre_m: tuple[float, float, float]
    size_m: tuple[float, float, float]
    yaw_rad: float = 0.0


class Shape(Protocol):
    """The outline of a thing that stands on z = 0, with its middle at the origin."""

    def mesh(self) -> Mesh:
        """What is seen."""
        ...

    def hulls(self) -> tuple[Box, ...]:
        """What the robot runs into; the space inside a hollow thing is free."""
        ...

    @property
    def radius_m(self) -> float:
        """Of the circle around it."""
        ...


@dataclass(frozen=True)
class Turned:
    """A round thing.

    Attributes:
        profile_m: Radius and height from the middle of the top surface over the rim to the middle of the underside.
        handle_m: How far a handle stands out; 0: none.
    """

    profile_m: tuple[tuple[float, float], ...]
    handle_m: float = 0.0

    def mesh(self) -> Mesh:
        body = turned(self.profile_m)
        return joined([body, self._handle()]) if self.handle_m else body

    def _handle(self) -> Mesh:
        angle = np.linspace(-0.5 * np.pi, 0.5 * np.pi, 12)
        radius, height = self._wall_m, self._height_m
        x, z = radius - 0.002 + self.handle_m * np.cos(angle), height / 2 + 0.3 * height * np.sin(angle)
        return tube(np.stack([x, np.zeros_like(x), z], axis=1), 0.0045)

    def hulls(self) -> tuple[Box, ...]:
        pieces, wall = 16, 0.004
        radius, height = self._wall_m, self._height_m
        width = 2 * np.pi * radius / pieces
        angles = np.linspace(0, 2 * np.pi, pieces, endpoint=False)
        return tuple(
            Box((radius * np.cos(a), radius * np.sin(a), height / 2), (wall, width, height), float(a)) for a in angles
        )

    @property
    def _wall_m(self) -> float:
        return max(r for r, _ in self.profile_m)

    @property
    def _height_m(self) -> float:
        return max(z for _, z in self.profile_m)

    @property
    def radius_m(self) -> float:
        return self._wall_m + self.handle_m


@dataclass(frozen=True)
class Carton:
    """A closed box."""

    size_m: tuple[float, float, float]

    def mesh(self) -> Mesh:
        return cuboid(self.size_m, (0, 0, self.size_m[2] / 2), 6)

    def hulls(self) -> tuple[Box, ...]:
        return (Box((0, 0, self.size_m[2] / 2), self.size_m),)

    @property
    def radius_m(self) -> float:
        return float(np.hypot(*self.size_m[:2]) / 2)


@dataclass(frozen=True)
class Tub:
    """An open box: a bin, or a tray where it is low. The robot reaches inside, and things stand in it on the table."""

    size_m: tuple[float, float, float]
    wall_m: float = 0.004

    def mesh(self) -> Mesh:
        return tub(self.size_m, self.wall_m)

    def hulls(self) -> tuple[Box, ...]:
        (x, y, z), wall = self.size_m, self.wall_m
        across = (Box((s * (x - wall) / 2, 0.0, z / 2), (wall, y, z)) for s in (-1, 1))
        along = (Box((0.0, s * (y - wall) / 2, z / 2), (x, wall, z)) for s in (-1, 1))
        return (*across, *along)

    @property
    def radius_m(self) -> float:
        return float(np.hypot(*self.size_m[:2]) / 2)


@dataclass(frozen=True)
class Cable:
    """A cable in loose bends."""

    length_m: float
    thickness_m: float
    seed: int

    def mesh(self) -> Mesh:
        return tube(self._line(), self.thickness_m / 2)

    def _line(self) -> F64:
        rng, step = np.random.default_rng([self.seed, 0xCA]), 0.006
        count = int(self.length_m / step)
        waves = sum(
            a * np.sin(k * np.linspace(0, np.pi, count) + p)
            for k, a, p in rng.uniform([1, 0.4, 0], [5, 1.4, 6.3], (3, 3))
        )
        heading = rng.uniform(0, 2 * np.pi) + np.asarray(waves)
        xy = step * np.cumsum(np.stack([np.cos(heading), np.sin(heading)], axis=1), axis=0)
        xy -= (xy.min(axis=0) + xy.max(axis=0)) / 2
        return np.column_stack([xy, np.full(count, self.thickness_m / 2)])

    def hulls(self) -> tuple[Box, ...]:
        return ()

    @property
    def radius_m(self) -> float:
        return float(np.linalg.norm(self._line()[:, :2], axis=1).max())


@dataclass(frozen=True)
class Cloth:
    """A cloth with folds of up to ``fold_m``."""

    size_m: tuple[float, float]
    fold_m: float
    seed: int

    def mesh(self) -> Mesh:
        rng = np.random.default_rng([self.seed, 0xC1])
        folds = np.abs(cloudy(rng, 48, (1, 1), 2))
        return sheet(CLOTH_M + self.fold_m * np.clip(1.0 - folds / 1.2, 0.0, 1.0) ** 2, self.size_m)

    def hulls(self) -> tuple[Box, ...]:
        return ()

    @property
    def radius_m(self) -> float:
        return float(np.hypot(*self.size_m) / 2)


@dataclass(frozen=True)
class Household:
    """A thing of a shape and a finish, fixed to the table.

    Attributes:
        name: Of its body.
        shape: Its outline.
        finish: Of its surface.
        xy_m: Its middle.
        yaw_rad: Turn about z.
        z_m: Height of what it stands on.
    """

    name: str
    shape: Shape
    finish: Finish
    xy_m: tuple[float, float]
    yaw_rad: float = 0.0
    z_m: float = 0.0

    @property
    def clearance_m(self) -> float:
        return self.shape.radius_m

    def add(self, spec: mujoco.MjSpec) -> None:
        self.finish.add(spec, self.name)
        self.shape.mesh().add(spec, self.name)
        body = spec.worldbody.add_body(name=self.name, pos=[*self.xy_m, self.z_m], quat=about_z(self.yaw_rad))
        body.add_geom(type=mujoco.mjtGeom.mjGEOM_MESH, meshname=self.name, material=self.name, mass=0.0, **_SEEN)
        for box in self.shape.hulls():
            half = [edge / 2 for edge in box.size_m]
            body.add_geom(
                type=mujoco.mjtGeom.mjGEOM_BOX, pos=box.centre_m, quat=about_z(box.yaw_rad), size=half,
                friction=[0.8, 0.01, 0.001], **_COLLISION,
            )  # fmt: skip


def bowl(radius_m: float, height_m: float, wall_m: float = 0.004) -> Turned:
    """A round bowl with a foot: its inside is half an ellipse."""
    angle = np.linspace(0.0, np.pi / 2, 12)
    inside = [(radius_m * np.sin(a), wall_m + (height_m - wall_m) * (1 - np.cos(a))) for a in angle]
    outside = [((radius_m + wall_m) * np.sin(a), 0.006 + (height_m - 0.006) * (1 - np.cos(a))) for a in angle[:3:-1]]
    foot = outside[-1][0]
    return Turned(_floats([*inside, *outside, (foot, 0.0), (0.0, 0.0)]))


def mug(radius_m: float, height_m: float, handle: bool = True) -> Turned:
    """A cup with a straight wall."""
    wall, r = 0.0035, radius_m
    inside = [(0.0, 0.005), (r - wall - 0.006, 0.005), (r - wall, 0.011)]
    inside += [(r - wall, 0.011 + s * (height_m - 0.011)) for s in (0.33, 0.66, 1.0)]
    outside = [(r, s * height_m) for s in (1.0, 0.75, 0.5, 0.25)] + [(r - 0.003, 0.0), (0.0, 0.0)]
    return Turned(_floats([*inside, *outside]), 0.028 if handle else 0.0)


def can(radius_m: float, height_m: float) -> Turned:
    """A closed round tin."""
    r, h = radius_m, height_m
    return Turned(
        _floats([(0, h - 0.004), (r - 0.004, h - 0.004), (r - 0.002, h), (r, h - 0.001), (r, h / 2), (r, 0), (0, 0)])
    )


def flask(radius_m: float, height_m: float) -> Turned:
    """A bottle with a round shoulder and a cap."""
    r, h = radius_m, height_m
    neck = 0.38 * r
    shoulder = [(neck + (r - neck) * np.sin(a), 0.62 * h + 0.2 * h * np.cos(a)) for a in np.linspace(0.0, np.pi / 2, 6)]
    return Turned(
        _floats(
            [
                (0, h),
                (neck + 0.002, h),
                (neck + 0.002, 0.88 * h),
                (neck, 0.87 * h),
                *shoulder,
                (r, 0.3 * h),
                (r, 0),
                (0, 0),
            ]
        )
    )


def fruit(radius_m: float, squash: float) -> Turned:
    """A rounded lump."""
    angle = np.linspace(0.0, np.pi, 14)
    return Turned(_floats([(radius_m * np.sin(a), radius_m * squash * (1 + np.cos(a))) for a in angle]))


def _floats(profile: Sequence[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    return tuple((float(r), float(z)) for r, z in profile)
