"""The rigged hand: joints, skin and how the skin follows the joints.

The mesh is the right ``generic-hand`` of the npm package @webxr-input-profiles/assets 1.0.20 (MIT, hand.LICENSE): the 25
joints of WebXR, 1360 vertices, metres, 178 mm from wrist to middle finger tip. The left hand is its mirror image.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Literal

import mujoco
import numpy as np

from stvla_ros.types import F64, I32

Side = Literal["left", "right"]

FINGERS = ("thumb", "index", "middle", "ring", "little")

CHAINS = ((1, 2, 3, 4), (6, 7, 8, 9), (11, 12, 13, 14), (16, 17, 18, 19), (21, 22, 23, 24))
"""Joints of each finger from its base to its tip, among the 25; 0 is the wrist, the others are metacarpals' bases."""

KEYPOINTS = (0, *(joint for chain in CHAINS for joint in chain))
"""The usual 21 key points: wrist, then thumb to little finger, each from base to tip."""

_COMPONENT = {5121: np.uint8, 5123: np.uint16, 5126: np.float32}
_WIDTH = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT4": 16}


@dataclass(frozen=True, eq=False)
class Rig:
    """A hand at rest: flat, in the axes of its file, which are the hand's frame everywhere.

    Attributes:
        side: Which hand.
        joints_m: (25, 3) joints.
        vertices_m: (V, 3) skin.
        faces: (T, 3) its triangles.
        weights: (V, 25) share of each joint in a vertex's motion; rows sum to 1.
    """

    side: Side
    joints_m: F64
    vertices_m: F64
    faces: I32
    weights: F64

    @cached_property
    def along(self) -> F64:
        """(3,) unit vector from the wrist to the middle finger's knuckle."""
        return _unit(self.joints_m[11] - self.joints_m[0])

    @cached_property
    def palm(self) -> F64:
        """(3,) unit vector out of the palm."""
        across = self.joints_m[21] - self.joints_m[6]
        normal = _unit(np.cross(self.along, across))
        return normal if (self.joints_m[4] - self.joints_m[1]) @ normal > 0 else -normal

    @cached_property
    def flexion(self) -> F64:
        """(3,) unit axis about which the fingers turn towards the palm."""
        return _unit(np.cross(self.along, self.palm))

    def radius_m(self, a: int, b: int) -> float:
        """Of the capsule between two joints that the skin around it has: the median distance of the skin to the line."""
        mine = self.weights[:, a] > 0.7
        line = self.joints_m[b] - self.joints_m[a]
        along = np.clip((self.vertices_m[mine] - self.joints_m[a]) @ line / (line @ line), 0.0, 1.0)
        away = self.vertices_m[mine] - self.joints_m[a] - along[:, None] * line
        return float(np.median(np.linalg.norm(away, axis=1)))

    def add_skin(self, spec: mujoco.MjSpec, name: str, bones: tuple[str, ...], material: str) -> None:
        """Add the skin to a model; it follows the 25 bodies ``bones``, whose frame is the hand's, moved to the joint."""
        skin = spec.add_skin(name=name, material=material)
        skin.vert, skin.face = self.vertices_m.ravel().tolist(), self.faces.ravel().tolist()
        moving = np.flatnonzero(self.weights.any(axis=0))
        skin.bodyname = [bones[joint] for joint in moving]
        skin.bindpos, skin.bindquat = self.joints_m[moving].ravel().tolist(), [1.0, 0.0, 0.0, 0.0] * len(moving)
        moved = {joint: np.flatnonzero(self.weights[:, joint]) for joint in moving}
        skin.vertid = [ids.tolist() for ids in moved.values()]
        skin.vertweight = [self.weights[ids, joint].tolist() for joint, ids in moved.items()]


def _unit(vector: F64) -> F64:
    unit: F64 = vector / np.linalg.norm(vector)
    return unit


@cache
def read_rig(side: Side, scale: float = 1.0) -> Rig:
    """A hand, ``scale`` times as large as that of the file."""
    glb = (Path(__file__).parent / "hand.glb").read_bytes()
    length = int.from_bytes(glb[12:16], "little")
    content, data = json.loads(glb[20 : 20 + length]), glb[20 + length + 8 :]
    shape = content["meshes"][0]["primitives"][0]
    read = [_accessor(content, data, number) for number in range(len(content["accessors"]))]
    attribute = {name: read[number] for name, number in shape["attributes"].items()}
    skin = content["skins"][0]
    bind = np.linalg.inv(read[skin["inverseBindMatrices"]].reshape(-1, 4, 4).transpose(0, 2, 1))
    weights = np.zeros((len(attribute["POSITION"]), len(bind)))
    rows = np.arange(len(weights))[:, None]
    np.add.at(weights, (rows, attribute["JOINTS_0"].astype(int)), attribute["WEIGHTS_0"])
    mirror = scale * np.array([1.0, 1.0, 1.0 if side == "right" else -1.0])
    faces = read[shape["indices"]].reshape(-1, 3).astype(np.int32)
    return Rig(
        side,
        mirror * bind[:, :3, 3],
        mirror * attribute["POSITION"].astype(np.float64),
        faces if side == "right" else faces[:, ::-1].copy(),
        weights / weights.sum(axis=1, keepdims=True),
    )


def _accessor(content: dict[str, Any], data: bytes, number: int) -> Any:
    accessor = content["accessors"][number]
    view = content["bufferViews"][accessor["bufferView"]]
    width = _WIDTH[accessor["type"]]
    start = view.get("byteOffset", 0) + accessor.get("byteOffset", 0)
    return np.frombuffer(data, _COMPONENT[accessor["componentType"]], accessor["count"] * width, start).reshape(
        -1, width
    )
