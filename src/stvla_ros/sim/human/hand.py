"""Postures of the hand: angles of its joints, where that puts them, and grips of a given width."""

from __future__ import annotations

from functools import cache
from itertools import pairwise

import numpy as np
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from stvla_ros.sim.human.rig import CHAINS, Rig
from stvla_ros.types import F64

ANGLES = 13
"""Of a posture: the thumb's base as a rotation vector (3), its two other joints, then knuckle and middle joint of each
finger. The last joint of a finger bends two thirds as far as its middle joint, as tendons couple them."""

COUPLED = 2 / 3

REST = np.radians([0, 0, 0, 10, 10, *(15, 20) * 4])
"""Relaxed."""

POINT = np.radians([0, 0, 0, 35, 45, 12, 8, *(75, 85) * 3])
"""The index finger points, the others are folded."""

_WIDE_M = 0.10
"""A grip as wide as this has the fingers almost straight."""

_SPREAD = {"open": np.radians([32.0, 22.0]), "closed": np.radians([58.0, 46.0])}
"""Knuckle and middle joint of fingers at :data:`_WIDE_M` and at 0."""


def posed(rig: Rig, posture: F64) -> F64:
    """(25, 4, 4) pose of each joint in the hand's frame; at rest their rotations are the identity."""
    poses = np.tile(np.eye(4), (25, 1, 1))
    poses[:, :3, 3] = rig.joints_m
    thumb = rig.joints_m[list(CHAINS[0])]
    axis = np.cross(thumb[3] - thumb[1], rig.joints_m[16] - thumb[1])  # towards the ring finger's knuckle
    axis /= np.linalg.norm(axis)
    _bend(poses, rig, CHAINS[0], [posture[:3], axis * posture[3], axis * posture[4]])
    for number, chain in enumerate(CHAINS[1:]):
        knuckle, middle = posture[5 + 2 * number : 7 + 2 * number]
        _bend(poses, rig, chain, [rig.flexion * a for a in (knuckle, middle, COUPLED * middle)])
    return poses


def _bend(poses: F64, rig: Rig, chain: tuple[int, ...], turns: list[F64]) -> None:
    R, at = np.eye(3), rig.joints_m[chain[0]]
    rotations = Rotation.from_rotvec(turns).as_matrix()
    for number, (joint, child) in enumerate(pairwise(chain)):
        R = R @ rotations[number]
        poses[joint, :3, :3], poses[joint, :3, 3] = R, at
        at = at + R @ (rig.joints_m[child] - rig.joints_m[joint])
    poses[chain[-1], :3, :3], poses[chain[-1], :3, 3] = R, at


@cache
def _grip(rig: Rig, width_mm: int) -> tuple[float, ...]:
    share = min(width_mm / 1000 / _WIDE_M, 1.3)
    bend = (1 - share) * _SPREAD["closed"] + share * _SPREAD["open"]
    posture = np.concatenate([np.zeros(5), np.tile(bend, 4)])
    posture[5:] *= np.repeat([1.0, 1.0, 1.03, 1.06], 2)
    joints = posed(rig, posture)
    index, middle = joints[9], joints[14]
    total = float(bend.sum() + COUPLED * bend[1])
    pad = Rotation.from_rotvec(rig.flexion * min(total, np.radians(95))).as_matrix() @ rig.palm
    thick = rig.radius_m(*CHAINS[1][-2:]) + rig.radius_m(*CHAINS[0][-2:])
    goal = 0.6 * index[:3, 3] + 0.4 * middle[:3, 3] + (width_mm / 1000 + thick) * pad

    def error(thumb: F64) -> F64:
        posture[:5] = thumb
        tip = posed(rig, posture)[CHAINS[0][-1], :3, 3]
        return np.concatenate([(tip - goal) / 0.002, 0.4 * thumb[:3], 0.3 * (thumb[3:] - 0.25)])

    low, high = np.radians([-75, -75, -75, -10, -5]), np.radians([75, 75, 75, 55, 60])
    mirror = 1.0 if rig.side == "right" else -1.0
    opposed = np.radians([-16 * mirror, 2 * mirror, -57, 20, 20])
    posture[:5] = least_squares(error, opposed, bounds=(low, high)).x
    return tuple(float(angle) for angle in posture)


def grip(rig: Rig, width_m: float) -> F64:
    """(13,) posture whose thumb and fingers are ``width_m`` apart, skin to skin, with the thumb opposite to index and
    middle finger."""
    return np.array(_grip(rig, round(1000 * width_m)))


def grip_frame(rig: Rig, posture: F64) -> F64:
    """(4, 4) frame of a grip in the hand's frame: its origin is the middle between thumb tip and finger tips, y points from
    the thumb to the fingers, and z away from the palm."""
    joints = posed(rig, posture)[:, :3, 3]
    thumb, fingers = joints[4], 0.6 * joints[9] + 0.4 * joints[14]
    web = (joints[6] + joints[2]) / 2
    middle = (thumb + fingers) / 2
    return _frame(middle, middle - web, fingers - thumb)


def finger_frame(rig: Rig, posture: F64) -> F64:
    """(4, 4) frame of the pointing index finger in the hand's frame: origin at the tip, z along the finger, y towards the
    back of the hand."""
    joints = posed(rig, posture)[:, :3, 3]
    along = joints[9] - joints[6]
    return _frame(joints[9], along, -rig.palm + 1e-9)


def _frame(origin: F64, z: F64, y: F64) -> F64:
    y = y / np.linalg.norm(y)
    z = z - (z @ y) * y
    T = np.eye(4)
    T[:3, 2] = z / np.linalg.norm(z)
    T[:3, 1] = y
    T[:3, 0] = np.cross(T[:3, 1], T[:3, 2])
    T[:3, 3] = origin
    return T


def aimed(local: F64, at_m: F64, z: F64, y: F64) -> F64:
    """(4, 4) ``T_base_hand`` that brings a frame of the hand to a place, its z and y as near as possible to directions.

    Args:
        local: (4, 4) frame in the hand's frame.
        at_m: (3,) wanted origin in the base frame.
        z: (3,) wanted z, not necessarily square to y.
        y: (3,) wanted y; kept exactly.
    """
    hand: F64 = _frame(
        np.asarray(at_m, np.float64), np.asarray(z, np.float64), np.asarray(y, np.float64)
    ) @ np.linalg.inv(local)
    return hand
