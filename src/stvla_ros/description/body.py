"""Distance of points to the arm's body, which tells the pixels of a depth image that show the robot."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from stvla_ros.description.hulls import hull_meshes, read_obj
from stvla_ros.description.kinematics import link_poses
from stvla_ros.types import F32, F64, Bool


@dataclass(frozen=True, eq=False)
class HalfSpaces:
    """A convex hull as planes in the link frame: a point p is inside where ``normals @ p <= offsets``.

    Attributes:
        normals: (P, 3) float32, outward, unit length.
        offsets: (P,) float32, metres.
        centre_m: (3,) centre of a bounding sphere.
        radius_m: Radius of the bounding sphere.
    """

    normals: F32
    offsets: F32
    centre_m: F64
    radius_m: float


@cache
def half_spaces() -> dict[str, HalfSpaces]:
    """The hulls of all links as planes.

    Raises:
        ConfigError: The mesh package is not installed.
    """
    return {link: _planes(*read_obj(path)[:2]) for link, path in hull_meshes().items()}


def _planes(vertices: F64, faces: npt.NDArray[np.int32]) -> HalfSpaces:
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    normals = np.cross(b - a, c - a)
    size = np.linalg.norm(normals, axis=1)
    flat = size < 1e-12  # slivers have no direction
    normals = (normals[~flat] / size[~flat, None]).astype(np.float32)
    centre = (vertices.min(axis=0) + vertices.max(axis=0)) / 2
    radius = float(np.linalg.norm(vertices - centre, axis=1).max())
    offsets = np.einsum("ij,ij->i", normals, a[~flat]).astype(np.float32)
    return HalfSpaces(normals, offsets, centre, radius)


def robot_distance(
    points_m: npt.ArrayLike, q_rad: npt.ArrayLike, gripper_m: float = 0.08, reach_m: float = 0.05
) -> F32:
    """Distance of points to the robot's hulls.

    Exact inside and in front of a face; near an edge or corner slightly too small, never too large.

    Args:
        points_m: (N, 3) points in the base frame; NaN gives inf.
        q_rad: (7,) joint positions.
        gripper_m: Distance between the fingers.
        reach_m: Points further away than this get inf.

    Returns:
        (N,) float32 metres, negative inside, inf beyond ``reach_m``.

    Raises:
        ConfigError: The mesh package is not installed.
    """
    points = np.asarray(points_m, dtype=np.float32)
    distance = np.full(len(points), np.inf, dtype=np.float32)
    poses = link_poses(q_rad, gripper_m)
    hulls = half_spaces()
    centres = np.array([poses[link][:3, :3] @ hull.centre_m + poses[link][:3, 3] for link, hull in hulls.items()])
    gap = points @ (-2.0 * centres.T).astype(np.float32)  # squared distances, without the points' own squares
    gap += (centres**2).sum(axis=1).astype(np.float32)
    gap += np.einsum("ij,ij->i", points, points)[:, None]
    for (link, hull), gap2 in zip(hulls.items(), gap.T, strict=True):
        T = poses[link]
        near = np.flatnonzero(gap2 < (hull.radius_m + reach_m) ** 2 + 1e-4)
        if not len(near):
            continue
        local = (points[near] - T[:3, 3].astype(np.float32)) @ T[:3, :3].astype(np.float32)
        outside = (hull.normals @ local.T - hull.offsets[:, None]).max(axis=0, initial=-np.inf)  # whole rows at once
        distance[near] = np.minimum(distance[near], outside)
    distance[distance > reach_m] = np.inf
    return distance


def robot_mask(points_m: npt.ArrayLike, q_rad: npt.ArrayLike, gripper_m: float = 0.08, margin_m: float = 0.015) -> Bool:
    """(N,) True where a point lies on the robot or within ``margin_m`` of it. See :func:`robot_distance`."""
    return robot_distance(points_m, q_rad, gripper_m, margin_m) <= margin_m
