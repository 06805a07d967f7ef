"""The simulated cell in steps of one millisecond, whose joints follow what the arm's and the hand's control ask for."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import replace

import mujoco
import numpy as np

from stvla_ros.description.panda import FINGER_LINKS
from stvla_ros.sim.arm import ARM_KD_S, ARM_KP, gripper_actuator_force
from stvla_ros.sim.cell import Cell, CellConfig
from stvla_ros.sim.scene import Scene
from stvla_ros.sim.tasks import Task
from stvla_ros.types import F64

STEP_S = 0.001
FLANGE_LINK = "panda_link8"
_KP = np.array(ARM_KP)


class FciCell(Cell):
    """A cell that libfranka's client moves. Time advances only in :meth:`step`.

    The joints' servos are the cell's own, with feed-forward of the velocity. A torque instead of a position switches
    them off. One thread steps, drives and measures, all of it in :meth:`held`.

    Attributes:
        q: (7,) measured positions, a view of the physics.
        dq: (7,) measured velocities, a view of the physics.
        layout: Counts how often the scene was laid out or set: the arm is elsewhere at once.
    """

    q: F64
    dq: F64
    layout = 0
    _servos: bool

    def __init__(self, config: CellConfig | None = None) -> None:
        super().__init__(replace(config or CellConfig(), timestep_s=STEP_S))

    def held(self) -> AbstractContextManager[None]:
        """Keep others from laying out another scene."""
        return self._lock

    def step(self) -> None:
        """One millisecond. Positions and contacts are those of its end."""
        with self._lock:
            mujoco.mj_step2(self._model, self._data)
            mujoco.mj_step1(self._model, self._data)
            self._steps += 1
            if np.abs(self._finger_speeds).max() > 0.002:
                self._fingers_moved_s = self._now_s
            if self._task is not None:
                self._task.watch(self._world)

    def drive(self, q_rad: F64, dq_rad_s: F64) -> None:
        """Let the servos follow (7,) positions and velocities."""
        self._use_servos(True)
        self._arm_command[:] = q_rad + ARM_KD_S * dq_rad_s

    def push(self, tau_nm: F64) -> None:
        """Apply (7,) torques besides those against gravity, instead of the servos."""
        self._use_servos(False)
        self._arm_command[:] = tau_nm

    def close_hand(self, width_m: float, force_n: float) -> None:
        """Let the fingers follow a width, with at most this force each."""
        self._data.ctrl[self._grip_ctrl] = width_m / 2
        limit = gripper_actuator_force(force_n)
        self._model.actuator_forcerange[self._grip_ctrl] = (-limit, limit)

    @property
    def width_m(self) -> float:
        """Distance between the fingers."""
        return self._width_m

    @property
    def torque(self) -> tuple[F64, F64, F64]:
        """(7,) torques of the motors, against gravity, and by contacts and the joints' ends. Views."""
        return self._torques

    def flange(self) -> tuple[F64, F64]:
        """Rotation (9,), row-major, and position (3,) of the flange in the base frame. Views."""
        return self._data.xmat[self._flange], self._data.xpos[self._flange]

    def flange_at(self, q_rad: F64) -> tuple[F64, F64, F64]:
        """Rotation (9,), position (3,) and Jacobian (6, 7) of the flange for other joint positions."""
        ghost = self._ghost
        ghost.qpos[: len(q_rad)] = q_rad
        mujoco.mj_kinematics(self._model, ghost)
        mujoco.mj_comPos(self._model, ghost)
        jacobian = self._jacobian
        mujoco.mj_jacBody(self._model, ghost, jacobian[:3], jacobian[3:], self._flange)
        return ghost.xmat[self._flange], ghost.xpos[self._flange], jacobian[:, :7]

    def fingers_touch(self) -> bool:
        """Both fingers are in contact with something else than the robot."""
        with self._lock:
            pairs = self._model.geom_bodyid[self._data.contact.geom]
            outside = (self._model.body_rootid[pairs] != self._robot_root).any(axis=1)
            return all(bool((pairs[outside] == finger).any()) for finger in self._finger_bodies)

    def _use_servos(self, on: bool) -> None:
        if on is not self._servos:
            self._servos = on
            model, arm = self._model, self._arm_ctrl
            model.actuator_gainprm[arm, 0] = _KP if on else 1.0
            model.actuator_biasprm[arm, 1] = -_KP if on else 0.0
            model.actuator_biasprm[arm, 2] = -ARM_KD_S * _KP if on else 0.0

    def _load(self, task: Task | None, scene: Scene, model: mujoco.MjModel) -> None:
        self._servos, self._ghost = True, mujoco.MjData(model)
        self._jacobian = np.zeros((6, model.nv))
        super()._load(task, scene, model)

    def _rest(self, q_rad: F64, gripper_m: float) -> None:
        super()._rest(q_rad, gripper_m)
        model, data = self._model, self._data
        assert (self._arm_dofs == np.arange(7)).all(), "the arm is first in the model"
        self.layout += 1
        self.q, self.dq = data.qpos[:7], data.qvel[:7]
        self._torques = (data.qfrc_actuator[:7], data.qfrc_gravcomp[:7], data.qfrc_constraint[:7])
        self._arm_command, self._finger_speeds = data.ctrl[self._arm_ctrl[0] : self._arm_ctrl[-1] + 1], data.qvel[7:9]
        self._flange = model.body(FLANGE_LINK).id
        self._finger_bodies = [model.body(name).id for name in FINGER_LINKS]
        self._robot_root = model.body_rootid[self._flange]
        self.drive(q_rad, np.zeros(7))
        self.close_hand(gripper_m, self.config.gripper_force_n)
