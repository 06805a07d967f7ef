"""Figures of a grounder on held-out rendered scenes: pointing, words, and whole paths."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch import Tensor

from stvla_ros.errors import StageError
from stvla_ros.planning.fittings import LID_GRIP_M
from stvla_ros.planning.heatmap.ground import Finder
from stvla_ros.planning.heatmap.paths import draw_carry, draw_press, obstacle_points, surface_point
from stvla_ros.planning.heatmap.weights_file import Grounder
from stvla_ros.planning.route import draw
from stvla_ros.planning.screw_route import screw_route
from stvla_ros.train.heatmap.questions import SceneQuestion, questions, task_question
from stvla_ros.train.scenes.shards import Scenes
from stvla_ros.types import F64, RgbdFrame

MIN_CONFIDENCE = 0.3
"""Below this the object counts as absent."""


def validate(grounder: Grounder, scenes: Scenes, max_scenes: int = 100) -> dict[str, float]:
    """Figures on the first scenes; the questions are the same every time.

    Returns:
        ``point_median`` [1/1000], ``point_15``, ``point_30`` (shares of visible objects), ``absent`` (share of
        questions where presence is recognised), ``meaning`` (share of texts understood completely),
        ``step_accuracy`` (tasks of several steps), ``path_rmse_median``, ``path_rmse_mean`` [1/1000],
        ``paths`` (share of steps with a path), ``depth_mad_cm``.
    """
    finder = Finder(grounder, 0.0)
    errors, present, meant, paths = [], [], [], []
    for index in range(min(max_scenes, len(scenes))):
        seen, rng = finder.see(scenes.rgb(index)), np.random.default_rng([7, index])
        for question in questions(scenes, index, rng):
            found = finder.find(seen, question.text, question.step)
            there = np.isfinite(question.uv).all(-1)
            errors += [*np.hypot(*(found.uv - question.uv).T)[there & question.counts]]
            present += [*((found.confidence > MIN_CONFIDENCE) == there)[question.counts]]
            meant.append((_understood(finder, question), question.goal.steps > 1))
        paths += list(path_errors(finder, seen, scenes, index, rng))
    several = [ok for ok, many in meant if many]
    drawn = np.array([p for p in paths if p is not None]).reshape(-1, 2)
    far = np.array(errors)
    return {
        "point_median": float(np.median(far)),
        "point_15": float((far < 15).mean()),
        "point_30": float((far < 30).mean()),
        "absent": float(np.mean(present)),
        "meaning": float(np.mean([ok for ok, _ in meant])),
        "step_accuracy": float(np.mean(several)) if several else float("nan"),
        "path_rmse_median": float(np.median(drawn[:, 0])) if len(drawn) else float("nan"),
        "path_rmse_mean": float(np.mean(drawn[:, 0])) if len(drawn) else float("nan"),
        "paths": len(drawn) / max(len(paths), 1),
        "depth_mad_cm": float(100 * np.mean(drawn[:, 1])) if len(drawn) else float("nan"),
    }


def _understood(finder: Finder, question: SceneQuestion) -> bool:
    try:
        return finder.meaning(question.text) == question.goal
    except StageError:
        return False


def path_errors(
    finder: Finder, seen: Tensor, scenes: Scenes, index: int, rng: np.random.Generator
) -> Iterator[tuple[float, float] | None]:
    """RMSE [1/1000] and mean absolute depth error [m] of each path with visible ends; None: no path was drawn."""
    a = scenes.arrays
    if scenes.phase(index) == "held":  # the planner then starts at the tool, without the network
        return
    frame = scenes.frame(index)
    for step in range(scenes.steps(index) if scenes.goal(index).action != "store" else 0):
        question = task_question(scenes, index, step, rng)
        if not (question.counts.all() and np.isfinite(a["path_uv"][index, step]).all()):
            continue
        drawn = _draw(finder, seen, frame, question)
        if drawn is None:
            yield None
            continue
        uv, start, offset = drawn
        true = a["path_uv"][index, step].astype(np.float64)
        depth = start + offset - (a["start_depth_m"][index, step] + a["offset_m"][index, step])
        yield float(np.sqrt(((uv - true) ** 2).sum(-1).mean())), float(np.abs(depth).mean())


def _draw(finder: Finder, seen: Tensor, frame: RgbdFrame, question: SceneQuestion) -> tuple[F64, float, F64] | None:
    found = finder.find(seen, question.text, question.step)
    start, end = (surface_point(frame, uv) for uv in found.uv)
    if start is None or end is None:
        return None
    if question.goal.action == "push":
        return draw_press(frame, start)
    if question.goal.action == "screw":
        part = question.goal.names[0].kind
        at = np.array([*start[:2], LID_GRIP_M if part == "lid" else 0.077])
        goal = np.array([*end[:2], 0.1 if part == "lid" else 0.2])
        return draw(screw_route(part, at, goal, obstacle_points(frame), frame.camera), frame)
    return draw_carry(frame, start, end, obstacle_points(frame), held=False)
