"""Put groceries away by their looks: the path of the colour planner into a cupboard."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.planning.groceries import ITEMS, Store
from stvla_ros.planning.pantry import Pantry, Shelf, find_pantry, rests_inside
from stvla_ros.planning.shelf_route import DEPTH_M, DROP_M, LOWEST_M, release_point, shelf_route
from stvla_ros.tabletop.interaction import is_clear, is_holding
from stvla_ros.types import F64, PlanRequest

OWN_M = 0.05
"""What is this close beside the start of a path is the item itself."""


@dataclass(frozen=True, eq=False)
class Way:
    """What to do next.

    Attributes:
        route_m: (8, 3) tool positions; None: the task is done.
        sentence: What the image shows.
    """

    route_m: F64 | None
    sentence: str


class Storing:
    """Finds the way for one task after another.

    A cupboard does not move: its place in the first image of a task serves for the whole task, because the arm hides it
    later.

    Args:
        grip_m: Items are gripped this far below their top.
        clear_m: See :func:`stvla_ros.tabletop.interaction.is_clear`.
    """

    def __init__(self, grip_m: float, clear_m: float) -> None:
        self._grip_m, self._clear_m = grip_m, clear_m
        self._shelf: Shelf | None = None

    def way(self, task: Store, request: PlanRequest) -> Way:
        """The next path of a task. Raises GOAL_NOT_GROUNDED without item or cupboard, or with something else in the hand."""
        pantry = find_pantry(request.frame, request.robot)
        shelf = self._shelf_of(pantry, request)
        end = _inside(shelf)
        if is_holding(request.robot, request.history):
            _check_held(task, request, pantry)
            return Way(self._route(task, request.robot.T_base_tcp[:3, 3], shelf, pantry, request), pantry.sentence)
        if task.item in pantry.items:
            return Way(self._route(task, self._grasp(task, pantry), shelf, pantry, request), pantry.sentence)
        if not is_clear(request.robot, request.history, end, self._clear_m):  # the retreat belongs to the task
            return Way(self._route(task, request.robot.T_base_tcp[:3, 3], shelf, pantry, request), pantry.sentence)
        if rests_inside(pantry, shelf, task.item):
            return Way(None, pantry.sentence)
        raise _refused(f"I see no {task.item} on the table or in the cupboard. {pantry.sentence}")

    def _shelf_of(self, pantry: Pantry, request: PlanRequest) -> Shelf:
        if not request.history or self._shelf is None:
            self._shelf = pantry.shelf
        if self._shelf is None:
            raise _refused(f"I see no cupboard. {pantry.sentence}")
        return self._shelf

    def _grasp(self, task: Store, pantry: Pantry) -> F64:
        top = pantry.items[task.item].top_m
        return np.array([top[0], top[1], max(top[2] - self._grip_m, LOWEST_M)])

    def _route(self, task: Store, start_m: F64, shelf: Shelf, pantry: Pantry, request: PlanRequest) -> F64:
        """Into the shelf; how far the item reaches below the tool follows from its known size."""
        _, wide, high = ITEMS[task.item].size_m
        below = high - self._grip_m if high > self._grip_m + LOWEST_M else LOWEST_M
        end = release_point(shelf.front_m, shelf.yaw_rad, below, wide, DROP_M)
        beside = np.hypot(*(pantry.standing_m[:, :2] - start_m[:2]).T) > OWN_M
        standing = pantry.standing_m[beside][::4]
        return shelf_route(start_m, end, shelf.yaw_rad, standing, below, request.frame.camera)


def _inside(shelf: Shelf) -> F64:
    """(3,) about where items are released."""
    inwards = np.array([np.cos(shelf.yaw_rad), np.sin(shelf.yaw_rad), 0.0])
    return np.asarray(shelf.front_m + DEPTH_M * inwards)


def _check_held(task: Store, request: PlanRequest, pantry: Pantry) -> None:
    wanted = f"the {task.item}"
    if request.holding not in ("", "something", wanted):
        raise _refused(f"I cannot pick up {wanted} with {request.holding} in the gripper. {pantry.sentence}")


def _refused(sentence: str) -> StageError:
    return StageError(OutcomeCode.GOAL_NOT_GROUNDED, sentence)
