"""Where the arm is along a path: which hulls, and which part of the held object, touch given boxes or leave a fence."""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np

from stvla_ros.description.panda import BASE_LINK, TCP_LINK
from stvla_ros.description.urdf import urdf
from stvla_ros.types import F64, Box

HELD = "the held object"
ELBOW_LINK = "panda_link4"
_FIXED = (BASE_LINK, "panda_link1")
"""They never leave their place, so no path can bring them into a zone."""

_ARM, _ZONE = (1, 0), (0, 1)  # contype, conaffinity: arm against zones only, never with itself
_NOTHING = (0, 0)


@dataclass(frozen=True, eq=False)
class Touch:
    """A part of the arm in a zone, at one posture.

    Attributes:
        sample: Index of the posture.
        zone: Name of the zone.
        part: Name of a link, or :data:`HELD`.
        place_m: (3,) where, in the base frame.
        depth_m: How deep.
    """

    sample: int
    zone: str
    part: str
    place_m: F64
    depth_m: float


@dataclass(frozen=True, eq=False)
class Sweep:
    """What postures do.

    Attributes:
        touches: Every part in every zone, by sample.
        tool_m: (K, 3) tool centre point.
        elbow_m: (K, 3) origin of link 4, the elbow.
        links: Names of the links, in the order of ``poses``.
        poses: (K, L, 4, 4) ``T_base_link``.
    """

    touches: list[Touch]
    tool_m: F64
    elbow_m: F64
    links: tuple[str, ...]
    poses: F64


class ArmVolume:
    """The arm's hulls and a held box among zones, in MuJoCo. One instance serves one thread."""

    def __init__(self, fence_m: F64, boxes_m: dict[str, F64]) -> None:
        """Set the zones.

        Args:
            fence_m: (2, 3) opposite corners of the space that nothing may leave: each of its sides is a zone.
            boxes_m: Name of a zone -> (2, 3) opposite corners.
        """
        self._spec = mujoco.MjSpec.from_string(urdf())
        for geom in self._spec.geoms:
            geom.contype, geom.conaffinity = _NOTHING if geom.parent.name in _FIXED else _ARM
        low, high = fence_m
        for i, axis in enumerate("xyz"):
            self._add_side(f"{axis} >= {low[i]:g} m", low, np.eye(3)[i])
            self._add_side(f"{axis} <= {high[i]:g} m", high, -np.eye(3)[i])
        for name, corners in boxes_m.items():
            self._add(self._spec.worldbody, name, corners.mean(axis=0), np.ptp(corners, axis=0), _ZONE)
        self._held: Box | None = None
        self._compile()

    def sweep(self, q_rad: F64, gripper_m: float, held: Box | None) -> Sweep:
        """What (K, 7) postures touch, with the fingers ``gripper_m`` apart and a box in the tool frame, or None."""
        if held is not self._held:
            self._hold(held)
        data, touches = self._data, []
        data.qpos[7:9] = gripper_m / 2
        places = np.empty((len(q_rad), self._model.nbody, 3))
        turns = np.empty((len(q_rad), self._model.nbody, 9))
        for k, q in enumerate(q_rad):
            data.qpos[:7] = q
            mujoco.mj_kinematics(self._model, data)
            mujoco.mj_collision(self._model, data)
            places[k], turns[k] = data.xpos, data.xmat
            if data.ncon:
                touches += self._touches(k)
        poses = np.tile(np.eye(4), (*places.shape[:2], 1, 1))
        poses[..., :3, :3], poses[..., :3, 3] = turns.reshape(*places.shape, 3), places
        tool, elbow = (places[:, self._bodies.index(name)] for name in (TCP_LINK, ELBOW_LINK))
        return Sweep(touches, tool, elbow, self._bodies, poses)

    def _touches(self, sample: int) -> list[Touch]:
        contact = self._data.contact
        found = []
        for (a, b), place, distance in zip(contact.geom.tolist(), contact.pos, contact.dist.tolist(), strict=True):
            zone, part = (self._zones[a], self._parts[b]) if self._zones[a] else (self._zones[b], self._parts[a])
            found.append(Touch(sample, zone, part, place.copy(), -distance))
        return found

    def _hold(self, held: Box | None) -> None:
        if self._held is not None:
            self._spec.delete(self._spec.geom(HELD))
        self._held = held
        if held is not None:
            quat = np.zeros(4)
            mujoco.mju_mat2Quat(quat, held.T_frame_box[:3, :3].ravel())
            geom = self._add(self._spec.body(TCP_LINK), HELD, held.T_frame_box[:3, 3], held.size_m, _ARM)
            geom.quat = quat
        self._compile()

    def _compile(self) -> None:
        self._model = self._spec.compile()
        self._data = mujoco.MjData(self._model)
        model = self._model
        self._bodies = tuple(model.body(i).name for i in range(model.nbody))
        names = [model.geom(i).name for i in range(model.ngeom)]
        self._zones = [name if model.geom_bodyid[i] == 0 else "" for i, name in enumerate(names)]
        self._parts = [HELD if name == HELD else self._bodies[model.geom_bodyid[i]] for i, name in enumerate(names)]

    def _add_side(self, name: str, corner_m: F64, inwards: F64) -> None:
        quat = np.zeros(4)
        mujoco.mju_quatZ2Vec(quat, inwards)
        geom = self._add(self._spec.worldbody, name, corner_m, np.ones(3), _ZONE)
        geom.type, geom.quat = mujoco.mjtGeom.mjGEOM_PLANE, quat

    def _add(
        self, body: mujoco.MjsBody, name: str, centre_m: F64, size_m: F64, kind: tuple[int, int]
    ) -> mujoco.MjsGeom:
        contype, conaffinity = kind
        return body.add_geom(
            name=name, type=mujoco.mjtGeom.mjGEOM_BOX, pos=centre_m, size=np.asarray(size_m) / 2,
            contype=contype, conaffinity=conaffinity,
        )  # fmt: skip
