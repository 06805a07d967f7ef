"""A person reaches in: an object of the task is suddenly somewhere else."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.sim.cell import Cell
from stvla_ros.sim.objects import SceneObject
from stvla_ros.sim.tasks import TASKS, Task
from stvla_ros.sim.tasks.base import FINGER_ROOM_M, X_RANGE_M, Y_RANGE_M, words

MOVABLE = tuple(name for name, kind in TASKS.items() if kind.movable)
"""Tasks whose first object is carried and whose second one is its goal; buttons are fixed."""

MIN_SHIFT_M = 0.12
TOOL_ROOM_M = 0.06
"""No object is put closer to the tool, from rim to centre."""

MAX_DELAY_S = 1.0
LAST_KEYPOSE = 3
"""The carried object moves after the first keypose; its goal after one of the first three."""

ROOM_SHARES = (1.0, 0.7, 0.45, 0.2)
TRIES = 400


@dataclass(frozen=True)
class Disturbance:
    """What is moved and when.

    Attributes:
        which: 0 the carried object, 1 its goal.
        after_keyposes: Number of keyposes that are executed before.
        delay_s: Time since the last of them.
    """

    which: int
    after_keyposes: int
    delay_s: float


def draw_disturbance(rng: np.random.Generator) -> Disturbance:
    """Draw an object and a time."""
    which = int(rng.integers(2))
    after = 1 if which == 0 else int(rng.integers(1, LAST_KEYPOSE + 1))
    return Disturbance(which, after, float(rng.uniform(0.0, MAX_DELAY_S)))


def move_away(cell: Cell, task: Task, which: int, rng: np.random.Generator) -> str:
    """Move an object of the task, upright, to another place.

    Args:
        cell: Its time does not advance.
        task: Its task.
        which: Index into its objects.
        rng: Draws the place: at least 12 cm away, with room for fingers, not next to the tool.

    Returns:
        One sentence; the object stays if the robot touches it or if there is no room.

    Raises:
        StageError: INVALID_GOAL for a task whose objects cannot be moved.
    """
    moved = task.objects[which]
    if not cell.can_move(moved.name):
        raise StageError(
            OutcomeCode.INVALID_GOAL, f"The {words(moved.name)} is fixed to the table: it cannot be moved."
        )
    if cell.robot_touches(moved.name):
        return f"The {words(moved.name)} stayed: the robot touched it."
    place = _free_place(cell, task, moved, rng)
    if place is None:
        return f"The {words(moved.name)} stayed: there was no room for it elsewhere."
    before = cell.place(moved.name)
    cell.move_object(moved.name, place)
    shift_m = float(np.hypot(place[0] - before[0], place[1] - before[1]))
    return f"The {words(moved.name)} was moved by {100 * shift_m:.0f} cm."


def _free_place(cell: Cell, task: Task, moved: SceneObject, rng: np.random.Generator) -> tuple[float, float] | None:
    others = [(*cell.place(o.name), o.clearance_m) for o in task.objects if o.name != moved.name]
    here, tool = cell.place(moved.name), cell.state().T_base_tcp[:2, 3]
    margin = max(0.0, moved.clearance_m - 0.04)
    for share in ROOM_SHARES:
        for _ in range(TRIES):
            x = float(rng.uniform(X_RANGE_M[0] + margin, X_RANGE_M[1] - margin))
            y = float(rng.uniform(Y_RANGE_M[0] + margin, Y_RANGE_M[1] - margin))
            room = min((np.hypot(x - ox, y - oy) - max(r, moved.clearance_m) for ox, oy, r in others), default=np.inf)
            far = np.hypot(x - here[0], y - here[1]) >= MIN_SHIFT_M
            clear = np.hypot(x - tool[0], y - tool[1]) >= TOOL_ROOM_M + moved.clearance_m
            if far and clear and room > share * FINGER_ROOM_M + 0.012:
                return x, y
    return None
