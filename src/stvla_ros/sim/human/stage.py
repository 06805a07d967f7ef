"""A table with things on it and a hand, as one MuJoCo model in which everything is placed, nothing simulated."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import mujoco
import numpy as np

from stvla_ros.sim.camera import TRIPOD, TripodCameraConfig, add_camera, make_camera
from stvla_ros.sim.household import Finish, Household
from stvla_ros.sim.human.hand import posed
from stvla_ros.sim.human.rig import CHAINS, FINGERS, KEYPOINTS, Rig
from stvla_ros.sim.looks import add_hard_surroundings
from stvla_ros.sim.materials import add_surroundings
from stvla_ros.sim.meshes import turned
from stvla_ros.sim.rendering import Renderer, set_quality
from stvla_ros.sim.sensor import Sensor, SensorConfig
from stvla_ros.sim.textures import Rgb
from stvla_ros.types import F32, F64, I32, U8, Camera

SKIN_TONES: tuple[Rgb, ...] = tuple(
    (int(code[:2], 16) / 255, int(code[2:4], 16) / 255, int(code[4:], 16) / 255)
    for code in ("f6ede4", "f3e7db", "f7ead0", "eadaba", "d7bd96", "a07e56", "825c43", "604134", "3a312a", "292420")
)
"""The ten tones of the Monk Skin Tone scale (Monk, 2023)."""

FOREARM_M = 0.9
"""Drawn length of the arm behind the wrist, straight: it leaves the image before it ends."""

WRIST_BEND_RAD = np.radians(55.0)
"""The forearm turns away from the hand's axis by at most this (range of motion of a wrist: 60 to 80 degrees)."""

_TOUCH_GROUP = 3
"""Of geoms that are not drawn."""

_FAR_M = 0.5
_ANGLES_OF = {"thumb": slice(0, 5)} | {name: slice(5 + 2 * i, 7 + 2 * i) for i, name in enumerate(FINGERS[1:])}


@dataclass(frozen=True, eq=False)
class Pose:
    """Where everything is at an instant.

    Attributes:
        T_base_hand: (4, 4) the hand's frame.
        posture: (13,) its angles, see :mod:`stvla_ros.sim.human.hand`.
        T_base_thing: (4, 4) of each thing by name; its origin is the middle of its underside.
    """

    T_base_hand: F64
    posture: F64
    T_base_thing: Mapping[str, F64]


class Stage:
    """The model, and what can be measured and seen in it.

    Args:
        rig: The hand.
        things: What stands there; every one can be moved.
        boxed: Names of those whose boxes fingers meet, because their hull would fill what is hollow.
        elbow_m: (3,) where the forearm comes from.
        camera: Who looks.
        look: One of :data:`stvla_ros.sim.LOOKS`.
        sensor: Defects of the camera.
        skin: Colour of the hand.
        sleeve: Colour of the sleeve, and how far from the wrist it begins [m].
        seed: Decides the noise and a hard look.
    """

    def __init__(
        self, rig: Rig, things: Sequence[Household], boxed: Collection[str], elbow_m: F64, camera: TripodCameraConfig, look: str,
        sensor: SensorConfig, skin: Rgb, sleeve: tuple[Rgb, float], seed: int,
    ) -> None:  # fmt: skip
        self.rig, self.things, self._elbow_m = rig, {thing.name: thing for thing in things}, elbow_m
        self.camera: Camera = make_camera(camera)
        self._shadows = camera.shadows or look != "plain"
        spec = mujoco.MjSpec()
        spec.compiler.degree = False
        set_quality(spec, camera.width_px, camera.height_px)
        add_hard_surroundings(spec, seed) if look == "hard" else add_surroundings(spec)
        add_camera(spec, TRIPOD, camera)
        for thing in things:
            thing.add(spec)
            spec.body(thing.name).mocap = True
        self._add_hand(spec, skin, sleeve)
        self._model = spec.compile()
        self._data = mujoco.MjData(self._model)
        self._sensor = Sensor(sensor, float(self.camera.K[0, 0]), seed)
        self._renderer = Renderer()
        self._mocap = {self._model.body(b).name: self._model.body(b).mocapid[0] for b in range(self._model.nbody)}
        self._capsules = {name: [self._model.geom(f"{name}_{k}").id for k in range(3)] for name in FINGERS}
        self._touched = {name: self._touch_geoms(name, name in boxed) for name in self.things}

    def _add_hand(self, spec: mujoco.MjSpec, skin: Rgb, sleeve: tuple[Rgb, float]) -> None:
        spec.add_material(name="skin", rgba=[*skin, 1.0], specular=0.12, shininess=0.25)
        Finish("weave", sleeve[0], 0.0, seed=7).add(spec, "sleeve")
        bones = tuple(f"bone_{joint}" for joint in range(len(self.rig.joints_m)))
        bodies = [spec.worldbody.add_body(name=bone, mocap=True) for bone in bones]
        self.rig.add_skin(spec, "hand", bones, "skin")
        for name, chain in zip(FINGERS, CHAINS, strict=True):
            for k, (a, b) in enumerate(pairwise(chain)):
                line = self.rig.joints_m[b] - self.rig.joints_m[a]
                bodies[a].add_geom(
                    name=f"{name}_{k}", type=mujoco.mjtGeom.mjGEOM_CAPSULE, fromto=[0.0, 0.0, 0.0, *line],
                    size=[self.rig.radius_m(a, b), 0, 0], group=_TOUCH_GROUP, rgba=[0, 0, 0, 0], contype=0, conaffinity=0,
                )  # fmt: skip
        forearm = spec.worldbody.add_body(name="forearm", mocap=True)
        scale = float(np.linalg.norm(self.rig.joints_m[11] - self.rig.joints_m[0])) / 0.0917
        bare = [
            (0.0, -0.012),
            (0.024, -0.008),
            (0.0255, 0.03),
            (0.030, 0.10),
            (0.038, 0.2),
            (0.041, 0.3),
            (0.045, FOREARM_M),
        ]
        cuff = [(0.0, sleeve[1]), (0.045, sleeve[1]), (0.05, FOREARM_M), (0.0, FOREARM_M)]
        for name, profile, material in (("forearm", bare, "skin"), ("cuff", cuff, "sleeve")):
            turned([(scale * r, z) for r, z in profile[::-1]]).add(spec, name)
            forearm.add_geom(
                type=mujoco.mjtGeom.mjGEOM_MESH, meshname=name, material=material, group=1, contype=0, conaffinity=0
            )

    def _touch_geoms(self, name: str, boxes: bool) -> list[int]:
        """What fingers meet: boxes, or the hull of what is drawn."""
        geoms = np.flatnonzero(self._model.geom_bodyid == self._model.body(name).id)
        return [int(g) for g in geoms if (self._model.geom_group[g] == _TOUCH_GROUP) == boxes]

    def place(self, pose: Pose) -> None:
        """Put everything where it is at an instant."""
        joints = pose.T_base_hand @ posed(self.rig, pose.posture)
        for number, T in enumerate(joints):
            self._put(f"bone_{number}", T)
        self._put("forearm", self._forearm(joints[0], pose.T_base_hand))
        for name, T in pose.T_base_thing.items():
            self._put(name, T)
        mujoco.mj_kinematics(self._model, self._data)
        mujoco.mj_comPos(self._model, self._data)
        mujoco.mj_camlight(self._model, self._data)

    def _forearm(self, T_base_wrist: F64, T_base_hand: F64) -> F64:
        """z from the wrist to the elbow, as far as the wrist bends."""
        back = -T_base_hand[:3, :3] @ self.rig.along
        wanted = self._elbow_m - T_base_wrist[:3, 3]
        wanted /= np.linalg.norm(wanted)
        angle = float(np.arccos(np.clip(back @ wanted, -1.0, 1.0)))
        if angle > WRIST_BEND_RAD:
            wanted = wanted - (wanted @ back) * back
            wanted = np.cos(WRIST_BEND_RAD) * back + np.sin(WRIST_BEND_RAD) * wanted / np.linalg.norm(wanted)
        T = np.eye(4)
        T[:3, 2], T[:3, 3] = wanted, T_base_wrist[:3, 3]
        T[:3, 0] = np.cross([0.0, 0.0, 1.0], wanted)
        T[:3, 0] /= np.linalg.norm(T[:3, 0])
        T[:3, 1] = np.cross(wanted, T[:3, 0])
        return T

    def _put(self, name: str, T: F64) -> None:
        number = self._mocap[name]
        self._data.mocap_pos[number] = T[:3, 3]
        mujoco.mju_mat2Quat(self._data.mocap_quat[number], np.ascontiguousarray(T[:3, :3]).ravel())

    def keypoints_m(self, pose: Pose) -> F64:
        """(21, 3) key points of the hand in the base frame."""
        return (pose.T_base_hand @ posed(self.rig, pose.posture))[list(KEYPOINTS), :3, 3]

    def gap_m(self, thing: str, fingers: Collection[str] = FINGERS, far_m: float = _FAR_M) -> float:
        """Least distance of some fingers to a thing as it is placed; negative: how deep they are in it."""
        return min(
            float(mujoco.mj_geomDistance(self._model, self._data, finger, geom, far_m, None))
            for name in fingers
            for finger in self._capsules[name]
            for geom in self._touched[thing]
        )

    def behind_the_arm(self, points_m: F64) -> bool:
        """Whether the forearm hides any of (N, 3) points of the base frame from the camera."""
        eye, groups, hit = (
            self.camera.T_base_camera[:3, 3],
            np.array([1, 1, 1, 0, 0, 0], np.uint8),
            np.full(1, -1, np.int32),
        )
        forearm = self._model.body("forearm").id
        for point in points_m:
            reach = mujoco.mj_ray(self._model, self._data, eye, point - eye, groups, 1, -1, hit, None)
            if 0.0 <= reach < 1.0 and self._model.geom_bodyid[hit[0]] == forearm:
                return True
        return False

    def lowest_m(self, finger: str) -> float:
        """Height of a finger's lowest point above the table."""
        return min(
            float(self._data.geom_xpos[g][2] - abs(self._data.geom_xmat[g][8]) * self._model.geom_size[g][1])
            - float(self._model.geom_size[g][0])
            for g in self._capsules[finger]
        )

    def opened_around(self, thing: str, pose: Pose, clear_m: float = 0.004, steps: int = 12) -> F64:
        """(13,) posture in which each finger that is in a thing, or nearer to it than ``clear_m``, is straighter than in
        ``pose``, just so far that it is not, if it can be."""
        posture = pose.posture.copy()
        for finger, angles in _ANGLES_OF.items():
            bent = pose.posture[angles]
            low, high = 0.0, 1.0
            self.place(pose)
            if self.gap_m(thing, (finger,), 0.05) > clear_m:
                continue
            for _ in range(steps):
                middle = (low + high) / 2
                posture[angles] = (1 - middle) * bent
                self.place(Pose(pose.T_base_hand, posture, pose.T_base_thing))
                low, high = (low, middle) if self.gap_m(thing, (finger,), 0.05) > clear_m else (middle, high)
            posture[angles] = (1 - high) * bent
        return posture

    def closed_on(self, thing: str, pose: Pose, closed: F64, steps: int = 12) -> F64:
        """(13,) posture in which each finger has turned from that of ``pose`` towards ``closed`` until it touches the thing
        or the table."""
        posture = pose.posture.copy()
        for finger, angles in _ANGLES_OF.items():
            low, high = 0.0, 1.0
            for _ in range(steps):
                middle = (low + high) / 2
                posture[angles] = (1 - middle) * pose.posture[angles] + middle * closed[angles]
                self.place(Pose(pose.T_base_hand, posture, pose.T_base_thing))
                free = self.gap_m(thing, (finger,), 0.05) > 0.0 and self.lowest_m(finger) > 0.0
                low, high = (middle, high) if free else (low, middle)
            posture[angles] = (1 - low) * pose.posture[angles] + low * closed[angles]
        return posture

    def moved_until_touch(self, thing: str, pose: Pose, step_m: F64, fingers: Collection[str], steps: int = 14) -> Pose:
        """The hand moved along a vector, at most to its end, until some fingers touch a thing."""
        low, high = 0.0, 1.0

        def at(share: float) -> Pose:
            T = pose.T_base_hand.copy()
            T[:3, 3] += share * step_m
            return Pose(T, pose.posture, pose.T_base_thing)

        for _ in range(steps):
            middle = (low + high) / 2
            self.place(at(middle))
            low, high = (middle, high) if self.gap_m(thing, fingers) > 0.0 else (low, middle)
        return at(low)

    def photo(self, stamp_ns: int) -> tuple[U8, F32]:
        """(H, W, 3) colour and (H, W) depth [m] as the camera has them, NaN where it measures nothing."""
        size = self.camera.width_px, self.camera.height_px
        optics = self._renderer.optics(self._data, TRIPOD, *size) if self._sensor.needs_optics else None
        return self._sensor(*self._renderer.rgbd(self._data, TRIPOD, *size, self._shadows), stamp_ns, optics)

    def labels(self) -> I32:
        """(H, W) -1 hand and arm, i the i-th thing from 1, 0 anything else."""
        label = np.zeros(self._model.nbody + 1, np.int32)
        for body in range(self._model.nbody):
            name = self._model.body(body).name
            label[body] = -1 if name.startswith("bone_") or name == "forearm" else 0
        for number, name in enumerate(self.things, 1):
            label[self._model.body(name).id] = number
        return label[self._renderer.body_ids(self._data, TRIPOD, self.camera.width_px, self.camera.height_px)]

    def close(self) -> None:
        """Free the renderer."""
        self._renderer.close()
