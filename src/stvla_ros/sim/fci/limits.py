"""What an FCI allows a client to command, and the reference that follows from the commands.

Limits: libfranka, ``test/fr3.urdf`` and ``include/franka/rate_limiting.h`` (FR3), :mod:`stvla_ros.description.robot`
(Panda). Rules: Franka Control Interface documentation, "Errors due to noncompliant commanded values": a velocity
discontinuity is a violated acceleration limit, an acceleration discontinuity a violated jerk limit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stvla_ros.description.panda import TORQUE_MAX_NM
from stvla_ros.description.robot import PANDA, ArmLimits
from stvla_ros.sim.fci.wire import Error
from stvla_ros.types import F64

CYCLE_S = 0.001

START_POSE_RAD = 0.1
"""Largest distance of the first commanded position from the desired one; the robot's own number is not published."""

MARGIN_RAD = 0.005
"""How far the measured positions may be outside the range: the servos' error."""

TORQUE_RATE_NM_S = 1000.0

_ROUNDING, _SLOW = 1.0 + 1e-3, 1e-3
"""Clients compute with what the state says, in single precision: a factor, and a velocity [rad/s]."""


@dataclass(frozen=True, eq=False)
class FciLimits:
    """Limits of the interface.

    Attributes:
        arm: Range, largest velocity, acceleration and jerk of the joints.
        velocity_offset: (7,) rad/s.
        deceleration: (7,) rad/s^2; both bound the velocity near the ends of the range.
    """

    arm: ArmLimits
    velocity_offset: F64
    deceleration: F64

    def velocity(self, q_rad: F64) -> tuple[F64, F64]:
        """(7,) smallest and largest velocity at these positions, rad/s."""
        return -self._towards(q_rad - self.arm.q_min_rad), self._towards(self.arm.q_max_rad - q_rad)

    def _towards(self, room_rad: F64) -> F64:
        stoppable = np.sqrt(2.0 * self.deceleration * np.maximum(room_rad, 0.0)) - self.velocity_offset
        return np.minimum(np.maximum(stoppable, 0.0), self.arm.velocity)


LIMITS = {
    "panda": FciLimits(PANDA, np.zeros(7), np.full(7, 1e6)),
    "fr3": FciLimits(
        ArmLimits(
            q_min_rad=np.array([-2.7501, -1.7918, -2.9065, -3.0481, -2.8101, 0.54092, -3.0196]),
            q_max_rad=np.array([2.7501, 1.7918, 2.9065, -0.1458, 2.8101, 3.7525, 3.0196]),
            velocity=np.array([2.62, 2.62, 2.62, 2.62, 5.26, 4.18, 5.26]),
            acceleration=np.full(7, 10.0),
            jerk=np.full(7, 5000.0),
        ),
        velocity_offset=np.array([0.30, 0.20, 0.20, 0.30, 0.35, 0.35, 0.35]),
        deceleration=np.array([6.0, 2.585, 3.5, 4.0, 17.0, 5.5, 17.0]),
    ),
}
"""Limits by the model of the arm. The simulated joints are a Panda's: joint 6 ends at its 3.7525 rad, not 4.5205."""


class Reference:
    """Desired positions, velocities and accelerations of the joints: what the client commanded, or its continuation.

    Attributes:
        q: (7,) rad.
        dq: (7,) rad/s.
        ddq: (7,) rad/s^2.
        tau: (7,) Nm, the last commanded torque.
    """

    def __init__(self, limits: FciLimits, q_rad: F64) -> None:
        self._limits = limits
        self.rest(q_rad)

    def rest(self, q_rad: F64) -> None:
        """Stand still at these positions."""
        self.set(q_rad.copy(), np.zeros(7), np.zeros(7))
        self.tau = np.zeros(7)
        self._first = True

    def set(self, q_rad: F64, dq_rad_s: F64, ddq_rad_s2: F64) -> None:
        """Be here, unchecked."""
        self.q, self.dq, self.ddq = q_rad, dq_rad_s, ddq_rad_s2

    def position(self, q_rad: F64) -> list[Error]:
        """Follow a commanded position, or return what is wrong with it."""
        if self._first and not (np.abs(q_rad - self.q) <= START_POSE_RAD).all():
            return [Error.START_POSE_INVALID]
        return self._follow(q_rad, (q_rad - self.q) / CYCLE_S)

    def velocity(self, dq_rad_s: F64) -> list[Error]:
        """Follow a commanded velocity, or return what is wrong with it."""
        return self._follow(self.q + dq_rad_s * CYCLE_S, dq_rad_s)

    def torque(self, tau_nm: F64) -> list[Error]:
        """Take a commanded torque, or return what is wrong with it."""
        jump = not (np.abs(tau_nm - self.tau) <= TORQUE_RATE_NM_S * CYCLE_S * _ROUNDING).all()
        strong = not (np.abs(tau_nm) <= TORQUE_MAX_NM).all()
        if not jump and not strong:
            self.tau = tau_nm
        return [Error.TORQUE_DISCONTINUITY] * jump + [Error.TORQUE_RANGE] * strong

    def finish(self) -> list[Error]:
        """End a motion here; returns what is wrong when it is still moving."""
        at_rest = (np.abs(self.dq) <= self._limits.arm.acceleration * CYCLE_S * _ROUNDING).all()
        return [] if at_rest else [Error.VELOCITY_DISCONTINUITY]

    def extrapolate(self) -> None:
        """Go on with the present acceleration, as a robot does when a command is missing."""
        self.dq = self.dq + self.ddq * CYCLE_S
        self.q = self.q + self.dq * CYCLE_S

    def _follow(self, q: F64, dq: F64) -> list[Error]:
        ddq = (dq - self.dq) / CYCLE_S
        jerk = (ddq - self.ddq) / CYCLE_S
        arm = self._limits.arm
        low, high = self._limits.velocity(q)
        wrong = {
            Error.COMMANDED_POSITION_LIMITS: self._leaves(q, dq),
            Error.COMMANDED_VELOCITY_LIMITS: not ((dq <= high + _SLOW) & (dq >= low - _SLOW)).all(),
            Error.VELOCITY_DISCONTINUITY: not (np.abs(ddq) <= arm.acceleration * _ROUNDING).all(),
            Error.ACCELERATION_DISCONTINUITY: not (np.abs(jerk) <= arm.jerk * _ROUNDING).all(),
        }
        errors = [error for error, is_wrong in wrong.items() if is_wrong]
        if not errors:
            self.q, self.dq, self.ddq, self._first = q, dq, ddq, False
        return errors

    def _leaves(self, q: F64, dq: F64, margin_rad: float = 0.0) -> bool:
        """Outside the range and on the way further out."""
        low, high = self._limits.arm.q_min_rad - margin_rad, self._limits.arm.q_max_rad + margin_rad
        return bool((((q > high) & (dq > _SLOW)) | ((q < low) & (dq < -_SLOW))).any())

    def measured(self, q: F64, dq: F64) -> list[Error]:
        """What is wrong with the measured motion."""
        wrong = [Error.JOINT_POSITION_LIMITS] if self._leaves(q, dq, MARGIN_RAD) else []
        fast = (np.abs(dq) > 1.1 * self._limits.arm.velocity).any()
        return [*wrong, *((Error.JOINT_VELOCITY,) if fast else ())]
