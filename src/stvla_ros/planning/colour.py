"""The colour planner: parses task sentences, finds coloured objects in the image, draws a path over obstacles.

It needs no weights and sees only pixels and robot state. It refuses what it cannot find.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from uuid import uuid4

import numpy as np

from stvla_ros.config import param
from stvla_ros.planning.fastening import FINDERS, screw_way
from stvla_ros.planning.groceries import Store
from stvla_ros.planning.in_steps import InSteps
from stvla_ros.planning.instruction import Carry, Push, Screw, UnclearError, parse
from stvla_ros.planning.route import carry_route, draw, press_route
from stvla_ros.planning.storing import ByLooks, Storing
from stvla_ros.planning.table_view import TableView, refused
from stvla_ros.tabletop.interaction import pressed_in_order
from stvla_ros.tabletop.objects import TableObject
from stvla_ros.types import F64, WAYPOINTS, PlanRequest, TracePlan


@dataclass(frozen=True)
class ColourConfig:
    """Settings of the colour planner."""

    grip_depth_m: float = param(0.02, "blocks are gripped this far below their top [m]", ge=0.005, le=0.04)
    drop_m: float = param(0.003, "a block is released this high above its support [m]", ge=0.0, le=0.03)
    screw_drop_m: float = param(0.001, "a lid or bulb is turned this high above its seat [m]", ge=0.0, le=0.01)
    clear_m: float = param(
        0.08, "the tool is clear of an object this far above it, or 1.5 times as far beside it [m]", ge=0.02, le=0.3
    )
    press_radius_m: float = param(0.03, "a contact this close to a button's centre presses it [m]", ge=0.005, le=0.1)


class ColourPlanner:
    """Parses task sentences and grounds coloured blocks, plates and buttons."""

    Config = ColourConfig

    def __init__(self, config: ColourConfig) -> None:
        self._config = config
        self._storing = Storing(config.grip_depth_m, config.clear_m)
        self._steps = InSteps()

    def plan(self, request: PlanRequest) -> TracePlan:
        """See :class:`stvla_ros.interfaces.Planner`. Raises GOAL_NOT_GROUNDED."""
        return self._steps.plan(request, self._single)

    def _single(self, request: PlanRequest) -> TracePlan:
        view = self.look(request)
        try:
            task = parse(request.instruction)
        except UnclearError as error:
            there = {found.name for found in view.objects}
            raise refused(f"Not understood: {error.message(there)} {view.sentence()}") from error
        if isinstance(task, Store):
            return self._store(task, view)
        if isinstance(task, Screw):
            return self._screw(task, view)
        return self._carry(task, view) if isinstance(task, Carry) else self._push(task, view)

    def look(self, request: PlanRequest) -> TableView:
        """The objects in a request's frame."""
        return TableView(request)

    def _carry(self, task: Carry, view: TableView) -> TracePlan:
        goal = view.one("block", task.onto) if task.onto else view.one("plate")
        if not task.onto:
            self._check_empty(goal, task, view)
        if view.holding:
            self._check_held(task, view)
            return self._path(view, task.sentence, self._carry_from(view.tool_m, view.unoccluded(goal), view))
        block = view.one("block", task.colour)
        if self._rests_on(block, goal):
            if view.clear_of(block.centre_m, self._config.clear_m):
                return self._finished(view, task.sentence, 1)
        else:
            view.unoccluded(goal)
        view.unoccluded(block)
        start = block.centre_m - [0.0, 0.0, min(self._config.grip_depth_m, block.top_m - 0.012)]
        return self._path(view, task.sentence, self._carry_from(start, goal, view))

    def _carry_from(self, start_m: F64, goal: TableObject, view: TableView) -> F64:
        end = goal.centre_m.copy()
        end[2] = self._support(goal) + self._config.grip_depth_m + self._config.drop_m
        return carry_route(start_m, end, view.standing_m, self._config.grip_depth_m, view.request.frame.camera)

    @staticmethod
    def _support(goal: TableObject) -> float:
        """Height at which the block will rest: the floor of a plate inside its rim, the top of a block."""
        if goal.kind != "plate":
            return float(goal.centre_m[2])
        inside = np.hypot(*(goal.points_m[:, :2] - goal.centre_m[:2]).T) < 0.3 * goal.size_m[0]
        return float(np.median(goal.points_m[inside, 2])) if inside.sum() > 20 else 0.005

    def _check_held(self, task: Carry, view: TableView) -> None:
        """A held object is used as the wanted one unless known to be another. Raises GOAL_NOT_GROUNDED."""
        held, wanted = view.request.holding, f"the {task.colour} block"
        if held not in ("", "something", wanted):
            raise refused(f"I cannot pick up {wanted} with {held} in the gripper.")

    def _check_empty(self, plate: TableObject, task: Carry, view: TableView) -> None:
        """A plate has room for one block. Raises GOAL_NOT_GROUNDED."""
        for found in view.objects:
            if found.kind == "block" and self._inside(found, plate) and not found.may_be(task.colour):
                raise refused(f"The {found.name} is in the plate, which has room for one. {view.sentence()}")

    @staticmethod
    def _inside(block: TableObject, plate: TableObject) -> bool:
        return bool(np.hypot(*(block.centre_m - plate.centre_m)[:2]) < plate.size_m[0] / 2 - 0.015)

    def _rests_on(self, block: TableObject, goal: TableObject) -> bool:
        if goal.kind == "plate":
            return self._inside(block, goal) and block.top_m < 0.08
        near = np.hypot(*(goal.points_m[:, :2] - block.centre_m[:2]).T).min() < 0.035
        return bool(near and block.top_m > 0.06 and block.bottom_m > 0.025 and block.top_m > goal.top_m + 0.02)

    def _store(self, task: Store, view: TableView) -> TracePlan:
        way = self._storing.way(task, view.request, ByLooks())
        view = replace(view, said=way.sentence)
        if way.route_m is None:
            return self._finished(view, task.sentence, 1)
        return self._path(view, task.sentence, way.route_m)

    def _screw(self, task: Screw, view: TableView) -> TracePlan:
        view = replace(view, find=FINDERS[task.part])
        route = screw_way(task, view, self._config.clear_m, self._config.screw_drop_m)
        return self._finished(view, task.sentence, 1) if route is None else self._path(view, task.sentence, route)

    def _push(self, task: Push, view: TableView) -> TracePlan:
        history = view.request.history
        if not history and view.holding:
            raise refused("I cannot push a button with something in the gripper.")
        buttons = {colour: view.one("button", colour) for colour in dict.fromkeys(task.colours)}
        centres = [buttons[colour].centre_m for colour in task.colours]
        step = pressed_in_order(centres, history, self._config.press_radius_m)
        if step == len(centres):
            if view.clear_of(centres[-1], self._config.clear_m):
                return self._finished(view, _press_sentence(task, step - 1), step)
            step -= 1  # the retreat from the last button belongs to it
        return self._path(view, _press_sentence(task, step), press_route(centres[step]), step, len(centres))

    def _path(self, view: TableView, sentence: str, route_m: F64, step: int = 0, total: int = 1) -> TracePlan:
        drawn = draw(route_m, view.request.frame)
        if drawn is None:
            raise refused(f"There is no depth where the path to '{sentence}' would start. {view.sentence()}")
        return self._plan(view, sentence, (step, total), *drawn, finished=False)

    def _finished(self, view: TableView, sentence: str, total: int) -> TracePlan:
        return self._plan(
            view,
            sentence,
            (total - 1, total),
            np.zeros((WAYPOINTS, 2)),
            float("nan"),
            np.zeros(WAYPOINTS),
            finished=True,
        )

    def _plan(
        self,
        view: TableView,
        sentence: str,
        step: tuple[int, int],
        uv: F64,
        start_m: float,
        offset_m: F64,
        *,
        finished: bool,
    ) -> TracePlan:
        request = view.request
        stamp, plan_id = request.frame.stamp_ns, f"colour-{uuid4().hex[:12]}"
        return TracePlan(
            request.instruction,
            sentence,
            uv,
            start_m,
            offset_m,
            step[0],
            finished,
            "colour",
            view.sentence(),
            stamp,
            plan_id,
            step[1],
        )


def _press_sentence(task: Push, step: int) -> str:
    return f"push the {task.colours[step]} button"
