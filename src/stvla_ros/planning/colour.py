"""The colour planner: task templates, coloured objects found in the image, a path over what is in the way.

It needs no weights and looks at pixels and robot state only. What it cannot find, it refuses.
"""

from __future__ import annotations

from dataclasses import dataclass
from uuid import uuid4

import numpy as np

from stvla_ros.config import param
from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.geometry.cameras import depth_cloud
from stvla_ros.geometry.depths import without_specks
from stvla_ros.planning.instruction import Carry, Push, UnclearError, parse
from stvla_ros.planning.route import carry_route, draw, press_route
from stvla_ros.tabletop.interaction import is_clear, is_holding, pressed_in_order
from stvla_ros.tabletop.objects import TableObject, recognise_objects
from stvla_ros.tabletop.regions import RegionConfig, Regions, find_regions
from stvla_ros.tabletop.self_filter import robot_mask
from stvla_ros.types import F64, WAYPOINTS, PlanRequest, TracePlan


@dataclass(frozen=True)
class ColourConfig:
    """Settings of the colour planner."""

    grip_depth_m: float = param(0.02, "blocks are gripped this far below their top [m]", ge=0.005, le=0.04)
    drop_m: float = param(0.003, "height above its support at which a block is let go [m]", ge=0.0, le=0.03)
    clear_m: float = param(0.08, "the tool is away from a thing when this far above or beside it [m]", ge=0.02, le=0.3)
    press_radius_m: float = param(
        0.03, "a keypose this close beside a button's centre presses it [m]", ge=0.005, le=0.1
    )


@dataclass(frozen=True, eq=False)
class _View:
    """What one request shows."""

    request: PlanRequest
    parts: Regions
    things: tuple[TableObject, ...]

    @property
    def tool_m(self) -> F64:
        return self.request.robot.T_base_tcp[:3, 3]

    @property
    def holding(self) -> bool:
        return is_holding(self.request.robot, self.request.history)

    def clear_of(self, place_m: F64, clear_m: float) -> bool:
        return is_clear(self.request.robot, self.request.history, place_m, clear_m)

    def sentence(self) -> str:
        names = sorted(thing.name for thing in self.things if thing.kind != "other")
        if not names:
            return "I see no block, plate or button."
        return f"I see {', '.join(f'{_article(name)} {name}' for name in names)}."

    def one(self, kind: str, colour: str | None = None) -> TableObject:
        """The only thing of a kind and colour. Raises GOAL_NOT_GROUNDED for none or several."""
        wanted = f"{colour} {kind}" if colour else kind
        found = [t for t in self.things if t.kind == kind]
        if colour is not None:
            found = _best_coloured(found, colour)
        if len(found) == 1:
            return found[0]
        what = f"no {wanted}" if not found else f"{len(found)} things that could be the {wanted}"
        raise refused(f"I see {what}. {self.sentence()}")

    def whole(self, thing: TableObject) -> TableObject:
        """The thing, if enough of its top is seen to know where its middle is. Raises GOAL_NOT_GROUNDED."""
        if thing.kind == "block" and min(thing.size_m) < 0.7 * max(thing.size_m):
            raise refused(f"The {thing.name} is partly hidden. {self.sentence()}")
        return thing


def refused(sentence: str) -> StageError:
    return StageError(OutcomeCode.GOAL_NOT_GROUNDED, sentence)


class ColourPlanner:
    """Parses the task templates and grounds coloured blocks, plates and buttons."""

    Config = ColourConfig

    def __init__(self, config: ColourConfig) -> None:
        self._config = config
        self._parts = RegionConfig()

    def plan(self, request: PlanRequest) -> TracePlan:
        """See :class:`stvla_ros.interfaces.Planner`. Raises GOAL_NOT_GROUNDED."""
        view = self.look(request)
        try:
            task = parse(request.instruction)
        except UnclearError as error:
            there = {thing.name for thing in view.things}
            raise refused(f"Not understood: {error.message(there)} {view.sentence()}") from error
        return self._carry(task, view) if isinstance(task, Carry) else self._push(task, view)

    def look(self, request: PlanRequest) -> _View:
        """Find the things in a request's frame."""
        frame = request.frame
        depth = without_specks(frame.depth_m)
        points = depth_cloud(frame.camera, depth)
        parts = find_regions(frame.rgb, depth, points, robot_mask(points, request.robot), self._parts)
        return _View(request, parts, tuple(recognise_objects(parts, frame.rgb)))

    def _carry(self, task: Carry, view: _View) -> TracePlan:
        goal = view.one("block", task.onto) if task.onto else view.one("plate")
        if view.holding:
            self._check_held(task, view)
            return self._path(view, task.sentence, self._carry_from(view.tool_m, view.whole(goal), view))
        block = view.one("block", task.colour)
        if self._rests_on(block, goal):
            if view.clear_of(block.centre_m, self._config.clear_m):
                return self._finished(view, task.sentence, 1)
        else:
            view.whole(goal)
        view.whole(block)
        start = block.centre_m - [0.0, 0.0, min(self._config.grip_depth_m, block.top_m - 0.012)]
        return self._path(view, task.sentence, self._carry_from(start, goal, view))

    def _carry_from(self, start_m: F64, goal: TableObject, view: _View) -> F64:
        end = goal.centre_m.copy()
        end[2] = self._support(goal) + self._config.grip_depth_m + self._config.drop_m
        standing = view.parts.points_m[:, view.parts.labels > 0].T[::4]
        return carry_route(start_m, end, standing, self._config.grip_depth_m, view.request.frame.camera)

    @staticmethod
    def _support(goal: TableObject) -> float:
        """Height on which the block will rest: the floor of a plate inside its rim, the top of a block."""
        if goal.kind != "plate":
            return float(goal.centre_m[2])
        inside = np.hypot(*(goal.points_m[:, :2] - goal.centre_m[:2]).T) < 0.3 * goal.size_m[0]
        return float(np.median(goal.points_m[inside, 2])) if inside.sum() > 20 else 0.005

    def _check_held(self, task: Carry, view: _View) -> None:
        """The hand goes on with what it holds, unless that is known to be something else. Raises GOAL_NOT_GROUNDED."""
        held, wanted = view.request.holding, f"the {task.colour} block"
        if held not in ("", "something", wanted):
            raise refused(f"I cannot take {wanted} with {held} in the gripper.")

    def _rests_on(self, block: TableObject, goal: TableObject) -> bool:
        if goal.kind == "plate":
            beside = float(np.hypot(*(block.centre_m - goal.centre_m)[:2]))
            return beside < goal.size_m[0] / 2 - 0.015 and block.top_m < 0.08
        near = np.hypot(*(goal.points_m[:, :2] - block.centre_m[:2]).T).min() < 0.035
        return bool(near and block.top_m > 0.06 and block.bottom_m > 0.025 and block.top_m > goal.top_m + 0.02)

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
            step -= 1  # the way up from the last button is still part of it
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


def _best_coloured(things: list[TableObject], colour: str) -> list[TableObject]:
    """Things of a colour, else those that may be of it; only the best one where it is clearly better."""
    exact = [t for t in things if t.colour == colour]
    found = exact or [t for t in things if t.may_be(colour)]
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
