"""The whole loop in the simulated cell: words in, the simulator's verdict out. One process, no ROS."""

from collections.abc import Iterator

import pytest

from stvla_ros.errors import CancelToken, OutcomeCode
from stvla_ros.interfaces import Planner
from stvla_ros.motion.executor import ExecutorConfig, PlannedExecutor
from stvla_ros.motion.roboplan import RoboplanPlanner
from stvla_ros.perception.geometric import GeometricConfig, GeometricSegmenter
from stvla_ros.perception.guide import GuideConfig, SpatialGuide
from stvla_ros.pipeline import LocalStages, LoopConfig, TaskResult, run_task
from stvla_ros.planning.colour import ColourConfig, ColourPlanner
from stvla_ros.policy.scripted import ScriptedConfig, ScriptedPolicy
from stvla_ros.robot.sim import SimCamera, SimRobot
from stvla_ros.sim.cell import Cell, CellConfig
from stvla_ros.sim.sensor import SensorConfig
from stvla_ros.types import PlanRequest, TracePlan


def run(cell: Cell, words: str, k: int, mode: str = "full", planner: Planner | None = None) -> TaskResult:
    robot, camera = SimRobot(cell), SimCamera(cell)
    executor = PlannedExecutor(robot, RoboplanPlanner(RoboplanPlanner.Config()), ExecutorConfig())
    guide = SpatialGuide(GeometricSegmenter(GeometricConfig()), GuideConfig(mode=mode))
    planner = planner or ColourPlanner(ColourConfig())
    stages = LocalStages(camera, robot, planner, guide, ScriptedPolicy(ScriptedConfig()), executor)
    return run_task(stages, words, LoopConfig(keyposes_per_plan=k), CancelToken(), background=False)


@pytest.fixture(scope="module")
def cell() -> Iterator[Cell]:
    cell = Cell(CellConfig())
    yield cell
    cell.close()


@pytest.mark.parametrize(
    ("task", "seed", "k", "mode"),
    [
        ("pick_place", 0, 1, "full"),
        ("pick_place", 6, 25, "mask_only"),
        ("stack_cube", 13, 1, "off"),
        ("stack_cube", 2, 25, "full"),
        ("push_buttons", 1, 1, "full"),
        ("push_buttons", 19, 25, "full"),
        ("close_jar", 0, 1, "full"),
        ("light_bulb_in", 30, 2, "full"),  # over the lamp the last joint has no room for the whole turn
        ("light_bulb_in", 4, 25, "off"),
    ],
)
def test_the_task_is_done_and_said_to_be_done(cell: Cell, task: str, seed: int, k: int, mode: str) -> None:
    words = cell.reset(task, seed)
    result = run(cell, words, k, mode)
    score = cell.score()
    assert (result.outcome.code, score.success) == (OutcomeCode.OK, True), (result.outcome, score)


class Restless(ColourPlanner):
    """Somebody shifts the block while the first plan is being made."""

    def __init__(self, cell: Cell, block: str, shift_m: tuple[float, float]) -> None:
        super().__init__(ColourConfig())
        self._cell, self._block, self._shift = cell, block, shift_m
        self.plans = 0

    def plan(self, request: PlanRequest) -> TracePlan:
        plan = super().plan(request)
        self.plans += 1
        if self.plans == 1:
            T = self._cell.truth().T_base_object[self._block].copy()
            T[:2, 3] += self._shift
            self._cell.set_state(request.robot.q_rad, request.robot.gripper_m, {self._block: T})
        return plan


def test_a_block_that_is_shifted_after_the_plan_is_still_put_away(cell: Cell) -> None:
    words = cell.reset("pick_place", 0, 0)
    planner = Restless(cell, f"{words.split()[2]}_block", (0.05, 0.0))
    result = run(cell, words, 25, planner=planner)
    assert (result.outcome.code, cell.score().success) == (OutcomeCode.OK, True), result.outcome
    assert planner.plans >= 3, "drawn, drawn again because the block had moved, and looked at the end"


def test_with_an_imperfect_camera() -> None:
    cell = Cell(CellConfig(sensor=SensorConfig(enabled=True)))
    try:
        result = run(cell, cell.reset("pick_place", 3), 2)
        assert (result.outcome.code, cell.score().success) == (OutcomeCode.OK, True), result.outcome
    finally:
        cell.close()


def test_an_unknown_object_moves_nothing(cell: Cell) -> None:
    cell.reset("stack_cube", 1)
    before = cell.state()
    result = run(cell, "Put the red block in the plate.", 2)
    assert result.outcome.code is OutcomeCode.GOAL_NOT_GROUNDED
    assert "I see no plate" in result.outcome.sentence
    assert result.keyposes == ()
    assert cell.state().stamp_ns == before.stamp_ns
