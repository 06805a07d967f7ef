"""Somebody reaches in: a thing that the task is about stands elsewhere from one moment to the next."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.sim.cell import Cell
from stvla_ros.sim.objects import SceneObject
from stvla_ros.sim.tasks import Task
from stvla_ros.sim.tasks.base import FINGER_ROOM_M, X_RANGE_M, Y_RANGE_M, words

MOVABLE = ("pick_place", "stack_cube")
"""Tasks whose first object is carried and whose second one is where it goes; buttons are screwed down."""

LEAST_SHIFT_M = 0.12
TOOL_ROOM_M = 0.06
"""Nothing is put down so close beside the tool, from rim to middle."""

LATEST_S = 1.0
LAST_KEYPOSE = 3
"""What the task carries is moved after the first keypose; where it goes, after one of the first three."""

ROOM_SHARES = (1.0, 0.7, 0.45, 0.2)
TRIES = 400


@dataclass(frozen=True)
class Shift:
    """What is moved and when.

    Attributes:
        which: 0 the thing that is carried, 1 where it goes.
        after_keyposes: So many keyposes are executed before,
        delay_s: and so much time has passed since the last of them.
    """

    which: int
    after_keyposes: int
    delay_s: float


def draw_shift(rng: np.random.Generator) -> Shift:
    """A thing and a moment."""
    which = int(rng.integers(2))
    after = 1 if which == 0 else int(rng.integers(1, LAST_KEYPOSE + 1))
    return Shift(which, after, float(rng.uniform(0.0, LATEST_S)))


def carry_off(cell: Cell, task: Task, which: int, rng: np.random.Generator) -> str:
    """Put an object of the task elsewhere, upright as it stands.

    Args:
        cell: Its time does not go on.
        task: What is laid out there.
        which: Index into its objects.
        rng: Decides on the place: at least 12 cm away, with room for fingers, not beside the tool.

    Returns:
        One sentence; the object stays where the robot touches it or where there is no room.

    Raises:
        StageError: INVALID_GOAL for a task whose things cannot be moved.
    """
    thing = task.objects[which]
    if not cell.can_move(thing.name):
        raise StageError(
            OutcomeCode.INVALID_GOAL, f"The {words(thing.name)} is fixed to the table: it cannot be moved."
        )
    if cell.robot_touches(thing.name):
        return f"The {words(thing.name)} stayed: the robot touched it."
    place = _free_place(cell, task, thing, rng)
    if place is None:
        return f"The {words(thing.name)} stayed: there was no room for it elsewhere."
    before = cell.place(thing.name)
    cell.move_object(thing.name, place)
    shift_m = float(np.hypot(place[0] - before[0], place[1] - before[1]))
    return f"The {words(thing.name)} was moved by {100 * shift_m:.0f} cm."


def _free_place(cell: Cell, task: Task, thing: SceneObject, rng: np.random.Generator) -> tuple[float, float] | None:
    others = [(*cell.place(o.name), o.clearance_m) for o in task.objects if o.name != thing.name]
    here, tool = cell.place(thing.name), cell.state().T_base_tcp[:2, 3]
    margin = max(0.0, thing.clearance_m - 0.04)
    for share in ROOM_SHARES:
        for _ in range(TRIES):
            x = float(rng.uniform(X_RANGE_M[0] + margin, X_RANGE_M[1] - margin))
            y = float(rng.uniform(Y_RANGE_M[0] + margin, Y_RANGE_M[1] - margin))
            room = min((np.hypot(x - ox, y - oy) - max(r, thing.clearance_m) for ox, oy, r in others), default=np.inf)
            far = np.hypot(x - here[0], y - here[1]) >= LEAST_SHIFT_M
            clear = np.hypot(x - tool[0], y - tool[1]) >= TOOL_ROOM_M + thing.clearance_m
            if far and clear and room > share * FINGER_ROOM_M + 0.012:
                return x, y
    return None
