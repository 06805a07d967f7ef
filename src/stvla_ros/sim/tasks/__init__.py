"""The tasks of the cell by name. To add one, write a file with a ``KIND`` and add a line here."""

from __future__ import annotations

import numpy as np

from stvla_ros.config import closest
from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.sim.tasks import (
    arrange,
    close_jar,
    light_bulb_in,
    pick_place,
    place_three,
    push_buttons,
    put_groceries,
    stack_cube,
)
from stvla_ros.sim.tasks.base import KnowsItsTarget, Score, Task, TaskKind, TwoVerdicts

_KINDS = (
    pick_place.KIND,
    stack_cube.KIND,
    push_buttons.KIND,
    close_jar.KIND,
    light_bulb_in.KIND,
    put_groceries.KIND,
    place_three.KIND,
    arrange.KIND,
)

TASKS: dict[str, TaskKind] = {kind.name: kind for kind in _KINDS}

BASIC_TASKS = ("pick_place", "stack_cube", "push_buttons")
"""What commands run when none is named, and what benchmarks draw scenes of: it stays the same with more tasks."""

MAX_DISTRACTORS = 12
"""As many fit on the table besides the task's objects, closer to each other."""

__all__ = [
    "BASIC_TASKS",
    "KnowsItsTarget",
    "MAX_DISTRACTORS",
    "TASKS",
    "Score",
    "Task",
    "TaskKind",
    "TwoVerdicts",
    "make_task",
]


def make_task(name: str, seed: int, distractors: int = -1) -> Task:
    """Lay out a task. The same arguments always give the same scene.

    Args:
        name: One of :data:`TASKS`.
        seed: 0 or more.
        distractors: Number of other objects; -1: the task's own number, by the seed.

    Raises:
        StageError: INVALID_GOAL for an unknown task, a negative seed, or too many distractors for the table.
    """
    if name not in TASKS:
        raise StageError(OutcomeCode.INVALID_GOAL, f"There is no task '{name}'.{closest(name, TASKS)}")
    if seed < 0:
        raise StageError(OutcomeCode.INVALID_GOAL, f"seed: wanted 0 or more, got {seed}.")
    if not -1 <= distractors <= MAX_DISTRACTORS:
        raise StageError(
            OutcomeCode.INVALID_GOAL,
            f"distractors: wanted -1 (the task's own number) or 0 to {MAX_DISTRACTORS}, got {distractors}.",
        )
    rng = np.random.default_rng(seed)
    kind = TASKS[name]
    fewest, most = kind.distractors
    count = int(rng.integers(fewest, most + 1)) if distractors < 0 else distractors
    return kind.layout(rng, count)
