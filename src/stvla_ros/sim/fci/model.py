"""What the arm says about itself: its URDF without a hand, and the hand as its end effector."""

from __future__ import annotations

from math import pi

import numpy as np

from stvla_ros.description.kinematics import rpy_matrix
from stvla_ros.description.panda import FINGER_LINKS, HAND_LINK, INERTIALS, JOINTS, TCP_OFFSET_M, Inertial, Joint
from stvla_ros.sim.fci.limits import FciLimits
from stvla_ros.types import F64

_R_FLANGE_HAND = rpy_matrix((0.0, 0.0, -pi / 4))


def _nominal_end_effector() -> F64:
    T = np.eye(4)
    T[:3, :3], T[2, 3] = _R_FLANGE_HAND, TCP_OFFSET_M
    return T


F_T_NE = _nominal_end_effector()
"""(4, 4) the point between the fingertips in the flange's frame."""

MASS_KG = sum(INERTIALS[link].mass_kg for link in (HAND_LINK, *FINGER_LINKS))


def inertia() -> tuple[F64, F64]:
    """Centre of mass (3,) of the hand in the flange's frame, and its inertia (9,) about it. Fingers count as points."""
    hand, finger = INERTIALS[HAND_LINK], INERTIALS[FINGER_LINKS[0]]
    tips = np.array([0.0, 0.0, 0.0584])
    com = (hand.mass_kg * np.array(hand.com_m) + 2 * finger.mass_kg * tips) / MASS_KG
    moments = _matrix(hand) + _of_point(hand.mass_kg, np.array(hand.com_m) - com)
    moments += _of_point(2 * finger.mass_kg, tips - com)
    R = _R_FLANGE_HAND
    return R @ com, (R @ moments @ R.T).T.ravel()


def _matrix(body: Inertial) -> F64:
    xx, yy, zz, xy, xz, yz = body.inertia_kgm2
    return np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])


def _of_point(mass_kg: float, r_m: F64) -> F64:
    return mass_kg * (float(r_m @ r_m) * np.eye(3) - np.outer(r_m, r_m))


def robot_model(limits: FciLimits) -> str:
    """URDF of the arm up to its flange ``link8``, as an FR3 answers GetRobotModel: names without prefix, velocity limits
    by position. libfranka computes dynamics and rate limits from it."""
    links = [link for link in INERTIALS if link != HAND_LINK and link not in FINGER_LINKS]
    arm = [joint for joint in JOINTS if joint.child in links]
    flange = next(joint for joint in JOINTS if joint.child == "panda_link8")
    lines = ['<?xml version="1.0"?>', '<robot name="fr3">', *map(_link, links), '<link name="link8"/>']
    lines += [_revolute(joint, i, limits) for i, joint in enumerate(arm)]
    lines += [f'<joint name="joint8" type="fixed">{_place(flange)}</joint>', "</robot>"]
    return "\n".join(lines) + "\n"


def _numbers(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:.12g}" for value in values)


def _link(name: str) -> str:
    body = INERTIALS[name]
    moments = zip(("ixx", "iyy", "izz", "ixy", "ixz", "iyz"), body.inertia_kgm2, strict=True)
    inertia = " ".join(f'{axis}="{value:.12g}"' for axis, value in moments)
    origin = f'<origin xyz="{_numbers(body.com_m)}"/><mass value="{body.mass_kg:.12g}"/>'
    return f'<link name="{_short(name)}"><inertial>{origin}<inertia {inertia}/></inertial></link>'


def _revolute(joint: Joint, i: int, limits: FciLimits) -> str:
    arm = limits.arm
    bounds = f'lower="{arm.q_min_rad[i]:.12g}" upper="{arm.q_max_rad[i]:.12g}" velocity="{arm.velocity[i]:.12g}"'
    by_position = (
        f'velocity_offset="{limits.velocity_offset[i]:.12g}" deceleration_limit="{limits.deceleration[i]:.12g}"'
    )
    return (
        f'<joint name="joint{i + 1}" type="revolute">{_place(joint)}<axis xyz="{_numbers(joint.axis)}"/>'
        f'<limit {bounds} effort="{joint.effort:.12g}"/><position_based_velocity_limits {by_position}/></joint>'
    )


def _place(joint: Joint) -> str:
    origin = f'<origin xyz="{_numbers(joint.xyz_m)}" rpy="{_numbers(joint.rpy_rad)}"/>'
    return f'<parent link="{_short(joint.parent)}"/><child link="{_short(joint.child)}"/>{origin}'


def _short(link: str) -> str:
    return link.removeprefix("panda_")
