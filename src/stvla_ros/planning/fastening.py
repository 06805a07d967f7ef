"""Screw a lid on a jar or a bulb into a lamp: what comes next, from the things that a view shows."""

from __future__ import annotations

import numpy as np

from stvla_ros.planning.fittings import (
    BULB_GRIP_M,
    CLOSED_M,
    LID_GRIP_M,
    LID_SEAT_M,
    NECK_M,
    SOCKET_M,
    bulb_centre,
    find_bulbs_and_lamp,
    find_jars_and_lid,
)
from stvla_ros.planning.screw_route import screw_route
from stvla_ros.planning.screwing import Screw
from stvla_ros.planning.table_view import TableView, refused
from stvla_ros.types import F64

FINDERS = {"lid": find_jars_and_lid, "bulb": find_bulbs_and_lamp}
"""What recognises the things of a task, by the part that it screws."""


def screw_way(task: Screw, view: TableView, clear_m: float, drop_m: float) -> F64 | None:
    """(8, 3) the tool's next path; None: the task is done.

    Args:
        task: What is asked.
        view: With the :data:`FINDERS` of the task's part.
        clear_m: See :func:`stvla_ros.tabletop.interaction.is_clear`.
        drop_m: The part is turned this high above its seat.

    Raises:
        StageError: GOAL_NOT_GROUNDED: something that the task needs is not seen.
    """
    return _close(task, view, clear_m, drop_m) if task.part == "lid" else _light(task, view, clear_m, drop_m)


def _close(task: Screw, view: TableView, clear_m: float, drop_m: float) -> F64 | None:
    """From the lid, or the hand that holds it, to its seat on the jar."""
    jar = view.one("jar", task.colour)
    if jar.top_m > NECK_M + CLOSED_M and not view.holding:
        if view.clear_of(jar.centre_m, clear_m):
            return None
        neck = np.add(jar.centre_m, (0.0, 0.0, -LID_SEAT_M))
        return _route(task, view, jar.centre_m, neck, drop_m)
    start = view.tool_m
    if not view.holding:
        start = np.array([*view.one("lid").centre_m[:2], LID_GRIP_M])
    return _route(task, view, start, np.array([*jar.centre_m[:2], NECK_M]), drop_m)


def _light(task: Screw, view: TableView, clear_m: float, drop_m: float) -> F64 | None:
    """From the bulb, or the hand that holds it, to the bottom of the lamp's socket."""
    lamp = view.one("lamp")
    if lamp.top_m > lamp.centre_m[2] + BULB_GRIP_M / 2 and not view.holding:
        if view.clear_of(lamp.centre_m - [0.0, 0.0, SOCKET_M], clear_m + BULB_GRIP_M):
            return None
        return _route(task, view, lamp.centre_m, lamp.centre_m, drop_m)
    start: F64 | None = view.tool_m
    if not view.holding:
        start = bulb_centre(view.one("holder", task.colour))
    if start is None:
        raise refused(f"There is no bulb in the {task.colour} holder. {view.sentence()}")
    return _route(task, view, start, lamp.centre_m, drop_m)


def _route(task: Screw, view: TableView, start_m: F64, goal_m: F64, drop_m: float) -> F64:
    return screw_route(task.part, start_m, goal_m, view.standing_m, view.request.frame.camera, drop_m)
