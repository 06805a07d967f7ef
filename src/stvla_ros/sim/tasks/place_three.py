"""One block in the plate, then two stacks, in a spoken order. Success: all three are placed and released.

The tasks of :mod:`stvla_ros.sim.tasks.pick_place` and :mod:`stvla_ros.sim.tasks.stack_cube`, three of them in one
instruction.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stvla_ros.sim.objects import PLATE_RADIUS_M, Block, Plate, SceneObject
from stvla_ros.sim.tasks.base import Task, TaskKind, carried_off, pick_colours, place, random_block
from stvla_ros.sim.tasks.pick_place import PickPlace
from stvla_ros.sim.tasks.stack_cube import StackCube
from stvla_ros.sim.world import World


@dataclass(frozen=True)
class PlaceThree:
    """Three placements.

    Attributes:
        objects: The plate, the blocks of the steps, and other blocks.
        steps: In the spoken order; each has the objects it is about.
    """

    objects: tuple[SceneObject, ...]
    steps: tuple[PickPlace | StackCube, ...]
    hold_s: float = 2.0

    @property
    def instruction(self) -> str:
        sentences = [step.instruction.rstrip(".") for step in self.steps]
        return ", then ".join([sentences[0], *(s[0].lower() + s[1:] for s in sentences[1:])]) + "."

    def watch(self, world: World) -> None:
        """Nothing to remember."""

    def problem(self, world: World) -> str:
        return next((problem for step in self.steps if (problem := step.problem(world))), "")

    def wrong_target(self, world: World) -> bool:
        """A block was carried off that no step is about."""
        about = {thing.name for step in self.steps for thing in step.objects}
        return carried_off(world, [thing for thing in self.objects if thing.name not in about])


def layout(rng: np.random.Generator, distractors: int) -> Task:
    """A plate, five blocks, and blocks of other colours."""
    colours = pick_colours(rng, 5 + distractors)
    radius = Block("", (0.0, 0.0), 0.0).clearance_m
    plate_xy, *spots = place(rng, [PLATE_RADIUS_M, *[radius] * len(colours)])
    plate, blocks = Plate(plate_xy), [random_block(rng, c, xy) for c, xy in zip(colours, spots, strict=True)]
    steps: list[PickPlace | StackCube] = [
        PickPlace((blocks[0], plate), colours[0]),
        StackCube((blocks[1], blocks[2]), colours[1], colours[2]),
        StackCube((blocks[3], blocks[4]), colours[3], colours[4]),
    ]
    order = rng.permutation(3)
    return PlaceThree((plate, *blocks), tuple(steps[i] for i in order))


KIND = TaskKind("place_three", layout, demo_seed=740, distractors=(0, 1))
