"""The embedded planner: objects by heatmap, paths by geometry. No GPU, no server, a fraction of a second on one core.

The network grounds the named objects. Whether a block is held, rests at its goal, or a button was pressed follows from
the depth image, the arm's state and the executed keyposes. Free-space points (hover, lift) show no surface in the
image: they are built in 3D from the surface points, exactly like the paths that the models are trained on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import numpy as np

from stvla_ros.config import ConfigError, param
from stvla_ros.geometry.cameras import cloud, project, px_to_uv
from stvla_ros.planning.fastening import FINDERS, screw_way
from stvla_ros.planning.groceries import Store
from stvla_ros.planning.heatmap.chat import HeatmapChat
from stvla_ros.planning.heatmap.ground import WEIGHTS, Finder
from stvla_ros.planning.heatmap.paths import GRIP_M, draw_carry, draw_press, obstacle_points, surface_point
from stvla_ros.planning.heatmap.pointed import ANY_SIZE_M, PointedItems, PointedView
from stvla_ros.planning.heatmap.words import Goal, Name
from stvla_ros.planning.in_steps import InSteps
from stvla_ros.planning.instruction import Screw
from stvla_ros.planning.prompt import write_offsets, write_points, write_progress
from stvla_ros.planning.route import draw
from stvla_ros.planning.screw_route import DROP_M as SCREW_DROP_M
from stvla_ros.planning.storing import Storing
from stvla_ros.planning.table_view import refused
from stvla_ros.tabletop.interaction import is_clear, is_holding, pressed_in_order, released_at
from stvla_ros.tabletop.self_filter import robot_mask
from stvla_ros.types import F32, F64, WAYPOINTS, PlanRequest, RgbdFrame, TracePlan

ON_PLATE_M, IN_PLATE_M = 0.075, 0.075
"""A block lies in a plate when the centre of its top is this close to the plate's and at most this high."""

BLOCK_M = 0.04
STACKED_M = (0.065, 0.095)
"""Height of the top of a block that stands on another one."""

MAX_BELOW = 45.0
"""Largest image distance of the lower block from where it should be [1/1000]: about the size of a block."""

SAME_M = 0.03
"""An object that was told apart in this task is the one this close to where it was, or to where the hand let go of it."""

ON_BLOCK_M = 0.03
"""The centre of a stacked block is this close to that of the lower one."""


@dataclass(frozen=True)
class HeatmapConfig:
    """Settings of the heatmap planner."""

    weights: str = param("", "file of `stvla train-planner heatmap`; empty: the one that comes with the package")
    least_sure: float = param(0.5, "answers below this confidence are refused, 0 to 1; 0: none is", ge=0.0, le=1.0)
    clear_m: float = param(
        0.08, "the tool is clear of an object this far above it, or 1.5 times as far beside it [m]", ge=0.02, le=0.3
    )
    press_radius_m: float = param(0.03, "a contact this close to a button's centre presses it [m]", ge=0.005, le=0.1)


@dataclass(frozen=True, eq=False)
class _Memory:
    """Of one task.

    Attributes:
        instruction: Its words.
        keyposes: Executed at the last request.
        goal_m: (3,) where its goal was last visible: the block placed on it hides it.
        places_m: Object -> (3,) where it was last found.
        size_m: The item's, as last seen on the table.
    """

    instruction: str = ""
    keyposes: int = 0
    goal_m: F64 | None = None
    places_m: Mapping[Name, F64] = field(default_factory=dict)
    size_m: tuple[float, float, float] = ANY_SIZE_M

    def of(self, request: PlanRequest) -> _Memory:
        """This one if the request continues the same task, else an empty one."""
        same = self.instruction == request.instruction and self.keyposes <= len(request.history)
        return self if same and request.history else _Memory()


class HeatmapPlanner:
    """A Planner on top of a :class:`Finder`, of the settings' weights if none is given. The executed keyposes say what was
    done. From earlier images of a task it remembers where the goal of a stack was, and which of similar objects is the
    named one; paths lead to what is seen."""

    Config = HeatmapConfig

    def __init__(self, config: HeatmapConfig, finder: Finder | None = None) -> None:
        self._config, self._finder = config, finder or _finder(config)
        self.model = HeatmapChat(self._finder)
        self._memory = _Memory()
        self._steps = InSteps()
        self._storing = Storing(GRIP_M, config.clear_m)

    def plan(self, request: PlanRequest) -> TracePlan:
        """See :class:`stvla_ros.interfaces.Planner`. Raises GOAL_NOT_GROUNDED."""
        return self._steps.plan(request, self._single)

    def _single(self, request: PlanRequest) -> TracePlan:
        goal = self._finder.goal(request.instruction, request.frame.rgb)
        if goal.action == "point":
            raise refused(
                f"'{request.instruction.strip()[:80]}' names a thing but no action: say what to do with the {goal.names[0]}."
            )
        planning = _Planning(request, goal, self._finder, self._config, self._memory.of(request))
        plan = planning.store(self._storing) if goal.action == "store" else _PLANS[goal.action](planning)
        self._memory = _Memory(
            request.instruction, len(request.history), planning.goal_m, planning.places_m, planning.size_m
        )
        return plan


class _Planning:
    """The making of one plan."""

    def __init__(
        self, request: PlanRequest, goal: Goal, finder: Finder, config: HeatmapConfig, memory: _Memory
    ) -> None:
        self.goal_m, self.places_m, self.size_m = memory.goal_m, dict(memory.places_m), memory.size_m
        self._request, self._goal, self._finder, self._config = request, goal, finder, config
        self._seen = finder.see(request.frame.rgb)

    @property
    def _frame(self) -> RgbdFrame:
        return self._request.frame

    @property
    def _tool_m(self) -> F64:
        return self._request.robot.T_base_tcp[:3, 3]

    def push(self) -> TracePlan:
        """Up and down on the first button that is not pressed yet."""
        caps = [self._point(name) for name in self._goal.names]
        step = pressed_in_order(caps, self._request.history, self._config.press_radius_m)
        if step == len(caps):
            if self._is_clear(caps[-1]):
                return self._plan(step - 1, None)
            step -= 1  # the retreat from the last button belongs to it
        return self._plan(step, draw_press(self._frame, caps[step]))

    def carry(self) -> TracePlan:
        """From the block, or from the gripper that holds it, to its goal."""
        block, goal = self._goal.names
        held = is_holding(self._request.robot, self._request.history)
        if held:
            self.goal_m = self._point(goal)
            return self._plan(0, draw_carry(self._frame, self._tool_m, self.goal_m, self._obstacles(), held=True))
        start = self._point(block)
        if self._goal.action == "stack" and self._is_stacked(start):
            if self._is_clear(start) or self.goal_m is None:
                return self._plan(0, None)
            return self._plan(0, draw_carry(self._frame, start, self.goal_m, self._obstacles(), held=False))
        self.goal_m = self._point(goal)
        if self._goal.action == "place" and _lies_in(start, self.goal_m) and self._is_clear(start):
            return self._plan(0, None)
        return self._plan(0, draw_carry(self._frame, start, self.goal_m, self._obstacles(), held=False))

    def screw(self) -> TracePlan:
        """From the lid or the bulb, or from the gripper that holds it, to its seat."""
        start, end = self._goal.names
        task = Screw(start.kind, start.colour or end.colour)
        view = PointedView(self._request, FINDERS[task.part], choose=self._choose)
        return self._plan_of(screw_way(task, view, self._config.clear_m, SCREW_DROP_M))

    def store(self, storing: Storing) -> TracePlan:
        """From the item, or from the gripper that holds it, into the cupboard."""
        if not self._request.history:
            self._place(self._goal.names[1])  # the cupboard, which the arm may hide later
        items = PointedItems(lambda: self._place(self._goal.names[0]), self._config.clear_m, self.size_m)
        way = storing.way(Store(self._goal.names[0].kind), self._request, items)
        self.size_m = items.seen_m
        return self._plan_of(way.route_m)

    def _plan_of(self, route_m: F64 | None) -> TracePlan:
        drawn = None if route_m is None else draw(route_m, self._frame)
        if route_m is not None and drawn is None:
            raise refused("The camera has no depth where the path would start: move the camera.")
        return self._plan(0, drawn)

    def _place(self, name: Name) -> F64:
        """(2,) where a thing is in the image."""
        uv = self._finder.locate(self._seen, name, lambda uv: self._is_known(name, uv))
        self.places_m[name] = self._surface(name, uv)
        return uv

    def _point(self, name: Name) -> F64:
        """(3,) the point of a thing's surface."""
        self._place(name)
        return self.places_m[name]

    def _choose(self, name: Name, places_uv: F64) -> int:
        chosen = self._finder.choose(self._seen, name, places_uv, lambda uv: self._is_known(name, uv))
        self.places_m[name] = self._surface(name, places_uv[chosen])
        return chosen

    def _surface(self, name: Name, uv: F64) -> F64:
        point = surface_point(self._frame, uv)
        if point is None:
            raise refused(f"The camera has no depth at the {name}: move the camera.")
        return point

    def _is_known(self, name: Name, uv: F64) -> bool:
        """The object at a place was told apart from others earlier in this task: light and shade differ in the plate."""
        point = surface_point(self._frame, uv)
        if point is None or name not in self.places_m:
            return False
        places = [self.places_m[name]]
        if name == self._goal.names[0] and (released := released_at(self._request.history)) is not None:
            places.append(released)
        return any(np.hypot(*(point - place)[:2]) < SAME_M for place in places)

    def _obstacles(self) -> F32:
        return obstacle_points(self._frame, robot_mask(cloud(self._frame), self._request.robot))

    def _is_stacked(self, top_m: F64) -> bool:
        """The block stands on the other one and hides its top: it is high enough, and the other one was last visible right
        below it. In a new task the network must find the other one right below it, with the tool clear."""
        if not STACKED_M[0] < top_m[2] < STACKED_M[1]:
            return False
        if self.goal_m is not None:
            return bool(np.hypot(*(top_m - self.goal_m)[:2]) < ON_BLOCK_M)
        uv = self._finder.locate(self._seen, self._goal.names[1])
        px, _ = project(self._frame.camera, top_m - np.array([0.0, 0.0, BLOCK_M]))
        under = px_to_uv(px, self._frame.camera)
        return bool(np.hypot(*(uv - under)) < MAX_BELOW) and self._is_clear(top_m)

    def _is_clear(self, place_m: F64) -> bool:
        return is_clear(self._request.robot, self._request.history, place_m, self._config.clear_m)

    def _plan(self, step: int, drawn: tuple[F64, float, F64] | None) -> TracePlan:
        """A plan of a drawn path; finished for None."""
        finished = drawn is None
        uv, start, offset = drawn or (np.zeros((WAYPOINTS, 2)), float("nan"), np.zeros(WAYPOINTS))
        said = [write_progress(step + 1, self._goal.steps, finished), self._goal.sentence(step)]
        said += [] if finished else [write_points(uv), write_offsets(offset)]
        return TracePlan(
            instruction=self._request.instruction,
            sub_instruction=self._goal.sentence(step),
            uv=uv,
            start_depth_m=start,
            depth_offset_m=offset,
            step_index=step,
            finished=finished,
            planner="heatmap",
            raw_reply="\n".join(said),
            image_stamp_ns=self._frame.stamp_ns,
            plan_id=f"heatmap-{uuid4().hex[:12]}",
            step_total=self._goal.steps,
        )


def _finder(config: HeatmapConfig) -> Finder:
    path = Path(config.weights) if config.weights else WEIGHTS
    if not config.weights and not path.exists():
        raise ConfigError(
            "planner.heatmap.weights: this version comes without weights: train some with `stvla train-planner heatmap` and "
            "name the file here."
        )
    return Finder.of_file(path, config.least_sure)


_PLANS = {"push": _Planning.push, "place": _Planning.carry, "stack": _Planning.carry, "screw": _Planning.screw}


def _lies_in(block_m: F64, plate_m: F64) -> bool:
    return bool(np.hypot(*(block_m - plate_m)[:2]) < ON_PLATE_M and block_m[2] < IN_PLATE_M)
