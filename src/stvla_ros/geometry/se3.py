"""Rigid transforms as (4, 4) float64 matrices; quaternions are xyzw."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from stvla_ros.types import F64


def pose(R: npt.ArrayLike, t_m: npt.ArrayLike) -> F64:
    """(4, 4) transform of a (3, 3) rotation and a (3,) translation."""
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = R, t_m
    return T


def is_rotation(R: npt.ArrayLike) -> bool:
    """A (3, 3) matrix is a proper rotation within 1e-3; False where it is not finite."""
    m = np.asarray(R, dtype=np.float64)
    return bool(np.isfinite(m).all() and np.abs(m @ m.T - np.eye(3)).max() < 1e-3 and np.linalg.det(m) > 0)


def inverse(T: F64) -> F64:
    """(..., 4, 4) inverse of (..., 4, 4) rigid transforms."""
    out = np.zeros_like(T)
    Rt = np.swapaxes(T[..., :3, :3], -1, -2)
    out[..., :3, :3] = Rt
    out[..., :3, 3] = -(Rt @ T[..., :3, 3, None])[..., 0]
    out[..., 3, 3] = 1.0
    return out


def rotation_z(angle_rad: float) -> F64:
    """(3, 3) rotation about z."""
    c, s = np.cos(angle_rad), np.sin(angle_rad)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def to_quaternion(R: npt.ArrayLike) -> F64:
    """(4,) unit quaternion xyzw, w >= 0, of a (3, 3) rotation (Shepperd's method)."""
    m = np.asarray(R, dtype=np.float64)
    trace = np.trace(m)
    four = np.array([*(2 * np.diag(m) - trace), trace]) + 1.0  # 4x^2, 4y^2, 4z^2, 4w^2
    i = int(np.argmax(four))
    if i == 3:
        q = np.array([m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1], four[3]])
    else:
        j, k = (i + 1) % 3, (i + 2) % 3
        q = np.empty(4)
        q[i], q[j], q[k], q[3] = four[i], m[j, i] + m[i, j], m[k, i] + m[i, k], m[k, j] - m[j, k]
    q /= np.linalg.norm(q)
    return q if q[3] >= 0 else -q


def from_quaternion(xyzw: npt.ArrayLike) -> F64:
    """(3, 3) rotation of a (4,) quaternion xyzw of any non-zero length.

    Raises:
        ValueError: The quaternion is zero or not finite.
    """
    q = np.asarray(xyzw, dtype=np.float64)
    norm = np.linalg.norm(q)
    if not np.isfinite(norm) or norm < 1e-9:
        raise ValueError(f"quaternion: wanted four finite numbers, not all zero, got {q.tolist()}")
    x, y, z, w = q / norm
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def tool_down(xyz_m: npt.ArrayLike, yaw_rad: float) -> F64:
    """(4, 4) tool pose that points straight down (z of the tool along -z of the base).

    ``yaw_rad`` is the direction of the finger opening (y of the tool) in the base frame's x-y plane.
    """
    y = np.array([np.cos(yaw_rad), np.sin(yaw_rad), 0.0])
    z = np.array([0.0, 0.0, -1.0])
    return pose(np.column_stack([np.cross(y, z), y, z]), xyz_m)


def backed_off(T: F64, distance_m: float) -> F64:
    """(4, 4) the tool pose moved back along the tool's axis."""
    back = T.copy()
    back[:3, 3] -= distance_m * T[:3, 2]
    return back


def finger_yaw(T_base_tcp: F64) -> float:
    """Direction of the finger opening (y of the tool) in the base frame's x-y plane, rad."""
    return float(np.arctan2(T_base_tcp[1, 1], T_base_tcp[0, 1]))


def wrap(angle_rad: float, period_rad: float = 2 * np.pi) -> float:
    """The angle nearest to zero that differs by whole periods."""
    return float(angle_rad - period_rad * np.round(angle_rad / period_rad))


def rotation_distance(A: F64, B: F64) -> float:
    """Angle between two (3, 3) rotations, rad."""
    return float(np.arccos(np.clip((np.trace(A.T @ B) - 1) / 2, -1.0, 1.0)))
