"""What the tasks with a twist share: a layout that is turned as one piece, and how far a part was screwed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stvla_ros.colours import COLOURS
from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.geometry.se3 import inverse, wrap
from stvla_ros.sim.objects import Block, SceneObject
from stvla_ros.sim.tasks.base import TRIES, random_block
from stvla_ros.sim.world import World
from stvla_ros.types import F64

AREA_X_M, AREA_Y_M = (0.34, 0.66), (-0.30, 0.30)
"""Where the objects of these tasks stand: in reach of the arm and in view of the camera."""

REACH_M = 0.70
"""Objects further than this from the arm's base are drawn again: there the hand cannot point down at all heights."""

MIDDLE_X_M, MIDDLE_Y_M = (0.42, 0.60), (-0.14, 0.14)

Spots = list[tuple[float, float]]


@dataclass
class Turn:
    """How far a part was turned clockwise, seen from above, since it engaged. Turning back counts against it.

    Attributes:
        engaged: The part is in its thread now.
        turned_rad: Since it engaged; starts anew when it engages again.
    """

    engaged: bool = False
    turned_rad: float = 0.0
    _yaw_rad: float = 0.0

    def watch(self, yaw_rad: float, engaged: bool) -> None:
        """Take in the part's yaw relative to its counterpart."""
        if not engaged:
            self.engaged = False
            return
        self.turned_rad = self.turned_rad - wrap(yaw_rad - self._yaw_rad) if self.engaged else 0.0
        self.engaged, self._yaw_rad = True, yaw_rad

    @property
    def turned_deg(self) -> float:
        """For records."""
        return round(float(np.degrees(self.turned_rad)), 1)

    def missing(self, wanted_rad: float, done: str) -> str:
        """Empty if the part was turned far enough; otherwise a sentence that begins with what is done."""
        if self.turned_rad >= wanted_rad:
            return ""
        turned, wanted = np.degrees([self.turned_rad, wanted_rad])
        return f"{done} but was turned clockwise by {turned:.0f} degrees, not by {wanted:.0f}."


def relative(world: World, part: str, to: str) -> F64:
    """(4, 4) pose of a part in the frame of another body."""
    return np.asarray(inverse(world.pose(to)) @ world.pose(part))


def yaw_of(T: F64) -> float:
    """Turn about the z axis, rad."""
    return float(np.arctan2(T[1, 0], T[0, 0]))


def tilt_of(T: F64) -> float:
    """Angle between the z axes, rad."""
    return float(np.arccos(np.clip(T[2, 2], -1.0, 1.0)))


def beside(T: F64) -> float:
    """Distance of the origins across the z axis, m."""
    return float(np.hypot(T[0, 3], T[1, 3]))


def two_colours(rng: np.random.Generator) -> tuple[str, str]:
    """The asked colour, each of the 20 as often, and another one."""
    first, second = rng.choice(list(COLOURS), 2, replace=False)
    return str(first), str(second)


def apart_m(first: SceneObject, second: SceneObject) -> float:
    """Distance between the places of two objects, m, for records."""
    return round(float(np.hypot(*np.subtract(first.xy_m, second.xy_m))), 4)


def as_one_piece(
    rng: np.random.Generator, half_m: tuple[float, float], away_m: float, turn_rad: float, least_m: float
) -> Spots:
    """A place, and two more in an area beside it: drawn in a frame of their own, then moved and turned as a whole.

    As in RLBench, a layout that the arm cannot reach is drawn again.

    Args:
        rng: Decides.
        half_m: Half the sizes of the area.
        away_m: Distance of the first place from the area's edge.
        turn_rad: Largest turn to both sides.
        least_m: Least distance between any two places.

    Raises:
        StageError: INTERNAL when no layout fits, which is a defect of the task.
    """
    for _ in range(20 * TRIES):
        middle = np.array([rng.uniform(*MIDDLE_X_M), rng.uniform(*MIDDLE_Y_M)])
        yaw = rng.uniform(-turn_rad, turn_rad)
        spots = (
            np.array(_local(rng, half_m, away_m)) @ np.array([[np.cos(yaw), np.sin(yaw)], [-np.sin(yaw), np.cos(yaw)]])
            + middle
        )
        if _fits(spots, least_m):
            return [(float(x), float(y)) for x, y in spots]
    raise StageError(OutcomeCode.INTERNAL, "No layout of this task fits on the table.")


def _local(rng: np.random.Generator, half_m: tuple[float, float], away_m: float) -> Spots:
    x_m, y_m = half_m
    two = [(float(rng.uniform(-x_m, x_m)), float(rng.uniform(-y_m, y_m))) for _ in "ab"]
    return [(-x_m - away_m, 0.0), *two]


def _fits(spots: F64, least_m: float) -> bool:
    x, y = spots.T
    inside = (AREA_X_M[0] <= x) & (x <= AREA_X_M[1]) & (AREA_Y_M[0] <= y) & (y <= AREA_Y_M[1])
    gaps = np.linalg.norm(spots[:, None] - spots[None], axis=2)[np.triu_indices(len(spots), 1)]
    return bool(inside.all() and (np.hypot(x, y) <= REACH_M).all() and (gaps >= least_m).all())


def with_blocks(rng: np.random.Generator, objects: Sequence[SceneObject], count: int) -> tuple[SceneObject, ...]:
    """The objects and some blocks of any colours in the room that is left.

    Raises:
        StageError: INVALID_GOAL when there is no room for so many.
    """
    placed = list(objects)
    for colour in rng.choice(list(COLOURS), count, replace=False):
        placed.append(_block(rng, str(colour), placed))
    return tuple(placed)


def _block(rng: np.random.Generator, colour: str, placed: Sequence[SceneObject]) -> Block:
    for share in (1.0, 0.7, 0.45, 0.2):
        for _ in range(TRIES):
            block = random_block(rng, colour, (float(rng.uniform(0.30, 0.68)), float(rng.uniform(-0.34, 0.34))))
            gaps = [np.hypot(*np.subtract(block.xy_m, o.xy_m)) - o.clearance_m - block.clearance_m for o in placed]
            if min(gaps, default=1.0) > 0.01 + share * 0.05:
                return block
    raise StageError(OutcomeCode.INVALID_GOAL, "There is no room for so many blocks: ask for fewer distractors.")
