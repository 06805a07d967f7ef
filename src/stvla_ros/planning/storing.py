"""Put groceries away by their looks: the path of the colour planner into a cupboard."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from stvla_ros.errors import StageError
from stvla_ros.planning.groceries import ITEMS, Store
from stvla_ros.planning.pantry import Item, Pantry, Shelf, find_pantry, rests_inside
from stvla_ros.planning.shelf_route import item_grasp, item_route, release_point
from stvla_ros.planning.table_view import refused
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


class Items(Protocol):
    """Which of the things in an image is the asked one."""

    def pantry(self, request: PlanRequest) -> Pantry:
        """What the image shows."""
        ...

    def on_table(self, task: Store, request: PlanRequest, pantry: Pantry, shelf: Shelf) -> Item | None:
        """The asked item, unless it is in the cupboard or not seen."""
        ...

    def size_m(self, task: Store) -> tuple[float, float, float]:
        """The asked item's shorter edge, its longer one, and its height, also when it is held."""
        ...

    def rests_inside(self, task: Store, pantry: Pantry, shelf: Shelf) -> bool:
        """The asked item rests on the shelf."""
        ...

    def missing(self, task: Store, pantry: Pantry) -> StageError:
        """Why the asked item is nowhere."""
        ...


class ByLooks:
    """Tells items apart by the table of their looks. Methods: see :class:`Items`."""

    def pantry(self, request: PlanRequest) -> Pantry:
        return find_pantry(request.frame, request.robot)

    def on_table(self, task: Store, request: PlanRequest, pantry: Pantry, shelf: Shelf) -> Item | None:
        return pantry.items.get(task.item)

    def size_m(self, task: Store) -> tuple[float, float, float]:
        return ITEMS[task.item].size_m

    def rests_inside(self, task: Store, pantry: Pantry, shelf: Shelf) -> bool:
        return rests_inside(pantry, shelf, task.item)

    def missing(self, task: Store, pantry: Pantry) -> StageError:
        return refused(f"I see no {task.item} on the table or in the cupboard. {pantry.sentence}")


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

    def way(self, task: Store, request: PlanRequest, items: Items) -> Way:
        """The next path of a task. Raises GOAL_NOT_GROUNDED without item or cupboard, or with something else in the hand."""
        pantry = items.pantry(request)
        shelf = self._shelf_of(pantry, request)
        start = request.robot.T_base_tcp[:3, 3]
        if is_holding(request.robot, request.history):
            _check_held(task, request, pantry)
        elif (item := items.on_table(task, request, pantry, shelf)) is not None:
            start = item_grasp(item.top_m, self._grip_m)
        elif is_clear(request.robot, request.history, release_place(shelf), self._clear_m):
            # until it is clear, the retreat belongs to the task
            if items.rests_inside(task, pantry, shelf):
                return Way(None, pantry.sentence)
            raise items.missing(task, pantry)
        return Way(self._route(start, items.size_m(task), shelf, pantry, request), pantry.sentence)

    def _shelf_of(self, pantry: Pantry, request: PlanRequest) -> Shelf:
        if not request.history or self._shelf is None:
            self._shelf = pantry.shelf
        if self._shelf is None:
            raise refused(f"I see no cupboard. {pantry.sentence}")
        return self._shelf

    def _route(
        self, start_m: F64, size_m: tuple[float, float, float], shelf: Shelf, pantry: Pantry, request: PlanRequest
    ) -> F64:
        beside = np.hypot(*(pantry.standing_m[:, :2] - start_m[:2]).T) > OWN_M
        standing, camera = pantry.standing_m[beside][::4], request.frame.camera
        return item_route(start_m, size_m, self._grip_m, shelf.front_m, shelf.yaw_rad, standing, camera)


def release_place(shelf: Shelf) -> F64:
    """(3,) about where items are released."""
    return release_point(shelf.front_m, shelf.yaw_rad, 0.0, 0.0, 0.0)


def _check_held(task: Store, request: PlanRequest, pantry: Pantry) -> None:
    wanted = f"the {task.item}"
    if request.holding not in ("", "something", wanted):
        raise refused(f"I cannot pick up {wanted} with {request.holding} in the gripper. {pantry.sentence}")
