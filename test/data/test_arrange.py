"""The data engine of relations: words, refused scenes, and one command that makes everything."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from stvla_ros.cli import main
from stvla_ros.data.arrange import views
from stvla_ros.data.arrange.environment import unfit
from stvla_ros.data.arrange.words import wording, wordings
from stvla_ros.data.episode import find_episodes
from stvla_ros.data.st_human.samples_json import read_samples
from stvla_ros.evaluate.episode import read_record
from stvla_ros.evaluate.planner.datasets.points_and_paths import where2place
from stvla_ros.evaluate.planner.question import PromptStyle, Region
from stvla_ros.geometry.cameras import back_project, uv_to_px
from stvla_ros.policy.scripted import _PRESS, _SCREW
from stvla_ros.sim.camera import TripodCameraConfig
from stvla_ros.sim.cell import Cell, CellConfig
from stvla_ros.sim.objects import Block
from stvla_ros.sim.tasks import make_task
from stvla_ros.sim.tasks.arrange import PHRASES, Arrange


def scene(seed: int) -> Arrange:
    task = make_task("arrange", seed)
    assert isinstance(task, Arrange)
    return task


def test_held_out_words_are_none_of_training() -> None:
    seen: set[str] = set()
    for task in map(scene, range(60)):
        train, held_out = set(wordings(task, False)), set(wordings(task, True))
        assert len(train) == len(list(wordings(task, False))) >= 16
        assert len(held_out) >= 4
        assert train.isdisjoint(held_out)
        for words in (*train, *held_out):
            assert not _PRESS.search(words)
            assert not _SCREW.search(words)
            assert all(o.colour in words for o in (task.moved, *task.references) if isinstance(o, Block))
        assert wording(task, np.random.default_rng(1), True) in held_out
        seen.add(task.relation)
    assert seen == set(PHRASES)


@pytest.fixture(scope="module")
def cell() -> Iterator[Cell]:
    made = Cell(CellConfig(camera=TripodCameraConfig(width_px=128, height_px=96)))
    yield made
    made.close()


def test_scenes_that_are_no_task_are_refused(cell: Cell) -> None:
    task = next(t for t in map(scene, range(60)) if t.relation == "left_of")
    block = task.moved
    assert isinstance(block, Block)
    cell.reset_to(task, 0)
    assert unfit(cell, task) == ""
    falling = replace(task, objects=(replace(block, z_m=0.1), *task.objects[1:]))
    cell.reset_to(falling, 0)
    assert unfit(cell, falling).endswith("does not stand where it was laid out: it moved 100 mm.")
    x, y, _ = task.goal_m(cell.truth().T_base_object)
    done = replace(task, objects=(replace(block, xy_m=(x, y), z_m=0.0), *task.objects[1:]))
    cell.reset_to(done, 0)
    assert unfit(cell, done) == "The goal is reached before the expert begins."


SMALL = ["--set", "sim.cell.camera.width_px=320", "--set", "sim.cell.camera.height_px=240", "--jobs", "1"]


def test_one_command_makes_everything_and_resumes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["synthesise", "--episodes", "1", "--output", str(tmp_path), *SMALL]
    assert main([*command, "--views", "1"]) == 0
    said = capsys.readouterr().out
    first, view = find_episodes(tmp_path)
    task = scene(first.seed)
    assert view.folder.name == f"{first.folder.name}-v1"
    assert first.instruction == view.instruction in set(wordings(task, False))
    assert f"{task.relation} " in said
    assert len(view) == len(first) >= 5
    # the other camera sees the same path in space, and another image
    before, after = (e.plan_frame(0).camera for e in (first, view))
    assert not np.allclose(before.T_base_camera, after.T_base_camera)
    ways = [
        back_project(c, uv_to_px(e.plans[0].uv, c), e.plans[0].start_depth_m + e.plans[0].depth_offset_m)
        for c, e in ((before, first), (after, view))
    ]
    assert np.allclose(*ways, atol=1e-6)
    # questions: the true point is inside the box, boxes and masks are of the same image
    samples = read_samples(tmp_path / "questions" / "samples.json")
    points = [s for s in samples if s.task == "pointing"]
    assert {s.images[0] for s in samples} == {f"images/{e.folder.name}.png" for e in (first, view)}
    assert len(points) >= 2 * 3
    for sample in points:
        (u, v), (left, top, right, bottom) = sample.objects.point_2d or (), sample.objects.bbox_2d or ()
        assert left <= u <= right
        assert top <= v <= bottom
    assert [s.objects.traj_2d is not None for s in samples].count(True) == 2
    masked = where2place(tmp_path / "questions", PromptStyle())
    assert len(masked) == 2
    for question in masked:
        assert isinstance(question.truth, Region)
        mask = question.truth.mask() if callable(question.truth.mask) else None
        assert mask is not None
        assert 0 < (mask > 127).mean() < 0.2
    info = json.loads((tmp_path / "lerobot" / "meta" / "info.json").read_text())
    assert info["total_episodes"] == 2
    times = {p: p.stat().st_mtime_ns for p in (tmp_path / "episodes").rglob("*") if p.is_file()}
    # more views later; what is there stays
    assert main([*command, "--views", "2"]) == 0
    assert len(find_episodes(tmp_path)) == 3
    assert {p: p.stat().st_mtime_ns for p in times} == times
    record = read_record(tmp_path / "views" / f"{first.folder.name}.json")
    assert record.facts["views"] == 2


def test_views_from_which_the_words_are_wrong_are_refused_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = next(s for s in range(200_000, 200_100) if scene(s).relation == "behind")
    command = ["synthesise", "--episodes", "1", "--seed0", str(first - 200_000), "--output", str(tmp_path), *SMALL]
    assert main([*command, "--views", "0", "--split", "train"]) == 0
    (episode,) = find_episodes(tmp_path)
    aside = replace(
        CellConfig().camera, width_px=320, height_px=240, x_m=0.45, y_m=1.25, target_x_m=0.45, target_z_m=0.1
    )
    monkeypatch.setattr(views, "moved_camera", lambda config, rng: aside)
    settings = views.StackSettings(cell=CellConfig(camera=replace(TripodCameraConfig(), width_px=320, height_px=240)))
    with views.ViewsSetup(settings, tmp_path, 1).open() as made:
        spec = read_record(next((tmp_path / "records").glob(f"{episode.folder.name}.json"))).scene
        record = made.run(spec)
    assert record.facts["views"] == 0
    assert record.sentence == "Refused views: INVALID_GOAL 1."
    assert [p.name for p in (tmp_path / "episodes").iterdir()] == [episode.folder.name]
