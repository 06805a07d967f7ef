"""Groceries and the cupboard's bottom shelf, found in an image: items by size and colours, the shelf by its shape."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from stvla_ros.geometry.cameras import depth_cloud
from stvla_ros.geometry.components import member_pixels
from stvla_ros.geometry.depths import without_specks
from stvla_ros.planning.groceries import ITEMS, Look
from stvla_ros.tabletop.regions import RegionConfig, depth_regions, min_area_rectangle
from stvla_ros.tabletop.self_filter import robot_mask
from stvla_ros.tabletop.support_plane import fit_support_plane
from stvla_ros.tabletop.surface_colours import colour_feature, robust_mean
from stvla_ros.types import F32, F64, U8, Bool, RgbdFrame, RobotState

CUPBOARD_M = 0.20
"""What stands on the table and is higher than this is the cupboard: items are lower, and the image may cut its top off."""

SHELF_Z_M = (0.05, 0.40)
"""Heights at which its bottom shelf may be."""

LEVEL_M = 0.005
FACE_M = 0.006
EDGE_M = 0.025
"""Points this close to the shelf's sides may belong to its boards."""

WALL_M, CELL_M = (0.10, 0.35), 0.01
"""Walls of the cupboard are looked for this high above the sides of its shelf, in cells of this length."""

RESTING_M, RESTING_PX = (0.010, 0.14), 40
"""Something rests on the shelf if so many points are this high above it."""

HEIGHT_M, WIDTH_M, COLOUR = 0.010, 0.012, 0.12
"""Differences of height, of an edge, and of a colour's features that weigh the same."""

MAX_COST = 4.5
"""An object that fits no better than this is not the item."""


@dataclass(frozen=True, eq=False)
class Shelf:
    """A cupboard's bottom shelf.

    Attributes:
        front_m: (3,) middle of its front edge.
        yaw_rad: Direction that points in, in the base frame's x-y plane.
        depth_m: From its front to its back.
        width_m: Its visible width.
    """

    front_m: F64
    yaw_rad: float
    depth_m: float
    width_m: float

    def local(self, points_m: F32) -> F64:
        """(N, 3) points with x pointing in from the front, z up from the shelf."""
        c, s = np.cos(self.yaw_rad), np.sin(self.yaw_rad)
        offset = points_m - self.front_m
        return np.column_stack([offset[:, :2] @ np.array([[c, -s], [s, c]]), offset[:, 2]])


@dataclass(frozen=True, eq=False)
class Item:
    """One object that may be an item.

    Attributes:
        top_m: (3,) middle of its top in the base frame.
        size_m: Its top's shorter edge, its longer one, and its height.
        points_m: (N, 3) its points.
        costs: Misfit of each of :data:`stvla_ros.planning.groceries.ITEMS`.
    """

    top_m: F64
    size_m: tuple[float, float, float]
    points_m: F32
    costs: Mapping[str, float]


@dataclass(frozen=True, eq=False)
class Pantry:
    """What an image shows.

    Attributes:
        found: Every small object.
        items: Those of them that have a name.
        shelf: None if no cupboard is seen.
        cupboard_m: (N, 3) points of the cupboard and of what is in it.
        cupboard_rgb: (N, 3) their colours.
        standing_m: (N, 3) points of everything else above the table, without the robot.
    """

    found: Sequence[Item]
    items: Mapping[str, Item]
    shelf: Shelf | None
    cupboard_m: F32
    cupboard_rgb: U8
    standing_m: F32

    @property
    def sentence(self) -> str:
        names = [f"the {name}" for name in self.items] + (["a cupboard"] if self.shelf else [])
        return f"I see {', '.join(names)}." if names else "I see no groceries and no cupboard."


def find_pantry(frame: RgbdFrame, robot: RobotState) -> Pantry:
    """Everything above the table in one image. Each item is at one place only: the best overall assignment counts."""
    pantry = survey(frame, lambda points: robot_mask(points, robot))
    return replace(pantry, items=_named(pantry.found))


def survey(frame: RgbdFrame, robot: Callable[[F32], Bool]) -> Pantry:
    """Everything above the table in one image, without names.

    Args:
        frame: The image.
        robot: (H, W) pixels of the robot and of what it holds, from the (3, H, W) points of the image.
    """
    depth = without_specks(frame.depth_m)
    points = depth_cloud(frame.camera, depth)
    arm = robot(points)
    table = fit_support_plane(points, arm)
    height = table.height(points)
    labels = depth_regions(depth, points, height, arm, table, RegionConfig(upper_m=(1.1, 0.9, 0.8)))
    flat, heights, rgb = points.reshape(3, -1).T, height.ravel(), frame.rgb.reshape(-1, 3)
    small, large = [], np.empty(0, np.intp)
    for pixels in member_pixels(labels, int(labels.max(initial=0))):
        if np.quantile(heights[pixels], 0.97) < CUPBOARD_M:
            small.append(pixels)
        elif len(pixels) > len(large):
            large = pixels
    described = [_describe(flat[p], heights[p], rgb[p]) for p in small]
    others = np.concatenate([flat[p] for p in small]) if small else np.empty((0, 3), np.float32)
    return Pantry(described, {}, _shelf(flat[large], heights[large]), flat[large], rgb[large], others)


def _describe(points_m: F32, height_m: F32, rgb: U8) -> Item:
    top = float(np.quantile(height_m, 0.97))
    face = height_m > top - FACE_M
    centre, size, _ = min_area_rectangle(points_m[face, :2])
    sides = rgb[~face] if (~face).sum() >= 20 else rgb
    colours = [_feature(robust_mean(part)) for part in (rgb[face], sides)]
    narrow, wide = sorted(float(edge) for edge in size)
    costs = {name: _misfit(look, top, np.array([narrow, wide]), colours) for name, look in ITEMS.items()}
    return Item(np.array([*centre, float(np.median(points_m[face, 2]))]), (narrow, wide, top), points_m, costs)


def _misfit(look: Look, top_m: float, size_m: F64, colours: list[F64]) -> float:
    wanted = [_feature(np.array(colour)) for colour in (look.top, look.side)]
    off = [float(np.linalg.norm(a - b)) / COLOUR for a, b in zip(colours, wanted, strict=True)]
    edges = float(np.abs(size_m - look.size_m[:2]).mean()) / WIDTH_M
    return off[0] + 0.5 * off[1] + abs(top_m - look.size_m[2]) / HEIGHT_M + 0.5 * edges


def _feature(rgb: F64) -> F64:
    return np.asarray(colour_feature((255 * np.clip(rgb, 0, 1)).astype(np.uint8)[None])[0], np.float64)


def _named(found: Sequence[Item]) -> dict[str, Item]:
    """Names of objects, so that the sum of their misfits is the smallest."""
    if not found:
        return {}
    from scipy.optimize import linear_sum_assignment  # half a second of every planner's start, for this task only

    names = list(ITEMS)
    costs = np.array([[min(item.costs[name], MAX_COST) for name in names] for item in found])
    pairs = zip(*linear_sum_assignment(costs), strict=True)
    return {names[j]: found[i] for i, j in sorted(pairs, key=lambda p: p[1]) if costs[i, j] < MAX_COST}


def _shelf(points_m: F32, height_m: F32) -> Shelf | None:
    """The largest level surface of a cupboard."""
    if len(points_m) < 200:
        return None
    counts, edges = np.histogram(height_m, np.arange(*SHELF_Z_M, LEVEL_M))
    at = float(edges[int(np.argmax(counts[:-1] + counts[1:])) + 1])
    level = points_m[np.abs(height_m - at) < LEVEL_M]
    if len(level) < 50:
        return None
    centre, size, angle = min_area_rectangle(_without_outliers(level[:, :2]))
    above = (height_m > at + WALL_M[0]) & (height_m < at + WALL_M[1])
    turns, halves = angle + np.arange(4) * np.pi / 2, np.array([size[k % 2] / 2 for k in range(4)])
    back = _back([_wall(points_m[above, :2] - centre, *side) for side in zip(turns, halves, strict=True)], halves)
    inwards = np.array([np.cos(turns[back]), np.sin(turns[back])])
    front = centre - halves[back] * inwards
    return Shelf(
        np.array([*front, float(np.median(level[:, 2]))]),
        float(turns[back]),
        2 * float(halves[back]),
        2 * float(halves[(back + 1) % 4]),
    )


def _wall(offset_m: F64, turn_rad: float, half_m: float) -> F64:
    """(N,) where cells of a wall stand along a side of a rectangle: the side in direction ``turn_rad``, 0 its middle."""
    c, s = np.cos(turn_rad), np.sin(turn_rad)
    out, along = (offset_m @ np.array([[c, -s], [s, c]])).T
    return np.unique(np.floor(along[out > half_m - EDGE_M] / CELL_M)) * CELL_M + CELL_M / 2


def _back(walls: Sequence[F64], halves_m: F64) -> int:
    """Which side of the shelf is the back: of the two longer ones, that over which and towards which more wall stands. The
    image may cut the back off, and then shows only the board at one side, which leaves the front free for the forearm."""
    towards = [
        len(wall) + int((walls[k - 1] > 0).sum()) + int((walls[(k + 1) % 4] < 0).sum()) for k, wall in enumerate(walls)
    ]
    first = int(halves_m[1] < halves_m[0])  # the longer sides are the nearer ones to the middle
    return max((first, first + 2), key=towards.__getitem__)


def _without_outliers(xy_m: F32) -> F32:
    low, high = np.quantile(xy_m, [0.002, 0.998], axis=0)
    return np.asarray(xy_m[((xy_m >= low) & (xy_m <= high)).all(axis=1)])


def on_shelf(points_m: F32, shelf: Shelf) -> Bool:
    """(N,) which of (N, 3) points belong to something that rests on the shelf."""
    x, y, z = shelf.local(points_m).T
    on = (z > RESTING_M[0]) & (z < RESTING_M[1]) & (x > 0.0) & (x < shelf.depth_m - EDGE_M)
    return np.asarray(on & (np.abs(y) < shelf.width_m / 2 - EDGE_M))


def rests_inside(pantry: Pantry, shelf: Shelf, name: str) -> bool:
    """Something of an item's colours rests on the shelf."""
    on = on_shelf(pantry.cupboard_m, shelf)
    if on.sum() < RESTING_PX:
        return False
    seen = colour_feature(pantry.cupboard_rgb[on]).astype(np.float64)
    look = ITEMS[name]
    off = [np.linalg.norm(seen - _feature(np.array(colour)), axis=1) for colour in (look.top, look.side)]
    return bool((np.min(off, axis=0) < 2.5 * COLOUR).mean() > 0.25)
