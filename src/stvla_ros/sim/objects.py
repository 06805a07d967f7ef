"""Objects on the table: blocks, bottles, a plate, buttons. Each adds itself to a MuJoCo model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import mujoco
import numpy as np

from stvla_ros.colours import COLOURS
from stvla_ros.types import F64, I32

BLOCK_M = 0.04
BLOCK_KG = 0.06
BOTTLE_RADIUS_M = 0.032
PLATE_RADIUS_M = 0.095
PLATE_INNER_RADIUS_M = 0.078
PLATE_RIM_M = 0.016
PLATE_BASE_M = 0.005
PLATE_RGB = (0.90, 0.86, 0.78)  # ivory, none of the named colours
BUTTON_RADIUS_M = 0.042
BUTTON_BASE_M = 0.025
BUTTON_TRAVEL_M = 0.008
BUTTON_CAP_M = 0.012
BUTTON_CAP_RADIUS_M = 0.022
_COLLISION = {"group": 3, "rgba": [0.5, 0.5, 0.5, 0.0]}
_SEEN = {"contype": 0, "conaffinity": 0, "group": 1}


class SceneObject(Protocol):
    """An object on the table.

    Attributes:
        name: Name of its root body.
        xy_m: Its place.
        clearance_m: Radius of the space that it fills.
    """

    @property
    def name(self) -> str: ...

    @property
    def xy_m(self) -> tuple[float, float]: ...

    @property
    def clearance_m(self) -> float: ...

    def add(self, spec: mujoco.MjSpec) -> None:
        """Add body, geoms and joints."""
        ...


@dataclass(frozen=True)
class Block:
    """A cube of :data:`BLOCK_M` that can be carried; its underside is at ``z_m``."""

    colour: str
    xy_m: tuple[float, float]
    yaw_rad: float
    clearance_m: float = BLOCK_M * 0.7072
    z_m: float = 0.0

    @property
    def name(self) -> str:
        return f"{self.colour}_block"

    def add(self, spec: mujoco.MjSpec) -> None:
        body = spec.worldbody.add_body(
            name=self.name, pos=[*self.xy_m, self.z_m + BLOCK_M / 2], quat=about_z(self.yaw_rad)
        )
        body.add_freejoint(name=self.name)
        body.add_geom(
            type=mujoco.mjtGeom.mjGEOM_BOX,
            size=[BLOCK_M / 2] * 3,
            mass=BLOCK_KG,
            friction=[0.8, 0.01, 0.001],
            condim=4,
            material=paint(spec, self.colour),
        )


@dataclass(frozen=True)
class Bottle:
    """A tall upright cylinder with a neck: in the image it reaches far beyond its place on the table."""

    colour: str
    xy_m: tuple[float, float]
    height_m: float = 0.22
    clearance_m: float = BOTTLE_RADIUS_M

    @property
    def name(self) -> str:
        return f"{self.colour}_bottle"

    def add(self, spec: mujoco.MjSpec) -> None:
        neck = 0.25 * self.height_m
        belly = (self.height_m - neck) / 2
        cylinder = mujoco.mjtGeom.mjGEOM_CYLINDER
        seen = {"type": cylinder, "material": paint(spec, self.colour)}
        body = spec.worldbody.add_body(name=self.name, pos=[*self.xy_m, 0.0])
        body.add_freejoint(name=self.name)
        body.add_geom(pos=[0, 0, belly], size=[BOTTLE_RADIUS_M, belly, 0], mass=0.3, **seen)
        body.add_geom(
            pos=[0, 0, self.height_m - neck / 2], size=[BOTTLE_RADIUS_M / 2.5, neck / 2, 0], mass=0.01, **seen
        )


@dataclass(frozen=True)
class Plate:
    """A round dish with a low rim, free to be pushed."""

    xy_m: tuple[float, float]
    name: str = "plate"
    clearance_m: float = PLATE_RADIUS_M

    def add(self, spec: mujoco.MjSpec) -> None:
        spec.add_material(name="ivory", rgba=[*PLATE_RGB, 1.0], specular=0.3, shininess=0.6)
        vertices, faces = dish_mesh()
        mesh = spec.add_mesh(name="dish")
        mesh.uservert, mesh.userface = vertices.ravel(), faces.ravel()
        mesh.inertia = mujoco.mjtMeshInertia.mjMESH_INERTIA_SHELL
        body = spec.worldbody.add_body(name=self.name, pos=[*self.xy_m, 0.0])
        body.add_freejoint(name=self.name)
        body.add_geom(type=mujoco.mjtGeom.mjGEOM_MESH, meshname="dish", material="ivory", mass=0.0, **_SEEN)
        body.add_geom(
            type=mujoco.mjtGeom.mjGEOM_CYLINDER,
            pos=[0.0, 0.0, PLATE_BASE_M / 2],
            size=[PLATE_INNER_RADIUS_M, PLATE_BASE_M / 2, 0.0],
            mass=0.30,
            friction=[0.8, 0.01, 0.001],
            **_COLLISION,
        )
        self._add_rim(body, 24)

    @staticmethod
    def _add_rim(body: mujoco.MjsBody, pieces: int) -> None:
        """Slanted boxes along the rim."""
        radius = (PLATE_INNER_RADIUS_M + PLATE_RADIUS_M) / 2
        slope = np.arctan2(PLATE_RIM_M - PLATE_BASE_M, PLATE_RADIUS_M - PLATE_INNER_RADIUS_M)
        for angle in np.linspace(0.0, 2.0 * np.pi, pieces, endpoint=False):
            turn, tilt, quat = (
                about_z(float(angle)),
                np.array([np.cos(slope / 2), 0.0, -np.sin(slope / 2), 0.0]),
                np.zeros(4),
            )
            mujoco.mju_mulQuat(quat, turn, tilt)
            body.add_geom(
                type=mujoco.mjtGeom.mjGEOM_BOX,
                pos=[radius * np.cos(angle), radius * np.sin(angle), (PLATE_RIM_M + PLATE_BASE_M) / 2 - 0.0015],
                quat=quat,
                size=[0.0095, np.pi * PLATE_RADIUS_M / pieces, 0.002],
                mass=0.1 / pieces,
                friction=[0.8, 0.01, 0.001],
                **_COLLISION,
            )


@dataclass(frozen=True)
class Button:
    """A coloured cap on a dark round base; the cap goes down against a spring to a stop."""

    colour: str
    xy_m: tuple[float, float]
    clearance_m: float = BUTTON_RADIUS_M

    @property
    def name(self) -> str:
        return f"{self.colour}_button"

    @property
    def joint(self) -> str:
        return f"{self.name}_slide"

    def add(self, spec: mujoco.MjSpec) -> None:
        if spec.material("bakelite") is None:
            spec.add_material(name="bakelite", rgba=[0.24, 0.25, 0.28, 1.0], specular=0.2, shininess=0.3)
        cylinder = mujoco.mjtGeom.mjGEOM_CYLINDER
        base = spec.worldbody.add_body(name=self.name, pos=[*self.xy_m, 0.0])
        base.add_geom(
            type=cylinder,
            pos=[0, 0, BUTTON_BASE_M / 2],
            size=[BUTTON_RADIUS_M, BUTTON_BASE_M / 2, 0],
            material="bakelite",
            group=1,
        )
        cap = base.add_body(name=f"{self.name}_cap", pos=[0.0, 0.0, BUTTON_BASE_M])
        cap.add_joint(
            name=self.joint,
            type=mujoco.mjtJoint.mjJNT_SLIDE,
            axis=[0, 0, 1],
            range=[-BUTTON_TRAVEL_M - 0.001, 0.0],
            limited=True,
            stiffness=[400.0, 0.0, 0.0],
            springref=0.002,  # preload
            armature=0.2,  # soft constraints of a light part give way under a finger's push
            solref_limit=[0.004, 1.0],
            damping=[5.0, 0.0, 0.0],
        )
        cap.add_geom(
            type=cylinder, pos=[0, 0, BUTTON_CAP_M / 2], size=[BUTTON_CAP_RADIUS_M, BUTTON_CAP_M / 2, 0], mass=0.0,
            material=paint(spec, self.colour), **_SEEN,
        )  # fmt: skip
        # The part that touches is thin, so that its travel ends on the base instead of inside it.
        stop = (BUTTON_CAP_M - BUTTON_TRAVEL_M) / 2
        cap.add_geom(
            type=cylinder, pos=[0, 0, BUTTON_CAP_M - stop], size=[BUTTON_CAP_RADIUS_M, stop, 0], mass=0.03,
            solref=[0.004, 1.0], solimp=[0.97, 0.99, 0.001, 0.5, 2.0], **_COLLISION,
        )  # fmt: skip


def paint(spec: mujoco.MjSpec, colour: str) -> str:
    """Name of the material of one of the 20 colours, made on first use."""
    name = f"paint_{colour}"
    if spec.material(name) is None:
        spec.add_material(name=name, rgba=[*COLOURS[colour], 1.0], specular=0.08, shininess=0.2)
    return name


def dish_mesh(segments: int = 48) -> tuple[F64, I32]:
    """(V, 3) vertices and (F, 3) triangles of the plate: its profile turned about z, closed below."""
    inner, outer, base, rim = PLATE_INNER_RADIUS_M, PLATE_RADIUS_M, PLATE_BASE_M, PLATE_RIM_M
    profile = np.array(
        [
            (0.0, base), (inner - 0.006, base), (inner, base + 0.001), (outer - 0.002, rim - 0.0005),
            (outer, rim), (outer + 0.0005, rim - 0.0015), (inner + 0.004, 0.002), (inner - 0.01, 0.0), (0.0, 0.0),
        ]
    )  # fmt: skip
    angle = np.linspace(0.0, 2.0 * np.pi, segments, endpoint=False)
    rings = [np.stack([r * np.cos(angle), r * np.sin(angle), np.full(segments, z)], axis=1) for r, z in profile[1:-1]]
    vertices = np.concatenate([*rings, [[0.0, 0.0, profile[0, 1]], [0.0, 0.0, 0.0]]])
    top, bottom = len(vertices) - 2, len(vertices) - 1
    i = np.arange(segments)
    j = (i + 1) % segments
    faces = [np.stack([np.full(segments, top), i, j], axis=1)]
    for k in range(len(rings) - 1):
        a, b = k * segments, (k + 1) * segments
        faces += [np.stack([a + i, b + i, b + j], axis=1), np.stack([a + i, b + j, a + j], axis=1)]
    last = (len(rings) - 1) * segments
    faces.append(np.stack([last + i, np.full(segments, bottom), last + j], axis=1))
    return vertices, np.concatenate(faces).astype(np.int32)


def about_z(angle_rad: float) -> F64:
    """(4,) MuJoCo's quaternion of a turn about the z axis."""
    return np.array([np.cos(angle_rad / 2), 0.0, 0.0, np.sin(angle_rad / 2)])
