"""Rendered scenes: their answers agree with what the images show, splits keep apart, shards are resumed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stvla_ros.config import ConfigError
from stvla_ros.data.splits import SPLITS, UNSEEN
from stvla_ros.geometry.cameras import back_project, project, px_to_uv, uv_to_px
from stvla_ros.planning.groceries import ITEMS
from stvla_ros.planning.heatmap.paths import surface_point
from stvla_ros.planning.heatmap.words import PALETTE, Name
from stvla_ros.sim.camera import TripodCameraConfig, make_camera
from stvla_ros.train.heatmap.questions import EVERYTHING, absent, questions, text_questions
from stvla_ros.train.scenes import shards
from stvla_ros.train.scenes.ground_truth import MIN_VISIBLE_PX
from stvla_ros.train.scenes.layouts import make_layout
from stvla_ros.train.scenes.renderer import squared
from stvla_ros.train.scenes.shards import LABEL_STEP, Scenes, load, render


def test_points_lie_on_their_objects_in_the_image_and_in_depth(scenes: Scenes) -> None:
    """Labels and depth come from the renderer, points from the layout: the two must meet."""
    gaps: list[float] = []
    for i in range(len(scenes)):
        frame, a = scenes.frame(i), scenes.arrays
        for thing in np.flatnonzero(a["visible_px"][i] >= 3 * MIN_VISIBLE_PX):
            point, uv = a["point_m"][i, thing], a["uv"][i, thing].astype(float)
            px, _ = project(frame.camera, point)
            assert np.abs(px_to_uv(px, frame.camera) - uv).max() < 0.01
            x, y = (uv_to_px(uv, frame.camera) / LABEL_STEP).round().astype(int).clip(0, 63)
            around = a["labels"][i][max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2]
            assert thing + 1 in around
            seen = surface_point(frame, uv)
            if scenes.name(i, thing).kind not in ("bottle", "lamp", "holder"):  # too thin for depth, or hollow
                gaps.append(np.inf if seen is None else float(np.linalg.norm(seen - point)))
    assert len(gaps) > 20
    assert np.quantile(gaps, 0.95) < 0.012


def test_paths_begin_and_end_where_the_goal_says(folder: Path) -> None:
    checked, seen = 0, set()
    for scenes, i in (
        (scenes, i) for scenes in (load(folder, split) for split in ("train", "val", "unseen")) for i in range(12)
    ):
        a, goal, frame = scenes.arrays, scenes.goal(i), scenes.frame(i)
        if scenes.phase(i) != "before":
            continue
        for step in range(scenes.steps(i)):
            if not np.isfinite(a["path_uv"][i, step]).all():
                continue
            depth = a["start_depth_m"][i, step] + a["offset_m"][i, step].astype(float)
            way = back_project(frame.camera, uv_to_px(a["path_uv"][i, step].astype(float), frame.camera), depth)
            start, end = (step, step) if goal.action == "push" else (0, 1)
            assert np.linalg.norm(way[0] - a["point_m"][i, start]) < 0.032
            gap = way[-1] - a["point_m"][i, end]
            if goal.action == "store":  # the tool stays in front of the middle of the shelf, with the item below it
                assert np.hypot(*gap[:2]) < 0.025
                assert 0.0 < gap[2] < 0.15
            else:
                assert np.hypot(*gap[:2]) < 0.005
            checked += 1
            seen.add(goal.action)
    assert checked > 4
    assert {"screw", "store"} < seen


@pytest.mark.parametrize("split", [name for name, split in SPLITS.items() if not split.paper])
def test_names_and_seeds_are_those_of_the_split(split: str) -> None:
    layouts = [make_layout(split, i) for i in range(40)]
    for layout in layouts:
        named = {word for n in layout.goal.names for word in (n.colour, n.kind)}
        assert bool(named & {*UNSEEN, "crackers", "soup"}) == SPLITS[split].unseen
        assert layout.seed in SPLITS[split].seeds
    assert {layout.goal.action for layout in layouts} == {"place", "stack", "push", "screw", "store"}
    shown = {t.colour for layout in layouts for t in layout.objects}
    assert shown & set(UNSEEN)


def test_a_stretched_image_has_the_same_uv() -> None:
    camera = make_camera(TripodCameraConfig())
    point = [0.5, 0.1, 0.03]
    for one in (camera, squared(camera)):
        assert np.allclose(
            px_to_uv(project(one, point)[0], one), px_to_uv(project(camera, point)[0], camera), atol=1e-9
        )


def test_existing_shards_are_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "PER_SHARD", 6)
    before = {path: path.stat().st_mtime_ns for path in folder.glob("*.npz")}
    assert list(render(folder, "train", 12)) == [6, 12]
    assert {path: path.stat().st_mtime_ns for path in folder.glob("*.npz")} == before


def test_scenes_are_the_same_again(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "PER_SHARD", 6)
    for _ in render(tmp_path, "val", 6):
        pass
    one, two = load(folder, "val", 6), load(tmp_path, "val")
    assert all(np.array_equal(one.arrays[k][:6], two.arrays[k], equal_nan=True) for k in ("uv", "path_uv", "labels"))
    assert np.array_equal(one.rgb(5), two.rgb(5))


def test_other_formats_and_empty_folders_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="stvla scenes"):
        load(tmp_path, "train")
    with pytest.raises(ConfigError, match="another format"):  # shards of another length
        next(render(folder, "train", 1))


def test_questions_know_which_objects_are_there(scenes: Scenes) -> None:
    rng = np.random.default_rng(0)
    for i in range(len(scenes)):
        names = [scenes.name(i, k) for k in range(int(scenes.arrays["count"][i]))]
        for question in questions(scenes, i, rng):
            for end, uv in zip(question.goal.ends(question.step), question.uv, strict=True):
                assert (end in names) == (bool(np.isfinite(uv).all()) or end in names)
                assert end in names or np.isnan(uv).all()
        assert absent(names, rng) not in names


def test_what_is_held_out_is_named_by_no_task_and_pointed_at_on_no_fitting(scenes: Scenes) -> None:
    rng = np.random.default_rng(0)
    shown = [question.goal for i in range(len(scenes)) for _ in range(20) for question in questions(scenes, i, rng)]
    goals = [*(goal for _, goal, _ in text_questions(2000, rng)), *shown]
    tasks = [goal for goal in goals if goal.action != "point"]
    assert {goal.action for goal in tasks} == {"place", "stack", "push", "screw", "store"}
    assert not {n.colour for goal in tasks for n in goal.names} & set(UNSEEN)
    assert not {n.kind for goal in tasks for n in goal.names} & {"soup", "crackers"}
    pointed = {goal.names[0] for goal in goals if goal.action == "point"}
    assert pointed >= {Name("plate", ""), Name("soup", ""), Name("block", "cyan")}
    assert not {name.colour for name in pointed if name.kind in ("jar", "bulb", "holder")} & set(UNSEEN)


def test_with_everything_tasks_name_all_colours_and_items() -> None:
    goals = [goal for _, goal, _ in text_questions(2000, np.random.default_rng(0), EVERYTHING)]
    for action, kinds in (("push", ["button"]), ("screw", ["jar", "bulb"])):
        for kind in kinds:
            named = {n.colour for goal in goals if goal.action == action for n in goal.names if n.kind == kind}
            assert named == set(PALETTE)
    assert {goal.names[0].kind for goal in goals if goal.action == "store"} == set(ITEMS)
