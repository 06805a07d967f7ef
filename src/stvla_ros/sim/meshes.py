"""Triangle meshes with texture coordinates, made of formulas: turned profiles, boxes, tubes and crumpled sheets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import mujoco
import numpy as np

from stvla_ros.types import F64, I32


@dataclass(frozen=True, eq=False)
class Mesh:
    """A surface.

    Attributes:
        vertices_m: (V, 3).
        faces: (F, 3) counter-clockwise seen from outside.
        uv: (V, 2) place of each vertex in the texture; 0..1 is the whole texture.
    """

    vertices_m: F64
    faces: I32
    uv: F64

    def add(self, spec: mujoco.MjSpec, name: str) -> None:
        """Add it to a model as an asset that is only drawn."""
        mesh = spec.add_mesh(name=name)
        mesh.uservert, mesh.userface = self.vertices_m.ravel(), self.faces.ravel()
        mesh.usertexcoord, mesh.userfacetexcoord = self.uv.astype(np.float32).ravel(), self.faces.ravel()
        mesh.inertia = mujoco.mjtMeshInertia.mjMESH_INERTIA_SHELL


def joined(parts: Sequence[Mesh]) -> Mesh:
    """Several meshes as one."""
    starts = np.cumsum([0, *(len(p.vertices_m) for p in parts)])
    faces = [p.faces + start for p, start in zip(parts, starts, strict=False)]
    return Mesh(
        np.concatenate([p.vertices_m for p in parts]),
        np.concatenate(faces).astype(np.int32),
        np.concatenate([p.uv for p in parts]),
    )


def grid(points_m: F64, uv: F64) -> Mesh:
    """A mesh over an (M, N, 3) grid of points, seen from the side where rows x columns points to."""
    rows, columns = points_m.shape[:2]
    i, j = np.meshgrid(np.arange(rows - 1), np.arange(columns - 1), indexing="ij")
    a = (i * columns + j).ravel()
    b, c, d = a + 1, a + columns, a + columns + 1
    faces = np.concatenate([np.stack([a, c, d], axis=1), np.stack([a, d, b], axis=1)])
    return Mesh(points_m.reshape(-1, 3), faces.astype(np.int32), uv.reshape(-1, 2))


def _unit_grid(rows: int, columns: int) -> F64:
    """(rows, columns, 2) texture coordinates: u along the columns, v along the rows."""
    v, u = np.meshgrid(np.linspace(0, 1, rows), np.linspace(0, 1, columns), indexing="ij")
    return np.stack([u, v], axis=-1)


def turned(profile_m: Sequence[tuple[float, float]], segments: int = 40) -> Mesh:
    """A profile of radius and height turned about z; outside lies to the left of the profile's direction."""
    profile = np.asarray(profile_m, np.float64)
    angle = np.linspace(0.0, 2 * np.pi, segments + 1)
    ring = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    points = np.concatenate(
        [profile[:, :1, None] * ring[None], np.broadcast_to(profile[:, 1:, None], (len(profile), len(ring), 1))], axis=2
    )
    length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(profile, axis=0), axis=1))])
    uv = _unit_grid(len(profile), len(ring))
    uv[..., 1] = (length / length[-1])[:, None]
    return grid(points, uv)


def cuboid(size_m: Sequence[float], centre_m: Sequence[float] = (0.0, 0.0, 0.0), steps: int = 1) -> Mesh:
    """A box; every face shows the whole texture, and is divided into ``steps`` squared squares."""
    uv = _unit_grid(steps + 1, steps + 1)
    faces = []
    for axis in range(3):
        for side in (-1.0, 1.0):
            right, up = (axis + 1) % 3, (axis + 2) % 3
            points = np.zeros((*uv.shape[:2], 3))
            points[..., axis] = side / 2
            points[..., right] = side * (uv[..., 0] - 0.5)
            points[..., up] = uv[..., 1] - 0.5
            faces.append(_flipped(grid(points * np.asarray(size_m) + np.asarray(centre_m), uv)))
    return joined(faces)


def _flipped(mesh: Mesh) -> Mesh:
    return Mesh(mesh.vertices_m, mesh.faces[:, ::-1].copy(), mesh.uv)


def tub(size_m: Sequence[float], wall_m: float) -> Mesh:
    """An open box: a floor and four walls, standing on z = 0."""
    x, y, z = size_m
    return joined(
        [
            cuboid((x, y, wall_m), (0, 0, wall_m / 2), 4),
            *(cuboid((wall_m, y, z), (s * (x - wall_m) / 2, 0, z / 2), 4) for s in (-1, 1)),
            *(cuboid((x, wall_m, z), (0, s * (y - wall_m) / 2, z / 2), 4) for s in (-1, 1)),
        ]
    )


def tube(line_m: F64, radius_m: float, segments: int = 10) -> Mesh:
    """A round tube along an (N, 3) line; its ends are open."""
    along = np.gradient(line_m, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    side = np.cross(along, [0.0, 0.0, 1.0])
    side /= np.maximum(np.linalg.norm(side, axis=1, keepdims=True), 1e-9)
    angle = np.linspace(0.0, 2 * np.pi, segments + 1)
    offset = (
        np.cos(angle)[None, :, None] * side[:, None] + np.sin(angle)[None, :, None] * np.cross(side, along)[:, None]
    )
    return grid(line_m[:, None] + radius_m * offset, _unit_grid(len(line_m), segments + 1))


def sheet(height_m: F64, size_m: Sequence[float]) -> Mesh:
    """An (M, N) height field over a rectangle, with a lower side on z = 0: a cloth that lies there."""
    rows, columns = height_m.shape
    uv = _unit_grid(rows, columns)
    xy = (uv - 0.5) * np.asarray(size_m)
    top = _flipped(grid(np.dstack([xy, height_m]), uv))
    rim = [
        (slice(0, 1), slice(None)),
        (slice(-1, None), slice(None)),
        (slice(None), slice(0, 1)),
        (slice(None), slice(-1, None)),
    ]
    walls = []
    for at in rim:
        upper = np.dstack([xy, height_m])[at].reshape(-1, 3)
        walls.append(grid(np.stack([upper, upper * [1, 1, 0]]), np.stack([uv[at].reshape(-1, 2)] * 2)))
    return joined([top, *(w for w in walls), *(_flipped(w) for w in walls)])
