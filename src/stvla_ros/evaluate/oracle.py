"""The ``oracle`` planner: paths from the simulator's state, without perception, to measure the stages behind it.

It is not a stage of the stack: it works only in the process that holds the simulated cell (``stvla evaluate``), never
over ROS. Its plans are marked: plans, reports and settings name it ``oracle``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import numpy as np

from stvla_ros.config import ConfigError, param
from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.evaluate.oracle_groceries import store_route
from stvla_ros.planning.fittings import LID_GRIP_M
from stvla_ros.planning.groceries import Store
from stvla_ros.planning.in_steps import InSteps
from stvla_ros.planning.instruction import Carry, Push, Screw, UnclearError, parse
from stvla_ros.planning.route import carry_route, draw, press_route
from stvla_ros.sim.cell import Cell
from stvla_ros.sim.objects import BLOCK_M, BUTTON_BASE_M, BUTTON_CAP_M, PLATE_BASE_M, PLATE_INNER_RADIUS_M
from stvla_ros.sim.tasks.arrange import Arrange
from stvla_ros.sim.tasks.close_jar import SEAT_M
from stvla_ros.sim.tasks.light_bulb_in import FLOOR_M, GLASS_M
from stvla_ros.tabletop.interaction import is_clear, pressed_in_order
from stvla_ros.types import F64, WAYPOINTS, PlanRequest, TracePlan

NAME = "oracle"

ONLY_IN_SIMULATION = (
    "planner 'oracle' reads the simulator's state, so it works only where the simulated cell is in the same process: "
    "`stvla evaluate --planner oracle` without --over-ros. Choose another planner here."
)

HELD_M = 0.035
"""A block is held if the fingers are closed and its centre is within this distance of the tool centre point."""

AWAY_M = 0.08
"""The tool is clear of a placed block this far above it."""

SCREW_DROP_M = 0.001
"""A lid or bulb is turned and released this high above its seat."""


@dataclass(frozen=True)
class OracleConfig:
    """Settings of the oracle, the same as the colour planner's."""

    grip_depth_m: float = param(0.02, "blocks are gripped this far below their top [m]", ge=0.005, le=0.04)
    drop_m: float = param(0.003, "height above its support at which a block is let go [m]", ge=0.0, le=0.03)
    press_radius_m: float = param(
        0.03, "a keypose within this distance of a button's centre presses it [m]", ge=0.005, le=0.1
    )


class OraclePlanner:
    """ORACLE, simulation only: plans from true poses and the true verdict; an upper bound for planners.

    Raises:
        ConfigError: There is no simulated cell in this process.
    """

    Config = OracleConfig

    def __init__(self, config: OracleConfig, cell: Cell | None = None) -> None:
        if cell is None:
            raise ConfigError(ONLY_IN_SIMULATION)
        self._config, self._cell = config, cell
        self._steps = InSteps()

    def plan(self, request: PlanRequest) -> TracePlan:
        """See :class:`stvla_ros.interfaces.Planner`. Raises GOAL_NOT_GROUNDED for unknown objects."""
        return self._steps.plan(request, self._single)

    def _single(self, request: PlanRequest) -> TracePlan:
        poses = self._cell.truth().T_base_object
        if isinstance(self._cell.task, Arrange):
            return self._arrange(self._cell.task, request, poses)
        try:
            task = parse(request.instruction)
        except UnclearError as error:
            raise _refused(f"Not understood: {error.message({name.replace('_', ' ') for name in poses})}") from error
        if isinstance(task, Carry):
            return self._carry(task, request, poses)
        if isinstance(task, Store):
            return self._store(task, request, poses)
        return self._screw(task, request, poses) if isinstance(task, Screw) else self._push(task, request, poses)

    def _arrange(self, task: Arrange, request: PlanRequest, poses: Mapping[str, F64]) -> TracePlan:
        """To the place that the scene's layout kept free: the goal is the task's own, whatever words ask for it."""
        sentence = task.instruction[:1].lower() + task.instruction[1:-1]
        if self._cell.score().success:
            return self._drawn(request, sentence, 0, None)
        return self._drawn(request, sentence, 0, self._route(task.moved.name, task.goal_m(poses), request, poses))

    def _carry(self, task: Carry, request: PlanRequest, poses: Mapping[str, F64]) -> TracePlan:
        moved, goal = f"{task.colour}_block", f"{task.onto}_block" if task.onto else "plate"
        centre, support = _position(poses, moved), _position(poses, goal)
        whole = request.instruction == self._cell.instruction
        if self._cell.score().success if whole else _is_placed(request, centre, support, goal == "plate"):
            return self._drawn(request, task.sentence, 0, None)
        rest_m = PLATE_BASE_M if goal == "plate" else BLOCK_M / 2
        route = self._route(moved, support + _up(rest_m), request, poses)
        return self._drawn(request, task.sentence, 0, route)

    def _route(self, moved: str, goal_m: F64, request: PlanRequest, poses: Mapping[str, F64]) -> F64:
        """(8, 3) from a block, or from the tool that holds it, to where the middle of its underside goes."""
        centre, grip_m = _position(poses, moved), self._config.grip_depth_m
        held = _holds(request, centre)
        start = request.robot.T_base_tcp[:3, 3] if held else centre + _up(BLOCK_M / 2 - grip_m)
        end = goal_m + _up(BLOCK_M - grip_m + self._config.drop_m)
        others = [points for name, points in self._cell.surfaces(0.01).items() if name != moved]
        return carry_route(start, end, np.concatenate(others), grip_m, request.frame.camera)

    def _screw(self, task: Screw, request: PlanRequest, poses: Mapping[str, F64]) -> TracePlan:
        """To the place where the part is screwed in; the turn there is no way in space, so the last point stands for it."""
        lid = task.part == "lid"
        part, goal = ("lid", f"{task.colour}_jar") if lid else (f"{task.colour}_bulb", "lamp")
        grip, seat = (LID_GRIP_M, SEAT_M) if lid else (GLASS_M, FLOOR_M)
        lowest, place = _position(poses, part), _position(poses, goal)
        if self._cell.score().success and request.instruction == self._cell.instruction:
            return self._drawn(request, task.sentence, 0, None)
        tool = request.robot.T_base_tcp[:3, 3]
        start = tool if _holds(request, lowest + _up(grip)) else lowest + _up(grip)
        others = [points for name, points in self._cell.surfaces(0.01).items() if name != part]
        end = place + _up(seat + grip + SCREW_DROP_M)
        return self._drawn(
            request, task.sentence, 0, carry_route(start, end, np.concatenate(others), grip, request.frame.camera)
        )

    def _store(self, task: Store, request: PlanRequest, poses: Mapping[str, F64]) -> TracePlan:
        for name in (task.item.replace(" ", "_"), "cupboard"):
            _position(poses, name)
        if self._cell.score().success and request.instruction == self._cell.instruction:
            return self._drawn(request, task.sentence, 0, None)
        route = store_route(task, request, poses, self._cell, self._config.grip_depth_m)
        return self._drawn(request, task.sentence, 0, route)

    def _push(self, task: Push, request: PlanRequest, poses: Mapping[str, F64]) -> TracePlan:
        caps = [_position(poses, f"{colour}_button") + _up(BUTTON_BASE_M + BUTTON_CAP_M) for colour in task.colours]
        last = len(caps) - 1
        if self._cell.score().success and request.instruction == self._cell.instruction:
            return self._drawn(request, f"push the {task.colours[last]} button", last, None)
        step = min(pressed_in_order(caps, request.history, self._config.press_radius_m), last)
        return self._drawn(request, f"push the {task.colours[step]} button", step, press_route(caps[step]))

    def _drawn(self, request: PlanRequest, sentence: str, step: int, route_m: F64 | None) -> TracePlan:
        """The route on the request's image; None: the task is done."""
        drawn = (np.zeros((WAYPOINTS, 2)), float("nan"), np.zeros(WAYPOINTS)) if route_m is None else None
        drawn = drawn or draw(np.asarray(route_m), request.frame)
        if drawn is None:
            raise _refused(f"The camera sees no depth where the path to '{sentence}' would start.")
        uv, start_m, offset_m = drawn
        return TracePlan(
            instruction=request.instruction,
            sub_instruction=sentence,
            uv=uv,
            start_depth_m=start_m,
            depth_offset_m=offset_m,
            step_index=step,
            finished=route_m is None,
            planner=NAME,
            raw_reply="ORACLE: from the simulator's state, not from the image.",
            image_stamp_ns=request.frame.stamp_ns,
            plan_id=f"{NAME}-{uuid4().hex[:12]}",
        )


def mark(settings: Mapping[str, Any]) -> str:
    """The mark that every report with these settings must carry; empty unless the oracle planned."""
    chosen = settings.get("backends", {})
    return ", planner ORACLE (sees the simulator's state)" if chosen.get("planner") == NAME else ""


def _position(poses: Mapping[str, F64], name: str) -> F64:
    if name not in poses:
        there = ", ".join(sorted(n.replace("_", " ") for n in poses))
        raise _refused(f"There is no {name.replace('_', ' ')} in the cell, only: {there}.")
    return np.array(poses[name][:3, 3])


def _up(height_m: float) -> F64:
    return np.array([0.0, 0.0, height_m])


def _holds(request: PlanRequest, centre_m: F64) -> bool:
    near = float(np.linalg.norm(request.robot.T_base_tcp[:3, 3] - centre_m)) < HELD_M
    closed = bool(request.history) and not request.history[-1].gripper_open
    return near and closed


def _is_placed(request: PlanRequest, centre_m: F64, support_m: F64, in_plate: bool) -> bool:
    """A block is on its goal, and the tool is away: of one step of several, for which the cell has no verdict."""
    rest_m = PLATE_BASE_M + BLOCK_M / 2 if in_plate else BLOCK_M
    beside, above = np.hypot(*(centre_m - support_m)[:2]), centre_m[2] - support_m[2] - rest_m
    placed = beside < (PLATE_INNER_RADIUS_M - BLOCK_M / 4 if in_plate else 0.75 * BLOCK_M) and abs(above) < 0.01
    return bool(placed) and is_clear(request.robot, request.history, centre_m, AWAY_M)


def _refused(sentence: str) -> StageError:
    return StageError(OutcomeCode.GOAL_NOT_GROUNDED, sentence)
