"""Ground truth of a scene: where objects are in the image, and the tool's path in every step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stvla_ros.geometry.cameras import project, px_to_uv
from stvla_ros.planning.fittings import LID_GRIP_M
from stvla_ros.planning.heatmap.paths import GRIP_M, carry_path, press_path
from stvla_ros.planning.heatmap.words import MAX_STEPS
from stvla_ros.planning.route import draw
from stvla_ros.planning.screw_route import screw_route
from stvla_ros.planning.shelf_route import item_grasp, item_route
from stvla_ros.sim.groceries import BY_NAME
from stvla_ros.sim.objects import BLOCK_M
from stvla_ros.sim.tasks.close_jar import LID_M, LID_RADIUS_M, NECK_RADII_M
from stvla_ros.sim.tasks.light_bulb_in import DISH_RADIUS_M, GLASS_RADIUS_M, SOCKET_OUTER_M
from stvla_ros.train.scenes.layouts import Layout
from stvla_ros.train.scenes.objects import PlacedObject
from stvla_ros.train.scenes.renderer import RenderedScene
from stvla_ros.types import F64, I32, WAYPOINTS, Bool, Camera, RgbdFrame

MIN_VISIBLE_PX = 10
"""In a 256x256 image; questions do not name objects that show fewer pixels."""

_HALF_M = {
    "block": BLOCK_M / 2, "plate": 0.08, "button": 0.02, "bottle": 0.02, "lid": LID_RADIUS_M, "jar": NECK_RADII_M[1],
    "bulb": 0.5 * GLASS_RADIUS_M, "holder": DISH_RADIUS_M, "lamp": SOCKET_OUTER_M,
}  # fmt: skip
"""Half the width of the highest part of an object."""

_BESIDE = ((0, 0), *((dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if dy or dx))


@dataclass(frozen=True, eq=False)
class GroundTruth:
    """Truth about N objects and S = MAX_STEPS steps.

    Attributes:
        uv: (N, 2) of each object's point, 0..1000; NaN outside the image.
        visible_px: (N,) pixels that show the object; 0 if its point is hidden.
        path_uv: (S, 8, 2) tool path of each step; NaN if there is none.
        start_depth_m: (S,) sensor depth at the first waypoint.
        offset_m: (S, 8) depth of the tool minus ``start_depth_m``.
    """

    uv: F64
    visible_px: I32
    path_uv: F64
    start_depth_m: F64
    offset_m: F64


def ground_truth(layout: Layout, rendered: RenderedScene) -> GroundTruth:
    """Ground truth of a rendered layout."""
    points = np.array([o.point_m for o in layout.objects])
    px, _ = project(rendered.camera, points)
    uv = px_to_uv(px, rendered.camera)
    uv[(uv < 0).any(axis=1) | (uv > 1000).any(axis=1)] = np.nan
    counts = np.array([(rendered.labels == i).sum() for i in range(1, len(points) + 1)], np.int32)
    counts[~_shown(rendered, px)] = 0
    counts[np.isnan(uv).any(axis=1)] = 0
    paths, starts, offsets = _paths(layout, rendered)
    return GroundTruth(uv, counts, paths, starts, offsets)


def _shown(rendered: RenderedScene, px: F64) -> Bool:
    """(N,) whether an object's pixel shows it, or three pixels of the 3x3 around do (bottle necks are thin)."""
    size = np.array(rendered.rgb.shape[1::-1]) - 1
    x, y = np.clip(np.nan_to_num(np.rint(px)), 0, size).astype(int).T
    own = np.arange(1, len(px) + 1)
    near = [rendered.labels[np.clip(y + dy, 0, size[1]), np.clip(x + dx, 0, size[0])] for dy, dx in _BESIDE]
    return np.asarray((near[0] == own) | (np.array([n == own for n in near]).sum(0) >= 3))


def _paths(layout: Layout, rendered: RenderedScene) -> tuple[F64, F64, F64]:
    paths = np.full((MAX_STEPS, WAYPOINTS, 2), np.nan)
    starts, offsets = np.full(MAX_STEPS, np.nan), np.full((MAX_STEPS, WAYPOINTS), np.nan)
    frame = RgbdFrame(rendered.rgb, rendered.depth_m, rendered.camera, 0)
    for step in range(layout.goal.steps if layout.phase != "done" else 0):
        drawn = draw(_step_path(layout, step, rendered), frame)
        if drawn is not None:
            paths[step], starts[step], offsets[step] = drawn
    return paths, starts, offsets


def _step_path(layout: Layout, step: int, rendered: RenderedScene) -> F64:
    kinds, points = [o.kind for o in layout.objects], np.array([o.point_m for o in layout.objects])
    tool = layout.tool_m if layout.phase == "held" else None
    if layout.goal.action == "store":
        return _store_path(layout.objects, rendered.camera, tool)
    ends = step_ends(layout.goal.action, step)
    return tool_path(layout.goal.action, kinds, points, ends, rendered.camera, tool)


def step_ends(action: str, step: int) -> tuple[int, int]:
    """Indices of the objects at which a step of the scene's own task begins and ends."""
    return (step, step) if action == "push" else (0, 1)


def tool_path(
    action: str, kinds: Sequence[str], points_m: F64, ends: tuple[int, int], camera: Camera, tool_m: F64 | None = None
) -> F64:
    """(8, 3) tool positions of one step of a task without a cupboard.

    Args:
        action: One of :data:`stvla_ros.planning.heatmap.words.ACTIONS`.
        kinds: Of all N objects in the scene.
        points_m: (N, 3) their points.
        ends: Indices of the objects at which the step begins and ends.
        camera: The path should stay in its view.
        tool_m: (3,) position of the tool if it already holds the first object.
    """
    first, last = ends
    if action == "push":
        return press_path(points_m[first])
    held = tool_m is not None
    standing = [i for i in range(len(kinds)) if not (held and i == first)]
    obstacles = np.concatenate([_corners(kinds[i], points_m[i]) for i in standing])
    start = points_m[first] if tool_m is None else tool_m
    if action == "screw":
        if tool_m is None:
            start = start - [0.0, 0.0, LID_M - LID_GRIP_M if kinds[first] == "lid" else GLASS_RADIUS_M]
        return screw_route(kinds[first], start, points_m[last], obstacles, camera)
    return carry_path(start, points_m[last], obstacles, camera, held=held)


def _store_path(objects: Sequence[PlacedObject], camera: Camera, tool_m: F64 | None) -> F64:
    item, cupboard = objects[:2]
    front = np.add(cupboard.xyz_m, (0.0, 0.0, cupboard.high_m))
    obstacles = np.concatenate([_corners(o.kind, o.point_m) for o in objects[2:]] or [np.empty((0, 3))])
    start = item_grasp(item.point_m, GRIP_M) if tool_m is None else tool_m
    return item_route(start, BY_NAME[item.kind].size_m, GRIP_M, front, cupboard.yaw_rad, obstacles, camera)


def _corners(kind: str, point_m: F64) -> F64:
    """(5, 3) highest points of an object."""
    half = BY_NAME[kind].radius_m * 0.7071 if kind in BY_NAME else _HALF_M[kind]
    around = half * np.array([(0, 0, 0), (1, 1, 0), (1, -1, 0), (-1, 1, 0), (-1, -1, 0)])
    return np.asarray(point_m + around, np.float64)
