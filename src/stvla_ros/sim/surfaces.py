"""Points all over an object's surface, from the model's geoms: ground truth for distances."""

from __future__ import annotations

import mujoco
import numpy as np

from stvla_ros.types import F64, I32

_SEEN_GROUPS = 3
"""Geoms of this group and above only collide."""


def surface_points(data: mujoco.MjData, body: str, spacing_m: float) -> F64:
    """(N, 3) points in the world frame, no further apart than ``spacing_m``, on the drawn geoms of a body.

    Raises:
        KeyError: No body has that name.
        ValueError: A drawn geom is neither box, cylinder, sphere nor mesh.
    """
    model = data.model
    ours = model.body_rootid[model.geom_bodyid] == model.body(body).id
    parts = []
    for geom in np.flatnonzero(ours & (model.geom_group < _SEEN_GROUPS)):
        local = _local_points(model, int(geom), spacing_m)
        parts.append(local @ data.geom_xmat[geom].reshape(3, 3).T + data.geom_xpos[geom])
    return np.concatenate(parts)


def _local_points(model: mujoco.MjModel, geom: int, spacing_m: float) -> F64:
    kind, size = model.geom_type[geom], model.geom_size[geom]
    if kind == mujoco.mjtGeom.mjGEOM_BOX:
        return box_points(size, spacing_m)
    if kind == mujoco.mjtGeom.mjGEOM_CYLINDER:
        return cylinder_points(size[0], size[1], spacing_m)
    if kind == mujoco.mjtGeom.mjGEOM_SPHERE:
        return sphere_points(size[0], spacing_m)
    if kind == mujoco.mjtGeom.mjGEOM_MESH:
        mesh = model.mesh(model.geom_dataid[geom])
        vertices = model.mesh_vert[mesh.vertadr[0] : mesh.vertadr[0] + mesh.vertnum[0]].astype(np.float64)
        return mesh_points(vertices, model.mesh_face[mesh.faceadr[0] : mesh.faceadr[0] + mesh.facenum[0]], spacing_m)
    raise ValueError(f"geom {geom}: wanted a box, a cylinder, a sphere or a mesh, got type {kind}")


def box_points(half_m: F64, spacing_m: float) -> F64:
    """(N, 3) grid on the faces of a box with half edges ``half_m``."""
    axes = [_ticks(-h, h, spacing_m) for h in half_m]
    faces = []
    for fixed in range(3):
        a, b = (axes[i] for i in range(3) if i != fixed)
        for side in (-half_m[fixed], half_m[fixed]):
            face = np.full((len(a), len(b), 3), side)
            face[..., [i for i in range(3) if i != fixed]] = np.stack(np.meshgrid(a, b, indexing="ij"), axis=-1)
            faces.append(face.reshape(-1, 3))
    return np.concatenate(faces)


def cylinder_points(radius_m: float, half_m: float, spacing_m: float) -> F64:
    """(N, 3) points on side and caps of a cylinder along z."""
    rings = [_ring(radius_m, z, spacing_m) for z in _ticks(-half_m, half_m, spacing_m)]
    caps = [_ring(r, z, spacing_m) for z in (-half_m, half_m) for r in _ticks(0.0, radius_m, spacing_m)]
    return np.concatenate([*rings, *caps])


def sphere_points(radius_m: float, spacing_m: float) -> F64:
    """(N, 3) points on circles of latitude of a sphere."""
    angles = _ticks(-np.pi / 2, np.pi / 2, spacing_m / radius_m)
    return np.concatenate([_ring(radius_m * np.cos(a), radius_m * np.sin(a), spacing_m) for a in angles])


def mesh_points(vertices_m: F64, faces: I32, spacing_m: float) -> F64:
    """(N, 3) points on every triangle of a mesh."""
    a, b, c = vertices_m[faces].transpose(1, 0, 2)
    longest = np.max([np.linalg.norm(edge, axis=1) for edge in (b - a, c - a, c - b)], axis=0)
    steps = np.maximum(np.ceil(longest / spacing_m).astype(int), 1)
    parts = []
    for n in np.unique(steps):
        i, j = np.meshgrid(np.arange(n + 1), np.arange(n + 1), indexing="ij")
        s, t = (k[i + j <= n][:, None, None] / n for k in (i, j))
        p, q, r = (corner[steps == n] for corner in (a, b, c))
        parts.append((p + s * (q - p) + t * (r - p)).reshape(-1, 3))
    return np.concatenate(parts)


def _ticks(low: float, high: float, spacing_m: float) -> F64:
    return np.linspace(low, high, int(np.ceil((high - low) / spacing_m)) + 1)


def _ring(radius_m: float, z_m: float, spacing_m: float) -> F64:
    count = max(int(np.ceil(2 * np.pi * radius_m / spacing_m)), 1)
    angle = np.linspace(0.0, 2 * np.pi, count, endpoint=False)
    return np.column_stack([radius_m * np.cos(angle), radius_m * np.sin(angle), np.full(count, z_m)])
