"""The colour planner: parses task sentences, finds coloured objects in the image, draws a path over obstacles.

It needs no weights and sees only pixels and robot state. It refuses what it cannot find.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from uuid import uuid4

import numpy as np

from stvla_ros.config import param
from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.geometry.cameras import depth_cloud
from stvla_ros.geometry.depths import without_specks
from stvla_ros.planning.fittings import (
    BULB_GRIP_M,
    CLOSED_M,
    LID_GRIP_M,
    LID_SEAT_M,
    NECK_M,
    PART_M,
    SOCKET_M,
    bulb_centre,
    find_bulbs_and_lamp,
    find_jars_and_lid,
)
from stvla_ros.planning.groceries import Store
from stvla_ros.planning.in_steps import InSteps
from stvla_ros.planning.instruction import Carry, Push, Screw, UnclearError, parse
from stvla_ros.planning.route import carry_route, draw, press_route
from stvla_ros.planning.storing import Storing
from stvla_ros.tabletop.interaction import is_clear, is_holding, pressed_in_order
from stvla_ros.tabletop.objects import TableObject, recognise_objects
from stvla_ros.tabletop.regions import RegionConfig, Regions, find_regions
from stvla_ros.tabletop.self_filter import robot_mask
from stvla_ros.types import F64, U8, WAYPOINTS, PlanRequest, TracePlan


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


@dataclass(frozen=True, eq=False)
class _View:
    """One request and the objects in its frame, which are looked for when they are asked for."""

    request: PlanRequest
    find: Callable[[Regions, U8], list[TableObject]] = recognise_objects
    said: str = ""  # in place of a list of blocks, plates and buttons

    @cached_property
    def regions(self) -> Regions:
        frame = self.request.frame
        depth = without_specks(frame.depth_m)
        points = depth_cloud(frame.camera, depth)
        return find_regions(frame.rgb, depth, points, robot_mask(points, self.request.robot), RegionConfig())

    @cached_property
    def objects(self) -> tuple[TableObject, ...]:
        return tuple(self.find(self.regions, self.request.frame.rgb))

    @property
    def tool_m(self) -> F64:
        return self.request.robot.T_base_tcp[:3, 3]

    @property
    def holding(self) -> bool:
        return is_holding(self.request.robot, self.request.history)

    def clear_of(self, place_m: F64, clear_m: float) -> bool:
        return is_clear(self.request.robot, self.request.history, place_m, clear_m)

    def sentence(self) -> str:
        if self.said:
            return self.said
        names = sorted(found.name for found in self.objects if found.kind != "other")
        if not names:
            return "I see no block, plate or button."
        return f"I see {', '.join(f'{_article(name)} {name}' for name in names)}."

    def one(self, kind: str, colour: str | None = None) -> TableObject:
        """The only object of a kind and colour. Raises GOAL_NOT_GROUNDED for none or several."""
        wanted = f"{colour} {kind}" if colour else kind
        found = [found for found in self.objects if found.kind == kind]
        if colour is not None:
            found = _best_coloured(found, colour)
        if len(found) == 1:
            return found[0]
        what = f"no {wanted}" if not found else f"{len(found)} objects that could be the {wanted}"
        raise refused(f"I see {what}. {self.sentence()}")

    def unoccluded(self, found: TableObject) -> TableObject:
        """The object, if enough of its top is visible to locate its centre. Raises GOAL_NOT_GROUNDED."""
        if found.kind == "block" and min(found.size_m) < 0.7 * max(found.size_m):
            raise refused(f"The {found.name} is partly hidden. {self.sentence()}")
        return found


def refused(sentence: str) -> StageError:
    return StageError(OutcomeCode.GOAL_NOT_GROUNDED, sentence)


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
            view = replace(view, find=find_jars_and_lid if task.part == "lid" else find_bulbs_and_lamp)
            return self._close(task, view) if task.part == "lid" else self._light(task, view)
        return self._carry(task, view) if isinstance(task, Carry) else self._push(task, view)

    def look(self, request: PlanRequest) -> _View:
        """The objects in a request's frame."""
        return _View(request)

    def _carry(self, task: Carry, view: _View) -> TracePlan:
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

    def _carry_from(self, start_m: F64, goal: TableObject, view: _View) -> F64:
        end = goal.centre_m.copy()
        end[2] = self._support(goal) + self._config.grip_depth_m + self._config.drop_m
        standing = view.regions.points_m[:, view.regions.labels > 0].T[::4]
        return carry_route(start_m, end, standing, self._config.grip_depth_m, view.request.frame.camera)

    @staticmethod
    def _support(goal: TableObject) -> float:
        """Height at which the block will rest: the floor of a plate inside its rim, the top of a block."""
        if goal.kind != "plate":
            return float(goal.centre_m[2])
        inside = np.hypot(*(goal.points_m[:, :2] - goal.centre_m[:2]).T) < 0.3 * goal.size_m[0]
        return float(np.median(goal.points_m[inside, 2])) if inside.sum() > 20 else 0.005

    def _check_held(self, task: Carry, view: _View) -> None:
        """A held object is used as the wanted one unless known to be another. Raises GOAL_NOT_GROUNDED."""
        held, wanted = view.request.holding, f"the {task.colour} block"
        if held not in ("", "something", wanted):
            raise refused(f"I cannot pick up {wanted} with {held} in the gripper.")

    def _check_empty(self, plate: TableObject, task: Carry, view: _View) -> None:
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

    def _store(self, task: Store, view: _View) -> TracePlan:
        way = self._storing.way(task, view.request)
        view = replace(view, said=way.sentence)
        if way.route_m is None:
            return self._finished(view, task.sentence, 1)
        return self._path(view, task.sentence, way.route_m)

    def _close(self, task: Screw, view: _View) -> TracePlan:
        """From the lid, or the hand that holds it, to its seat on the jar."""
        jar = view.one("jar", task.colour)
        if jar.top_m > NECK_M + CLOSED_M and not view.holding:
            if view.clear_of(jar.centre_m, self._config.clear_m):
                return self._finished(view, task.sentence, 1)
            return self._screw(view, task, jar.centre_m, jar.centre_m, LID_GRIP_M)
        start = view.tool_m
        if not view.holding:
            lid = view.one("lid")
            start = np.array([*lid.centre_m[:2], LID_GRIP_M])
        seat = np.array([*jar.centre_m[:2], NECK_M + LID_SEAT_M])
        return self._screw(view, task, start, seat, LID_GRIP_M)

    def _light(self, task: Screw, view: _View) -> TracePlan:
        """From the bulb, or the hand that holds it, to the bottom of the lamp's socket."""
        lamp = view.one("lamp")
        seat = lamp.centre_m - [0.0, 0.0, SOCKET_M]
        if lamp.top_m > lamp.centre_m[2] + BULB_GRIP_M / 2 and not view.holding:
            if view.clear_of(seat, self._config.clear_m + BULB_GRIP_M):
                return self._finished(view, task.sentence, 1)
            return self._screw(view, task, lamp.centre_m, seat, BULB_GRIP_M)
        start: F64 | None = view.tool_m
        if not view.holding:
            start = bulb_centre(view.one("holder", task.colour))
        if start is None:
            raise refused(f"There is no bulb in the {task.colour} holder. {view.sentence()}")
        return self._screw(view, task, start, seat, BULB_GRIP_M)

    def _screw(self, view: _View, task: Screw, start_m: F64, seat_m: F64, grip_m: float) -> TracePlan:
        """A path to where the part, held this far above its lower end, is in its seat."""
        end = seat_m + np.array([0.0, 0.0, grip_m + self._config.screw_drop_m])
        standing = view.regions.points_m[:, view.regions.labels > 0].T[::4]
        beside = np.hypot(*(standing[:, :2] - start_m[:2]).T) > PART_M  # the part itself is no obstacle to its own way
        route = carry_route(start_m, end, standing[beside], grip_m, view.request.frame.camera)
        return self._path(view, task.sentence, route)

    def _push(self, task: Push, view: _View) -> TracePlan:
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

    def _path(self, view: _View, sentence: str, route_m: F64, step: int = 0, total: int = 1) -> TracePlan:
        drawn = draw(route_m, view.request.frame)
        if drawn is None:
            raise refused(f"There is no depth where the path to '{sentence}' would start. {view.sentence()}")
        return self._plan(view, sentence, (step, total), *drawn, finished=False)

    def _finished(self, view: _View, sentence: str, total: int) -> TracePlan:
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
        view: _View,
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


def _best_coloured(objects: list[TableObject], colour: str) -> list[TableObject]:
    """Objects of a colour, else those that may have it; only the best one if it is clearly better."""
    exact = [t for t in objects if t.colour == colour]
    found = exact or [t for t in objects if t.may_be(colour)]
    found.sort(key=lambda t: (t.covered, t.costs[colour]))
    if len(found) > 1 and (found[0].covered, found[0].costs[colour] + 0.03) < (
        found[1].covered,
        found[1].costs[colour],
    ):
        return found[:1]
    return found


def _article(name: str) -> str:
    return "an" if name[0] in "aeiou" else "a"


def _press_sentence(task: Push, step: int) -> str:
    return f"push the {task.colours[step]} button"
