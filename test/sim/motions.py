"""Simple motions for tests of the cell: inverse kinematics by damped least squares, smooth point-to-point paths."""

from __future__ import annotations

import numpy as np

from stvla_ros.description.kinematics import tcp_and_jacobian
from stvla_ros.description.panda import A_MAX_RAD_S2, HOME_Q_RAD, V_MAX_RAD_S
from stvla_ros.types import F64, JointPath


def downward(x_m: float, y_m: float, z_m: float, yaw_rad: float = 0.0) -> F64:
    """(4, 4) tool pose that points straight down; ``yaw`` turns the finger opening, which is along y at 0."""
    c, s = np.cos(yaw_rad), np.sin(yaw_rad)
    T = np.eye(4)
    T[:3, :3] = np.array([[c, s, 0.0], [s, -c, 0.0], [0.0, 0.0, -1.0]])
    T[:3, 3] = x_m, y_m, z_m
    return T


def square_yaw(T_base_block: F64) -> float:
    """Yaw of a grasp on two faces of a cube, the one that turns the hand least."""
    yaw = float(np.arctan2(T_base_block[1, 0], T_base_block[0, 0]))
    return (yaw + np.pi / 4) % (np.pi / 2) - np.pi / 4


def inverse(T_base_tcp: F64, q_rad: F64 = HOME_Q_RAD) -> F64:
    """(7,) joints that put the tool there."""
    q = np.array(q_rad)
    for _ in range(200):
        T, J = tcp_and_jacobian(q)
        turn = 0.5 * sum(np.cross(T[:3, i], T_base_tcp[:3, i]) for i in range(3))
        error = np.concatenate([T_base_tcp[:3, 3] - T[:3, 3], turn])
        if np.abs(error).max() < 1e-6:
            break
        q += np.clip(J.T @ np.linalg.solve(J @ J.T + 1e-5 * np.eye(6), error), -0.2, 0.2)
    assert np.abs(error).max() < 1e-4, f"not reachable: {T_base_tcp}"
    return q


def straight(q0: F64, q1: F64, scale: float = 0.4) -> JointPath:
    """A path on the straight line between two postures with smooth speed."""
    change = q1 - q0
    duration = max(
        float(np.max(1.9 * np.abs(change) / V_MAX_RAD_S)),
        float(np.sqrt(np.max(5.8 * np.abs(change) / A_MAX_RAD_S2))),
        0.1,
    )
    duration /= scale
    t = np.linspace(0.0, duration, max(8, round(duration / 0.02)))
    x = t / duration
    s, v = x**3 * (10 - 15 * x + 6 * x**2), 30 * x**2 * (1 - x) ** 2 / duration
    return JointPath(q0 + s[:, None] * change, v[:, None] * change, t)
