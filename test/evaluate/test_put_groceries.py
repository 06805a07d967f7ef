"""put_groceries from end to end in one process: the oracle's path, what guidance keeps, and the expert."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from stvla_ros.errors import CancelToken
from stvla_ros.evaluate.stack import StackSettings, build_stages, make_guide, make_planner
from stvla_ros.geometry.cameras import back_project, cloud, uv_to_px
from stvla_ros.pipeline import run_task
from stvla_ros.policy.entering import is_tilted
from stvla_ros.sim.cell import Cell
from stvla_ros.sim.cupboard import FLOOR_M, depth_inside_m
from stvla_ros.sim.groceries import BY_NAME
from stvla_ros.types import PlanRequest


@pytest.fixture(scope="module")
def cell() -> Iterator[Cell]:
    made = Cell()
    yield made
    made.close()


def settings(planner: str) -> StackSettings:
    """With time enough for the path search on a busy machine."""
    made = StackSettings(sections={"motion": {"max_planning_s": 10.0}})
    return replace(made, backends={**made.backends, "planner": planner})


def test_the_oracle_lets_the_tilted_item_go_just_above_the_shelf(cell: Cell) -> None:
    words = cell.reset("put_groceries", 4)
    drawn = make_planner(settings("oracle"), cell).plan(PlanRequest(words, cell.render(), cell.state()))
    way = back_project(cell.camera, uv_to_px(drawn.uv, cell.camera), drawn.start_depth_m + drawn.depth_offset_m)
    truth, asked = cell.truth().T_base_object, cell.task.objects[0].name
    ware = BY_NAME[asked.replace("_", " ")]
    grasp = truth[asked][:3, 3] + [0.0, 0.0, max(ware.size_m[2] / 2 - 0.02, 0.012 - ware.size_m[2] / 2)]
    np.testing.assert_allclose(way[0], grasp, atol=0.003)
    axis = (way[-1] - way[-2]) / np.linalg.norm(way[-1] - way[-2])
    side = np.cross([0.0, 0.0, 1.0], axis) / np.hypot(*axis[:2])
    turned = np.column_stack([side, np.cross(axis, side), -axis])  # the narrow side lies along the level fingers
    middle = way[-1] + axis * (grasp[2] - truth[asked][2, 3])
    corners = ware.corners_m() @ turned.T + middle
    lowest = float(corners[:, 2].min()) - FLOOR_M
    assert 0.004 < lowest < 0.016
    assert depth_inside_m(corners, truth["cupboard"]).min() > 0.0


@pytest.mark.parametrize("seed", [2, 9])
def test_guidance_keeps_the_item_and_its_place_and_removes_the_other_eight(cell: Cell, seed: int) -> None:
    words = cell.reset("put_groceries", seed)
    frame, robot, truth = cell.render(), cell.state(), cell.truth()
    plan = make_planner(settings("colour")).plan(PlanRequest(words, frame, robot))
    guide = make_guide(settings("colour"))
    trace = guide.lift(plan, frame)
    removed = guide.guide(trace, frame, robot).removed_px
    assert trace.notes == ()
    assert removed is not None
    share = {n: float(removed[truth.labels == i].mean()) for i, n in enumerate(truth.names, 1)}
    asked, cupboard, *others = truth.names
    assert share[asked] < 0.02
    assert min(share[name] for name in others) > 0.95
    near = np.hypot(*(cloud(frame)[:2] - trace.xyz_m[-1, :2, None, None])) < 0.08
    shelf = near & (truth.labels == 1 + truth.names.index(cupboard)) & (abs(cloud(frame)[2] - FLOOR_M) < 0.003)
    assert shelf.sum() > 300
    assert removed[shelf].mean() < 0.02


@pytest.mark.parametrize(("planner", "seed"), [("oracle", 4), ("colour", 9)])
def test_the_expert_puts_the_item_away_in_rlbenchs_keyposes(cell: Cell, planner: str, seed: int) -> None:
    words = cell.reset("put_groceries", seed)
    used = settings(planner)
    result = run_task(build_stages(used, cell), words, used.loop, CancelToken(), background=False)
    assert result.outcome.ok, result.outcome
    score = cell.score()
    assert (score.success, score.rlbench) == (True, True), score
    assert [(k.gripper_open, k.may_collide) for k in result.keyposes[:5]] == [
        (True, False), (False, True), (False, False), (False, False), (True, True)
    ]  # fmt: skip
    assert [is_tilted(k.T_base_tcp) for k in result.keyposes[:5]] == [False, False, False, True, True]
