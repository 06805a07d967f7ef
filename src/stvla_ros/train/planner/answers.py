"""True answers of a scene: where things are on the image, and the tool's way of every step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stvla_ros.geometry.cameras import project, px_to_uv
from stvla_ros.planning.heatmap.paths import carry_path, press_path
from stvla_ros.planning.heatmap.words import MAX_STEPS
from stvla_ros.planning.route import draw
from stvla_ros.sim.objects import BLOCK_M
from stvla_ros.train.planner.layouts import Layout
from stvla_ros.train.planner.stage import Shot
from stvla_ros.types import F64, I32, WAYPOINTS, Bool, Camera, RgbdFrame

LEAST_PX = 10
"""Of a 256x256 image: what shows less is not asked for."""

_BESIDE = ((0, 0), *((dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if dy or dx))


@dataclass(frozen=True, eq=False)
class Answers:
    """N things, S = MAX_STEPS steps.

    Attributes:
        uv: (N, 2) of each thing's point, 0..1000; NaN outside the image.
        visible_px: (N,) pixels that show it; 0 where its point itself is hidden.
        path_uv: (S, 8, 2) of the tool's way of each step; NaN where there is none.
        start_depth_m: (S,) sensor depth at the first waypoint.
        offset_m: (S, 8) of the tool's depth from it.
    """

    uv: F64
    visible_px: I32
    path_uv: F64
    start_depth_m: F64
    offset_m: F64


def answers(layout: Layout, shot: Shot) -> Answers:
    """All of a scene's true answers."""
    points = np.array([t.point_m for t in layout.things])
    px, _ = project(shot.camera, points)
    uv = px_to_uv(px, shot.camera)
    uv[(uv < 0).any(axis=1) | (uv > 1000).any(axis=1)] = np.nan
    counts = np.array([(shot.labels == i).sum() for i in range(1, len(points) + 1)], np.int32)
    counts[~_shown(shot, px)] = 0
    counts[np.isnan(uv).any(axis=1)] = 0
    paths, starts, offsets = _ways(layout, shot)
    return Answers(uv, counts, paths, starts, offsets)


def _shown(shot: Shot, px: F64) -> Bool:
    """(N,) the pixel that a thing's point falls into shows that thing, or one beside it does where it is as thin as a neck."""
    size = np.array(shot.rgb.shape[1::-1]) - 1
    x, y = np.clip(np.nan_to_num(np.rint(px)), 0, size).astype(int).T
    own = np.arange(1, len(px) + 1)
    near = [shot.labels[np.clip(y + dy, 0, size[1]), np.clip(x + dx, 0, size[0])] for dy, dx in _BESIDE]
    return np.asarray((near[0] == own) | (np.array([n == own for n in near]).sum(0) >= 3))


def _ways(layout: Layout, shot: Shot) -> tuple[F64, F64, F64]:
    paths = np.full((MAX_STEPS, WAYPOINTS, 2), np.nan)
    starts, offsets = np.full(MAX_STEPS, np.nan), np.full((MAX_STEPS, WAYPOINTS), np.nan)
    frame = RgbdFrame(shot.rgb, shot.depth_m, shot.camera, 0)
    for step in range(layout.goal.steps if layout.moment != "done" else 0):
        drawn = draw(_way(layout, step, shot), frame)
        if drawn is not None:
            paths[step], starts[step], offsets[step] = drawn
    return paths, starts, offsets


def _way(layout: Layout, step: int, shot: Shot) -> F64:
    kinds, points = [t.kind for t in layout.things], np.array([t.point_m for t in layout.things])
    ends = ends_of(layout.goal.action, step)
    tool = layout.tool_m if layout.moment == "held" else None
    return way(layout.goal.action, kinds, points, ends, shot.camera, tool)


def ends_of(action: str, step: int) -> tuple[int, int]:
    """Indices of a scene's things where a step of its own task begins and ends: what a task names stands first."""
    return (step, step) if action == "push" else (0, 1)


def way(
    action: str, kinds: Sequence[str], points_m: F64, ends: tuple[int, int], camera: Camera, tool_m: F64 | None = None
) -> F64:
    """(8, 3) tool positions of one step of a task.

    Args:
        action: One of :data:`stvla_ros.planning.heatmap.words.ACTIONS`.
        kinds: Of all N things in the scene.
        points_m: (N, 3) theirs.
        ends: Things where the step begins and ends.
        camera: In whose view it should stay.
        tool_m: Where the tool is, if it holds the first thing already.
    """
    first, last = ends
    if action == "push":
        return press_path(points_m[first])
    held = tool_m is not None
    standing = [i for i in range(len(kinds)) if not (held and i == first)]
    obstacles = np.concatenate([_corners(kinds[i], points_m[i]) for i in standing])
    start = points_m[first] if tool_m is None else tool_m
    return carry_path(start, points_m[last], obstacles, camera, held=held)


def _corners(kind: str, point_m: F64) -> F64:
    """(5, 3) highest points of a thing."""
    half = {"block": BLOCK_M / 2, "plate": 0.08, "button": 0.02, "bottle": 0.02}[kind]
    around = half * np.array([(0, 0, 0), (1, 1, 0), (1, -1, 0), (-1, 1, 0), (-1, -1, 0)])
    return np.asarray(point_m + around, np.float64)
