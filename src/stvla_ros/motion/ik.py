"""Inverse kinematics of the Panda for many seeds at once (Levenberg-Marquardt in NumPy), and straight tool lines."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation, Slerp

from stvla_ros.description.kinematics import tcp_and_jacobian
from stvla_ros.description.robot import PANDA, ArmLimits
from stvla_ros.types import F64

TOLERANCE = 1e-5
"""A solution is this close: metres and radians."""

LIMIT_MARGIN_RAD = 0.01
"""Solutions keep this distance from the joints' limits, so that tracking errors stay inside."""


def pose_error(T_have: F64, T_want: F64) -> F64:
    """(..., 6) translation and rotation vector from ``T_have`` to ``T_want``, both (..., 4, 4), in the base frame."""
    R = T_want[..., :3, :3] @ np.swapaxes(T_have[..., :3, :3], -1, -2)
    twist = (
        np.stack([R[..., 2, 1] - R[..., 1, 2], R[..., 0, 2] - R[..., 2, 0], R[..., 1, 0] - R[..., 0, 1]], axis=-1) / 2
    )
    sine = np.linalg.norm(twist, axis=-1)
    angle = np.arctan2(sine, (np.trace(R, axis1=-2, axis2=-1) - 1) / 2)
    scale = np.where(sine > 1e-9, angle / np.maximum(sine, 1e-9), 1.0)
    return np.concatenate([T_want[..., :3, 3] - T_have[..., :3, 3], twist * scale[..., None]], axis=-1)


def solve(T_base_tcp: F64, seeds_rad: F64, iterations: int = 25, arm: ArmLimits = PANDA) -> F64:
    """Joint positions that take the tool to a pose.

    Args:
        T_base_tcp: (4, 4) wanted pose.
        seeds_rad: (S, 7) initial postures.
        iterations: Steps per seed.
        arm: Range of the joints.

    Returns:
        (M, 7) distinct solutions within the joints' range, nearest to the first seed first; M may be 0.
    """
    q = seeds_rad.copy()
    for _ in range(iterations):
        T, J = tcp_and_jacobian(q)
        error = pose_error(T, T_base_tcp)
        if np.abs(error).max() < TOLERANCE / 10:
            break
        q = np.clip(q + _step(J, error), arm.q_min_rad + LIMIT_MARGIN_RAD, arm.q_max_rad - LIMIT_MARGIN_RAD)
    error = np.abs(pose_error(tcp_and_jacobian(q)[0], T_base_tcp)).max(axis=1)
    return distinct(q[error < TOLERANCE], seeds_rad[0])


def _step(J: F64, error: F64) -> F64:
    """Damped least squares; the damping falls with the error (Sugihara, T-RO 27(5), 2011)."""
    damping = (np.einsum("...i,...i->...", error, error) * 0.5 + 1e-7)[..., None, None] * np.eye(6)
    Jt = np.swapaxes(J, -1, -2)
    step: F64 = (Jt @ np.linalg.solve(J @ Jt + damping, error[..., None]))[..., 0]
    return step


def distinct(solutions: F64, near_rad: F64) -> F64:
    """Solutions without near duplicates (0.05 rad), the nearest to ``near_rad`` first."""
    order = np.argsort(np.linalg.norm(solutions - near_rad, axis=1))
    kept: list[F64] = []
    for q in solutions[order]:
        if all(np.abs(q - other).max() > 0.05 for other in kept):
            kept.append(q)
    return np.array(kept).reshape(-1, 7)


def seeds(near_rad: F64, count: int, rng: np.random.Generator, arm: ArmLimits = PANDA) -> F64:
    """(count, 7) seeds: the given posture, some around it, and random ones."""
    around = near_rad + rng.normal(0.0, 0.4, (count // 3, 7))
    anywhere = rng.uniform(arm.q_min_rad, arm.q_max_rad, (count - 1 - len(around), 7))
    return np.clip(np.vstack([near_rad[None], around, anywhere]), arm.q_min_rad, arm.q_max_rad)


def line_poses(T_from: F64, T_to: F64, step_m: float = 0.01, step_rad: float = 0.05) -> F64:
    """(N, 4, 4) poses on the straight line: position linear, rotation about one axis, both ends included."""
    way = pose_error(T_from, T_to)
    steps = float(np.linalg.norm(way[:3])) / step_m, float(np.linalg.norm(way[3:])) / step_rad
    count = 1 + int(np.ceil(max(*steps, 3.0)))
    s = np.linspace(0.0, 1.0, count)
    T = np.tile(np.eye(4), (count, 1, 1))
    T[:, :3, :3] = Slerp([0, 1], Rotation.from_matrix([T_from[:3, :3], T_to[:3, :3]]))(s).as_matrix()
    T[:, :3, 3] = T_from[:3, 3] + s[:, None] * way[:3]
    return T


def follow_line(start_rad: F64, T_base_tcp: F64, max_step_rad: float = 0.2, arm: ArmLimits = PANDA) -> F64:
    """Joint positions along a straight line of the tool.

    Args:
        start_rad: (7,) posture to start from.
        T_base_tcp: (4, 4) end of the line.
        max_step_rad: A larger jump of a joint between two poses ends the line (singularity).
        arm: Range of the joints.

    Returns:
        (N, 7) evenly spaced postures from the start. They end early where the line cannot be followed further, so
        compare the last one with the goal by forward kinematics.
    """
    q, path = start_rad, [start_rad]
    for T in line_poses(tcp_and_jacobian(start_rad)[0], T_base_tcp)[1:]:
        before, q = q, _refine(T, q)
        off = np.abs(pose_error(tcp_and_jacobian(q)[0], T)).max()
        outside = (q < arm.q_min_rad).any() or (q > arm.q_max_rad).any()
        if off > 10 * TOLERANCE or outside or np.abs(q - before).max() > max_step_rad:
            break
        path.append(q)
    return np.array(path)


def _refine(T: F64, q: F64) -> F64:
    for _ in range(8):
        have, J = tcp_and_jacobian(q)
        error = pose_error(have, T)
        if np.abs(error).max() < TOLERANCE / 10:
            break
        q = q + _step(J, error)
    return q
