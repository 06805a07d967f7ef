"""The oracle sees the truth, is called what it is, and cannot be had anywhere but beside the simulated cell."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from stvla_ros import registry
from stvla_ros.cli import main
from stvla_ros.config import ConfigError
from stvla_ros.errors import CancelToken, OutcomeCode, StageError
from stvla_ros.evaluate.oracle import OracleConfig, OraclePlanner, mark
from stvla_ros.evaluate.stack import StackSettings, build_stages
from stvla_ros.geometry.cameras import back_project, uv_to_px
from stvla_ros.geometry.se3 import tool_down
from stvla_ros.pipeline import run_task
from stvla_ros.sim.camera import TripodCameraConfig
from stvla_ros.sim.cell import Cell, CellConfig
from stvla_ros.types import F64, Keypose, PlanRequest, TracePlan


@pytest.fixture(scope="module")
def cell() -> Iterator[Cell]:
    made = Cell(CellConfig(camera=TripodCameraConfig(width_px=320, height_px=240)))
    yield made
    made.close()


def plan(cell: Cell, words: str, history: tuple[Keypose, ...] = ()) -> TracePlan:
    return OraclePlanner(OracleConfig(), cell).plan(PlanRequest(words, cell.render(), cell.state(), history))


def places(drawn: TracePlan, cell: Cell) -> F64:
    """(8, 3) tool positions that the plan means."""
    return back_project(cell.camera, uv_to_px(drawn.uv, cell.camera), drawn.start_depth_m + drawn.depth_offset_m)


def test_without_the_cell_it_is_refused_in_one_sentence() -> None:
    with pytest.raises(ConfigError, match=r"only where the simulated cell is in the same process.*Choose another") as e:
        registry.create("planner", "oracle")
    assert "\n" not in str(e.value)


def test_it_is_marked(cell: Cell) -> None:
    drawn = plan(cell, cell.reset("pick_place", 3))
    assert drawn.planner == "oracle"
    assert drawn.plan_id.startswith("oracle-")
    assert "ORACLE" in drawn.raw_reply
    assert "simulation only" in (OraclePlanner.__doc__ or "")


def test_path_leads_from_the_true_block_to_the_true_plate(cell: Cell) -> None:
    words = cell.reset("pick_place", 3)
    block, truth = words.split()[2], cell.truth().T_base_object
    way = places(plan(cell, words), cell)
    assert np.abs(way[0] - truth[f"{block}_block"][:3, 3]).max() < 0.002
    assert np.hypot(*(way[-1] - truth["plate"][:3, 3])[:2]) < 0.002
    assert way[:, 2].max() > 0.08


@pytest.mark.parametrize(("task", "seat_m"), [("close_jar", 0.089 + 0.012), ("light_bulb_in", 0.176 + 0.057)])
def test_path_ends_where_the_part_is_screwed_in(cell: Cell, task: str, seat_m: float) -> None:
    """Eight points from the true part to its true seat; the turn there is no way in space."""
    words = cell.reset(task, 3)
    truth, (part, *others) = cell.truth().T_base_object, (o.name for o in cell.task.objects)  # type: ignore[union-attr]
    goal = others[0]
    drawn = plan(cell, words)
    way = places(drawn, cell)
    assert len(way) == 8
    grip = 0.012 if part == "lid" else 0.057
    np.testing.assert_allclose(way[0], truth[part][:3, 3] + [0, 0, grip], atol=0.002)
    np.testing.assert_allclose(way[-1], truth[goal][:3, 3] + [0, 0, seat_m + 0.001], atol=0.002)
    assert way[:, 2].max() > way[-1, 2] + 0.1
    assert "screw" in drawn.sub_instruction


def test_finished_is_the_simulators_verdict(cell: Cell) -> None:
    words = cell.reset("pick_place", 3)
    name, truth = f"{words.split()[2]}_block", cell.truth().T_base_object
    inside = truth["plate"].copy()
    inside[2, 3] += 0.026
    assert not plan(cell, words).finished
    cell.set_state(cell.state().q_rad, 0.08, {name: inside})
    assert plan(cell, words).finished
    other = next(n for n in truth if n.endswith("_block") and n != name)
    assert not plan(cell, f"Put the {other.removesuffix('_block')} block in the plate.").finished


def test_buttons_in_their_order(cell: Cell) -> None:
    words = cell.reset("push_buttons", 4)
    truth = cell.truth().T_base_object
    order = [w for w in words.lower().replace(",", "").replace(".", "").split() if f"{w}_button" in truth]
    history: tuple[Keypose, ...] = ()
    for step, colour in enumerate(order):
        drawn = plan(cell, words, history)
        cap = truth[f"{colour}_button"][:3, 3]
        assert (drawn.step_index, drawn.finished) == (step, False)
        assert np.hypot(*(places(drawn, cell)[-1] - cap)[:2]) < 0.002
        history += (Keypose(tool_down([*cap[:2], 0.03], 0.0), gripper_open=False, may_collide=True),)


@pytest.mark.parametrize(
    "words", ["Fold the shirt.", "Put the red block on the moon.", "Push the chartreuse button.", "Stack the plate."]
)
def test_what_is_not_there_is_refused(cell: Cell, words: str) -> None:
    cell.reset("pick_place", 3)
    with pytest.raises(StageError) as error:
        plan(cell, words)
    assert error.value.code is OutcomeCode.GOAL_NOT_GROUNDED


def test_an_episode_succeeds_with_it(cell: Cell) -> None:
    settings = StackSettings()
    settings = replace(settings, backends={**settings.backends, "planner": "oracle"})
    words = cell.reset("pick_place", 5)
    result = run_task(build_stages(settings, cell), words, settings.loop, CancelToken(), background=False)
    assert result.outcome.ok, result.outcome
    assert cell.score().success


def test_reports_say_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["evaluate", "--tasks", "pick_place", "--episodes", "1", "--jobs", "1", "--output", str(tmp_path / "out")]
    assert main([*words, "--planner", "oracle", "--set", "task.max_keyposes=1"]) == 0
    assert "planner ORACLE" in " ".join(capsys.readouterr().out.split())
    assert "planner ORACLE" in " ".join((tmp_path / "out" / "results.txt").read_text().split())
    settings = json.loads((tmp_path / "out" / "results.json").read_text())["settings"]
    assert settings["backends"]["planner"] == "oracle"
    assert mark({"backends": {"planner": "colour"}}) == ""
