"""The arm's state: what is measured, felt and desired, as the record that a client receives."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stvla_ros.sim.fci import wire
from stvla_ros.sim.fci.cell import FciCell
from stvla_ros.sim.fci.limits import CYCLE_S, Reference
from stvla_ros.sim.fci.model import F_T_NE, MASS_KG, inertia
from stvla_ros.sim.fci.wire import Error
from stvla_ros.types import F64, Bool

FILTER_S = 0.02
"""Time constant of the estimated external torques."""

ELBOW_FLIP_RAD = -0.467002423653011
"""Position of joint 4 where the elbow flips: Franka Control Interface documentation."""

GRAVITY_M_S2 = 9.81

SINGULAR = 0.02
"""Directions in which the arm is weaker than this, compared with its strongest one, show no force."""


@dataclass(frozen=True, eq=False)
class Thresholds:
    """Where a contact is felt and where it is a collision: each (13,), 7 torques [Nm], force [N], moment [Nm].

    ``steady`` at constant velocity, ``changing`` while the reference accelerates.
    """

    felt_changing: F64
    hit_changing: F64
    felt_steady: F64
    hit_steady: F64


def _same(torque_nm: float, force_n: float, moment_nm: float) -> F64:
    return np.array([*[torque_nm] * 7, *[force_n] * 3, *[moment_nm] * 3])


_FELT, _HIT = _same(10.0, 10.0, 10.0), _same(40.0, 60.0, 30.0)


class ArmState:
    """Writes the state of every millisecond.

    Attributes:
        record: (1,) what the client receives.
        value: The same as one value, whose fields can be read and set.
        thresholds: Of contacts and collisions.
    """

    def __init__(self, cell: FciCell) -> None:
        self._cell = cell
        self.record = np.zeros(1, wire.ARM_STATE)
        self.value: np.void = self.record[0]
        self.thresholds = Thresholds(_FELT, _HIT, _FELT, _HIT)
        self._force = np.zeros(13)
        self._pose = np.eye(4)
        self._frames = {"F_T_NE": F_T_NE, "NE_T_EE": np.eye(4), "EE_T_K": np.eye(4)}
        self.set_frame("NE_T_EE", np.eye(4))
        self.value["m_ee"], (self.value["F_x_Cee"], self.value["I_ee"]) = MASS_KG, inertia()
        self.value["O_ddP_O"] = (0.0, 0.0, -GRAVITY_M_S2)
        self.set_load(0.0, np.zeros(3), np.zeros(9))

    def set_frame(self, name: str, T: F64) -> None:
        """Move the end effector ``NE_T_EE`` or the stiffness frame ``EE_T_K``; (4, 4)."""
        self._frames[name] = T
        self._F_T_EE = F_T_NE @ self._frames["NE_T_EE"]
        self._F_T_K = self._F_T_EE @ self._frames["EE_T_K"]
        for field, frame in (*self._frames.items(), ("F_T_EE", self._F_T_EE)):
            self.value[field] = frame.T.ravel()

    def set_load(self, mass_kg: float, com_m: F64, inertia_kgm2: F64) -> None:
        """Know what is held: mass, centre of mass (3,) in the flange's frame, inertia (9,)."""
        self.value["m_load"], self.value["F_x_Cload"], self.value["I_load"] = mass_kg, com_m, inertia_kgm2
        self._load = (mass_kg * GRAVITY_M_S2, np.eye(4))
        self._load[1][:3, 3] = com_m

    def forget(self) -> None:
        """Feel nothing: the arm is elsewhere at once."""
        self._force[:] = 0.0

    def feel(self, reference: Reference) -> list[Error]:
        """Estimate external torques and the wrench at the stiffness frame; returns what is a collision."""
        value, force = self.value, self._force
        unexplained = -self._cell.torque[2] - self._load_torque()
        force[:7] += (unexplained - force[:7]) * (CYCLE_S / FILTER_S)
        if (np.abs(force[:7]) < 1e-3).all():
            force[:] = 0.0
            value["K_F_ext_hat_K"] = 0.0
        else:
            self._estimate_wrench(force)
        value["tau_ext_hat_filtered"], value["O_F_ext_hat_K"] = force[:7], force[7:]
        limits, changing = self.thresholds, (np.abs(reference.ddq) > 0.1).any()
        felt, hit = (limits.felt_changing, limits.hit_changing) if changing else (limits.felt_steady, limits.hit_steady)
        contact_felt: Bool = np.abs(force) > felt
        over: Bool = np.abs(force) > hit
        value["joint_contact"], value["cartesian_contact"] = contact_felt[:7], contact_felt[7:]
        value["joint_collision"], value["cartesian_collision"] = over[:7], over[7:]
        return [Error.JOINT_REFLEX] * bool(over[:7].any()) + [Error.CARTESIAN_REFLEX] * bool(over[7:].any())

    def measure(self, reference: Reference) -> None:
        """Write the time, the joints, the tool, and what is desired of them."""
        value, cell = self.value, self._cell
        motor, gravity, _ = cell.torque
        tau = motor + gravity
        value["message_id"] += 1
        value["dtau_J"] = (tau - value["tau_J"]) / CYCLE_S
        value["tau_J"], value["tau_J_d"] = tau, motor
        value["q"] = value["theta"] = cell.q
        value["dq"] = value["dtheta"] = cell.dq
        value["q_d"], value["dq_d"], value["ddq_d"] = reference.q, reference.dq, reference.ddq
        value["O_T_EE"] = self._end_effector(*cell.flange())
        rotation, position, jacobian = cell.flange_at(reference.q)
        value["O_T_EE_d"] = value["O_T_EE_c"] = self._end_effector(rotation, position)
        value["O_dP_EE_d"] = value["O_dP_EE_c"] = _moved(jacobian, rotation, self._F_T_EE) @ reference.dq
        value["elbow"] = (cell.q[2], _flip(cell.q))
        value["elbow_d"] = value["elbow_c"] = (reference.q[2], _flip(reference.q))

    def _load_torque(self) -> F64:
        """(7,) what holding the load takes, as far as it is known."""
        weight_n, F_T_load = self._load
        if weight_n == 0.0:
            return np.zeros(7)
        rotation, _, jacobian = self._cell.flange_at(self._cell.q)
        return weight_n * _moved(jacobian, rotation, F_T_load)[2]

    def _estimate_wrench(self, force: F64) -> None:
        """The wrench at the stiffness frame that explains the external torques best."""
        rotation, _, jacobian = self._cell.flange_at(self._cell.q)
        J = _moved(jacobian, rotation, self._F_T_K)
        force[7:] = np.linalg.lstsq(J.T, force[:7], rcond=SINGULAR)[0]
        turn = (rotation.reshape(3, 3) @ self._F_T_K[:3, :3]).T
        self.value["K_F_ext_hat_K"] = (turn @ force[7:].reshape(2, 3).T).T.ravel()

    def _end_effector(self, rotation: F64, position: F64) -> F64:
        """(16,) ``O_T_EE`` from the flange's pose."""
        T = self._pose
        T[:3, :3], T[:3, 3] = rotation.reshape(3, 3), position
        return (T @ self._F_T_EE).T.ravel()


def _moved(jacobian: F64, rotation: F64, T: F64) -> F64:
    """The flange's Jacobian for a point fixed to it: ``v + w x r``."""
    x, y, z = rotation.reshape(3, 3) @ T[:3, 3]
    J = jacobian.copy()
    J[:3] += np.array([[0.0, z, -y], [-z, 0.0, x], [y, -x, 0.0]]) @ J[3:]
    return J


def _flip(q_rad: F64) -> float:
    return 1.0 if q_rad[3] > ELBOW_FLIP_RAD else -1.0
