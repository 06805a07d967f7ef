"""The colour planner on scenes of close_jar and light_bulb_in: what it finds, where, and when it is done."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.geometry.cameras import back_project, uv_to_px
from stvla_ros.geometry.se3 import pose
from stvla_ros.planning.colour import ColourConfig, ColourPlanner
from stvla_ros.sim.cell import Cell, CellConfig
from stvla_ros.sim.tasks.close_jar import SEAT_M
from stvla_ros.sim.tasks.light_bulb_in import FLOOR_M, GLASS_M
from stvla_ros.types import F64, PlanRequest, TracePlan


@pytest.fixture(scope="module")
def cell() -> Iterator[Cell]:
    made = Cell(CellConfig())
    yield made
    made.close()


def plan(cell: Cell, words: str) -> TracePlan:
    return ColourPlanner(ColourConfig()).plan(PlanRequest(words, cell.render(), cell.state(), ()))


def ends(drawn: TracePlan, cell: Cell) -> tuple[F64, F64]:
    """(3,) tool positions of the first and the last waypoint."""
    way = back_project(cell.camera, uv_to_px(drawn.uv, cell.camera), drawn.start_depth_m + drawn.depth_offset_m)
    return way[0], way[-1]


def move(cell: Cell, name: str, xyz_m: F64) -> None:
    robot = cell.state()
    cell.set_state(robot.q_rad, robot.gripper_m, {name: pose(np.eye(3), xyz_m)})


@pytest.mark.parametrize("seed", [0, 4, 10, 11])
def test_from_the_lid_to_its_seat_on_the_jar(cell: Cell, seed: int) -> None:
    words = cell.reset("close_jar", seed)
    truth = cell.truth().T_base_object
    jar = cell.task.objects[1].name  # type: ignore[union-attr]
    start, end = ends(plan(cell, words), cell)
    np.testing.assert_allclose(start, truth["lid"][:3, 3] + [0, 0, 0.012], atol=0.003)
    np.testing.assert_allclose(end, truth[jar][:3, 3] + [0, 0, SEAT_M + 0.013], atol=0.003)


@pytest.mark.parametrize("seed", [0, 4, 10, 11])  # 4: a black holder, 10: a white one, 11: another white one
def test_from_the_bulb_to_the_bottom_of_the_socket(cell: Cell, seed: int) -> None:
    words = cell.reset("light_bulb_in", seed)
    truth = cell.truth().T_base_object
    bulb = cell.task.objects[0].name  # type: ignore[union-attr]
    start, end = ends(plan(cell, words), cell)
    np.testing.assert_allclose(start, truth[bulb][:3, 3] + [0, 0, GLASS_M], atol=0.003)
    np.testing.assert_allclose(end, truth["lamp"][:3, 3] + [0, 0, FLOOR_M + GLASS_M + 0.001], atol=0.003)


def test_a_closed_jar_is_a_finished_task(cell: Cell) -> None:
    words = cell.reset("close_jar", 4)
    jar, other = (o.name for o in cell.task.objects[1:3])  # type: ignore[union-attr]
    truth = cell.truth().T_base_object
    move(cell, "lid", truth[other][:3, 3] + [0, 0, SEAT_M])
    with pytest.raises(StageError, match="I see no lid"):
        plan(cell, words)
    move(cell, "lid", truth[jar][:3, 3] + [0, 0, SEAT_M])
    assert plan(cell, words).finished


def test_a_bulb_in_the_lamp_is_a_finished_task(cell: Cell) -> None:
    words = cell.reset("light_bulb_in", 0)
    bulb, lamp = (o.name for o in cell.task.objects[:2])  # type: ignore[union-attr]
    truth = cell.truth().T_base_object
    move(cell, bulb, np.array([0.3, -0.5, 0.0]))
    with pytest.raises(StageError, match="no bulb in the violet holder"):
        plan(cell, words)
    move(cell, bulb, truth[lamp][:3, 3] + [0, 0, FLOOR_M])
    assert plan(cell, words).finished


@pytest.mark.parametrize(
    ("task", "words"), [("close_jar", "Close the rose jar."), ("pick_place", "Close the red jar.")]
)
def test_a_jar_that_is_not_there_is_not_invented(cell: Cell, task: str, words: str) -> None:
    cell.reset(task, 0)
    with pytest.raises(StageError, match=r"I see no (rose|red) jar") as error:
        plan(cell, words)
    assert error.value.code is OutcomeCode.GOAL_NOT_GROUNDED
