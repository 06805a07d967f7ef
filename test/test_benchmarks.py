"""The guidance benchmark itself: its truth is right, its oracle draws what it should, its scores count correctly."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

import cv2
import numpy as np
import pytest

from benchmarks.guidance import decisions, flicker, holes, speed
from benchmarks.guidance.routes import Route, draw_plan
from benchmarks.guidance.scenes import Setup, View, draw_setups, lay, make_cell, views
from benchmarks.guidance.scores import Verdict, f1_scores, task_scores
from benchmarks.guidance.truth import true_relevance
from stvla_ros.geometry.cameras import project, px_to_uv
from stvla_ros.perception.guide import GuideConfig
from stvla_ros.sim.camera import TripodCameraConfig
from stvla_ros.sim.cell import Cell

SMALL = TripodCameraConfig(width_px=160, height_px=120)


@pytest.fixture(scope="module")
def bench_cell() -> Iterator[Cell]:
    made = make_cell()
    yield made
    made.close()


@pytest.fixture(scope="module")
def view(bench_cell: Cell) -> View:
    return next(views(bench_cell, Setup(2, "pick_place", 3, SMALL, "home", 0.01, 0.18), (True,)))


def ball(centre: list[float], radius: float) -> np.ndarray:
    directions = np.random.default_rng(0).normal(size=(4000, 3))
    return np.array(centre) + radius * directions / np.linalg.norm(directions, axis=1, keepdims=True)


WAY = Route(np.array([[0.4, 0.0, 0.0], [0.4, 0.0, 0.2], [0.4, 0.3, 0.2]]), ()).dense()


def test_hard_scenes_have_household_things_and_a_stereo_camera() -> None:
    setup = next(s for s in draw_setups(12, 0, "hard") if s.task == "pick_place" and s.camera.width_px == 256)
    assert setup.scenes == "hard"
    cell = make_cell(scenes="hard")
    try:
        view, noisy = islice(views(cell, setup), 2)
        assert (view.noise, noisy.noise) == (False, True)
        assert {"block", "plate"} < {name.rstrip("_0123456789").split("_")[-1] for name in view.names}
        assert set(view.surfaces) == set(view.names)
        assert any(view.optics.opacity[view.labels > 0] < 1.0) == any(
            "glass" in n or "flask" in n for n in view.counted()
        )
        again = noisy.again(noisy.frame.stamp_ns)
        assert np.array_equal(again.depth_m, noisy.frame.depth_m, equal_nan=True)
        assert np.array_equal(again.rgb, noisy.frame.rgb)
        assert np.isnan(noisy.frame.depth_m[:, 0]).mean() > 0.9, "the invalid band"
        behind = cell.render(hidden=view.names[2:], ideal=True)
        gone = view.labels > 2
        assert (behind.depth_m[gone] > view.ideal.depth_m[gone] - 1e-4).all()
    finally:
        cell.close()


def test_truth_is_the_distance_of_surfaces() -> None:
    objects = {
        "near": ball([0.5, 0.0, 0.1], 0.06),
        "far": ball([0.5, 0.1, 0.0], 0.02),
        "end": ball([0.4, 0.3, 0.2], 0.01),
    }
    truth = true_relevance(objects, WAY, 0.05, 0.10, 0.10, holding=True)
    assert truth.relevant == {"near", "end"}
    assert truth.distance_m["near"] == pytest.approx(0.04, abs=0.001)
    assert truth.distance_m["far"] == pytest.approx(np.hypot(0.1, 0.1) - 0.02, abs=0.002)
    assert not truth.by_end_rule


def test_end_rule_adds_the_nearest_at_an_end_without_anything() -> None:
    objects = {"a": ball([0.4, 0.38, 0.2], 0.01), "b": ball([0.4, 0.39, 0.2], 0.01), "c": ball([0.4, -0.09, 0.0], 0.01)}
    assert true_relevance(objects, WAY, 0.05, 0.10, 0.10, holding=True).by_end_rule == {"a"}
    assert true_relevance(objects, WAY, 0.05, 0.10, 0.10, holding=False).by_end_rule == {"a", "c"}
    assert true_relevance(objects, WAY, 0.05, 0.05, 0.10, holding=True).relevant == {"a"}
    assert not true_relevance(objects, WAY, 0.05, 0.05, 0.05, holding=False).relevant


def test_route_has_eight_points_that_keep_the_corners() -> None:
    corners = np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 0.2], [0.4, 0.0, 0.2], [0.4, 0.0, 0.0]])
    points = Route(corners, ()).eight()
    assert points.shape == (8, 3)
    assert all((points == corner).all(axis=1).any() for corner in corners)
    assert np.linalg.norm(np.diff(points, axis=0), axis=1).max() <= 0.2 + 1e-12, "the longest is halved"


def test_oracle_writes_whole_numbers_that_mean_the_route(view: View) -> None:
    points = view.route.eight()
    plan = draw_plan(points, view.ideal)
    assert plan is not None
    assert np.array_equal(plan.uv, np.rint(plan.uv))
    assert np.abs(plan.uv - px_to_uv(project(view.ideal.camera, points)[0], view.ideal.camera)).max() <= 0.5
    assert np.allclose(plan.depth_offset_m * 100, np.rint(plan.depth_offset_m * 100))
    assert draw_plan(points + np.array([0.0, 5.0, 0.0]), view.ideal) is None


def test_exact_plan_is_lifted_to_the_true_path(view: View) -> None:
    errors = decisions.path_errors_mm(view, GuideConfig())
    assert errors["none"] < 5.0
    assert errors["all"] < 20.0
    assert errors["eight even points"] > errors["none"]


def test_scenes_repeat_and_vary() -> None:
    setups = draw_setups(24, 0)
    assert setups == draw_setups(24, 0)
    assert len({s.camera for s in setups}) == 24
    assert {s.task for s in setups} == {"pick_place", "stack_cube", "push_buttons"}
    assert {(s.camera.width_px, s.camera.height_px) for s in setups} == {(640, 480), (256, 256)}
    assert {s.moment for s in setups} == {"above", "carry"}


def test_held_object_belongs_to_the_robot(bench_cell: Cell) -> None:
    seen = list(views(bench_cell, Setup(5, "stack_cube", 2, SMALL, "carry", 0.02, 0.2), (False, True)))
    assert [(v.moment, v.noise) for v in seen] == [("home", False), ("home", True), ("carry", False), ("carry", True)]
    home, carry = seen[0], seen[2]
    name = home.names[0]
    assert carry.held == name
    assert home.visible_px(name) > 0
    assert carry.visible_px(name) == 0
    assert name not in carry.counted()
    assert np.abs(carry.surfaces[name].mean(axis=0)[:2] - carry.route.corners_m[0, :2]).max() < 0.01


def test_decisions_of_a_few_frames(bench_cell: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        decisions, "draw_setups", lambda n, seed, scenes: [Setup(2, "pick_place", 4, SMALL, "above", 0.01, 0.18)]
    )
    figures, summary = decisions.measure(4)
    assert figures.frames + figures.unusable == 4
    assert figures.frames >= 2
    assert summary["decisions"]["true"]["f1"] > 0.9
    assert {"true", "geometric", "true, 2 cm off"} <= summary["decisions"].keys()
    assert summary["start_depth_mm"]["p95"] < 15
    assert all(v.cause for found in figures.verdicts.values() for v in found if not v.right)


def test_holes_of_a_scene(bench_cell: Cell) -> None:
    view = next(views(bench_cell, Setup(2, "pick_place", 4, SMALL, "home", 0.01, 0.18), (True,)))
    case = next(holes.emptied(bench_cell, view, view.true_segments()))
    gone = [name for i, name in enumerate(view.names) if not (case.shut & (view.labels == 1 + i)).any()]
    assert gone, "something was removed"
    assert set(gone).isdisjoint(view.route.asked)
    assert all(case.changed[view.labels == 1 + view.names.index(name)].mean() > 0.95 for name in gone)
    assert case.changed.mean() < 0.2
    found = holes.judge(case)
    assert found["missed_percent"] < 5.0
    assert 0.7 < found["hidden_px"] / found["true_px"] < 3.0
    blind = holes.judge(replace(case, frame=view.frame))
    assert blind["rgb"] > 5 * found["rgb"], "things that are still there are no good fill"
    assert blind["depth_mm"] > 5 * found["depth_mm"]


def test_holes_and_instances_of_a_few_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    setup = Setup(2, "pick_place", 4, SMALL, "above", 0.01, 0.18)
    monkeypatch.setattr(holes, "draw_setups", lambda n, seed, scenes: [setup])
    found = holes.measure(1)
    assert found["holes"].keys() == {"true", "geometric", "true, noise", "geometric, noise"}
    assert found["instances"]["no noise"]["frames"] == 2
    assert {"all", "block", "plate"} <= found["instances"]["noise"]["iou"].keys()


def test_wrong_masks_are_found_out(view: View) -> None:
    config = GuideConfig()
    plan = decisions.visible_plan(view)
    assert plan is not None
    trace, truth = decisions.true_trace(view), decisions.view_truth(view, config)
    right = decisions.judge(view, truth, trace, view.true_segments(), config)
    assert all(v.right for v in right)
    assert {v.object for v in right if v.asked} <= truth.relevant
    none = view.true_segments()
    none = type(none)(np.where(none.labels > 0, 0, none.labels).astype(np.int32), ())
    blind = decisions.judge(view, truth, trace, none, config)
    assert all(v.kept for v in blind)
    assert {v.cause for v in blind if not v.right} == {"masks: not found"}


def test_scores_count_both_classes() -> None:
    def verdict(relevant: bool, kept: bool, asked: bool = False) -> Verdict:
        return Verdict({}, "thing", asked, relevant, kept, 0.02 if relevant else 0.2)

    found = (
        [verdict(True, True, True)] * 6
        + [verdict(True, False, True)] * 2
        + [verdict(False, False)] * 9
        + [verdict(False, True)]
    )
    scores = f1_scores(found)
    assert scores["kept_precision"] == pytest.approx(6 / 7, abs=1e-4)
    assert scores["kept_recall"] == pytest.approx(6 / 8)
    assert scores["removed_f1"] == pytest.approx(18 / 21, abs=1e-4)
    assert scores["f1"] == scores["kept_f1"] == pytest.approx(12 / 15)
    assert task_scores(found, 0.05) == {"asked_kept": 0.75, "distractors_removed": 0.9, "asked": 8, "distractors": 10}


def test_flicker_counts_what_turns(view: View) -> None:
    still = flicker.watch(view, 3, flicker.STILL)
    assert still is not None
    assert still.decisions
    assert all(found.total() == 3 for found in still.decisions.values())
    still.decisions["made up"] = flicker.Counter({True: 2, False: 1})
    assert still.turned()[-1] == "made up"
    found = flicker.summary([still], [flicker.noise_ratios(view, still)])
    assert found["objects_turned_percent"] > 0


def test_a_wider_hole_does_not_change_by_which_pixels_flicker_is_judged(view: View) -> None:
    still = flicker.watch(view, 3, flicker.STILL)
    assert still is not None
    before = flicker.noise_ratios(view, still)
    beside = (cv2.dilate((still.replaced > 0).astype(np.uint8), np.ones((5, 5), np.uint8)) > 0) & (view.labels == 0)
    still.replaced = np.where(beside, still.frames, still.replaced)
    still.depth.square = np.where(beside, 1e6, still.depth.square)
    assert flicker.noise_ratios(view, still)["depth_filled"] == pytest.approx(before["depth_filled"], rel=0.1)


def test_deviation_over_time_ignores_what_is_missing() -> None:
    moments = flicker.Moments()
    for values in ([1.0, np.nan, 5.0], [3.0, np.nan, 5.0], [1.0, 2.0, np.nan], [3.0, np.nan, 5.0]):
        moments.add(np.array(values))
    assert moments.deviation() == pytest.approx([1.0, np.nan, 0.0], nan_ok=True)


def test_growth_is_a_slope_of_logarithms() -> None:
    clocks = {n: speed.Clock({"x": [0.5 * n**2]}) for n in (3, 6, 12)}
    assert speed.exponent(clocks, "x") == pytest.approx(2.0)


def test_stages_are_timed_on_given_masks(view: View) -> None:
    clock = speed.Clock()
    plan = decisions.visible_plan(view)
    assert plan is not None
    speed.time_view(clock, view, plan, view.true_segments(), 2)
    assert set(clock.ms) == {*speed.STAGES, *speed.WHOLE, "warm-up"}
    assert all(value >= 0 for values in clock.ms.values() for value in values)
    assert clock.summary()["hz"]["new plan"] > 0


@pytest.mark.parametrize("scenes", ["easy", "hard"])
def test_a_crowd_has_as_many_things_as_it_says(bench_cell: Cell, scenes: str) -> None:
    job = speed.Crowd(scenes)
    setups = [setup for setup in (job.setup(seed) for seed in range(4)) if setup is not None]
    assert setups, "one of the first scenes must do"
    assert all((s.camera.width_px, s.camera.height_px) == (640, 480) and s.scenes == scenes for s in setups)
    assert any(len(lay(bench_cell, setup).objects) == speed.FULL for setup in setups)
    assert job.fits(8, speed.FULL)
    assert not job.fits(8, speed.FULL - 1)
