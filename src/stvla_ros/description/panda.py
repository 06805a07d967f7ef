"""Facts of the Franka Emika Panda with its hand: kinematics, limits, masses.

Kinematics and limits: Franka Control Interface documentation, "Robot and interface specifications".
Inertial parameters of the arm: C. Gaz et al., "Dynamic Identification of the Franka Emika Panda Robot
With Retrieval of Feasible Parameters Using Penalty-Based Optimization", RA-L 4(4), 2019. Hand: Franka's
end-effector configuration (0.73 kg).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import pi

import numpy as np

from stvla_ros.types import F64


def _fixed(values: object) -> F64:
    array = np.array(values, dtype=np.float64)
    array.flags.writeable = False
    return array


@dataclass(frozen=True)
class Inertial:
    """Mass properties of a link in its own frame.

    Attributes:
        mass_kg: Mass.
        com_m: Centre of mass.
        inertia_kgm2: ixx, iyy, izz, ixy, ixz, iyz about the centre of mass, axes of the link frame.
    """

    mass_kg: float
    com_m: tuple[float, float, float]
    inertia_kgm2: tuple[float, float, float, float, float, float]


@dataclass(frozen=True)
class Joint:
    """How a link is attached to its parent.

    Attributes:
        name: Joint name as in Franka's descriptions.
        kind: ``revolute``, ``prismatic`` or ``fixed``.
        parent: Parent link.
        child: Child link; its frame is the joint's frame.
        xyz_m: Origin in the parent frame.
        rpy_rad: Roll, pitch, yaw (URDF: fixed axes x, y, z) of the child frame at zero.
        axis: Axis in the child frame.
        lower: Lower limit, rad or m.
        upper: Upper limit, rad or m.
        velocity: Limit, rad/s or m/s.
        effort: Limit, Nm or N.
    """

    name: str
    kind: str
    parent: str
    child: str
    xyz_m: tuple[float, float, float] = (0.0, 0.0, 0.0)
    rpy_rad: tuple[float, float, float] = (0.0, 0.0, 0.0)
    axis: tuple[float, float, float] = (0.0, 0.0, 1.0)
    lower: float = 0.0
    upper: float = 0.0
    velocity: float = 0.0
    effort: float = 0.0


BASE_LINK = "panda_link0"
HAND_LINK = "panda_hand"
TCP_LINK = "panda_hand_tcp"
FINGER_LINKS = ("panda_leftfinger", "panda_rightfinger")
ARM_JOINTS = tuple(f"panda_joint{i}" for i in range(1, 8))
FINGER_JOINTS = ("panda_finger_joint1", "panda_finger_joint2")

TCP_OFFSET_M = 0.1034
"""Distance from the hand frame along z to the point between the fingertips (Franka's default NE_T_EE)."""

FINGERTIP_M = 0.009
"""So far beyond that point the closed fingertips reach: half the height of the pads of Franka's fingers."""

MAX_WIDTH_M = 0.08
"""Distance between the fingers when open; each finger travels half of it."""

HOME_Q_RAD = _fixed([0.0, -pi / 4, 0.0, -3 * pi / 4, 0.0, pi / 2, pi / 4])

Q_MIN_RAD = _fixed([-2.8973, -1.7628, -2.8973, -3.0718, -2.8973, -0.0175, -2.8973])
Q_MAX_RAD = _fixed([2.8973, 1.7628, 2.8973, -0.0698, 2.8973, 3.7525, 2.8973])
V_MAX_RAD_S = _fixed([2.1750, 2.1750, 2.1750, 2.1750, 2.6100, 2.6100, 2.6100])
A_MAX_RAD_S2 = _fixed([15.0, 7.5, 10.0, 12.5, 15.0, 20.0, 20.0])
J_MAX_RAD_S3 = _fixed([7500.0, 3750.0, 5000.0, 6250.0, 7500.0, 10000.0, 10000.0])
TORQUE_MAX_NM = _fixed([87.0, 87.0, 87.0, 87.0, 12.0, 12.0, 12.0])


def _arm(i: int, xyz: tuple[float, float, float], roll: float) -> Joint:
    parent, child = f"panda_link{i}", f"panda_link{i + 1}"
    limits = (float(x[i]) for x in (Q_MIN_RAD, Q_MAX_RAD, V_MAX_RAD_S, TORQUE_MAX_NM))
    return Joint(ARM_JOINTS[i], "revolute", parent, child, xyz, (roll, 0.0, 0.0), (0.0, 0.0, 1.0), *limits)


def _finger(i: int) -> Joint:
    axis = (0.0, 1.0 - 2.0 * i, 0.0)
    return Joint(
        FINGER_JOINTS[i], "prismatic", HAND_LINK, FINGER_LINKS[i], (0.0, 0.0, 0.0584), axis=axis,
        lower=0.0, upper=MAX_WIDTH_M / 2, velocity=0.1, effort=70.0,
    )  # fmt: skip


JOINTS: tuple[Joint, ...] = (
    _arm(0, (0.0, 0.0, 0.333), 0.0),
    _arm(1, (0.0, 0.0, 0.0), -pi / 2),
    _arm(2, (0.0, -0.316, 0.0), pi / 2),
    _arm(3, (0.0825, 0.0, 0.0), pi / 2),
    _arm(4, (-0.0825, 0.384, 0.0), -pi / 2),
    _arm(5, (0.0, 0.0, 0.0), pi / 2),
    _arm(6, (0.088, 0.0, 0.0), pi / 2),
    Joint("panda_joint8", "fixed", "panda_link7", "panda_link8", (0.0, 0.0, 0.107)),
    Joint("panda_hand_joint", "fixed", "panda_link8", HAND_LINK, rpy_rad=(0.0, 0.0, -pi / 4)),
    Joint("panda_hand_tcp_joint", "fixed", HAND_LINK, TCP_LINK, (0.0, 0.0, TCP_OFFSET_M)),
    _finger(0),
    _finger(1),
)
"""Parents before children."""

INERTIALS: dict[str, Inertial] = {
    "panda_link0": Inertial(0.629769, (-0.041018, -0.00014, 0.049974), (3.15e-3, 3.88e-3, 4.285e-3, 8.2904e-7, 1.5e-4, 8.2299e-6)),
    "panda_link1": Inertial(4.970684, (3.875e-3, 2.081e-3, -0.04762), (0.70337, 0.70661, 9.117e-3, -1.39e-4, 6.772e-3, 1.9169e-2)),
    "panda_link2": Inertial(0.646926, (-3.141e-3, -0.02872, 3.495e-3), (7.962e-3, 2.811e-2, 2.5995e-2, -3.925e-3, 1.0254e-2, 7.04e-4)),
    "panda_link3": Inertial(3.228604, (2.7518e-2, 3.9252e-2, -6.6502e-2), (0.037242, 0.036155, 0.01083, -0.004761, -0.011396, -0.012805)),
    "panda_link4": Inertial(3.587895, (-5.317e-2, 0.104419, 2.7454e-2), (2.5853e-2, 1.9552e-2, 2.8323e-2, 7.796e-3, -1.332e-3, 8.641e-3)),
    "panda_link5": Inertial(1.225946, (-1.1953e-2, 4.1065e-2, -3.8437e-2), (3.5549e-2, 2.9474e-2, 8.627e-3, -2.117e-3, -4.037e-3, 2.29e-4)),
    "panda_link6": Inertial(1.666555, (6.0149e-2, -1.4117e-2, -1.0517e-2), (1.964e-3, 4.354e-3, 5.433e-3, 1.09e-4, -1.158e-3, 3.41e-4)),
    "panda_link7": Inertial(0.735522, (1.0517e-2, -4.252e-3, 6.1597e-2), (1.2516e-2, 1.0027e-2, 4.815e-3, -4.28e-4, -1.196e-3, -7.41e-4)),
    "panda_hand": Inertial(0.73, (-0.01, 0.0, 0.03), (1e-3, 2.5e-3, 1.7e-3, 0.0, 0.0, 0.0)),
    "panda_leftfinger": Inertial(0.015, (0.0, 0.0, 0.0), (2.375e-6, 2.375e-6, 7.5e-7, 0.0, 0.0, 0.0)),
    "panda_rightfinger": Inertial(0.015, (0.0, 0.0, 0.0), (2.375e-6, 2.375e-6, 7.5e-7, 0.0, 0.0, 0.0)),
}  # fmt: skip

LINKS: tuple[str, ...] = tuple(INERTIALS)
"""Links with a body, base first."""
