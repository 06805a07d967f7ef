"""What is looked at, and how old it is."""

from __future__ import annotations

import pytest

from stvla_ros.console.offers import MOST, goals, objects_seen
from stvla_ros.console.views import Views, caption
from stvla_ros.planning.instruction import parse
from stvla_ros.robot.sim import SimCamera, SimRobot
from stvla_ros.sim.cell import Cell, CellConfig


def test_ages() -> None:
    now = [10.0]
    views = Views(lambda: now[0])
    assert views.age_s("camera") == float("inf")
    assert views.get("camera") == (0, None)
    views.put("camera", "a", age_s=0.3)
    now[0] += 0.5
    assert views.age_s("camera") == pytest.approx(0.8)
    views.put("camera", "b")
    assert views.get("camera") == (2, "b")
    assert views.age_s("camera") == 0.0


def test_no_old_picture_without_a_warning() -> None:
    assert caption("camera", 0.9) == "camera"
    assert caption("camera", 1.04) == "camera: OLD, 1 s"
    assert caption("camera", float("inf")) == "camera: nothing has come yet"


def test_goals_are_about_what_is_there_in_words_that_are_understood() -> None:
    seen = ["blue block", "green button", "plate", "red block"]
    offered = goals(seen)
    assert offered == (
        "Put the blue block in the plate.",
        "Put the red block in the plate.",
        "Push the green button.",
        "Stack the blue block on the red block.",
        "Stack the red block on the blue block.",
    )
    for goal in offered:
        parse(goal)
    assert goals([]) == ()
    assert len(goals([f"{c} block" for c in "abcdefgh"])) == MOST


@pytest.mark.parametrize(("task", "kind"), [("pick_place", "plate"), ("push_buttons", "button")])
def test_the_cameras_objects_are_offered(task: str, kind: str) -> None:
    cell = Cell(CellConfig())
    try:
        instruction = cell.reset(task, 1)
        names = objects_seen(SimCamera(cell).capture(), SimRobot(cell).state())
        assert any(kind in name for name in names), names
        if task == "pick_place":
            assert instruction in goals(names)
    finally:
        cell.close()
