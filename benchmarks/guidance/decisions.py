"""Kept or removed, start depth and path, against the simulator's truth."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from rich.progress import track

from benchmarks.guidance.given import Anew, sort_instances
from benchmarks.guidance.instances import kind_of
from benchmarks.guidance.routes import Route, depth_at, draw_plan
from benchmarks.guidance.scenes import Setup, View, draw_setups, make_cell, views
from benchmarks.guidance.scores import Verdict, breakdown, counts, f1_scores, margins, task_scores
from benchmarks.guidance.truth import TrueRelevance, true_relevance
from stvla_ros.errors import StageError
from stvla_ros.geometry.cameras import cloud, uv_to_px
from stvla_ros.geometry.paths import resample
from stvla_ros.interfaces import Segmenter
from stvla_ros.perception.guide import GuideConfig
from stvla_ros.perception.lift import lift
from stvla_ros.types import F64, DepthSource, RgbdFrame, Segments, Trace3d, TracePlan

GROUPS = ("task", "noise", "size", "moment", "shadows")
LATERAL_M = 0.02
SHORT_M = 0.04
SAMPLES = 100
"""Points at equal shares of their length at which two paths are compared."""


@dataclass
class Figures:
    """What was found in all frames.

    Attributes:
        verdicts: Per kind of masks and plan (``true``, ``geometric``, ``true, 2 cm off``, ...).
        start_mm: Errors of the start depth.
        path_mm: Root of the mean squared error of each path, per source of error.
        refused: Outcome codes of plans that were not lifted.
        frames: How many frames were used.
        unusable: How many were not: the start is hidden or out of the picture.
        setups: The scenes by their index.
    """

    verdicts: dict[str, list[Verdict]] = field(default_factory=dict)
    start_mm: list[float] = field(default_factory=list)
    path_mm: dict[str, list[float]] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    frames: int = 0
    unusable: int = 0
    setups: dict[int, Setup] = field(default_factory=dict)


def measure(
    frames: int, seed: int = 0, noises: tuple[bool, ...] = (False, True), scenes: str = "easy"
) -> tuple[Figures, dict[str, Any]]:
    """Run the decisions on at least this many frames."""
    figures, config = Figures(), GuideConfig(mode="mask_only")
    segmenter = Anew()
    cell = make_cell(scenes=scenes)
    try:
        setups = draw_setups(-(-frames // (2 * len(noises))), seed, scenes)
        for setup in track(setups, description="decisions", transient=True):
            figures.setups[setup.index] = setup
            for view in views(cell, setup, noises):
                one_view(figures, view, segmenter, config)
    finally:
        cell.close()
    return figures, summary(figures, config)


def one_view(figures: Figures, view: View, segmenter: Segmenter, config: GuideConfig) -> None:
    """Add one frame's figures."""
    plan = visible_plan(view)
    if plan is None:
        figures.unusable += 1
        return
    figures.frames += 1
    try:
        trace = lift(plan, view.frame, config.lift)
    except StageError as error:
        figures.refused.append(error.code.name)
        return
    figures.start_mm.append(start_error_mm(plan, trace, view))
    for source, error_mm in path_errors_mm(view, config).items():
        figures.path_mm.setdefault(source, []).append(error_mm)
    truth = view_truth(view, config)
    found = {"true": view.true_segments(), "geometric": segmenter.segment(view.frame, view.robot)}
    faulty = {"2 cm off": _shifted(view), "4 cm short": _shortened(view)}
    traces = {name: _lifted(draw_plan(points, view.ideal), view.frame, config) for name, points in faulty.items()}
    for masks, segments in found.items():
        figures.verdicts.setdefault(masks, []).extend(judge(view, truth, trace, segments, config))
        for name, other in traces.items():
            if other is not None:
                verdicts = judge(view, truth, other, segments, config)
                figures.verdicts.setdefault(f"{masks}, {name}", []).extend(verdicts)


def visible_plan(view: View) -> TracePlan | None:
    """The plan of a perfect planner; None if the start is hidden."""
    plan = draw_plan(view.route.eight(), view.ideal)
    if plan is None or view.held:
        return plan
    size = np.array([view.frame.camera.width_px, view.frame.camera.height_px])
    column, row = np.minimum(plan.uv[0] / 1000 * size, size - 1).astype(int)
    return plan if view.labels[row, column] == 1 + view.names.index(view.route.asked[0]) else None


def view_truth(view: View, config: GuideConfig) -> TrueRelevance:
    surfaces = {name: view.surfaces[name] for name in view.counted()}
    radii = config.tube_radius_m, config.end_radius_m, config.end_domain_m
    return true_relevance(surfaces, view.route.dense(), *radii, holding=bool(view.held))


def judge(view: View, truth: TrueRelevance, trace: Trace3d, segments: Segments, config: GuideConfig) -> list[Verdict]:
    """What was decided of every object that counts: it is kept when most of its visible pixels are."""
    removed = removed_pixels(view.frame, trace, segments, config)
    group = {
        "task": view.setup.task, "noise": view.noise, "size": view.size, "moment": view.moment,
        "shadows": view.setup.camera.shadows, "scene": view.setup.index,
    }  # fmt: skip
    verdicts = []
    for name in view.counted():
        mine = view.labels == 1 + view.names.index(name)
        kept = bool((mine & removed).sum() <= 0.5 * mine.sum())
        relevant_, distance = name in truth.relevant, truth.distance_m[name]
        cause = "" if kept == relevant_ else find_cause(view, name, relevant_, trace, segments, config)
        verdicts.append(Verdict(group, name, name in view.route.asked, relevant_, kept, distance, cause))
    return verdicts


def removed_pixels(frame: RgbdFrame, trace: Trace3d, segments: Segments, config: GuideConfig) -> np.ndarray:
    """(H, W) True on instances that the tube drops."""
    decided = sort_instances(trace, segments, cloud(frame), config)
    return np.isin(segments.labels, decided.removed)


def find_cause(view: View, name: str, wanted: bool, trace: Trace3d, segments: Segments, config: GuideConfig) -> str:
    """The first of these that makes the decision right: true masks, the true path, an image without noise."""
    mine = view.labels == 1 + view.names.index(name)

    def right(trace: Trace3d, frame: RgbdFrame) -> bool:
        removed = removed_pixels(frame, trace, view.true_segments(), config)
        return bool(((mine & removed).sum() <= 0.5 * mine.sum()) == wanted)

    if right(trace, view.frame):
        return _mask_fault(mine, segments)
    if right(true_trace(view), view.frame):
        return "path"
    if right(true_trace(view), view.ideal):
        return "noise"
    return "the near side is hidden"


def _mask_fault(mine: np.ndarray, segments: Segments) -> str:
    """What the segmenter did with an object."""
    labels = segments.labels[mine]
    if (labels <= 0).mean() > 0.5:
        return "masks: taken for the robot" if (labels == -1).mean() > 0.5 else "masks: not found"
    main = np.bincount(labels[labels > 0]).argmax()
    return (
        "masks: merged with another" if (segments.labels == main).sum() > 1.5 * mine.sum() else "masks: other outline"
    )


def true_trace(view: View) -> Trace3d:
    points = view.route.dense(0.01).astype(np.float32)
    return Trace3d(points, np.full(len(points), DepthSource.MODEL, np.uint8), "true", "")


def start_error_mm(plan: TracePlan, trace: Trace3d, view: View) -> float:
    """Depth of the lifted start against the true surface there plus the plan's first offset."""
    camera = view.frame.camera
    depth = (trace.xyz_m[0].astype(np.float64) - camera.T_base_camera[:3, 3]) @ camera.T_base_camera[:3, 2]
    wanted = _exact_start_m(plan, view) + plan.depth_offset_m[0]
    return float(1000 * abs(depth - wanted))


def _exact_start_m(plan: TracePlan, view: View) -> float:
    return depth_at(view.ideal.depth_m, uv_to_px(plan.uv[0], view.frame.camera))


def path_errors_mm(view: View, config: GuideConfig) -> dict[str, float]:
    """Error of the lifted path, with all sources of error and with one at a time."""
    points = view.route.eight()
    plans = {
        "all": (draw_plan(points, view.ideal), view.frame),
        "whole uv": (draw_plan(points, view.ideal, depth_step_m=0.0), view.ideal),
        "depth in cm": (draw_plan(points, view.ideal, whole_uv=False), view.ideal),
        "sensor": (draw_plan(points, view.ideal, whole_uv=False, depth_step_m=0.0), view.frame),
        "none": (draw_plan(points, view.ideal, whole_uv=False, depth_step_m=0.0), view.ideal),
        "eight even points": (draw_plan(resample(points, 8), view.ideal, False, 0.0), view.ideal),
    }
    lifted = {name: _lifted(plan, frame, config) for name, (plan, frame) in plans.items()}
    return {name: path_error_mm(trace, view.route.corners_m) for name, trace in lifted.items() if trace is not None}


def path_error_mm(trace: Trace3d, corners_m: F64) -> float:
    """Root of the mean squared distance between points at equal shares of both paths' lengths."""
    have = resample(trace.xyz_m[trace.source != 0].astype(np.float64), SAMPLES)
    gap = np.linalg.norm(have - resample(corners_m, SAMPLES), axis=1)
    return float(1000 * np.sqrt((gap**2).mean()))


def _lifted(plan: TracePlan | None, frame: RgbdFrame, config: GuideConfig) -> Trace3d | None:
    if plan is None:
        return None
    try:
        return lift(plan, frame, config.lift)
    except StageError:
        return None


def _shifted(view: View) -> F64:
    """The path, drawn with an offset in a direction that the scene's seed decides."""
    angle = np.random.default_rng([view.setup.index, 2]).uniform(0, 2 * np.pi)
    return np.asarray(view.route.eight() + LATERAL_M * np.array([np.cos(angle), np.sin(angle), 0.0]))


def _shortened(view: View) -> F64:
    """The way without its last stretch: the planner stops over the goal, and the end rule must keep it."""
    way = view.route.dense()[: -round(1000 * SHORT_M)]
    corners = [c for c in view.route.corners_m[:-1] if np.abs(way - c).max(axis=1).min() < 1e-9]
    return Route(np.array([*corners, way[-1]]), ()).eight()


def summary(figures: Figures, config: GuideConfig) -> dict[str, Any]:
    """All figures, for the tables and for JSON."""
    radius = config.tube_radius_m
    decisions = {
        kind: {
            **f1_scores(verdicts),
            "task_level": task_scores(verdicts, radius),
            "f1_beyond_mm_from_tube": margins(verdicts, radius),
            "by": breakdown(verdicts, GROUPS),
            "causes": counts(v.cause for v in verdicts if not v.right),
            "wrong_things": counts(kind_of(v.object) for v in verdicts if not v.right),
        }
        for kind, verdicts in figures.verdicts.items()
    }
    return {
        "frames": figures.frames,
        "unusable": figures.unusable,
        "refused": counts(figures.refused),
        "decisions": decisions,
        "start_depth_mm": _quantiles(figures.start_mm),
        "path_rmse_mm": {source: _rmse(values) for source, values in figures.path_mm.items()},
    }


def _quantiles(values: Sequence[float]) -> dict[str, float]:
    return {f"p{q}": round(float(np.percentile(list(values), q)), 3) for q in (50, 95, 99, 100)} if values else {}


def _rmse(per_path_mm: Iterable[float]) -> dict[str, float]:
    values = np.array(list(per_path_mm))
    return {"rmse": round(float(np.sqrt((values**2).mean())), 3), **_quantiles(values.tolist())}
