"""The tool's true way through a task, and how a planner without error would draw it on the image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from stvla_ros.geometry.cameras import project, px_to_uv, uv_to_px
from stvla_ros.sim.objects import BLOCK_M, BUTTON_BASE_M, BUTTON_CAP_M, PLATE_BASE_M
from stvla_ros.sim.tasks import Task
from stvla_ros.sim.tasks.push_buttons import PushButtons
from stvla_ros.types import F32, F64, WAYPOINTS, RgbdFrame, TracePlan

DROP_M = 0.003
"""A block is let go this high above its support."""

DEPTH_STEP_M = 0.01
"""A planner writes its depth offsets in whole centimetres."""


@dataclass(frozen=True, eq=False)
class Route:
    """The tool's way.

    Attributes:
        corners_m: (N, 3) it goes straight from one to the next.
        asked: Names of the objects that the task is about.
    """

    corners_m: F64
    asked: tuple[str, ...]

    def dense(self, step_m: float = 0.001) -> F64:
        """(M, 3) points no further apart than a step."""
        pieces = [
            a
            + (b - a) * np.linspace(0, 1, max(int(np.ceil(np.linalg.norm(b - a) / step_m)), 1), endpoint=False)[:, None]
            for a, b in pairwise(self.corners_m)
        ]
        return np.concatenate([*pieces, self.corners_m[-1:]])

    def eight(self) -> F64:
        """(8, 3) corners, and points halved into the longest stretches between them."""
        points = [*self.corners_m]
        while len(points) < WAYPOINTS:
            i = int(np.argmax([np.linalg.norm(b - a) for a, b in pairwise(points)]))
            points.insert(i + 1, (points[i] + points[i + 1]) / 2)
        return np.array(points)


def make_route(task: Task, T_base_object: Mapping[str, F64], grip_m: float, top_m: float, carrying: bool) -> Route:
    """The true way of the tool.

    Args:
        task: Blocks are carried to the plate or block that is asked for, buttons pressed in their order.
        T_base_object: Where the objects are.
        grip_m: The tool is this far below the top of what it carries.
        top_m: Height of the way across.
        carrying: The block is already in the hand, over the place where it stood.
    """
    if isinstance(task, PushButtons):
        names = tuple(b.name for b in task.buttons[: len(task.order)])
        caps = [T_base_object[n][:3, 3] + [0.0, 0.0, BUTTON_BASE_M + BUTTON_CAP_M] for n in names]
        return Route(_press(np.array(caps), top_m), names)
    moved, goal = (o.name for o in task.objects[:2])
    start = T_base_object[moved][:3, 3] + [0.0, 0.0, BLOCK_M / 2 - grip_m]
    support = PLATE_BASE_M if goal == "plate" else BLOCK_M / 2
    end = T_base_object[goal][:3, 3] + [0.0, 0.0, support + BLOCK_M - grip_m + DROP_M]
    over_start, over_end = np.array([*start[:2], top_m]), np.array([*end[:2], top_m])
    corners = [over_start, over_end, end] if carrying else [start, over_start, over_end, end]
    return Route(np.array(corners), (moved, goal))


def _press(caps_m: F64, top_m: float) -> F64:
    """Up from the first button and down on it, or up, across and down on the next."""
    up = np.array([0.0, 0.0, top_m - caps_m[0, 2]])
    if len(caps_m) == 1:
        return np.array([caps_m[0], caps_m[0] + up, caps_m[0]])
    corners = [caps_m[0]]
    for a, b in pairwise(caps_m):
        corners += [a + up, b + up, b]
    return np.array(corners)


def draw_plan(
    points_m: F64, ideal: RgbdFrame, whole_uv: bool = True, depth_step_m: float = DEPTH_STEP_M
) -> TracePlan | None:
    """The way as a planner writes it.

    Args:
        points_m: (8, 3) tool positions.
        ideal: Image without sensor noise, for the start depth that the offsets refer to.
        whole_uv: Waypoints are whole numbers in 0..1000.
        depth_step_m: Offsets are multiples of this; 0: exact.

    Returns:
        The plan; None where a point is out of the picture or nothing is seen at the first.
    """
    px, depth = project(ideal.camera, points_m)
    uv = px_to_uv(px, ideal.camera)
    if not (np.isfinite(uv).all() and uv.min() >= 0 and uv.max() <= 1000):
        return None
    uv = np.rint(uv) if whole_uv else uv
    start_m = depth_at(ideal.depth_m, uv_to_px(uv[0], ideal.camera))
    if not np.isfinite(start_m):
        return None
    offset = depth - start_m
    if depth_step_m > 0:
        offset = np.rint(offset / depth_step_m) * depth_step_m
    return TracePlan(
        "", "", uv, round(start_m, 2), offset, 0, False, "oracle", "", ideal.stamp_ns, f"oracle-{ideal.stamp_ns}"
    )


def depth_at(depth_m: F32, px: F64) -> float:
    """Depth of the pixel that a point falls into."""
    h, w = depth_m.shape
    column, row = np.clip(np.rint(px), 0, [w - 1, h - 1]).astype(int)
    return float(depth_m[row, column])
