"""put_groceries: its physics, its layouts, and what each of the two verdicts asks for."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from sim.motions import downward, inverse, straight

from stvla_ros.description.kinematics import tcp_pose
from stvla_ros.description.panda import HOME_Q_RAD
from stvla_ros.geometry.se3 import pose, rotation_z
from stvla_ros.planning.groceries import ITEMS
from stvla_ros.sim.camera import TripodCameraConfig
from stvla_ros.sim.cell import Cell, CellConfig
from stvla_ros.sim.cupboard import FLOOR_M, INSIDE_M, Cupboard
from stvla_ros.sim.groceries import BY_NAME, WARES, Grocery, Ware
from stvla_ros.sim.tasks import TASKS, Score, make_task
from stvla_ros.sim.tasks.hand_room import graspable, visible
from stvla_ros.sim.tasks.put_groceries import APART_M, PutGroceries
from stvla_ros.types import F64

OFF_M = 0.006


@pytest.fixture(scope="module")
def cell() -> Iterator[Cell]:
    made = Cell(CellConfig(camera=TripodCameraConfig(width_px=160, height_px=120)))
    yield made
    made.close()


def in_hand(T_base_item: F64, cell: Cell) -> F64:
    return np.linalg.inv(tcp_pose(cell.state().q_rad)) @ T_base_item


@pytest.mark.parametrize("ware", WARES, ids=lambda w: w.name)
def test_an_item_that_is_pinched_6_mm_off_its_middle_stays_in_the_hand(cell: Cell, ware: Ware) -> None:
    """The hand closes 6 mm beside the middle, along the pads, and lifts: the item neither slips nor turns."""
    item = Grocery(ware, (0.45, -0.1), np.pi / 2)
    cell.reset_to(PutGroceries((item, Cupboard((0.4, 0.33), np.pi / 2, -1)), ware.name, 0), 0)
    low = max(ware.size_m[2] - 0.02, 0.012)
    down, up = (inverse(downward(0.45 + OFF_M, -0.1, z)) for z in (low, low + 0.12))
    cell.set_state(down, 0.08)
    cell.move_gripper(0.0)
    cell.advance(0.6)
    gripped = in_hand(cell.truth().T_base_object[item.name], cell)
    path = straight(cell.state().q_rad, up)
    cell.follow(path)
    cell.advance(float(path.t_s[-1]) + 0.2)
    lifted = in_hand(cell.truth().T_base_object[item.name], cell)
    assert cell.truth().T_base_object[item.name][2, 3] > ware.size_m[2] / 2 + 0.1
    assert np.linalg.norm(lifted[:3, 3] - gripped[:3, 3]) < 0.003
    assert np.degrees(np.arccos(np.clip((np.trace(lifted[:3, :3].T @ gripped[:3, :3]) - 1) / 2, -1, 1))) < 5.0
    assert abs(cell.state().gripper_m - ware.size_m[0]) < 0.004, "across the narrow side"


# --- layouts ---------------------------------------------------------------------------------------------------------


def scene(seed: int) -> PutGroceries:
    task = make_task("put_groceries", seed)
    assert isinstance(task, PutGroceries)
    return task


def test_all_nine_are_always_there_apart_from_each_other_and_from_the_cupboard() -> None:
    for seed in range(30):
        task = scene(seed)
        items = [o for o in task.objects if isinstance(o, Grocery)]
        assert {i.ware.name for i in items} == set(BY_NAME)
        assert items[0].ware.name == task.item
        assert task.instruction.count(task.item) == 1
        places = np.array([i.xy_m for i in items])
        gaps = np.hypot(*(places[:, None] - places[None]).transpose(2, 0, 1))[np.triu_indices(9, 1)]
        assert gaps.min() > APART_M
        cupboard = task.objects[1]
        assert isinstance(cupboard, Cupboard)
        inwards = np.array([np.cos(cupboard.yaw_rad), np.sin(cupboard.yaw_rad)])
        ahead = (places - cupboard.xy_m) @ -inwards
        assert ahead.min() > 0.04, "before its front"


def test_every_item_and_both_sides_are_drawn() -> None:
    tasks = [scene(seed) for seed in range(80)]
    assert {t.item for t in tasks} == set(BY_NAME)
    assert {np.sign(t.objects[1].xy_m[1]) for t in tasks} == {-1.0, 1.0}
    assert {t.wording for t in tasks} == {0, 1, 2, 3}


def test_two_of_nine_are_held_out() -> None:
    kind = TASKS["put_groceries"]
    assert kind.names == tuple(BY_NAME)
    assert kind.held_out == ("crackers", "soup")


def test_planners_know_the_items_as_they_are() -> None:
    assert list(ITEMS) == list(BY_NAME)
    for name, look in ITEMS.items():
        ware = BY_NAME[name]
        assert (look.size_m, look.top, look.side) == (ware.size_m, ware.top, ware.ground)


def test_a_tall_neighbour_in_the_way_of_the_hand_is_noticed() -> None:
    tuna, sugar = (Grocery(BY_NAME[n], xy, 0.0) for n, xy in (("tuna", (0.45, 0.0)), ("sugar", (0.45, 0.11))))
    assert not graspable(tuna, [sugar]), "the hand reaches 10 cm to this side, and the sugar is higher than its palm"
    beside = Grocery(BY_NAME["sugar"], (0.57, 0.0), 0.0)
    assert graspable(tuna, [beside])
    assert graspable(Grocery(BY_NAME["sugar"], (0.45, 0.0), np.pi / 2), [Grocery(BY_NAME["tuna"], (0.45, 0.11), 0.0)])


def test_what_stands_before_an_item_hides_it() -> None:
    tuna, camera = Grocery(BY_NAME["tuna"], (0.45, 0.0), 0.0), TripodCameraConfig()
    assert not visible(tuna, [Grocery(BY_NAME["crackers"], (0.53, 0.0), 0.0)], camera)
    assert visible(tuna, [Grocery(BY_NAME["crackers"], (0.37, 0.0), 0.0)], camera)


# --- verdicts --------------------------------------------------------------------------------------------------------


def put(cell: Cell, name: str, at_m: tuple[float, float, float], R: F64 | None = None) -> Score:
    """An item at rest at a place in the cupboard's frame, its middle so high; the verdict soon after."""
    T = cell.truth().T_base_object["cupboard"]
    turn = np.eye(3) if R is None else R
    cell.set_state(HOME_Q_RAD, 0.08, {name: T @ pose(turn, at_m)})
    cell.advance(0.3)
    return cell.score()


def both(score: Score) -> tuple[bool, bool | None]:
    return score.success, score.rlbench


@pytest.fixture(scope="module")
def spam(cell: Cell) -> tuple[Cell, float]:
    """A scene that asks for the spam, and the height of its middle when it stands on the shelf."""
    seed = next(s for s in range(100) if scene(s).item == "spam")
    cell.reset("put_groceries", seed)
    return cell, FLOOR_M + BY_NAME["spam"].size_m[2] / 2 + 0.001


def test_on_the_table_it_is_not_done(spam: tuple[Cell, float]) -> None:
    assert both(spam[0].score()) == (False, False)


def test_on_the_shelf_it_is_done_upright_or_lying(spam: tuple[Cell, float]) -> None:
    cell, z = spam
    assert both(put(cell, "spam", (0.12, 0.0, z))) == (True, True)
    lying = np.array([[0.0, 0.0, -1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    done = put(cell, "spam", (0.12, 0.0, FLOOR_M + 0.022), lying)
    assert both(done) == (True, True)
    assert done.facts["tilt_deg"] > 80


def test_an_item_that_sticks_out_is_seen_by_rlbenchs_sensor_only(spam: tuple[Cell, float]) -> None:
    cell, z = spam
    score = put(cell, "spam", (0.010, 0.0, z))
    assert both(score) == (False, True)
    assert "not wholly inside" in score.detail


def test_a_held_item_is_not_done_by_either(spam: tuple[Cell, float]) -> None:
    """Both want an empty hand: the fingers are closed on it where it stands."""
    cell, z = spam
    put(cell, "spam", (0.12, 0.0, z))
    T = cell.truth().T_base_object["spam"].copy()
    yaw = float(np.arctan2(T[1, 0], T[0, 0]))
    across = pose(rotation_z(yaw) @ np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, -1.0]]), T[:3, 3])
    cell.set_state(inverse(across), 0.043)
    cell.move_gripper(0.0)
    cell.advance(0.5)
    assert both(cell.score()) == (False, False)


def test_a_second_item_in_the_cupboard_fails_the_strict_verdict_only(spam: tuple[Cell, float]) -> None:
    cell, z = spam
    put(cell, "tuna", (0.12, 0.1, FLOOR_M + 0.015))
    score = put(cell, "spam", (0.12, -0.05, z))
    assert both(score) == (False, True)
    assert score.detail == "The tuna is in the cupboard too."


def test_a_neighbour_knocked_over_fails_the_strict_verdict_only(cell: Cell) -> None:
    seed = next(s for s in range(100) if scene(s).item == "spam")
    cell.reset("put_groceries", seed)
    sugar = cell.truth().T_base_object["sugar"]
    lying = pose(np.array([[0.0, 0.0, -1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]), [*sugar[:2, 3], 0.0165])
    T = cell.truth().T_base_object["cupboard"]
    z = FLOOR_M + BY_NAME["spam"].size_m[2] / 2 + 0.001
    cell.set_state(HOME_Q_RAD, 0.08, {"sugar": lying, "spam": T @ pose(np.eye(3), (0.12, 0.0, z))})
    score = cell.score()
    assert both(score) == (False, True)
    assert score.detail == "The sugar was knocked over."


def test_on_top_of_the_cupboard_is_wrong(cell: Cell) -> None:
    seed = next(s for s in range(100) if scene(s).item == "spam")
    cell.reset("put_groceries", seed)
    score = put(cell, "spam", (0.12, 0.0, FLOOR_M + INSIDE_M[2] + 0.012 + 0.027))
    assert both(score) == (False, False)
