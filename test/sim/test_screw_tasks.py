"""close_jar and light_bulb_in: their physics, and what each of the two verdicts asks for."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest

from stvla_ros.description.panda import HOME_Q_RAD, MAX_WIDTH_M
from stvla_ros.description.robot import PANDA
from stvla_ros.geometry.se3 import pose, tool_down
from stvla_ros.motion import ik
from stvla_ros.motion.timing import scaled_limits, time_curve
from stvla_ros.sim.camera import TripodCameraConfig
from stvla_ros.sim.cell import Cell, CellConfig
from stvla_ros.sim.tasks import TASKS, close_jar, make_task
from stvla_ros.sim.tasks.close_jar import APART_M, JAR_RADIUS_M, LID_AWAY_M, SEAT_M, CloseJar
from stvla_ros.sim.tasks.light_bulb_in import FLOOR_M, MOUTH_M, LightBulbIn
from stvla_ros.sim.tasks.turned import REACH_M, Turn
from stvla_ros.types import F64

TWINS = ("close_jar", "light_bulb_in")
STEP_RAD = np.radians(3.0)


@pytest.fixture(scope="module")
def cell() -> Iterator[Cell]:
    made = Cell(CellConfig(camera=TripodCameraConfig(width_px=160, height_px=120)))
    yield made
    made.close()


def put(cell: Cell, name: str, xyz_m: F64, yaw_rad: float = 0.0) -> None:
    """A body upright at a place, at rest; the arm stays where it is."""
    R = np.array([[np.cos(yaw_rad), -np.sin(yaw_rad), 0], [np.sin(yaw_rad), np.cos(yaw_rad), 0], [0, 0, 1.0]])
    robot = cell.state()
    cell.set_state(robot.q_rad, robot.gripper_m, {name: pose(R, xyz_m)})


def above(cell: Cell, goal: str, height_m: float, beside_m: tuple[float, float] = (0.0, 0.0)) -> F64:
    return cell.truth().T_base_object[goal][:3, 3] + [*beside_m, height_m]


def parts(cell: Cell) -> tuple[str, str, float]:
    """What is screwed, into what, and the height of its seat there."""
    task = cell.task
    if isinstance(task, CloseJar):
        return "lid", f"{task.colour}_jar", SEAT_M
    assert isinstance(task, LightBulbIn)
    return f"{task.colour}_bulb", "lamp", FLOOR_M


def turned_in(cell: Cell, turns_rad: F64) -> None:
    """The part in its seat, at one yaw after another."""
    part, goal, seat = parts(cell)
    for yaw in turns_rad:
        put(cell, part, above(cell, goal, seat + 0.0005), float(yaw))
        cell.step()
    cell.advance(0.2)


@pytest.mark.parametrize("angle_rad", np.arange(0.0, 2 * np.pi, np.pi / 2.5))
def test_a_lid_seats_itself_from_6_mm_beside_the_neck(cell: Cell, angle_rad: float) -> None:
    cell.reset("close_jar", 3)
    part, jar, seat = parts(cell)
    put(cell, part, above(cell, jar, seat + 0.012, (0.006 * np.cos(angle_rad), 0.006 * np.sin(angle_rad))), 1.0)
    cell.advance(0.5)
    score = cell.score()
    assert score.rlbench, score.detail


def test_the_taper_is_what_seats_it(cell: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(close_jar, "NECK_RADII_M", (0.026, 0.026))
    cell.reset("close_jar", 3)
    part, jar, seat = parts(cell)
    seated = []
    for angle in np.arange(0.0, 2 * np.pi, np.pi / 2.5):
        put(cell, part, above(cell, jar, seat + 0.014, (0.006 * np.cos(angle), 0.006 * np.sin(angle))), 1.0)
        cell.advance(0.5)
        seated.append(cell.score().rlbench)
    assert not all(seated)


def test_a_lid_beside_the_neck_stays_out(cell: Cell) -> None:
    cell.reset("close_jar", 3)
    part, jar, seat = parts(cell)
    put(cell, part, above(cell, jar, seat + 0.014, (0.016, 0.0)))
    cell.advance(0.5)
    assert not cell.score().rlbench
    assert cell.score().facts["in_sensor_box"], "RLBench's own sensor is that coarse"


@pytest.mark.parametrize("angle_rad", np.arange(0.0, 2 * np.pi, np.pi / 2.5))
def test_a_bulb_finds_into_the_socket_from_4_mm_beside_it(cell: Cell, angle_rad: float) -> None:
    cell.reset("light_bulb_in", 3)
    part, lamp, _ = parts(cell)
    put(cell, part, above(cell, lamp, MOUTH_M + 0.001, (0.004 * np.cos(angle_rad), 0.004 * np.sin(angle_rad))), 0.3)
    cell.advance(0.6)
    score = cell.score()
    assert score.rlbench, score.detail


def test_a_lid_that_is_gripped_8_mm_beside_its_middle_stays_in_the_fingers(cell: Cell) -> None:
    cell.reset("close_jar", 3)
    lid = cell.truth().T_base_object["lid"][:3, 3]
    low = tool_down(lid + np.array([0.008, 0.0, 0.012]), np.pi / 2)  # the pads are along x
    found = ik.solve(low, ik.seeds(HOME_Q_RAD, 8, np.random.default_rng(0)))
    cell.set_state(found[0], MAX_WIDTH_M)
    cell.move_gripper(0.0)
    cell.advance(1.0)
    before = cell.truth().T_base_object["lid"][:3, 3] - cell.state().T_base_tcp[:3, 3]
    high = low.copy()
    high[2, 3] += 0.15
    goal = cell.follow(time_curve(ik.follow_line(cell.reference[0], high), scaled_limits(PANDA, 0.5, 0.5)))
    while cell.moving:
        cell.advance(0.05)
    assert goal.reason == ""
    after = cell.truth().T_base_object["lid"][:3, 3] - cell.state().T_base_tcp[:3, 3]
    assert cell.state().gripper_m > 0.06
    assert np.linalg.norm(after - before) < 0.002


@pytest.mark.parametrize("task", TWINS)
def test_both_verdicts_want_the_part_in_its_place(cell: Cell, task: str) -> None:
    cell.reset(task, 3)
    score = cell.score()
    assert (score.success, score.rlbench) == (False, False)
    assert "close" in score.detail or "socket" in score.detail


@pytest.mark.parametrize("task", TWINS)
@pytest.mark.parametrize(
    ("turns_deg", "strict"),
    [
        ((0,), False),
        ((0, -30), False),
        ((0, -100), True),
        ((0, 100), False),
        ((0, -50, 0, -50, 0), False),
        ((0, -50, 0, -100), True),
    ],
)
def test_only_the_strict_verdict_wants_a_clockwise_turn(
    cell: Cell, task: str, turns_deg: tuple[int, ...], strict: bool
) -> None:
    cell.reset(task, 3)
    corners = np.radians(turns_deg)
    way = [np.linspace(a, b, 1 + int(abs(b - a) / STEP_RAD)) for a, b in pairwise(corners)]
    turned_in(cell, np.concatenate([corners[:1], *way]))
    score = cell.score()
    assert (score.success, score.rlbench) == (strict, True), score
    if not strict:
        assert "clockwise" in score.detail


def test_the_lid_on_the_other_jar_is_wrong(cell: Cell) -> None:
    cell.reset("close_jar", 3)
    other = cell.task.objects[2].name  # type: ignore[union-attr]
    put(cell, "lid", above(cell, other, SEAT_M + 0.001))
    cell.advance(0.3)
    assert not cell.score().rlbench


def test_the_bulb_of_the_other_holder_is_wrong(cell: Cell) -> None:
    cell.reset("light_bulb_in", 3)
    other = cell.task.objects[4].name  # type: ignore[union-attr]
    put(cell, other, above(cell, "lamp", FLOOR_M + 0.001))
    cell.advance(0.3)
    assert not cell.score().rlbench


def test_a_turn_counts_from_where_the_part_engages() -> None:
    turn = Turn()
    for yaw, engaged in ((0.0, False), (-1.0, False), (-1.0, True), (-1.5, True), (-1.2, True), (-3.0, True)):
        turn.watch(yaw, engaged)
    assert turn.turned_rad == pytest.approx(2.0)
    turn.watch(3.0, engaged=True)  # across the end of the circle
    assert turn.turned_rad == pytest.approx(2.0 + 2 * np.pi - 6.0)
    turn.watch(0.0, engaged=False)
    turn.watch(0.0, engaged=True)
    assert turn.turned_rad == 0.0


@pytest.mark.parametrize("task", TWINS)
def test_layouts_are_in_reach_and_turned_every_way(task: str) -> None:
    scenes = [make_task(task, seed) for seed in range(60)]
    for made in scenes:
        assert all(np.hypot(*o.xy_m) <= REACH_M and 0.34 <= o.xy_m[0] <= 0.66 for o in made.objects)
    ahead = [np.subtract(s.objects[1].xy_m, s.objects[0].xy_m) for s in scenes]
    angles = np.arctan2(*np.transpose(ahead)[::-1])
    assert len(np.unique(np.floor(angles / (np.pi / 4)))) >= 6, "the part is on every side of its goal"
    assert len({s.colour for s in scenes}) > 15  # type: ignore[attr-defined]


def test_jars_may_nearly_touch_and_the_lid_lies_free() -> None:
    for seed in range(60):
        lid, first, second = (np.array(o.xy_m) for o in make_task("close_jar", seed).objects)
        assert np.hypot(*(first - second)) >= APART_M > 2 * JAR_RADIUS_M
        assert min(np.hypot(*(lid - jar)) for jar in (first, second)) >= LID_AWAY_M - 1e-9


@pytest.mark.parametrize("task", TWINS)
def test_blocks_as_distractors_leave_the_layout_alone(task: str) -> None:
    plain, more = make_task(task, 3).objects, make_task(task, 3, 4).objects
    assert more[: len(plain)] == plain
    assert [o.name.endswith("_block") for o in more[len(plain) :]] == [True] * 4


@pytest.mark.parametrize(("task", "names"), [("close_jar", {"azure", "violet"}), ("light_bulb_in", {"black", "white"})])
def test_the_papers_examples_are_a_split_of_their_own(task: str, names: set[str]) -> None:
    assert set(TASKS[task].paper_held_out) == names
