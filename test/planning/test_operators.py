"""What operators say, put to every planner without a language model, on one simulated table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.evaluate.oracle import OracleConfig, OraclePlanner
from stvla_ros.evaluate.planner.datasets.words import Saying, sayings
from stvla_ros.geometry.cameras import project, px_to_uv
from stvla_ros.interfaces import Planner
from stvla_ros.planning.colour import ColourConfig, ColourPlanner
from stvla_ros.planning.heatmap.planner import HeatmapConfig, HeatmapPlanner
from stvla_ros.planning.instruction import Push, parse
from stvla_ros.sim.cell import Cell
from stvla_ros.sim.objects import Block, Button, Plate, SceneObject
from stvla_ros.sim.world import World
from stvla_ros.types import F64, PlanRequest

SAYINGS = sayings(Path(__file__).with_name("instructions.txt"))
TABLE = (
    Plate((0.45, -0.2)), Block("red", (0.40, 0.02), 0.4), Block("blue", (0.52, 0.0), 1.0),
    Block("lime", (0.62, -0.12), 0.2), Block("magenta", (0.36, 0.13), 0.7), Button("red", (0.50, 0.12)),
    Button("blue", (0.62, 0.04)), Button("green", (0.60, 0.2)), Button("lime", (0.45, 0.25)),
)  # fmt: skip
HEIGHT_M = {"block": 0.02, "plate": 0.005, "button": 0.037}
PLANNERS = ("colour", "heatmap", "oracle")


@dataclass(frozen=True)
class Laid:
    """A table that asks for nothing."""

    objects: tuple[SceneObject, ...]
    instruction: str = ""
    hold_s: float = 0.0

    def watch(self, world: World) -> None: ...

    def problem(self, world: World) -> str:
        return "nothing was asked for"


@dataclass(frozen=True)
class Twin(Block):
    """A second block of a colour."""

    @property
    def name(self) -> str:
        return f"{super().name}_twin"


@pytest.fixture(scope="module")
def cell() -> Iterator[Cell]:
    made = Cell()
    made.reset_to(Laid(TABLE), 1)
    yield made
    made.close()


@pytest.fixture(scope="module")
def asked(cell: Cell) -> PlanRequest:
    return PlanRequest("", cell.render(), cell.state())


@pytest.fixture(scope="module")
def planners(cell: Cell, asked: PlanRequest) -> dict[str, Planner]:
    """They look at the table once: its image is the same for all that is said."""
    colour, heatmap = ColourPlanner(ColourConfig()), HeatmapPlanner(HeatmapConfig())
    view, seen = colour.look(asked), heatmap._finder.see(asked.frame.rgb)

    def look(request: PlanRequest) -> Any:
        said = replace(view, request=request)
        said.__dict__.update(regions=view.regions, objects=view.objects)  # what replace() leaves out
        return said

    colour.look = look  # type: ignore[method-assign]
    heatmap._finder.see = lambda rgb: seen  # type: ignore[method-assign]
    return {"colour": colour, "heatmap": heatmap, "oracle": OraclePlanner(OracleConfig(), cell)}


def ends_uv(action: str, cell: Cell) -> tuple[F64, F64]:
    """(2,) where the path of an action starts and ends, by the simulator."""
    task = parse(action)
    names = [f"{task.colours[0]} button"] * 2 if isinstance(task, Push) else [
        f"{task.colour} block", f"{task.onto} block" if task.onto else "plate"
    ]  # fmt: skip
    poses = cell.truth().T_base_object
    points = [poses[n.replace(" ", "_")][:3, 3] + [0.0, 0.0, HEIGHT_M[n.split()[-1]]] for n in names]
    start, end = px_to_uv(project(cell.camera, points)[0], cell.camera)
    return start, end


def first_of_each() -> list[Saying]:
    return list({saying.actions: saying for saying in reversed(SAYINGS) if saying.actions}.values())


@pytest.mark.parametrize("planner", PLANNERS)
@pytest.mark.parametrize("saying", first_of_each(), ids=lambda saying: saying.text)
def test_the_path_is_that_of_the_words(
    saying: Saying, planner: str, planners: dict[str, Planner], asked: PlanRequest, cell: Cell
) -> None:
    plan = planners[planner].plan(replace(asked, instruction=saying.text))
    start, end = ends_uv(saying.actions[0], cell)
    assert (plan.sub_instruction, plan.step_index, plan.finished) == (saying.actions[0], 0, False)
    assert planner == "oracle" or plan.step_total == len(saying.actions)
    assert np.hypot(*(plan.uv[0] - start)) < 25
    assert np.hypot(*(plan.uv[-1] - end)) < 45


@pytest.mark.parametrize("planner", ["colour", "heatmap"])
def test_every_wording_of_the_same_is_understood_as_the_same(
    planner: str, planners: dict[str, Planner], asked: PlanRequest
) -> None:
    for saying in (s for s in SAYINGS if s.actions):
        if planner == "heatmap":  # its paths take long to draw
            goal = planners[planner]._finder.goal(saying.text)  # type: ignore[attr-defined]
            said = tuple(goal.sentence(step) for step in range(goal.steps))
            assert said == saying.actions
        else:
            plan = planners[planner].plan(replace(asked, instruction=saying.text))
            assert (plan.sub_instruction, plan.step_total) == (saying.actions[0], len(saying.actions)), saying.text


@pytest.mark.parametrize("planner", ["colour", "heatmap"])
def test_all_else_is_refused_with_the_reason(planner: str, planners: dict[str, Planner], asked: PlanRequest) -> None:
    for saying in (s for s in SAYINGS if not s.actions):
        with pytest.raises(StageError) as error:
            planners[planner].plan(replace(asked, instruction=saying.text))
        assert error.value.code is OutcomeCode.GOAL_NOT_GROUNDED
        if saying.part != "I see":  # what is not there each planner says in its own words
            assert saying.part in error.value.sentence or "names a thing but no action" in error.value.sentence


@pytest.mark.parametrize("planner", PLANNERS)
def test_only_what_is_on_the_table_is_proposed(planner: str, planners: dict[str, Planner], asked: PlanRequest) -> None:
    def refusal(words: str) -> str:
        with pytest.raises(StageError) as error:
            planners[planner].plan(replace(asked, instruction=words))
        return error.value.sentence

    assert "Did you mean 'magenta block'?" in refusal("Put the magneta block in the plate.")
    assert "Did you mean" not in refusal("Push the magneta button.")
    assert "Did you mean 'green button'?" in refusal("Push the gren button, then the red one.")
    assert "azure" not in refusal("Put the scarlet block in the plate.")


@pytest.mark.parametrize("planner", ["colour", "heatmap"])
def test_of_two_alike_none_is_chosen(planner: str, cell: Cell) -> None:
    other = Cell(cell.config)
    other.reset_to(Laid((*TABLE[:3], Twin("red", (0.60, 0.15), 0.0))), 1)
    request = PlanRequest("Put the red block in the plate.", other.render(), other.state())
    other.close()
    made = ColourPlanner(ColourConfig()) if planner == "colour" else HeatmapPlanner(HeatmapConfig())
    with pytest.raises(StageError, match=r"(2|two) objects that could be the red block"):
        made.plan(request)
    assert not made.plan(replace(request, instruction="Put the blue block in the plate.")).finished


def test_what_looks_like_something_else_is_told(planners: dict[str, Planner], asked: PlanRequest) -> None:
    with pytest.raises(StageError, match=r"do not see the green block"):
        planners["heatmap"].plan(replace(asked, instruction="Put the green block in the plate."))
    with pytest.raises(StageError, match="looks like a blue block"):
        planners["heatmap"].plan(replace(asked, instruction="Put the navy block in the plate."))
