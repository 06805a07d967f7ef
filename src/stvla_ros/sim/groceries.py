"""Groceries of plain convex shapes, with labels of our own: what the task ``put_groceries`` carries.

Names and kinds are those of RLBench's ``put_groceries_in_cupboard``. Proportions follow the YCB objects of these names at
about 0.75 of their size, so that nine of them with room for a hand fit on the table and each fits between the fingers.
Masses are about 0.4 of the real ones. Round items collide as prisms (:mod:`stvla_ros.sim.prisms`).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import mujoco
import numpy as np

from stvla_ros.sim.meshes import cuboid, turned
from stvla_ros.sim.objects import about_z
from stvla_ros.sim.prisms import add_prism, prism_mesh
from stvla_ros.sim.textures import Rgb, add_texture
from stvla_ros.types import F64, U8

LID_M = 0.0015
"""Thickness of the plain layer that is drawn on top of an item."""

_LABEL_PX = (128, 192)
_SEEN = {"contype": 0, "conaffinity": 0, "group": 1, "mass": 0.0}
_COLLISION = {
    "group": 3,
    "rgba": [0.5, 0.5, 0.5, 0.0],
    "condim": 6,
    "friction": [0.7, 0.005, 0.0015],  # the last one stops a can that rolls
    "solref": [0.004, 1.0],
    "solimp": [0.95, 0.98, 0.001, 0.5, 2.0],
}


@dataclass(frozen=True)
class Ware:
    """What all items of one kind share.

    Attributes:
        name: As RLBench says it.
        size_m: Edges of its box: across, along, up. A round one has its diameter twice.
        mass_kg: Mass.
        ground: Main colour of its sides.
        band: Colour of a band around it.
        top: Colour of its top.
        word: On its label.
        round: A can.
    """

    name: str
    size_m: tuple[float, float, float]
    mass_kg: float
    ground: Rgb
    band: Rgb
    top: Rgb
    word: str
    round: bool = False

    @property
    def radius_m(self) -> float:
        """Of the upright cylinder around it."""
        across, along, _ = self.size_m
        return across / 2 if self.round else float(np.hypot(across, along) / 2)

    def corners_m(self) -> F64:
        """(N, 3) corners of what it collides as, in its own frame: middle at the origin, z up."""
        half = np.divide(self.size_m, 2)
        if self.round:
            return prism_mesh((half[0], half[0]), self.size_m[2])[0] - [0.0, 0.0, half[2]]
        return half * np.array(np.meshgrid([-1, 1], [-1, 1], [-1, 1])).reshape(3, -1).T


WARES = (
    Ware("crackers", (0.040, 0.080, 0.115), 0.16, (0.72, 0.07, 0.06), (0.93, 0.90, 0.84), (0.72, 0.07, 0.06), "CRACKERS"),
    Ware("chocolate jello", (0.032, 0.068, 0.054), 0.08, (0.30, 0.16, 0.08), (0.86, 0.76, 0.60), (0.30, 0.16, 0.08), "JELLO"),
    Ware("strawberry jello", (0.028, 0.062, 0.050), 0.06, (0.95, 0.46, 0.62), (0.98, 0.92, 0.93), (0.95, 0.46, 0.62), "JELLO"),
    Ware("soup", (0.050, 0.050, 0.075), 0.14, (0.80, 0.06, 0.08), (0.94, 0.93, 0.90), (0.66, 0.67, 0.69), "SOUP", round=True),
    Ware("tuna", (0.058, 0.058, 0.028), 0.07, (0.06, 0.32, 0.80), (0.92, 0.92, 0.92), (0.06, 0.32, 0.80), "TUNA", round=True),
    Ware("spam", (0.042, 0.066, 0.052), 0.15, (0.05, 0.08, 0.34), (0.96, 0.78, 0.10), (0.05, 0.08, 0.34), "SPAM"),
    Ware("coffee", (0.056, 0.056, 0.080), 0.16, (0.13, 0.30, 0.16), (0.80, 0.66, 0.36), (0.10, 0.10, 0.10), "COFFEE", round=True),
    Ware("mustard", (0.036, 0.052, 0.108), 0.15, (0.95, 0.72, 0.04), (0.60, 0.08, 0.05), (0.75, 0.10, 0.06), "MUSTARD"),
    Ware("sugar", (0.032, 0.062, 0.100), 0.15, (0.93, 0.92, 0.88), (0.98, 0.82, 0.12), (0.93, 0.92, 0.88), "SUGAR"),
)  # fmt: skip
"""In RLBench's order of variations."""

BY_NAME = {ware.name: ware for ware in WARES}


@dataclass(frozen=True)
class Grocery:
    """One item that stands upright on the table and can be carried."""

    ware: Ware
    xy_m: tuple[float, float]
    yaw_rad: float

    @property
    def name(self) -> str:
        return self.ware.name.replace(" ", "_")

    @property
    def clearance_m(self) -> float:
        return self.ware.radius_m

    def add(self, spec: mujoco.MjSpec) -> None:
        up = self.ware.size_m[2]
        body = spec.worldbody.add_body(name=self.name, pos=[*self.xy_m, up / 2], quat=about_z(self.yaw_rad))
        body.add_freejoint(name=self.name)
        half = [edge / 2 for edge in self.ware.size_m]
        own = {**_COLLISION, "mass": self.ware.mass_kg}
        if self.ware.round:
            add_prism(spec, body, -half[2], (half[0], half[0]), up, **own)
        else:
            body.add_geom(type=mujoco.mjtGeom.mjGEOM_BOX, size=half, **own)
        self._add_look(spec, body)

    def _add_look(self, spec: mujoco.MjSpec, body: mujoco.MjsBody) -> None:
        ware, label, top = self.ware, f"{self.name}_label", f"{self.name}_top"
        across, along, up = ware.size_m
        image = label_image(ware)[:: 1 if ware.round else -1]  # a turned surface has its texture from above
        roles = add_texture(spec, label, np.ascontiguousarray(image))
        spec.add_material(name=label, textures=roles, specular=0.15, shininess=0.3)
        spec.add_material(name=top, rgba=[*ware.top, 1.0], specular=0.2, shininess=0.4)
        if ware.round:
            turned([(0.0, up / 2), (across / 2, up / 2), (across / 2, -up / 2), (0.0, -up / 2)]).add(spec, label)
            lid = {"type": mujoco.mjtGeom.mjGEOM_CYLINDER, "size": [across / 2 - 0.001, LID_M / 2, 0]}
        else:
            cuboid(ware.size_m).add(spec, label)
            lid = {"type": mujoco.mjtGeom.mjGEOM_BOX, "size": [across / 2, along / 2, LID_M / 2]}
        body.add_geom(type=mujoco.mjtGeom.mjGEOM_MESH, meshname=label, material=label, **_SEEN)
        body.add_geom(pos=[0, 0, up / 2], material=top, **lid, **_SEEN)


def label_image(ware: Ware) -> U8:
    """(128, 192, 3) what is printed around an item: its ground, a band with its name, and two thin lines."""
    rows, columns = _LABEL_PX
    image = np.full((rows, columns, 3), np.multiply(255, ware.ground), np.uint8)
    band, ink = np.multiply(255, ware.band), tuple(int(255 * c) for c in ware.ground)
    image[int(0.34 * rows) : int(0.66 * rows)] = band
    for row in (0.20, 0.78):
        image[int(row * rows) : int(row * rows) + 3] = band
    font, scale = cv2.FONT_HERSHEY_DUPLEX, 0.9
    (width, height), _ = cv2.getTextSize(ware.word, font, scale, 2)
    scale *= min(1.0, 0.9 * columns / width)
    (width, height), _ = cv2.getTextSize(ware.word, font, scale, 2)
    cv2.putText(image, ware.word, ((columns - width) // 2, (rows + height) // 2), font, scale, ink, 2, cv2.LINE_AA)
    return image
