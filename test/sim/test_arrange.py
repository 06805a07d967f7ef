"""The task of relations: what is laid out, what counts, and that an expert can do it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from stvla_ros.errors import CancelToken, OutcomeCode, StageError
from stvla_ros.evaluate.stack import StackSettings, build_stages
from stvla_ros.geometry.cameras import project
from stvla_ros.pipeline import run_task
from stvla_ros.sim.camera import TripodCameraConfig
from stvla_ros.sim.cell import Cell, CellConfig
from stvla_ros.sim.objects import BLOCK_M, Block
from stvla_ros.sim.tasks import arrange, make_task
from stvla_ros.sim.tasks.arrange import PHRASES, T_VIEWER_BASE, Arrange, laid, viewer_of
from stvla_ros.types import F64

SEEDS = range(120)


@pytest.fixture(scope="module")
def cell() -> Iterator[Cell]:
    made = Cell(CellConfig(camera=TripodCameraConfig(width_px=320, height_px=240)))
    yield made
    made.close()


def scene(seed: int, distractors: int = -1) -> Arrange:
    task = make_task("arrange", seed, distractors)
    assert isinstance(task, Arrange)
    return task


def placed(task: Arrange, way_m: tuple[float, float] = (0.0, 0.0)) -> dict[str, F64]:
    """Poses with the block at its goal, or beside it."""
    poses = {o.name: laid(o) for o in task.objects}
    poses[task.moved.name] = poses[task.moved.name].copy()
    poses[task.moved.name][:3, 3] = task.goal_m(poses) + np.array([*way_m, BLOCK_M / 2])
    return poses


def test_every_relation_is_asked_for_and_none_holds_yet() -> None:
    tasks = [scene(seed) for seed in SEEDS]
    assert {task.relation for task in tasks} == set(PHRASES)
    assert not any(task.holds({o.name: laid(o) for o in task.objects}) for task in tasks)


def test_the_expert_s_goal_satisfies_the_relation_and_half_a_metre_beside_does_not() -> None:
    for task in map(scene, SEEDS):
        assert task.holds(placed(task)), task.instruction
        assert not task.holds(placed(task, (0.5, 0.5))), task.instruction


def test_left_right_front_and_back_are_those_of_the_image(cell: Cell) -> None:
    signs = {"left_of": (0, -1), "right_of": (0, 1), "in_front_of": (1, 1), "behind": (1, -1)}
    for task in map(scene, SEEDS):
        if task.relation in signs:
            poses = placed(task)
            px, _ = project(cell.camera, np.array([poses[o.name][:3, 3] for o in (task.moved, *task.references)]))
            axis, sign = signs[task.relation]
            assert sign * (px[0] - px[1])[axis] > 5, task.instruction


def test_the_words_are_the_viewer_s() -> None:
    """Seen from the robot's side, left is right."""
    around = T_VIEWER_BASE @ np.diag([-1.0, -1.0, 1.0, 1.0])
    for task in map(scene, SEEDS):
        turned = task.relation in ("left_of", "right_of", "in_front_of", "behind")
        assert task.holds(placed(task), around) != turned
    assert np.allclose(viewer_of(np.linalg.inv(T_VIEWER_BASE) @ [[1, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]]),
                       T_VIEWER_BASE)  # fmt: skip


def test_what_starts_on_something_stands_there(cell: Cell) -> None:
    raised = [s for s in SEEDS if isinstance(b := scene(s).moved, Block) and b.z_m > 0]
    assert 0.1 < len(raised) / len(SEEDS) < 0.4
    for seed in raised[:4]:
        task = scene(seed)
        cell.reset_to(task, seed)
        cell.advance(0.5)
        poses = cell.truth().T_base_object
        assert all(np.linalg.norm(poses[o.name][:3, 3] - laid(o)[:3, 3]) < 0.005 for o in task.objects)


def test_a_table_without_a_free_goal_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrange, "ELSEWHERE_M", 10.0)
    with pytest.raises(StageError, match=r"leave no free place .*: ask for fewer distractors") as caught:
        scene(0)
    assert caught.value.code == OutcomeCode.INVALID_GOAL


@pytest.mark.parametrize("relation", ["left_of", "between", "near", "on"])
def test_the_expert_does_it_and_the_verdict_says_so(cell: Cell, relation: str) -> None:
    seed = next(s for s in range(20, 200) if scene(s).relation == relation)
    task = scene(seed)
    words = cell.reset_to(task, seed)
    assert cell.score().detail == f"The {task.moved.name.replace('_', ' ')} is not {task.where}."
    settings = StackSettings(backends={**StackSettings().backends, "planner": "oracle"}, cell=cell.config)
    result = run_task(
        build_stages(settings, cell), words, settings.loop, CancelToken(), lambda _: None, background=False
    )
    assert result.outcome.ok, result.outcome.sentence
    score = cell.score()
    assert score.success, score.detail
    assert score.facts["wrong_target"] == 0.0


def test_carrying_something_else_off_is_known(cell: Cell) -> None:
    task = scene(0)
    cell.reset_to(task, 0)
    other = task.references[0]
    cell.move_object(other.name, (other.xy_m[0], other.xy_m[1] + (0.2 if other.xy_m[1] < 0 else -0.2)))
    assert cell.score().facts["wrong_target"] == 1.0
