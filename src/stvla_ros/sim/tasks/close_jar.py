"""Screw the lid on the <color> jar; another jar stands beside it. After RLBench's ``close_jar``, with real contact.

Two verdicts: RLBench's asks for the lid on the neck and an empty hand; the strict one also for a clockwise turn.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import mujoco
import numpy as np

from stvla_ros.sim.objects import SceneObject, about_z, paint
from stvla_ros.sim.prisms import FIRM, ROUGH, SIDES, SLIPPERY, add_prism, add_ring, surface
from stvla_ros.sim.tasks.base import TaskKind, resting_alone
from stvla_ros.sim.tasks.turned import (
    Turn,
    apart_m,
    as_one_piece,
    beside,
    relative,
    tilt_of,
    two_colours,
    with_blocks,
    yaw_of,
)
from stvla_ros.sim.world import World

JAR_RADIUS_M, SHOULDER_M = 0.044, 0.088
NECK_M, NECK_RADII_M = 0.012, (0.026, 0.020)
JAR_M = SHOULDER_M + NECK_M
LID_RADIUS_M, LID_M, SKIRT_M, SKIRT_INNER_M = 0.032, 0.021, 0.011, 0.029
LID_RGB = (0.86, 0.87, 0.88)
SEAT_M = JAR_M - SKIRT_M
"""Height of the lid's lower edge above the jar's bottom when it is closed: the disc lies on the neck."""

ON_BESIDE_M, ON_TILT_RAD, ON_HIGH_M = 0.004, np.radians(8.0), 0.002
ENGAGED_M = 0.004
"""A lid this little above its seat is around the neck, so that turning it screws it."""

SCREWED_RAD = np.radians(60.0)

SENSOR_HALF_M, SENSOR_Z_M = 0.025, (0.101, 0.121)
"""RLBench's sensor sees a lid of which any point is in this box over the jar's bottom."""

APART_M, LID_AWAY_M = 0.092, 0.17
PLANE_M = (0.12, 0.18)
"""Half the sizes of the area in which the jars are drawn, in the layout's frame."""

TURN_RAD = np.radians(108.0)


@dataclass(frozen=True)
class Jar:
    """A prism with a tapered neck, which centres a lid."""

    colour: str
    xy_m: tuple[float, float]
    yaw_rad: float = 0.0
    clearance_m: float = JAR_RADIUS_M

    @property
    def name(self) -> str:
        return f"{self.colour}_jar"

    def add(self, spec: mujoco.MjSpec) -> None:
        body = spec.worldbody.add_body(name=self.name, pos=[*self.xy_m, 0.0], quat=about_z(self.yaw_rad))
        body.add_freejoint(name=self.name)
        material = paint(spec, self.colour)
        radii = (JAR_RADIUS_M, JAR_RADIUS_M)
        add_prism(spec, body, 0.0, radii, SHOULDER_M, mass=0.32, friction=ROUGH, material=material, **FIRM)
        add_prism(spec, body, SHOULDER_M, NECK_RADII_M, NECK_M, mass=0.03, friction=SLIPPERY, material=material, **FIRM)


@dataclass(frozen=True)
class Lid:
    """A disc with a skirt of boxes below its rim."""

    xy_m: tuple[float, float]
    yaw_rad: float = 0.0
    name: str = "lid"
    clearance_m: float = LID_RADIUS_M

    def add(self, spec: mujoco.MjSpec) -> None:
        body = spec.worldbody.add_body(name=self.name, pos=[*self.xy_m, 0.0], quat=about_z(self.yaw_rad))
        body.add_freejoint(name=self.name)
        look = {"material": surface(spec, "tin", LID_RGB), "friction": SLIPPERY, **FIRM}
        add_ring(body, 0.0, (SKIRT_INNER_M, LID_RADIUS_M), SKIRT_M, SIDES, 0.02, **look)
        add_prism(spec, body, SKIRT_M, (LID_RADIUS_M, LID_RADIUS_M), LID_M - SKIRT_M, mass=0.04, **look)


@dataclass
class CloseJar:
    """The lid, the asked jar and the other one are the first three of ``objects``."""

    objects: tuple[SceneObject, ...]
    colour: str
    hold_s: float = 0.5
    turn: Turn = field(default_factory=Turn)

    @property
    def instruction(self) -> str:
        return WORDS[0].format(self.colour)

    def watch(self, world: World) -> None:
        if world.position("lid")[2] < SHOULDER_M / 2:
            self.turn.watch(0.0, engaged=False)
            return
        T = relative(world, "lid", self._jar)
        around = beside(T) < SKIRT_INNER_M - NECK_RADII_M[1] and -ENGAGED_M < T[2, 3] - SEAT_M < ENGAGED_M
        self.turn.watch(yaw_of(T), bool(around))

    def problem(self, world: World) -> str:
        """The strict verdict: closed, and screwed by at least 60 degrees."""
        return self.rlbench_problem(world) or self.turn.missing(SCREWED_RAD, "The lid is on the jar")

    def rlbench_problem(self, world: World) -> str:
        """RLBench's verdict: the lid is on the neck and the hand is empty."""
        T = relative(world, "lid", self._jar)
        if beside(T) > ON_BESIDE_M or tilt_of(T) > ON_TILT_RAD or abs(T[2, 3] - SEAT_M) > ON_HIGH_M:
            return f"The lid does not close the {self.colour} jar."
        return resting_alone(world, "lid")

    def wrong_target(self, world: World) -> bool:
        """The lid lies on the other jar."""
        T = relative(world, "lid", self.objects[2].name)
        return beside(T) < JAR_RADIUS_M and bool(T[2, 3] > SHOULDER_M)

    def facts(self, world: World) -> dict[str, float]:
        """Distance of the jars, turn of the lid, and whether RLBench's sensor would see the lid (1.0) or not (0.0)."""
        T = relative(world, "lid", self._jar)
        low, high = T[2, 3], T[2, 3] + LID_M
        seen = beside(T) < SENSOR_HALF_M + LID_RADIUS_M and low < SENSOR_Z_M[1] and high > SENSOR_Z_M[0]
        return {
            "jars_apart_m": apart_m(*self.objects[1:3]),
            "turned_deg": self.turn.turned_deg,
            "in_sensor_box": float(seen),
        }

    @property
    def _jar(self) -> str:
        return f"{self.colour}_jar"


WORDS = (
    "Close the {} jar.",
    "Screw the lid on the {} jar.",
    "Grasp the lid, lift it from the table and use it to seal the {} jar.",
    "Pick up the lid from the table and put it on the {} jar.",
)
"""RLBench's four ways to ask, in our words; scenes ask in the first one."""


def layout(rng: np.random.Generator, distractors: int) -> CloseJar:
    """Two jars of different colours and a lid, and blocks as distractors."""
    asked, other = two_colours(rng)
    lid, first, second = as_one_piece(rng, PLANE_M, LID_AWAY_M, float(TURN_RAD), APART_M)
    yaws = [float(yaw) for yaw in rng.uniform(-np.pi, np.pi, 3)]
    objects = (Lid(lid, yaws[0]), Jar(asked, first, yaws[1]), Jar(other, second, yaws[2]))
    return CloseJar(with_blocks(rng, objects, distractors), asked)


KIND = TaskKind("close_jar", layout, demo_seed=49, paper_held_out=("azure", "violet"), distractors=(0, 0))
