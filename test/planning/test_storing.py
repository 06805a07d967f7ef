"""Groceries are found by their looks, the cupboard by its shape, and the path leads from one into the other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.geometry.cameras import back_project, project, uv_to_px
from stvla_ros.geometry.se3 import pose, tool_down
from stvla_ros.planning.colour import ColourConfig, ColourPlanner
from stvla_ros.planning.groceries import ITEMS, Store
from stvla_ros.planning.instruction import UnclearError, parse
from stvla_ros.planning.pantry import find_pantry
from stvla_ros.planning.shelf_route import TILT_RAD
from stvla_ros.sim.cell import Cell
from stvla_ros.sim.cupboard import FLOOR_M, INSIDE_M
from stvla_ros.sim.tasks.put_groceries import WORDS
from stvla_ros.types import F64, Keypose, PlanRequest, TracePlan


@pytest.fixture(scope="module")
def cell() -> Iterator[Cell]:
    made = Cell()
    yield made
    made.close()


# --- words -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("item", ITEMS)
def test_rlbenchs_four_wordings(item: str) -> None:
    assert [parse(words.format(item)) for words in WORDS] == [Store(item)] * 4


@pytest.mark.parametrize(
    "words",
    [
        "please put the soup away in the cupboard",
        "Could you pick the soup up and put it in the cabinet?",
        "Take the soup and place it into the cupboard.",
        "move my soup onto the bottom shelf of the cupboard",
        "Store the soup in our cupboard, thanks.",
    ],
)
def test_the_same_in_other_words(words: str) -> None:
    assert parse(words) == Store("soup")


@pytest.mark.parametrize(
    "words",
    [
        "put the jello in the cupboard",
        "put the soup in the plate",
        "put the red block in the cupboard",
        "put the soup on the top shelf",
        "put the soup and the tuna in the cupboard",
        "put the soup or the tuna in the cupboard",
        "do not put the soup in the cupboard",
        "take the soup out of the cupboard",
        "put the soup in the cupboard next to the tuna",
        "open the cupboard",
    ],
)
def test_what_is_another_task_or_leaves_a_choice_is_refused(words: str) -> None:
    with pytest.raises(UnclearError):
        parse(words)


# --- looks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [1, 6, 9, 14])
def test_every_item_is_found_where_it_is_and_the_shelf_too(cell: Cell, seed: int) -> None:
    cell.reset("put_groceries", seed)
    truth = cell.truth().T_base_object
    found = find_pantry(cell.render(), cell.state())
    for name, item in found.items.items():
        assert np.hypot(*(item.top_m - truth[name.replace(" ", "_")][:3, 3])[:2]) < 0.010, name
    assert len(found.items) == 9
    assert found.shelf is not None
    front = np.linalg.inv(truth["cupboard"]) @ np.append(found.shelf.front_m, 1.0)
    np.testing.assert_allclose(front[:3], [0.0, 0.0, FLOOR_M], atol=0.005)
    yaw = np.arctan2(truth["cupboard"][1, 0], truth["cupboard"][0, 0])
    assert abs(np.angle(np.exp(1j * (found.shelf.yaw_rad - yaw)))) < np.radians(2)


@pytest.mark.parametrize("seed", [1, 6, 9, 14])
@pytest.mark.parametrize("cut_m", [(0.20, 0.0, FLOOR_M), (0.0, 0.0, 0.30)], ids=["the back", "the top"])
def test_the_shelf_is_found_where_the_image_cuts_the_cupboard_off(
    cell: Cell, seed: int, cut_m: tuple[float, float, float]
) -> None:
    """Everything beyond a point of the cupboard is outside the image: beside it, or above it."""
    cell.reset("put_groceries", seed)
    T, frame = cell.truth().T_base_object["cupboard"], cell.render()
    px, _ = project(frame.camera, T[:3, :3] @ cut_m + T[:3, 3])
    rows, columns = np.indices(frame.depth_m.shape)
    right = px[0] > frame.camera.width_px / 2
    outside = rows < px[1] if cut_m[0] == 0.0 else (columns > px[0] if right else columns < px[0])
    cut = replace(frame, depth_m=np.where(outside, np.float32(np.nan), frame.depth_m))
    shelf = find_pantry(cut, cell.state()).shelf
    assert shelf is not None
    front = np.linalg.inv(T) @ np.append(shelf.front_m, 1.0)
    np.testing.assert_allclose(front[:3], [0.0, 0.0, FLOOR_M], atol=0.02)
    assert abs(np.angle(np.exp(1j * (shelf.yaw_rad - np.arctan2(T[1, 0], T[0, 0]))))) < np.radians(5)


# --- plans -----------------------------------------------------------------------------------------------------------


def plan(
    planner: ColourPlanner, cell: Cell, words: str, history: tuple[Keypose, ...] = (), holding: str = ""
) -> TracePlan:
    return planner.plan(PlanRequest(words, cell.render(), cell.state(), history, holding=holding))


def places(drawn: TracePlan, cell: Cell) -> F64:
    """(8, 3) tool positions that the plan means."""
    return back_project(cell.camera, uv_to_px(drawn.uv, cell.camera), drawn.start_depth_m + drawn.depth_offset_m)


def test_the_path_leads_from_the_item_into_the_cupboard_along_the_tilted_tool(cell: Cell) -> None:
    words = cell.reset("put_groceries", 3)
    drawn = plan(ColourPlanner(ColourConfig()), cell, words)
    truth, way = cell.truth().T_base_object, places(drawn, cell)
    asked = cell.task.objects[0].name
    assert drawn.sub_instruction == f"pick up the {asked.replace('_', ' ')} and put it in the cupboard"
    assert "a cupboard" in drawn.raw_reply
    assert np.hypot(*(way[0] - truth[asked][:3, 3])[:2]) < 0.006
    end = (np.linalg.inv(truth["cupboard"]) @ np.append(way[-1], 1.0))[:3]
    assert (end > [0.05, -0.05, FLOOR_M]).all()
    assert (end < [INSIDE_M[0] - 0.05, 0.05, FLOOR_M + 0.2]).all()
    leg = truth["cupboard"][:3, :3].T @ (way[-1] - way[-2])
    assert leg[0] / -leg[2] == pytest.approx(np.tan(TILT_RAD), rel=0.05)
    assert abs(leg[1]) < 0.05 * leg[0]
    assert way[2:5, 2].min() > way[0, 2] + 0.05, "lifted before it goes across"


def test_finished_is_seen_only_when_the_item_lies_inside_and_the_arm_is_away(cell: Cell) -> None:
    words = cell.reset("put_groceries", 3)
    asked, planner = cell.task.objects[0].name, ColourPlanner(ColourConfig())
    T = cell.truth().T_base_object["cupboard"]
    assert not plan(planner, cell, words).finished
    up = FLOOR_M + ITEMS[asked.replace("_", " ")].size_m[2] / 2 + 0.001
    cell.set_state(cell.state().q_rad, 0.08, {asked: T @ pose(np.eye(3), (0.12, 0.0, up))})
    cell.advance(0.2)
    done = (Keypose(tool_down([0.5, 0.0, 0.4], 0.0), True),)
    assert plan(planner, cell, words, done).finished
    other = next(name for name in ITEMS if name not in (asked.replace("_", " "), "spam"))
    assert not plan(planner, cell, WORDS[0].format(other), done).finished


def test_an_item_that_is_nowhere_is_refused(cell: Cell) -> None:
    words = cell.reset("put_groceries", 3)
    asked = cell.task.objects[0].name
    cell.set_state(cell.state().q_rad, 0.08, {asked: pose(np.eye(3), (0.0, 3.0, -0.5))})
    with pytest.raises(
        StageError, match=f"I see no {asked.replace('_', ' ')} on the table or in the cupboard"
    ) as error:
        plan(ColourPlanner(ColourConfig()), cell, words)
    assert error.value.code is OutcomeCode.GOAL_NOT_GROUNDED


def test_without_a_cupboard_it_is_refused(cell: Cell) -> None:
    cell.reset("pick_place", 3)
    with pytest.raises(StageError, match="I see no cupboard") as error:
        plan(ColourPlanner(ColourConfig()), cell, "Put the soup in the cupboard.")
    assert error.value.code is OutcomeCode.GOAL_NOT_GROUNDED


def test_something_else_in_the_hand_is_refused(cell: Cell) -> None:
    words = cell.reset("put_groceries", 3)
    cell.set_state(cell.state().q_rad, 0.04)
    with pytest.raises(StageError, match="with the cyan block in the gripper"):
        plan(ColourPlanner(ColourConfig()), cell, words, holding="the cyan block")
