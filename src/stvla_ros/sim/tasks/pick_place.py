"""Put the <color> block in the plate. Success: at rest inside the rim after release."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stvla_ros.sim.objects import BLOCK_M, PLATE_INNER_RADIUS_M, PLATE_RADIUS_M, Block, Plate, SceneObject
from stvla_ros.sim.tasks.base import Task, TaskKind, carried_off, pick_colours, place, random_block, resting_alone
from stvla_ros.sim.world import World


@dataclass(frozen=True)
class PickPlace:
    """The asked block is the first of ``objects``."""

    objects: tuple[SceneObject, ...]
    colour: str
    hold_s: float = 0.5

    @property
    def instruction(self) -> str:
        return f"Put the {self.colour} block in the plate."

    def watch(self, world: World) -> None:
        """Nothing to remember."""

    def problem(self, world: World) -> str:
        block = f"{self.colour}_block"
        offset = np.linalg.inv(world.pose("plate"))[:3] @ np.append(world.position(block), 1.0)
        if np.hypot(offset[0], offset[1]) > PLATE_INNER_RADIUS_M - BLOCK_M / 4 or not 0.0 < offset[2] < BLOCK_M:
            return f"The {self.colour} block is not inside the plate's rim."
        return resting_alone(world, block)

    def wrong_target(self, world: World) -> bool:
        """Another block was carried off."""
        return carried_off(world, self.objects[2:])


def layout(rng: np.random.Generator, distractors: int) -> Task:
    """A plate, the asked block, and blocks of other colours."""
    colours = pick_colours(rng, 1 + distractors)
    radius = Block("", (0.0, 0.0), 0.0).clearance_m
    plate_xy, *spots = place(rng, [PLATE_RADIUS_M, *[radius] * len(colours)])
    blocks = [random_block(rng, c, xy) for c, xy in zip(colours, spots, strict=True)]
    return PickPlace((blocks[0], Plate(plate_xy), *blocks[1:]), colours[0])


KIND = TaskKind("pick_place", layout, demo_seed=42, movable=True)
