"""Every posture for one tool pose: inverse kinematics in closed form, with the last joint as the free parameter.

The wrist, the elbow and the shoulder of a Panda or FR3 lie in one plane. Once the last joint is chosen, the distance
from shoulder to wrist gives joint 4, the plane gives joints 6 and 5, and the rotation that remains gives joints 1 to 3
(as in He and Liu, "Analytical Inverse Kinematics for Franka Emika Panda", ICCMA 2021; the derivation here follows the
frames of :mod:`stvla_ros.description.panda`). Each value of the last joint has up to eight postures.
"""

from __future__ import annotations

import numpy as np

from stvla_ros.description.kinematics import link_poses
from stvla_ros.description.panda import JOINTS, TCP_LINK
from stvla_ros.description.robot import PANDA, ArmLimits
from stvla_ros.geometry.se3 import inverse
from stvla_ros.types import F64

_XYZ = {joint.name: joint.xyz_m for joint in JOINTS}
_BASE_M, _UPPER_M = _XYZ["panda_joint1"][2], -_XYZ["panda_joint3"][1]
_ELBOW_M, _FOREARM_M, _WRIST_M = _XYZ["panda_joint4"][0], _XYZ["panda_joint5"][1], _XYZ["panda_joint7"][0]
_SHOULDER = np.array([0.0, 0.0, _BASE_M])
_UPPER, _LOWER = np.hypot(_UPPER_M, _ELBOW_M), np.hypot(_FOREARM_M, _ELBOW_M)  # shoulder to elbow, elbow to wrist
_FLIP_RAD = np.arctan(_UPPER_M / _ELBOW_M) + np.arctan(_FOREARM_M / _ELBOW_M) - np.pi
"""Joint 4 of the stretched arm (-0.467 rad in the documentation of the Franka Control Interface)."""

_POSES = link_poses(np.zeros(7))
_T_TCP_7 = inverse(_POSES[TCP_LINK]) @ _POSES["panda_link7"]


def postures(T_base_tcp: F64, q7_rad: F64, arm: ArmLimits = PANDA, margin_rad: float = 0.0) -> F64:
    """All postures with given values of the last joint.

    Args:
        T_base_tcp: (4, 4) wanted pose of the tool.
        q7_rad: (N,) values of joint 7.
        arm: Range of the joints.
        margin_rad: Distance that the joints keep from the ends of their range.

    Returns:
        (M, 7) postures within the range, M at most 8 N; 0 if the pose is out of reach.
    """
    T7 = T_base_tcp @ _T_TCP_7
    R = T7[:3, :3] @ _about_z(-q7_rad)  # frame 7 before its rotation
    wrist = T7[:3, 3] - _WRIST_M * R[..., 0]
    R6 = np.stack([R[..., 0], -R[..., 2], R[..., 1]], axis=-1)  # frame 7 is frame 6 rotated about x by a quarter
    q4, rows = _elbow(np.linalg.norm(wrist - _SHOULDER, axis=1))
    q5, q6, again = _wrist(np.einsum("nji,nj->ni", R6[rows], _SHOULDER - wrist[rows]), q4)
    rows, q4 = rows[again], q4[again]
    q1, q2, q3 = _shoulder(R6[rows], q4, q5, q6)
    q = np.stack([*(np.tile(x, 2) for x in (q4, q5, q6, q7_rad[rows]))], axis=1)
    every = np.concatenate([np.stack([q1, q2, q3], axis=1), q], axis=1)
    return _within(every, arm.q_min_rad + margin_rad, arm.q_max_rad - margin_rad)


def _about_z(q: F64) -> F64:
    """(N, 3, 3) rotations about z."""
    R = np.zeros((len(q), 3, 3))
    R[:, 0, 0] = R[:, 1, 1] = np.cos(q)
    R[:, 1, 0] = np.sin(q)
    R[:, 0, 1] = -R[:, 1, 0]
    R[:, 2, 2] = 1.0
    return R


def _elbow(distance_m: F64) -> tuple[F64, np.ndarray[tuple[int], np.dtype[np.intp]]]:
    """Joint 4 from the distance between shoulder and wrist, bent to either side, and the row that each is of."""
    cosine = (_UPPER**2 + _LOWER**2 - distance_m**2) / (2 * _UPPER * _LOWER)
    rows = np.flatnonzero(np.abs(cosine) <= 1.0)
    bend = np.pi - np.arccos(cosine[rows])
    return np.concatenate([_FLIP_RAD - bend, _FLIP_RAD + bend]), np.tile(rows, 2)


def _wrist(shoulder_m: F64, q4: F64) -> tuple[F64, F64, np.ndarray[tuple[int], np.dtype[np.intp]]]:
    """Joints 5 and 6, and the row of each, from the shoulder in frame 6 before joint 6 turns: (N, 3)."""
    # The shoulder in frame 5 at joint 5 = 0: (aside, 0, along).
    aside = _ELBOW_M - _ELBOW_M * np.cos(q4) - _UPPER_M * np.sin(q4)
    along = -_FOREARM_M + _ELBOW_M * np.sin(q4) - _UPPER_M * np.cos(q4)
    x, y, z = shoulder_m.T
    reach = np.hypot(x, y)
    rows = np.flatnonzero(reach > np.abs(along))
    middle, open_ = np.arctan2(x[rows], y[rows]), np.arccos(along[rows] / reach[rows])
    q6, rows = np.concatenate([middle + open_, middle - open_]), np.tile(rows, 2)
    sign = np.where(aside[rows] < 0, -1.0, 1.0)
    q5 = np.arctan2(sign * z[rows], sign * (x[rows] * np.cos(q6) - y[rows] * np.sin(q6)))
    return q5, q6, rows


def _shoulder(R6: F64, q4: F64, q5: F64, q6: F64) -> tuple[F64, F64, F64]:
    """Joints 1, 2 and 3, first with joint 2 positive, then negative: the rotation of frame 3 is Rz(q1) Ry(q2) Rz(q3)."""
    s4, c4, s5, c5, s6, c6 = (f(q) for q in (q4, q5, q6) for f in (np.sin, np.cos))
    # Axes x and z of frame 3, in frame 6, through frames 4 and 5.
    x3 = _rotated(c4 * c5, -c4 * s5, -s4, s6, c6)
    z3 = _rotated(s4 * c5, -s4 * s5, c4, s6, c6)
    x, z = (np.einsum("nij,nj->ni", R6, axis) for axis in (x3, z3))
    y = np.cross(z, x)
    q1, q2 = np.arctan2(z[:, 1], z[:, 0]), np.arctan2(np.hypot(z[:, 0], z[:, 1]), z[:, 2])
    s1, c1 = np.sin(q1), np.cos(q1)  # (-s1, c1, 0) is the axis of joint 2, also where joint 1 is free (q2 = 0)
    q3 = np.arctan2(c1 * x[:, 1] - s1 * x[:, 0], c1 * y[:, 1] - s1 * y[:, 0])
    return np.concatenate([q1, q1 + np.pi]), np.concatenate([q2, -q2]), np.concatenate([q3, q3 + np.pi])


def _rotated(x: F64, y: F64, z: F64, s6: F64, c6: F64) -> F64:
    """A vector of frame 5 in frame 6."""
    return np.stack([c6 * x + s6 * z, -s6 * x + c6 * z, -y], axis=1)


def _within(q: F64, low: F64, high: F64) -> F64:
    """The rows that are in a range after whole turns are removed."""
    middle = (low + high) / 2
    q = middle + (q - middle + np.pi) % (2 * np.pi) - np.pi
    return q[((q >= low) & (q <= high)).all(axis=1)]
