"""What tasks may read from the simulator: positions, speeds and contacts by name."""

from __future__ import annotations

import mujoco
import numpy as np

from stvla_ros.description.panda import BASE_LINK
from stvla_ros.types import F64


class World:
    """A read-only view of one model and its data."""

    def __init__(self, model: mujoco.MjModel, data: mujoco.MjData) -> None:
        self._model, self._data = model, data
        self._root = model.body_rootid[model.geom_bodyid]
        self._robot = model.body(BASE_LINK).id

    def position(self, body: str) -> F64:
        """(3,) m in the base frame."""
        return np.array(self._data.body(body).xpos)

    def pose(self, body: str) -> F64:
        """(4, 4) ``T_base_body``."""
        T = np.eye(4)
        T[:3, :3], T[:3, 3] = self._data.body(body).xmat.reshape(3, 3), self._data.body(body).xpos
        return T

    def speed(self, body: str) -> float:
        """Speed of the body's centre, m/s."""
        velocity = np.zeros(6)
        index = self._model.body(body).id
        mujoco.mj_objectVelocity(self._model, self._data, mujoco.mjtObj.mjOBJ_BODY, index, velocity, 0)
        return float(np.linalg.norm(velocity[3:]))

    def slide(self, joint: str) -> float:
        """Position of a sliding joint, m."""
        return float(self._data.joint(joint).qpos[0])

    def touch(self, body_a: str, body_b: str) -> bool:
        """True when the two are in contact."""
        a, b = self._model.body(body_a).rootid[0], self._model.body(body_b).rootid[0]
        pairs = self._root[self._data.contact.geom]
        return bool(((pairs == (a, b)).all(axis=1) | (pairs == (b, a)).all(axis=1)).any())

    def robot_touches(self, body: str) -> bool:
        """True when any link is in contact with the body."""
        return self.touch(body, BASE_LINK)

    def robot_force_n(self) -> float:
        """Magnitude of the sum of all external forces on the robot.

        The squeeze of the fingers cancels out, so a firm grasp gives the weight of the block.
        """
        on_robot = self._root[self._data.contact.geom] == self._robot
        outside = np.flatnonzero(on_robot[:, 0] ^ on_robot[:, 1]) if len(on_robot) else ()
        total, wrench = np.zeros(3), np.zeros(6)
        for i in outside:
            mujoco.mj_contactForce(self._model, self._data, int(i), wrench)
            force = self._data.contact.frame[i].reshape(3, 3).T @ wrench[:3]
            total += force if on_robot[i, 1] else -force
        return float(np.linalg.norm(total))
