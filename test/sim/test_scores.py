"""Scores see what happened on the table: things are put there by hand, which only a test may do."""

import mujoco
import numpy as np
import pytest

from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.sim.cell import Cell
from stvla_ros.sim.objects import Button


def put(cell: Cell, name: str, xyz: tuple[float, float, float]) -> None:
    """Move a free body and let it come to rest."""
    joint = cell._data.joint(name)
    joint.qpos[:] = [*xyz, 1.0, 0.0, 0.0, 0.0]
    joint.qvel[:] = 0.0
    mujoco.mj_forward(cell._model, cell._data)


def press(cell: Cell, colour: str, depth_m: float) -> None:
    """Hold a cap down for 20 ms, then let it come up."""
    for _ in range(10):
        cell._data.joint(f"{colour}_button_slide").qpos[0] = -depth_m
        cell.step()
    cell.advance(0.3)


def test_no_score_before_a_task() -> None:
    cell = Cell()
    with pytest.raises(StageError) as error:
        cell.score()
    assert error.value.code is OutcomeCode.INVALID_GOAL


def test_pick_place_wants_the_asked_block_at_rest_inside_the_rim(cell: Cell) -> None:
    cell.reset("pick_place", 5)
    block, _, other = (o.name for o in cell._objects[:3])
    x, y = cell._objects[1].xy_m
    assert not cell.score().success
    put(cell, other, (x, y, 0.03))
    assert not cell.score().success, "another block is in the plate"
    put(cell, other, (0.2, 0.4, 0.03))
    put(cell, block, (x + 0.03, y, 0.03))
    assert cell.score().success
    put(cell, block, (x + 0.115, y, 0.03))
    assert not cell.score().success, "beside the plate"


def test_a_falling_block_is_not_at_rest(cell: Cell) -> None:
    cell.reset("pick_place", 5)
    x, y = cell._objects[1].xy_m
    put(cell, cell._objects[0].name, (x, y, 3.0))
    assert not cell.score().success


def test_scoring_changes_nothing(cell: Cell) -> None:
    cell.reset("pick_place", 6)
    before, time_ns = cell._data.qpos.copy(), cell.time_ns
    first = cell.score()
    assert cell.score() == first
    assert np.array_equal(cell._data.qpos, before)
    assert cell.time_ns == time_ns


def test_stack_must_stand_by_itself(cell: Cell) -> None:
    cell.reset("stack_cube", 2)
    upper, lower = (o.name for o in cell._objects[:2])
    x, y = cell._objects[1].xy_m
    assert not cell.score().success
    put(cell, lower, (x, y, 0.02))
    put(cell, upper, (x + 0.008, y, 0.0605))
    assert cell.score().success
    put(cell, upper, (x + 0.026, y, 0.0605))
    assert not cell.score().success, "tips over within the 5 s"
    put(cell, upper, (x, y, 0.02))
    put(cell, lower, (x, y, 0.0605))
    assert not cell.score().success, "the wrong one is on top"


def test_buttons_want_the_spoken_order_and_three_millimetres(cell: Cell) -> None:
    seed = next(s for s in range(50) if cell.reset("push_buttons", s).count("then") == 1)
    first, second = (o.colour for o in cell._objects[:2] if isinstance(o, Button))
    press(cell, first, 0.0025)
    assert "none" in cell.score().detail, "2.5 mm is no press"
    press(cell, first, 0.005)
    press(cell, first, 0.005)
    assert not cell.score().success
    press(cell, second, 0.005)
    assert cell.score().success, "a button pressed twice in a row counts once"
    press(cell, first, 0.005)
    assert not cell.score().success, "one press too many"
    cell.reset("push_buttons", seed)
    press(cell, second, 0.005)
    press(cell, first, 0.005)
    assert not cell.score().success, "wrong order"


def verdicts(cell: Cell) -> tuple[bool, bool | None, float]:
    score = cell.score()
    return score.success, score.rlbench, score.facts["wrong_target"]


def test_rlbench_passes_over_wrong_presses_and_the_strict_verdict_does_not(cell: Cell) -> None:
    next(s for s in range(50) if cell.reset("push_buttons", s).count("then") == 1)
    first, second, other = (o.colour for o in cell._objects if isinstance(o, Button))
    assert verdicts(cell) == (False, False, 0.0)
    press(cell, first, 0.005)
    assert verdicts(cell) == (False, False, 0.0), "half done, and right so far"
    press(cell, other, 0.005)
    assert verdicts(cell) == (False, False, 1.0)
    press(cell, second, 0.005)
    assert verdicts(cell) == (False, True, 1.0), "latched: the press between does not count"
    assert cell.score().facts["presses"] == 3.0


def test_the_order_of_latched_presses_counts(cell: Cell) -> None:
    next(s for s in range(50) if cell.reset("push_buttons", s).count("then") == 1)
    first, second = (o.colour for o in cell._objects[:2] if isinstance(o, Button))
    press(cell, second, 0.005)
    press(cell, first, 0.005)
    assert verdicts(cell) == (False, False, 1.0)
    press(cell, second, 0.005)
    assert verdicts(cell) == (False, True, 1.0)


@pytest.mark.parametrize(
    ("task", "index"), [("pick_place", 2), ("stack_cube", 2), ("light_bulb_in", 4), ("put_groceries", 2)]
)
def test_carrying_off_what_was_not_asked_for_is_a_wrong_target(cell: Cell, task: str, index: int) -> None:
    cell.reset(task, 3)
    asked, other = cell._objects[0], cell._objects[index]
    x, y = asked.xy_m
    put(cell, asked.name, (x, y, 0.6))
    assert cell.score().facts["wrong_target"] == 0.0, "the asked one may go anywhere"
    x, y = other.xy_m
    put(cell, other.name, (x + 0.02, y, 0.6))
    assert cell.score().facts["wrong_target"] == 0.0, "pushed aside"
    put(cell, other.name, (x + 0.3, y + 0.5, 0.6))
    assert cell.score().facts["wrong_target"] == 1.0


def test_the_lower_block_on_top_and_the_lid_on_the_other_jar_are_wrong_targets(cell: Cell) -> None:
    cell.reset("stack_cube", 2)
    upper, lower = cell._objects[:2]
    put(cell, lower.name, (*upper.xy_m, 0.0605))
    assert cell.score().facts["wrong_target"] == 1.0
    cell.reset("close_jar", 2)
    asked, other = cell._objects[1:3]
    put(cell, "lid", (*asked.xy_m, 0.0895))
    assert cell.score().facts["wrong_target"] == 0.0
    put(cell, "lid", (*other.xy_m, 0.0895))
    assert cell.score().facts["wrong_target"] == 1.0


def test_buttons_come_up_again_and_stop_at_the_base(cell: Cell) -> None:
    cell.reset("push_buttons", 0)
    joint = f"{cell._objects[0].name}_slide"
    cell._data.body(f"{cell._objects[0].name}_cap").xfrc_applied[2] = -30.0
    cell.advance(0.5)
    assert -0.0095 < cell._data.joint(joint).qpos[0] < -0.0075
    cell._data.body(f"{cell._objects[0].name}_cap").xfrc_applied[2] = 0.0
    cell.advance(0.5)
    assert abs(cell._data.joint(joint).qpos[0]) < 0.0003
