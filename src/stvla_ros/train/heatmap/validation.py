"""Figures of a grounder on held-out rendered scenes: pointing, words, and whole paths."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stvla_ros.errors import StageError
from stvla_ros.planning.heatmap.ground import Finder
from stvla_ros.planning.heatmap.planner import HeatmapConfig, HeatmapPlanner
from stvla_ros.planning.heatmap.weights_file import Grounder
from stvla_ros.train.heatmap.questions import SceneQuestion, is_shown, questions
from stvla_ros.train.scenes.ground_truth import step_ends
from stvla_ros.train.scenes.shards import Scenes
from stvla_ros.types import PlanRequest, TracePlan

MIN_CONFIDENCE = 0.3
"""Below this the object counts as absent."""


def validate(grounder: Grounder, scenes: Scenes, indices: Sequence[int] | None = None) -> dict[str, float]:
    """Figures on some scenes; the questions are the same every time.

    Args:
        grounder: Network and words.
        scenes: Scenes that it was not trained on.
        indices: Which of them; the first 100 if not given.

    Returns:
        ``point_median`` [1/1000], ``point_15``, ``point_30`` (shares of visible objects), ``absent`` (share of
        questions where presence is recognised), ``meaning`` (share of texts understood completely),
        ``step_accuracy`` (tasks of several steps), ``path_rmse_median``, ``path_rmse_mean`` [1/1000],
        ``paths`` (share of steps with a path), ``depth_mad_cm``. Paths are the planner's own, refusals off, so that every
        answer counts; ``refused`` is the share of steps that it refuses with its default settings.
    """
    return summary(answers(grounder, scenes, range(min(100, len(scenes))) if indices is None else indices))


@dataclass(frozen=True)
class Answers:
    """About one scene: pointing errors [1/1000], presence recognised or not, texts (understood, of several steps), and
    steps (:func:`path_error`, refused)."""

    errors: list[float]
    present: list[bool]
    meant: list[tuple[bool, bool]]
    steps: list[tuple[tuple[float, float] | None, bool]]


def answers(grounder: Grounder, scenes: Scenes, indices: Iterable[int]) -> list[Answers]:
    """Of some scenes, one after the other."""
    finder, config = Finder(grounder, 0.0), HeatmapConfig()
    planner, careful = HeatmapPlanner(config, finder), HeatmapPlanner(config, Finder(grounder, config.least_sure))
    found = []
    for index in indices:
        seen, rng = finder.see(scenes.rgb(index)), np.random.default_rng([7, index])
        of = Answers([], [], [], [])
        for question in questions(scenes, index, rng):
            pointed = finder.find(seen, question.text, question.step)
            there = np.isfinite(question.uv).all(-1)
            of.errors.extend(np.hypot(*(pointed.uv - question.uv).T)[there & question.counts].tolist())
            of.present.extend(((pointed.confidence > MIN_CONFIDENCE) == there)[question.counts].tolist())
            of.meant.append((_understood(finder, question), question.goal.steps > 1))
        for step in steps_with_path(scenes, index):
            refused = plan(careful, scenes, index, step) is None
            of.steps.append((path_error(planner, scenes, index, step), refused))
        found.append(of)
    return found


def summary(found: Sequence[Answers]) -> dict[str, float]:
    """The figures of :func:`validate`; NaN where nothing was asked."""
    steps = [step for of in found for step in of.steps]
    drawn = np.array([error for error, _ in steps if error is not None]).reshape(-1, 2)
    far, meant = np.array([e for of in found for e in of.errors]), [m for of in found for m in of.meant]
    return {
        "point_median": _of(np.median, far),
        "point_15": _of(np.mean, far < 15),
        "point_30": _of(np.mean, far < 30),
        "absent": _of(np.mean, [p for of in found for p in of.present]),
        "meaning": _of(np.mean, [ok for ok, _ in meant]),
        "step_accuracy": _of(np.mean, [ok for ok, several in meant if several]),
        "path_rmse_median": _of(np.median, drawn[:, 0]),
        "path_rmse_mean": _of(np.mean, drawn[:, 0]),
        "paths": len(drawn) / max(len(steps), 1),
        "refused": _of(np.mean, [refused for _, refused in steps]),
        "depth_mad_cm": 100 * _of(np.mean, drawn[:, 1]),
    }


def _of(statistic: Callable[[Any], Any], values: Sequence[float] | np.ndarray) -> float:
    return float(statistic(values)) if len(values) else float("nan")


def _understood(finder: Finder, question: SceneQuestion) -> bool:
    try:
        return finder.meaning(question.text) == question.goal
    except StageError:
        return False


def steps_with_path(scenes: Scenes, index: int) -> list[int]:
    """Steps of the scene's task that have a true path with visible ends; none with something in the hand, where the planner
    starts at the tool, without the network."""
    drawn = np.isfinite(scenes.arrays["path_uv"][index]).all((-2, -1))
    if scenes.phase(index) == "held":
        return []
    action = scenes.goal(index).action
    return [
        step
        for step in range(scenes.steps(index))
        if drawn[step] and all(is_shown(scenes, index, end) for end in step_ends(action, step))
    ]


def plan(planner: HeatmapPlanner, scenes: Scenes, index: int, step: int) -> TracePlan | None:
    """The planner's path of one step; None: it draws none."""
    words = scenes.goal(index).single(step).sentence(0)
    try:
        made = planner.plan(PlanRequest(words, scenes.frame(index), scenes.robot(index)))
    except StageError:
        return None
    return None if made.finished else made


def path_error(planner: HeatmapPlanner, scenes: Scenes, index: int, step: int) -> tuple[float, float] | None:
    """RMSE [1/1000] and mean absolute depth error [m] of the path of one step; None: the planner draws none."""
    drawn = plan(planner, scenes, index, step)
    if drawn is None:
        return None
    a = scenes.arrays
    off = drawn.uv - a["path_uv"][index, step]
    true_depth_m = a["start_depth_m"][index, step] + a["offset_m"][index, step]
    depth_m = drawn.start_depth_m + drawn.depth_offset_m
    return float(np.sqrt((off**2).sum(-1).mean())), float(np.abs(depth_m - true_depth_m).mean())
