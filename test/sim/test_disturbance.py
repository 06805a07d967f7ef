"""Things that are moved in the middle of a task: where to, when, and what stays."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from stvla_ros.errors import StageError
from stvla_ros.sim.cell import Cell, CellConfig
from stvla_ros.sim.disturbance import MIN_SHIFT_M, draw_disturbance, move_away
from stvla_ros.sim.tasks.base import X_RANGE_M, Y_RANGE_M


@pytest.fixture(scope="module")
def cell() -> Iterator[Cell]:
    cell = Cell(CellConfig())
    yield cell
    cell.close()


@pytest.mark.parametrize("task", ["pick_place", "stack_cube"])
@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("seed", [0, 7])
def test_the_thing_stands_elsewhere_upright_and_alone(cell: Cell, task: str, which: int, seed: int) -> None:
    cell.reset(task, seed)
    laid = cell.task
    assert laid is not None
    name = laid.objects[which].name
    before = {o.name: cell.place(o.name) for o in laid.objects}
    height = cell.truth().T_base_object[name][2, 3]
    said = move_away(cell, laid, which, np.random.default_rng(seed))
    assert "was moved by" in said
    cell.advance(0.3)
    after = {o.name: cell.place(o.name) for o in laid.objects}
    x, y = after[name]
    assert np.hypot(x - before[name][0], y - before[name][1]) > MIN_SHIFT_M - 0.005
    assert X_RANGE_M[0] < x < X_RANGE_M[1]
    assert Y_RANGE_M[0] < y < Y_RANGE_M[1]
    assert cell.truth().T_base_object[name][2, 3] == pytest.approx(height, abs=0.002)
    for other in laid.objects:
        if other.name != name:
            assert after[other.name] == pytest.approx(before[other.name], abs=0.002)


def test_the_seed_decides_on_thing_moment_and_place(cell: Cell) -> None:
    shifts = [draw_disturbance(np.random.default_rng(seed)) for seed in range(60)]
    assert shifts[3] == draw_disturbance(np.random.default_rng(3))
    assert {s.which for s in shifts} == {0, 1}
    assert all(s.after_keyposes == 1 for s in shifts if s.which == 0), "before it is in the gripper"
    assert {s.after_keyposes for s in shifts if s.which == 1} == {1, 2, 3}
    places = []
    for _ in range(2):
        cell.reset("pick_place", 4)
        assert cell.task is not None
        move_away(cell, cell.task, 0, np.random.default_rng(9))
        places.append(cell.place(cell.task.objects[0].name))
    assert places[0] == places[1]


def test_buttons_are_screwed_down(cell: Cell) -> None:
    cell.reset("push_buttons", 0)
    assert cell.task is not None
    with pytest.raises(StageError, match="fixed to the table"):
        move_away(cell, cell.task, 0, np.random.default_rng(0))
