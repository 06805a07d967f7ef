"""Scenes of boxes: depth images, voxels, and MuJoCo models to check paths against."""

from __future__ import annotations

from itertools import pairwise

import mujoco
import numpy as np
from ray_caster import Box, Scene, front_camera

from stvla_ros.description.panda import BASE_LINK
from stvla_ros.description.urdf import ALLOWED_PAIRS, urdf
from stvla_ros.types import Camera, CollisionWorld, RgbdFrame


def box(x: float, y: float, z: float, sx: float, sy: float, sz: float, yaw: float = 0.0) -> Box:
    """A box by its centre and edges."""
    return Box((x, y, z), (sx, sy, sz), yaw, (0.5, 0.5, 0.5))


def depth_image(boxes: list[Box], stamp_ns: int = 0, camera: Camera | None = None) -> RgbdFrame:
    """What a camera (else the front camera) sees of boxes on a table; the robot is not drawn."""
    return Scene(list(boxes)).render(camera or front_camera(320, 240), stamp_ns=stamp_ns)[0]


def world(boxes: list[Box], size_m: float = 0.01) -> CollisionWorld:
    """Voxels that cover the boxes."""
    grids = [np.zeros((0, 3))]
    for thing in boxes:
        low, high = (np.array(thing.centre_m) + sign * np.array(thing.size_m) / 2 for sign in (-1, 1))
        ranges = [np.arange(np.floor(a / size_m), np.ceil(b / size_m)) for a, b in zip(low, high, strict=True)]
        grids.append((np.stack(np.meshgrid(*ranges, indexing="ij"), -1).reshape(-1, 3) + 0.5) * size_m)
    return CollisionWorld(np.concatenate(grids).astype(np.float32), size_m)


class Judge:
    """Says whether postures touch the boxes or the table, with MuJoCo's hulls: independent of the planners' worlds."""

    def __init__(self, boxes: list[Box], held: tuple[np.ndarray, np.ndarray] | None = None) -> None:
        spec = mujoco.MjSpec.from_string(urdf())
        geom_box = mujoco.mjtGeom.mjGEOM_BOX
        spec.worldbody.add_geom(type=geom_box, pos=[0, 0, -0.05], size=[2, 2, 0.0499])
        for thing in boxes:
            spec.worldbody.add_geom(type=geom_box, pos=thing.centre_m, size=np.array(thing.size_m) / 2)
        if held is not None:
            spec.body("panda_hand_tcp").add_geom(type=geom_box, pos=held[0], size=held[1] / 2)
            for finger in ("panda_leftfinger", "panda_rightfinger"):
                spec.add_exclude(bodyname1="panda_hand_tcp", bodyname2=finger)
        for a, b in (*ALLOWED_PAIRS, ("world", BASE_LINK), ("world", "panda_link1")):
            spec.add_exclude(bodyname1=a, bodyname2=b)
        self._model = spec.compile()
        self._data = mujoco.MjData(self._model)

    def free(self, q_rad: np.ndarray, gripper_m: float = 0.08) -> bool:
        self._data.qpos[:7], self._data.qpos[7:9] = q_rad, gripper_m / 2
        mujoco.mj_kinematics(self._model, self._data)
        mujoco.mj_collision(self._model, self._data)
        return bool(self._data.ncon == 0)

    def path_free(self, q_rad: np.ndarray, step_rad: float = 0.02, gripper_m: float = 0.08) -> bool:
        for a, b in pairwise(q_rad):
            count = max(1, int(np.ceil(np.abs(b - a).max() / step_rad)))
            if not all(self.free(a + s * (b - a), gripper_m) for s in np.linspace(0, 1, count + 1)):
                return False
        return True
