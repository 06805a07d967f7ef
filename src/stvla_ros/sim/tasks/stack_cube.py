"""Stack the <color1> block on the <color2> block. Success: it stands there by itself for 5 s."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stvla_ros.sim.objects import BLOCK_M, Block, SceneObject
from stvla_ros.sim.tasks.base import Task, TaskKind, carried_off, pick_colours, place, random_block, resting_alone
from stvla_ros.sim.world import World


@dataclass(frozen=True)
class StackCube:
    """The block to move and the block to stand on are the first two of ``objects``."""

    objects: tuple[SceneObject, ...]
    upper: str
    lower: str
    hold_s: float = 5.0

    @property
    def instruction(self) -> str:
        return f"Stack the {self.upper} block on the {self.lower} block."

    def watch(self, world: World) -> None:
        """Nothing to remember."""

    def problem(self, world: World) -> str:
        upper, lower = f"{self.upper}_block", f"{self.lower}_block"
        offset = world.position(upper) - world.position(lower)
        if np.hypot(offset[0], offset[1]) > 0.75 * BLOCK_M or abs(offset[2] - BLOCK_M) > 0.1 * BLOCK_M:
            return f"The {self.upper} block does not stand on the {self.lower} block."
        if not world.touch(upper, lower):
            return f"The {self.upper} block hangs over the {self.lower} block without touching it."
        return resting_alone(world, upper)

    def wrong_target(self, world: World) -> bool:
        """Another block was carried off, or the lower one put onto something."""
        return carried_off(world, self.objects[2:]) or bool(world.position(f"{self.lower}_block")[2] > BLOCK_M)


def layout(rng: np.random.Generator, distractors: int) -> Task:
    """Two blocks and others of other colours."""
    colours = pick_colours(rng, 2 + distractors)
    spots = place(rng, [Block("", (0.0, 0.0), 0.0).clearance_m] * len(colours))
    blocks = [random_block(rng, c, xy) for c, xy in zip(colours, spots, strict=True)]
    return StackCube(tuple(blocks), colours[0], colours[1])


KIND = TaskKind("stack_cube", layout, demo_seed=9, movable=True)
