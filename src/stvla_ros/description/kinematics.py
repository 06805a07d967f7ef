"""Forward kinematics and Jacobian of the Panda: plain NumPy."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from stvla_ros.description.panda import ARM_JOINTS, BASE_LINK, FINGER_JOINTS, JOINTS, Joint
from stvla_ros.types import F64


def rpy_matrix(rpy_rad: tuple[float, float, float]) -> F64:
    """(3, 3) rotation of URDF roll, pitch, yaw about fixed axes."""
    (cr, cp, cy), (sr, sp, sy) = np.cos(rpy_rad), np.sin(rpy_rad)
    return np.array(
        [
            [cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr],
            [sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr],
            [-sp, cp * sr, cp * cr],
        ]
    )


def _origin(joint: Joint) -> F64:
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = rpy_matrix(joint.rpy_rad), joint.xyz_m
    return T


_ORIGIN = {joint.name: _origin(joint) for joint in JOINTS}
_BEFORE = np.stack([_ORIGIN[name] for name in ARM_JOINTS])  # (7, 4, 4): from a link to the next joint
_AFTER = np.linalg.multi_dot(
    [_ORIGIN[joint.name] for joint in JOINTS if joint.name not in (*ARM_JOINTS, *FINGER_JOINTS)]
)
_YZX, _ZXY = [1, 2, 0], [2, 0, 1]


def _about_z(q: npt.NDArray[np.float64]) -> F64:
    """(..., 4, 4) rotations about z."""
    T = np.zeros((*q.shape, 4, 4))
    T[..., 0, 0] = T[..., 1, 1] = np.cos(q)
    T[..., 1, 0] = np.sin(q)
    T[..., 0, 1] = -T[..., 1, 0]
    T[..., 2, 2] = T[..., 3, 3] = 1.0
    return T


def link_poses(q_rad: npt.ArrayLike, gripper_m: float = 0.0) -> dict[str, F64]:
    """``T_base_link`` of every link.

    Args:
        q_rad: (..., 7) joint positions; any number of leading axes.
        gripper_m: Distance between the fingers.

    Returns:
        (..., 4, 4) per link, the tool centre point under its link name included.
    """
    q = np.asarray(q_rad, dtype=np.float64)
    poses: dict[str, F64] = {BASE_LINK: np.broadcast_to(np.eye(4), (*q.shape[:-1], 4, 4))}
    for joint in JOINTS:
        T = poses[joint.parent] @ _ORIGIN[joint.name]
        if joint.kind == "revolute":
            T = T @ _about_z(q[..., ARM_JOINTS.index(joint.name)])
        elif joint.kind == "prismatic":
            T = T.copy()
            T[..., :3, 3] += T[..., :3, :3] @ (np.array(joint.axis) * gripper_m / 2)
        poses[joint.child] = T
    return poses


def tcp_pose(q_rad: npt.ArrayLike) -> F64:
    """(..., 4, 4) ``T_base_tcp`` for (..., 7) joint positions."""
    return tcp_and_jacobian(q_rad)[0]


def tcp_and_jacobian(q_rad: npt.ArrayLike) -> tuple[F64, F64]:
    """Tool pose and geometric Jacobian.

    Args:
        q_rad: (..., 7) joint positions.

    Returns:
        (..., 4, 4) ``T_base_tcp`` and (..., 6, 7) Jacobian in the base frame: rows 0-2 linear
        velocity of the tool centre point [m/rad], rows 3-5 angular velocity.
    """
    q = np.asarray(q_rad, dtype=np.float64)
    c, s = np.cos(q)[..., None], np.sin(q)[..., None]
    local = np.empty((*q.shape, 4, 4))
    local[..., 0] = _BEFORE[..., 0] * c + _BEFORE[..., 1] * s
    local[..., 1] = _BEFORE[..., 1] * c - _BEFORE[..., 0] * s
    local[..., 2:] = _BEFORE[..., 2:]
    links = np.empty_like(local)
    links[..., 0, :, :] = local[..., 0, :, :]
    for i in range(1, 7):
        np.matmul(links[..., i - 1, :, :], local[..., i, :, :], out=links[..., i, :, :])
    T: F64 = links[..., 6, :, :] @ _AFTER
    axis = links[..., :3, 2]
    lever = T[..., None, :3, 3] - links[..., :3, 3]
    turned = axis[..., _YZX] * lever[..., _ZXY] - axis[..., _ZXY] * lever[..., _YZX]  # the cross product
    return T, np.swapaxes(np.concatenate([turned, axis], axis=-1), -1, -2)
