"""Figures of a grounder on held-out rendered scenes: pointing, words, and whole paths."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import cv2
import numpy as np
from torch import Tensor

from stvla_ros.errors import StageError
from stvla_ros.planning.fittings import BULB_GRIP_M, DISH_TOP_M, LID_GRIP_M, MOUTH_M, NECK_M
from stvla_ros.planning.heatmap.ground import Finder
from stvla_ros.planning.heatmap.paths import GRIP_M, draw_carry, draw_press, obstacle_points, surface_point
from stvla_ros.planning.heatmap.pointed import nearest
from stvla_ros.planning.heatmap.weights_file import Grounder
from stvla_ros.planning.pantry import survey
from stvla_ros.planning.route import draw
from stvla_ros.planning.screw_route import screw_route
from stvla_ros.planning.shelf_route import item_grasp, item_route
from stvla_ros.planning.storing import OWN_M
from stvla_ros.train.heatmap.questions import SceneQuestion, questions, task_question
from stvla_ros.train.scenes.shards import LABEL_STEP, Scenes
from stvla_ros.types import F32, F64, Bool, RgbdFrame

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
        ``paths`` (share of steps with a path), ``depth_mad_cm``.
    """
    finder = Finder(grounder, 0.0)
    errors, present, meant, paths = [], [], [], []
    for index in range(min(100, len(scenes))) if indices is None else indices:
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
    for step in range(scenes.steps(index)):
        question = task_question(scenes, index, step, rng)
        if not (question.counts.all() and np.isfinite(a["path_uv"][index, step]).all()):
            continue
        drawn = _draw(finder, seen, scenes, index, question)
        if drawn is None:
            yield None
            continue
        uv, start, offset = drawn
        true = a["path_uv"][index, step].astype(np.float64)
        depth = start + offset - (a["start_depth_m"][index, step] + a["offset_m"][index, step])
        yield float(np.sqrt(((uv - true) ** 2).sum(-1).mean())), float(np.abs(depth).mean())


def _draw(
    finder: Finder, seen: Tensor, scenes: Scenes, index: int, question: SceneQuestion
) -> tuple[F64, float, F64] | None:
    frame, action = scenes.frame(index), question.goal.action
    if action in ("screw", "store"):  # as the planner asks
        ends = [finder.find(seen, asked.sentence(0)).uv[0] for asked in question.goal.questions]
    else:
        ends = [*finder.find(seen, question.text, question.step).uv]
    robot = np.kron(scenes.arrays["labels"][index] < 0, np.ones((LABEL_STEP, LABEL_STEP), bool))
    robot = cv2.dilate(robot.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool)  # labels are coarse
    if action == "store":
        return _draw_store(frame, robot, ends[0])
    start, end = (surface_point(frame, uv) for uv in ends)
    if start is None or end is None:
        return None
    if action == "push":
        return draw_press(frame, start)
    if action == "screw":
        return _draw_screw(frame, question.goal.names[0].kind, start, end, obstacle_points(frame, robot))
    return draw_carry(frame, start, end, obstacle_points(frame, robot), held=False)


def _draw_screw(
    frame: RgbdFrame, part: str, start_m: F64, end_m: F64, obstacles_m: F32
) -> tuple[F64, float, F64] | None:
    """Over the points that the network found, at the heights of such things."""
    low, high = (LID_GRIP_M, NECK_M) if part == "lid" else (DISH_TOP_M + BULB_GRIP_M, MOUTH_M)
    start, end = np.array([*start_m[:2], low]), np.array([*end_m[:2], high])
    return draw(screw_route(part, start, end, obstacles_m, frame.camera), frame)


def _draw_store(frame: RgbdFrame, robot: Bool, uv: F64) -> tuple[F64, float, F64] | None:
    """From the item that the network found; the shelf and the item's size are measured as the planner does."""
    pantry = survey(frame, lambda _: robot)
    at = nearest(uv, [item.top_m for item in pantry.found], frame.camera)
    if at is None or pantry.shelf is None:
        return None
    item, shelf = pantry.found[at], pantry.shelf
    start = item_grasp(item.top_m, GRIP_M)
    standing = pantry.standing_m[np.hypot(*(pantry.standing_m[:, :2] - start[:2]).T) > OWN_M]
    route = item_route(start, item.size_m, GRIP_M, shelf.front_m, shelf.yaw_rad, standing, frame.camera)
    return draw(route, frame)
