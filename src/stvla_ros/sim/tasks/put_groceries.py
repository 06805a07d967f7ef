"""Put one of nine grocery items in the cupboard (RLBench's put_groceries_in_cupboard)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.sim.camera import TripodCameraConfig
from stvla_ros.sim.cupboard import Cupboard, inside
from stvla_ros.sim.groceries import BY_NAME, WARES, Grocery
from stvla_ros.sim.objects import SceneObject
from stvla_ros.sim.tasks.base import Task, TaskKind, resting_alone
from stvla_ros.sim.tasks.hand_room import graspable, visible
from stvla_ros.sim.world import World

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
        name = self.objects[0].name
        T = world.pose(name)
        corners = BY_NAME[self.item].corners_m() @ T[:3, :3].T + T[:3, 3]
        if not inside(corners, world.pose("cupboard"), 0.004):
            return f"The {self.item} is not wholly inside the cupboard, above its bottom shelf."
        return resting_alone(world, name)


def layout(rng: np.random.Generator, distractors: int) -> Task:
    """All nine items, and the cupboard at the left or the right. Scenes that cannot be done are drawn again."""
    asked, wording, side = int(rng.integers(len(WARES))), int(rng.integers(len(WORDS))), int(rng.choice([-1, 1]))
    for _ in range(TRIES):
        cupboard = _cupboard(rng, side)
        items = _items(rng, side)
        if items is not None and _can_be_done(items, asked):
            return PutGroceries((items[asked], cupboard, *items[:asked], *items[asked + 1 :]), WARES[asked].name, wording)
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
    "put_groceries", layout, demo_seed=0, names=tuple(w.name for w in WARES), held_out=("crackers", "soup")
)
