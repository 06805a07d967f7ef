"""Put the <color> block left of, right of, in front of, behind, near, between, on or in something else.

Success: the relation holds for the boxes of the things (:mod:`stvla_ros.tabletop.relations`), and the block is at rest after
release. The words are those of who looks through the stack's camera.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.sim.camera import TripodCameraConfig, look_at
from stvla_ros.sim.objects import (
    BLOCK_M,
    PLATE_BASE_M,
    PLATE_RADIUS_M,
    PLATE_RIM_M,
    Block,
    Plate,
    SceneObject,
)
from stvla_ros.sim.tasks.base import (
    FINGER_ROOM_M,
    TRIES,
    X_RANGE_M,
    Y_RANGE_M,
    Task,
    TaskKind,
    carried_off,
    pick_colours,
    place,
    random_block,
    resting_alone,
    words,
)
from stvla_ros.sim.world import World
from stvla_ros.tabletop.relations import OrientedBox, find_relations
from stvla_ros.types import F64

PHRASES = {
    "on": "on {b}",
    "in": "in {b}",
    "near": "near {b}",
    "left_of": "to the left of {b}",
    "right_of": "to the right of {b}",
    "in_front_of": "in front of {b}",
    "behind": "behind {b}",
    "between": "between {b} and {c}",
}
"""Relation, as :func:`stvla_ros.tabletop.relations.find_relations` names it -> how it is said."""

_AHEAD = {"left_of": (-1.0, 0.0), "right_of": (1.0, 0.0), "in_front_of": (0.0, -1.0), "behind": (0.0, 1.0)}
"""Relation -> its direction for the viewer: to the right, and away."""

BESIDE_M, BESIDE_PLATE_M = (0.11, 0.15), (0.18, 0.21)
"""Distance from the middle of a block, or of the plate, in a direction: open fingers fit between."""

NEAR_M, NEAR_PLATE_M = (0.085, 0.088), (0.18, 0.19)
"""The same where the block is to be near: gaps that count as near, however the block is turned."""

ASTRAY_RAD = 0.2
"""From the axis of a direction."""

APART_M = (0.24, 0.36)
"""Distance of the two things between which the block goes."""

ELSEWHERE_M = 0.10
"""The block starts at least this far from its goal."""

PLATE_SHARE, RAISED_SHARE = 0.4, 0.25
"""Scenes with a plate where the relation does not ask for one; scenes in which the block starts on or in something."""


def viewer_of(T_base_camera: F64) -> F64:
    """(4, 4) ``T_viewer_base``: x to the right of who looks through a camera, y away, z up."""
    ahead = T_base_camera[:2, 2] / np.linalg.norm(T_base_camera[:2, 2])
    T = np.eye(4)
    T[0, :2], T[1, :2] = (ahead[1], -ahead[0]), ahead
    return T


T_VIEWER_BASE = viewer_of(look_at(TripodCameraConfig()))
"""Of the cell's own camera."""


@dataclass(frozen=True)
class Arrange:
    """A block, and what it is to be to one or two other things.

    Attributes:
        objects: The block, what the relation is about, then others.
        relation: A key of :data:`PHRASES`.
        offset_m: x and y of the goal minus the middle of what the relation is about, in the base frame: one of the many
            places where the relation holds, for an expert.
        hold_s: See :class:`stvla_ros.sim.tasks.base.Task`.
    """

    objects: tuple[SceneObject, ...]
    relation: str
    offset_m: tuple[float, float]
    hold_s: float = 1.0

    @property
    def moved(self) -> SceneObject:
        """The block."""
        return self.objects[0]

    @property
    def references(self) -> tuple[SceneObject, ...]:
        """What the relation is about."""
        return self.objects[1 : 3 if self.relation == "between" else 2]

    @property
    def where(self) -> str:
        """The relation in words: ``to the left of the plate``."""
        named = dict(zip("bc", (f"the {words(o.name)}" for o in self.references), strict=False))
        return PHRASES[self.relation].format(**named)

    @property
    def instruction(self) -> str:
        return f"Put the {words(self.moved.name)} {self.where}."

    def watch(self, world: World) -> None:
        """Nothing to remember."""

    def holds(self, poses: Mapping[str, F64], T_viewer_base: F64 = T_VIEWER_BASE) -> bool:
        """Whether the relation holds for a viewer.

        Args:
            poses: (4, 4) ``T_base_object`` by name, of the block and the references at least.
            T_viewer_base: Of :func:`viewer_of`.
        """
        about = (self.moved, *self.references)
        found = find_relations({o.name: _box(o, T_viewer_base @ poses[o.name]) for o in about})
        wanted = {o.name for o in self.references}
        return any(
            r.subject == self.moved.name and r.predicate == self.relation and set(r.objects) == wanted for r in found
        )

    def goal_m(self, poses: Mapping[str, F64]) -> F64:
        """(3,) where the middle of the block's underside goes, from (4, 4) ``T_base_object`` by name."""
        middle = np.mean([poses[o.name][:3, 3] for o in self.references], axis=0)
        height = {"on": middle[2] + BLOCK_M / 2, "in": middle[2] + PLATE_BASE_M}.get(self.relation, 0.0)
        return np.array([middle[0] + self.offset_m[0], middle[1] + self.offset_m[1], height])

    def problem(self, world: World) -> str:
        if not self.holds({o.name: world.pose(o.name) for o in (self.moved, *self.references)}):
            return f"The {words(self.moved.name)} is not {self.where}."
        return resting_alone(world, self.moved.name)

    def wrong_target(self, world: World) -> bool:
        """Another block was carried off, or the plate."""
        return carried_off(world, self.objects[1:])


def _box(item: SceneObject, T_viewer_item: F64) -> OrientedBox:
    if isinstance(item, Plate):
        T = T_viewer_item.copy()
        T[:3, 3] += T[:3, 2] * PLATE_RIM_M / 2
        return OrientedBox(T, np.array([2 * PLATE_RADIUS_M, 2 * PLATE_RADIUS_M, PLATE_RIM_M]), container=True)
    return OrientedBox(T_viewer_item, np.full(3, BLOCK_M))


def layout(rng: np.random.Generator, distractors: int) -> Task:
    """A relation that does not hold yet, and a scene graph for it: what stands on the table is placed first, then what
    stands on that. The goal is kept free for the hand.

    Raises:
        StageError: INVALID_GOAL when the things do not fit.
    """
    relation = str(rng.choice(list(PHRASES)))
    references = 2 if relation == "between" else 1
    colours = pick_colours(rng, 1 + references + distractors)
    by_plate = relation == "in" or (relation in (*_AHEAD, "near") and rng.random() < PLATE_SHARE)
    plate_beside = not by_plate and rng.random() < PLATE_SHARE
    raised = bool(distractors + plate_beside) and rng.random() < RAISED_SHARE
    for _ in range(TRIES):
        things = _things(rng, colours, references, by_plate, plate_beside)
        if raised:
            things[0] = _raised(things[0], things[int(rng.integers(references + 1, len(things)))])
        task = Arrange(tuple(things), relation, _offset(rng, relation, by_plate))
        if _fits(task):
            return task
    raise StageError(
        OutcomeCode.INVALID_GOAL,
        f"{len(colours)} objects leave no free place {PHRASES[relation].format(b='another', c='a third one')}: "
        "ask for fewer distractors.",
    )


def _things(
    rng: np.random.Generator, colours: list[str], references: int, by_plate: bool, plate_beside: bool
) -> list[SceneObject]:
    """The block, the references and the others, each at its place on the table."""
    blocks = list(colours)
    if by_plate:
        del blocks[1]
    radius = Block("", (0.0, 0.0), 0.0).clearance_m
    plates = int(by_plate or plate_beside)
    spots = place(rng, [*[PLATE_RADIUS_M] * plates, *[radius] * len(blocks)])
    things: list[SceneObject] = [
        random_block(rng, colour, xy) for colour, xy in zip(blocks, spots[plates:], strict=True)
    ]
    if plates:
        things.insert(1 if by_plate else references + 1, Plate(spots[0]))
    return things


def _raised(block: SceneObject, below: SceneObject) -> SceneObject:
    """The block on another one, or in the plate."""
    assert isinstance(block, Block)
    return replace(block, xy_m=below.xy_m, z_m=PLATE_BASE_M if isinstance(below, Plate) else BLOCK_M)


def _offset(rng: np.random.Generator, relation: str, by_plate: bool) -> tuple[float, float]:
    if relation in _AHEAD:
        right, away = _AHEAD[relation]
        direction = float(np.arctan2(away, right) + rng.uniform(-ASTRAY_RAD, ASTRAY_RAD))
        distance = rng.uniform(*(BESIDE_PLATE_M if by_plate else BESIDE_M))
    elif relation == "near":
        direction = rng.uniform(-np.pi, np.pi)
        distance = rng.uniform(*(NEAR_PLATE_M if by_plate else NEAR_M))
    else:
        return 0.0, 0.0
    seen = distance * np.array([np.cos(direction), np.sin(direction)])
    x, y = T_VIEWER_BASE[:2, :2].T @ seen
    return float(x), float(y)


def _fits(task: Arrange) -> bool:
    """The relation does not hold yet, and the hand can put the block down without touching what it is not about."""
    poses = {o.name: laid(o) for o in task.objects}
    goal = task.goal_m(poses)[:2]
    others = [o for o in task.objects[1:] if o not in task.references]
    apart = float(np.hypot(*np.subtract(task.references[0].xy_m, task.references[-1].xy_m)))
    return (
        X_RANGE_M[0] <= goal[0] <= X_RANGE_M[1]
        and Y_RANGE_M[0] <= goal[1] <= Y_RANGE_M[1]
        and (len(task.references) == 1 or APART_M[0] <= apart <= APART_M[1])
        and np.hypot(*(goal - task.moved.xy_m)) > ELSEWHERE_M
        and all(np.hypot(*(goal - o.xy_m)) > o.clearance_m + FINGER_ROOM_M for o in others)
        and not task.holds(poses)
    )


def laid(item: SceneObject) -> F64:
    """``T_base_object`` as it is laid out."""
    T = np.eye(4)
    T[:2, 3] = item.xy_m
    if isinstance(item, Block):
        c, s = np.cos(item.yaw_rad), np.sin(item.yaw_rad)
        T[:2, :2], T[2, 3] = [[c, -s], [s, c]], BLOCK_M / 2 + item.z_m
    return T


KIND = TaskKind("arrange", layout, demo_seed=39, distractors=(1, 3))
