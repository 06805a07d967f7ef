"""Round things as MuJoCo should see them: prisms with flat sides, and rings of boxes around a hole.

Plane faces also hold between fingers that grip them beside the middle. Hollow shapes are rings of boxes, because MuJoCo
takes the hull of every mesh.
"""

from __future__ import annotations

from typing import Any

import mujoco
import numpy as np

from stvla_ros.sim.objects import about_z
from stvla_ros.types import F64, I32

SIDES = 16

FIRM: dict[str, Any] = {
    "solref": [0.004, 1.0],
    "solimp": [0.95, 0.98, 0.001, 0.5, 2.0],
    "condim": 4,
    "group": 1,
}
"""Contacts that do not give way: with MuJoCo's own, a light part sinks 2 mm, and what is seated depends on the weight."""

SLIPPERY = [0.4, 0.01, 0.001]
"""Friction of parts that slide into each other; with more they jam when they are tilted."""

ROUGH = [0.8, 0.01, 0.001]


def add_prism(
    spec: mujoco.MjSpec, body: mujoco.MjsBody, low_m: float, radii_m: tuple[float, float], height_m: float, **geom: Any
) -> None:
    """Add an upright prism, or a frustum with another radius above.

    Args:
        spec: Gets the mesh, one for each shape.
        body: Gets the geom.
        low_m: Height of its lower face in the body's frame.
        radii_m: From the axis to the middle of a side, below and above.
        height_m: Its height.
        geom: Further attributes of the geom.
    """
    name = f"prism_{radii_m[0] * 1e4:.0f}_{radii_m[1] * 1e4:.0f}_{height_m * 1e4:.0f}"
    if spec.mesh(name) is None:
        mesh = spec.add_mesh(name=name)
        vertices, faces = prism_mesh(radii_m, height_m)
        mesh.uservert, mesh.userface = vertices.ravel(), faces.ravel()
    body.add_geom(type=mujoco.mjtGeom.mjGEOM_MESH, meshname=name, pos=[0.0, 0.0, low_m], **geom)


def prism_mesh(radii_m: tuple[float, float], height_m: float) -> tuple[F64, I32]:
    """(V, 3) vertices and (F, 3) triangles, with the lower face at z = 0 and the middle of a side on the x axis."""
    angle = (np.arange(SIDES) + 0.5) * 2.0 * np.pi / SIDES
    rim = np.stack([np.cos(angle), np.sin(angle)], axis=1) / np.cos(np.pi / SIDES)
    rings = [np.column_stack([r * rim, np.full(SIDES, z)]) for r, z in zip(radii_m, (0.0, height_m), strict=True)]
    i = np.arange(SIDES)
    j, low, high = (i + 1) % SIDES, np.full(SIDES, 2 * SIDES), np.full(SIDES, 2 * SIDES + 1)
    faces = [(i, j, j + SIDES), (i, j + SIDES, i + SIDES), (low, j, i), (high, i + SIDES, j + SIDES)]
    vertices = np.concatenate([*rings, [[0.0, 0.0, 0.0], [0.0, 0.0, height_m]]])
    return vertices, np.concatenate([np.stack(f, axis=1) for f in faces]).astype(np.int32)


def add_ring(
    body: mujoco.MjsBody,
    low_m: float,
    radii_m: tuple[float, float],
    height_m: float,
    pieces: int,
    mass: float,
    **geom: Any,
) -> None:
    """Add an upright ring of boxes.

    Args:
        body: Gets the geoms.
        low_m: Height of its lower face in the body's frame.
        radii_m: From the axis to the middle of the inner and of the outer sides.
        height_m: Its height.
        pieces: Number of boxes.
        mass: Of the whole ring, kg.
        geom: Further attributes of the geoms.
    """
    inner, outer = radii_m
    middle, half = (inner + outer) / 2, [(outer - inner) / 2, outer * np.tan(np.pi / pieces), height_m / 2]
    for angle in np.arange(pieces) * 2.0 * np.pi / pieces:
        body.add_geom(
            type=mujoco.mjtGeom.mjGEOM_BOX,
            pos=[middle * np.cos(angle), middle * np.sin(angle), low_m + half[2]],
            quat=about_z(angle),
            size=half,
            mass=mass / pieces,
            **geom,
        )


def surface(spec: mujoco.MjSpec, name: str, rgb: tuple[float, float, float]) -> str:
    """A material by name, made on first use."""
    if spec.material(name) is None:
        spec.add_material(name=name, rgba=[*rgb, 1.0], specular=0.2, shininess=0.4)
    return name
