"""Screw the bulb of the <color> holder into the lamp. After RLBench's ``light_bulb_in``, with real contact.

Two verdicts: RLBench's asks for the bulb in the socket and an empty hand; the strict one also for a clockwise turn.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import mujoco
import numpy as np

from stvla_ros.sim.objects import SceneObject, paint
from stvla_ros.sim.prisms import FIRM, ROUGH, SLIPPERY, add_prism, add_ring, surface
from stvla_ros.sim.tasks.base import TaskKind, carried_off, resting_alone
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

BASE_RADIUS_M, TIP_M, BASE_M = 0.013, 0.008, 0.030
GLASS_RADIUS_M, GLASS_M = 0.030, 0.057
"""Radius of the glass, and height of its middle above the bulb's tip."""

SOCKET_INNER_M, SOCKET_OUTER_M, SOCKET_M, PIECES = 0.016, 0.0255, 0.024, 12
DISH_RADIUS_M, DISH_M = 0.0495, 0.020
FOOT_RADIUS_M, FOOT_M, POST_RADIUS_M, MOUTH_M = 0.047, 0.012, 0.016, 0.20
FLOOR_M = MOUTH_M - SOCKET_M
GLASS_RGB, METAL_RGB, LAMP_RGB = (0.96, 0.96, 0.93), (0.62, 0.60, 0.56), (0.33, 0.34, 0.37)

IN_BESIDE_M, IN_HIGH_M, IN_TILT_RAD = 0.008, 0.004, np.radians(10.0)
SCREWED_RAD = np.radians(90.0)
APART_M, LAMP_AWAY_M = 0.13, 0.17
PLANE_M = (0.11, 0.15)
"""Half the sizes of the area in which the holders are drawn, in the layout's frame."""


@dataclass(frozen=True)
class Bulb:
    """A glass sphere on a base, as it stands in its holder."""

    colour: str
    xy_m: tuple[float, float]
    clearance_m: float = GLASS_RADIUS_M

    @property
    def name(self) -> str:
        return f"{self.colour}_bulb"

    def add(self, spec: mujoco.MjSpec) -> None:
        body = spec.worldbody.add_body(name=self.name, pos=[*self.xy_m, DISH_M])
        body.add_freejoint(name=self.name)
        metal = {"material": surface(spec, "metal", METAL_RGB), "friction": SLIPPERY, **FIRM}
        add_prism(spec, body, 0.0, (0.6 * BASE_RADIUS_M, BASE_RADIUS_M), TIP_M, mass=0.01, **metal)
        add_prism(spec, body, TIP_M, (BASE_RADIUS_M, BASE_RADIUS_M), BASE_M - TIP_M, mass=0.03, **metal)
        glass = surface(spec, "glass", GLASS_RGB)
        size = [GLASS_RADIUS_M, 0.0, 0.0]
        sphere = mujoco.mjtGeom.mjGEOM_SPHERE
        body.add_geom(type=sphere, pos=[0, 0, GLASS_M], size=size, mass=0.02, friction=ROUGH, material=glass, **FIRM)


@dataclass(frozen=True)
class Holder:
    """A dish that is fixed to the table, with a ring that keeps a bulb upright."""

    colour: str
    xy_m: tuple[float, float]
    clearance_m: float = DISH_RADIUS_M

    @property
    def name(self) -> str:
        return f"{self.colour}_holder"

    def add(self, spec: mujoco.MjSpec) -> None:
        body = spec.worldbody.add_body(name=self.name, pos=[*self.xy_m, 0.0])
        add_prism(spec, body, 0.0, (DISH_RADIUS_M, DISH_RADIUS_M), DISH_M, material=paint(spec, self.colour), **FIRM)
        ring = {"material": surface(spec, "clips", LAMP_RGB), "friction": SLIPPERY, **FIRM}
        add_ring(body, DISH_M, (SOCKET_INNER_M, SOCKET_INNER_M + 0.003), SOCKET_M, PIECES, 0.02, **ring)


@dataclass(frozen=True)
class Lamp:
    """A post with a socket on top, fixed to the table."""

    xy_m: tuple[float, float]
    name: str = "lamp"
    clearance_m: float = FOOT_RADIUS_M

    def add(self, spec: mujoco.MjSpec) -> None:
        body = spec.worldbody.add_body(name=self.name, pos=[*self.xy_m, 0.0])
        look = {"material": surface(spec, "clips", LAMP_RGB), "friction": SLIPPERY, **FIRM}
        add_prism(spec, body, 0.0, (FOOT_RADIUS_M, FOOT_RADIUS_M), FOOT_M, **look)
        add_prism(spec, body, FOOT_M, (POST_RADIUS_M, POST_RADIUS_M), FLOOR_M - 0.006 - FOOT_M, **look)
        add_prism(spec, body, FLOOR_M - 0.006, (SOCKET_OUTER_M, SOCKET_OUTER_M), 0.006, **look)
        add_ring(body, FLOOR_M, (SOCKET_INNER_M, SOCKET_OUTER_M), SOCKET_M, PIECES, 0.1, **look)


@dataclass
class LightBulbIn:
    """The asked bulb, the lamp and the asked holder are the first three of ``objects``."""

    objects: tuple[SceneObject, ...]
    colour: str
    hold_s: float = 0.5
    turn: Turn = field(default_factory=Turn)

    @property
    def instruction(self) -> str:
        return WORDS[0].format(self.colour)

    def watch(self, world: World) -> None:
        if world.position(self._bulb)[2] < FLOOR_M - IN_HIGH_M:
            self.turn.watch(0.0, engaged=False)
            return
        T = relative(world, self._bulb, "lamp")
        self.turn.watch(yaw_of(T), beside(T) < SOCKET_INNER_M and bool(T[2, 3] < MOUTH_M))

    def problem(self, world: World) -> str:
        """The strict verdict: in the socket, and screwed by at least 90 degrees."""
        return self.rlbench_problem(world) or self.turn.missing(SCREWED_RAD, "The bulb is in the socket")

    def rlbench_problem(self, world: World) -> str:
        """RLBench's verdict: the bulb is in the socket and the hand is empty."""
        T = relative(world, self._bulb, "lamp")
        high = abs(T[2, 3] - FLOOR_M) > IN_HIGH_M
        if high or beside(T) > IN_BESIDE_M or tilt_of(T) > IN_TILT_RAD:
            return f"The bulb of the {self.colour} holder is not in the lamp's socket."
        return resting_alone(world, self._bulb)

    def wrong_target(self, world: World) -> bool:
        """The bulb of the other holder was taken out."""
        return carried_off(world, self.objects[4:5])

    def facts(self, world: World) -> dict[str, float]:
        """Distance of the holders, and turn of the bulb."""
        return {"holders_apart_m": apart_m(*self.objects[2:4]), "turned_deg": self.turn.turned_deg}

    @property
    def _bulb(self) -> str:
        return f"{self.colour}_bulb"


WORDS = (
    "Screw in the {} light bulb.",
    "Screw the bulb of the {} holder into the lamp.",
    "Pick up the light bulb from the {} stand, lift it over the lamp and screw it in clockwise.",
    "Put the bulb from the {} casing into the lamp.",
)
"""RLBench's four ways to ask, in our words; scenes ask in the first one."""


def layout(rng: np.random.Generator, distractors: int) -> LightBulbIn:
    """Two bulbs in holders of different colours and a lamp, and blocks as distractors."""
    asked, other = two_colours(rng)
    lamp, first, second = as_one_piece(rng, PLANE_M, LAMP_AWAY_M, float(np.pi), APART_M)
    objects = (Bulb(asked, first), Lamp(lamp), Holder(asked, first), Holder(other, second), Bulb(other, second))
    return LightBulbIn(with_blocks(rng, objects, distractors), asked)


KIND = TaskKind("light_bulb_in", layout, demo_seed=34, paper_held_out=("black", "white"), distractors=(0, 0))
