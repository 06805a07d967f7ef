"""What a task is, and where on the table objects may be."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np

from stvla_ros.colours import COLOURS
from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.sim.objects import Block, SceneObject
from stvla_ros.sim.world import World

X_RANGE_M = (0.34, 0.64)
Y_RANGE_M = (-0.28, 0.28)
FINGER_ROOM_M = 0.07
"""From the centre of a grasped object to the outside of the open fingers."""

TRIES = 200
ROOM_SHARES = (1.0, 0.7, 0.45)
"""Objects get closer after that many failed tries; the last share still keeps them apart."""

SPEED_AT_REST_M_S = 0.005

CARRIED_M = 0.08
"""An object that was pushed aside stays nearer to its place; one that was taken to a goal does not."""


@dataclass(frozen=True)
class Score:
    """The simulator's verdict.

    Attributes:
        success: By the task's own rule, the strict one if it has two.
        detail: What is missing, in one sentence.
        rlbench: By RLBench's rule; None where the task has no rule of its own.
        facts: Measured numbers, by name.
    """

    success: bool
    detail: str
    rlbench: bool | None = None
    facts: Mapping[str, float] = field(default_factory=dict)


class Task(Protocol):
    """Objects, words for the operator, and the verdict.

    Attributes:
        instruction: For the robot.
        objects: What lies on the table.
        hold_s: How long :meth:`problem` must stay empty for success.
    """

    @property
    def instruction(self) -> str: ...

    @property
    def objects(self) -> tuple[SceneObject, ...]: ...

    @property
    def hold_s(self) -> float: ...

    def watch(self, world: World) -> None:
        """Called after every physics step, to remember what the final state does not show."""
        ...

    def problem(self, world: World) -> str:
        """What is still missing, in one sentence; empty if nothing is."""
        ...


@runtime_checkable
class TwoVerdicts(Task, Protocol):
    """A task after one of RLBench's, with RLBench's verdict besides its own."""

    def rlbench_problem(self, world: World) -> str:
        """As :meth:`problem`, by RLBench's rule."""
        ...

    def facts(self, world: World) -> dict[str, float]:
        """Measured numbers, by name."""
        ...


@runtime_checkable
class KnowsItsTarget(Task, Protocol):
    """A task that can tell whether the robot worked on something that the instruction does not name."""

    def wrong_target(self, world: World) -> bool:
        """Whether it did: another object was carried off, another button pressed, another jar closed."""
        ...


TaskLayout: TypeAlias = Callable[[np.random.Generator, int], Task]


@dataclass(frozen=True)
class TaskKind:
    """What the rest of the program knows about a task without laying it out.

    Attributes:
        name: For command lines, files and reports.
        layout: Lays a scene out.
        demo_seed: A good scene to show.
        movable: The first object is carried, the second one is its goal, and both may be moved by hand meanwhile.
        names: What instructions tell scenes apart by.
        held_out: Names that training does not see; None: the colours of :data:`stvla_ros.data.splits.UNSEEN`.
        paper_held_out: The names that the paper gives as examples of unseen ones; empty if it gives none.
        distractors: Fewest and most of the other objects of a scene, unless a caller says how many.
    """

    name: str
    layout: TaskLayout
    demo_seed: int
    movable: bool = False
    names: tuple[str, ...] = tuple(COLOURS)
    held_out: tuple[str, ...] | None = None
    paper_held_out: tuple[str, ...] = ()
    distractors: tuple[int, int] = (2, 4)


def pick_colours(rng: np.random.Generator, count: int) -> list[str]:
    """Distinct colours."""
    return [str(c) for c in rng.choice(sorted(COLOURS), size=count, replace=False)]


def place(
    rng: np.random.Generator, radii_m: Sequence[float], room_m: float = FINGER_ROOM_M
) -> list[tuple[float, float]]:
    """Random places for round objects, so that open fingers fit between any two.

    If the table is too full for that, they are closer.

    Args:
        rng: Decides.
        radii_m: Radius of each object; the largest first has the best chance.
        room_m: Free space that one of two neighbours needs around its centre.

    Raises:
        StageError: INVALID_GOAL when the objects do not fit at all.
    """
    for share in ROOM_SHARES:
        for _ in range(TRIES):
            spots = _one_try(rng, radii_m, share * room_m)
            if spots is not None:
                return spots
    raise StageError(
        OutcomeCode.INVALID_GOAL,
        f"{len(radii_m)} objects with radii up to {max(radii_m) * 100:.1f} cm do not fit on the table: "
        "ask for fewer distractors.",
    )


def _one_try(rng: np.random.Generator, radii_m: Sequence[float], room_m: float) -> list[tuple[float, float]] | None:
    spots: list[tuple[float, float]] = []
    for radius in radii_m:
        spot = _free_spot(rng, radius, spots, radii_m, room_m)
        if spot is None:
            return None
        spots.append(spot)
    return spots


def _free_spot(
    rng: np.random.Generator, radius: float, spots: list[tuple[float, float]], radii_m: Sequence[float], room_m: float
) -> tuple[float, float] | None:
    for _ in range(60):
        margin = max(0.0, radius - 0.04)  # a plate may reach a little over the edge of the area, not far
        x = float(rng.uniform(X_RANGE_M[0] + margin, X_RANGE_M[1] - margin))
        y = float(rng.uniform(Y_RANGE_M[0] + margin, Y_RANGE_M[1] - margin))
        gaps = (np.hypot(x - sx, y - sy) - max(radius, other) for (sx, sy), other in zip(spots, radii_m, strict=False))
        if all(gap > room_m + 0.012 for gap in gaps):
            return x, y
    return None


def random_block(rng: np.random.Generator, colour: str, xy_m: tuple[float, float]) -> Block:
    """A block at a place with any yaw."""
    return Block(colour, xy_m, float(rng.uniform(-np.pi, np.pi)))


def carried_off(world: World, objects: Iterable[SceneObject]) -> bool:
    """Whether one of some free objects is further than :data:`CARRIED_M` from where it was laid out."""
    return any(np.hypot(*(world.position(o.name)[:2] - np.array(o.xy_m))) > CARRIED_M for o in objects)


def resting_alone(world: World, body: str) -> str:
    """Empty if the body is at rest and the robot does not touch it, otherwise what is wrong."""
    if world.robot_touches(body):
        return f"The robot still touches the {words(body)}."
    if world.speed(body) > SPEED_AT_REST_M_S:
        return f"The {words(body)} still moves."
    return ""


def words(body: str) -> str:
    """``red_block`` as people say it."""
    return body.replace("_", " ")
