"""Put one of nine grocery items in the cupboard. After RLBench's ``put_groceries_in_cupboard``, with real contact.

Two verdicts: RLBench's asks for any part of the item in the cupboard and an empty hand; the strict one for all of it at
rest on the bottom shelf, untouched, alone there, and for the other items on their feet.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.sim.camera import TripodCameraConfig
from stvla_ros.sim.cupboard import Cupboard, depth_inside_m
from stvla_ros.sim.groceries import BY_NAME, WARES, Grocery
from stvla_ros.sim.objects import SceneObject
from stvla_ros.sim.tasks.base import Task, TaskKind, carried_off, resting_alone, words
from stvla_ros.sim.tasks.hand_room import graspable, visible
from stvla_ros.sim.world import World
from stvla_ros.types import F64

WORDS = (
    "Put the {} in the cupboard.",
    "Pick up the {} and place it in the cupboard.",
    "Move the {} to the bottom shelf.",
    "Put the {} away in the cupboard.",
)
"""RLBench's four wordings."""

X_M, Y_M = (0.36, 0.62), (-0.36, 0.20)
"""Where items stand; y is towards the cupboard's side."""

APART_M = 0.105
"""Least distance between the middles of two items."""

FRONT_X_M, FRONT_Y_M = (0.37, 0.43), (0.31, 0.34)
"""Middle of the cupboard's front; y is towards its side."""

TURN_RAD = 0.26
"""The cupboard is turned by up to this much from facing across the table."""

OUT_M = 0.004
"""A corner may be this far outside: contacts give way a little."""

UPRIGHT = float(np.cos(np.radians(30.0)))
"""An item that is tilted by more than this was knocked over."""

TRIES = 400


@dataclass(frozen=True)
class PutGroceries:
    """The asked item and the cupboard are the first two of ``objects``."""

    objects: tuple[SceneObject, ...]
    item: str
    wording: int
    hold_s: float = 0.5

    @property
    def instruction(self) -> str:
        return WORDS[self.wording].format(self.item)

    def watch(self, world: World) -> None:
        """Nothing to remember."""

    def problem(self, world: World) -> str:
        """The strict verdict."""
        name = self.objects[0].name
        if _inside(world, name).min() < -OUT_M:
            return f"The {self.item} is not wholly inside the cupboard, above its bottom shelf."
        if not world.touch(name, "cupboard"):
            return f"The {self.item} does not lie on the cupboard's shelf."
        for other in (o.name for o in self.objects[2:]):
            if _inside(world, other).max() > 0.0:
                return f"The {words(other)} is in the cupboard too."
            if world.pose(other)[2, 2] < UPRIGHT:
                return f"The {words(other)} was knocked over."
        return resting_alone(world, name)

    def rlbench_problem(self, world: World) -> str:
        """RLBench's verdict: its sensor sees some part of the item in the cupboard, and the hand holds nothing."""
        name = self.objects[0].name
        if _inside(world, name).max() < 0.0:
            return f"No part of the {self.item} is in the cupboard."
        return f"The robot still touches the {self.item}." if world.robot_touches(name) else ""

    def wrong_target(self, world: World) -> bool:
        """Another item is in the cupboard, or on its way."""
        return carried_off(world, self.objects[2:])

    def facts(self, world: World) -> dict[str, float]:
        """How far the item is inside the cupboard at its deepest and its least deep corner, and its tilt."""
        name = self.objects[0].name
        inside = _inside(world, name)
        tilt = float(np.degrees(np.arccos(np.clip(world.pose(name)[2, 2], -1.0, 1.0))))
        return {
            "deepest_m": round(float(inside.max()), 4),
            "least_deep_m": round(float(inside.min()), 4),
            "tilt_deg": round(tilt, 1),
        }


def _inside(world: World, name: str) -> F64:
    """(N,) how far each corner of an item is inside the cupboard, m."""
    T = world.pose(name)
    corners = BY_NAME[words(name)].corners_m() @ T[:3, :3].T + T[:3, 3]
    return depth_inside_m(corners, world.pose("cupboard"))


def layout(rng: np.random.Generator, distractors: int) -> Task:
    """All nine items, and the cupboard at the left or the right. Scenes that cannot be done are drawn again."""
    asked, wording, side = int(rng.integers(len(WARES))), int(rng.integers(len(WORDS))), int(rng.choice([-1, 1]))
    for _ in range(TRIES):
        cupboard = _cupboard(rng, side)
        items = _items(rng, side)
        if items is not None and _can_be_done(items, asked):
            return PutGroceries(
                (items[asked], cupboard, *items[:asked], *items[asked + 1 :]), WARES[asked].name, wording
            )
    raise StageError(OutcomeCode.INVALID_GOAL, "The groceries do not fit on the table: take another seed.")


def _cupboard(rng: np.random.Generator, side: int) -> Cupboard:
    x, y = float(rng.uniform(*FRONT_X_M)), side * float(rng.uniform(*FRONT_Y_M))
    yaw = side * float(np.pi / 2 + rng.uniform(-TURN_RAD, TURN_RAD))
    return Cupboard((x, y), yaw, -side)


def _can_be_done(items: list[Grocery], asked: int) -> bool:
    others = items[:asked] + items[asked + 1 :]
    return graspable(items[asked], others) and visible(items[asked], others, TripodCameraConfig())


def _items(rng: np.random.Generator, side: int) -> list[Grocery] | None:
    spots: list[tuple[float, float]] = []
    for _ in range(60 * len(WARES)):
        x, y = float(rng.uniform(*X_M)), side * float(rng.uniform(*Y_M))
        if all(np.hypot(x - a, y - b) > APART_M for a, b in spots):
            spots.append((x, y))
        if len(spots) == len(WARES):
            return [Grocery(w, xy, float(rng.uniform(-np.pi, np.pi))) for w, xy in zip(WARES, spots, strict=True)]
    return None


KIND = TaskKind(
    "put_groceries",
    layout,
    demo_seed=36,
    names=tuple(w.name for w in WARES),
    held_out=("crackers", "soup"),
    distractors=(0, 0),
)
