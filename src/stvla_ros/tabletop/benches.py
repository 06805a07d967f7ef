"""Benches: level surfaces beside the support, higher than it and larger than things, such as the bench of a robot."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from stvla_ros.tabletop.regions import min_area_rectangle
from stvla_ros.tabletop.support_plane import SupportPlane, feet_px, fit_support_plane
from stvla_ros.tabletop.table_colours import Cells, TableColours
from stvla_ros.types import F32, Bool, Camera

MAX_BENCHES = 2

RAISED_M = 0.03
"""Benches are at least this high above the support: lower ones are trays, mats and books on it."""

BIN_M = 0.01
"""Width of the cells in which heights are counted."""

MIN_SHARE, MIN_PART = 0.1, 0.05
"""Smallest bench, and smallest part of it in one piece, as shares of the image: tops of things of one height that touch
in the image take up less."""

MIN_LONG_M, MIN_SHORT_M = 0.3, 0.1
"""Smallest edges of the rectangle around what is seen of a bench: smaller level surfaces are tops of cartons."""

MIN_SIDE = 0.12
"""A bench meets a side of the image over this share of it: it goes on outside."""

MIN_SUPPORT = 0.02
"""Where less of the image shows the support, nothing is known to be beside it: a thing may fill the image."""

MAX_ACROSS = 0.05
"""A straight line parts a bench from the support but for this share of each. Around things on the support, and between
things of one height, there is more of it on either side of every line."""

LINES, SAMPLE = 36, 500
"""Directions of lines tried, and points of each surface that they are tried on."""

FLAT_M, BESIDE_M = 0.01, 0.03
"""Points this close to a plane lie on it; what connects to a bench in colours of the bench, and is this close to it,
belongs to it."""

NARROW_M = 0.02
"""What is level with a bench, touches it and is narrower is a thing beside it."""

RISER_PX = 2
"""Depth is this far off at the edge of a bench."""

GAP_PX = 5
"""Grooves and screw holes of a bench are narrower."""


@dataclass(frozen=True, eq=False)
class Bench:
    """A level surface beside the support.

    Attributes:
        plane: Its plane in the base frame.
        mask: (H, W) pixels that show it.
        height_m: Above the support, in the middle of what is seen of it.
    """

    plane: SupportPlane
    mask: Bool
    height_m: float


def find_benches(
    points_m: F32, height_m: F32, cells: Cells, exclude: Bool, table: SupportPlane, camera: Camera
) -> list[Bench]:
    """Benches, the largest first.

    Args:
        points_m: (3, H, W) points in the base frame.
        height_m: (H, W) height above the support.
        cells: (H, W) colour cells (:func:`stvla_ros.tabletop.table_colours.colour_cells`).
        exclude: (H, W) pixels to ignore (the robot).
        table: The support plane.
        camera: Of these pixels.
    """
    found: list[Bench] = []
    raised = (height_m > RAISED_M) & ~exclude
    unknown, support = np.isnan(height_m), (np.abs(height_m) < table.noise_floor_m) & ~exclude
    if np.count_nonzero(support) < MIN_SUPPORT * support.size:
        return found
    for _ in range(MAX_BENCHES):
        plane = _most_frequent(points_m, height_m, raised)
        if plane is None:
            break
        away = plane.height(points_m)
        level = raised & (np.abs(away) < FLAT_M + 2 * table.noise_m)
        if np.count_nonzero(level) < MIN_SHARE * level.size:
            break
        own = _wide_part(level, unknown, support, points_m, camera)
        if own is None:
            raised &= ~level
            continue
        above = (height_m > table.noise_floor_m) & ~exclude
        mask = _with_likes(own, away, above, cells)
        mask |= _risers(mask, above & (away < 0), plane, points_m, camera)
        found.append(Bench(plane, mask, float(np.median(height_m[own]))))
        raised &= ~level & ~mask
    return found


def _most_frequent(points_m: F32, height_m: F32, raised: Bool) -> SupportPlane | None:
    """The level plane at the height at which most of the pixels are; None if none holds a bench."""
    where = np.flatnonzero(raised)
    if len(where) < MIN_SHARE * raised.size:
        return None
    heights = height_m.ravel().take(where)
    counts = np.bincount((heights / BIN_M).astype(np.intp))
    near = np.convolve(counts, [1, 1, 1], "same")
    top = int(near.argmax())
    if near[top] < MIN_SHARE * raised.size:
        return None
    here = where[np.abs(heights - (top + 0.5) * BIN_M) < 2 * BIN_M]
    points = points_m.reshape(3, -1).take(here, axis=1)
    middle = np.float32(np.median(points[2]))
    points[2] -= middle
    plane = fit_support_plane(points, budget=2000)
    return SupportPlane(plane.a, plane.b, plane.c + float(middle), plane.noise_m)


def _wide_part(level: Bool, unknown: Bool, support: Bool, points_m: F32, camera: Camera) -> Bool | None:
    """The part of a level surface that is a bench: large, it lies beside the support, and goes on outside of the image."""
    closed = cv2.morphologyEx((level | unknown).view(np.uint8), cv2.MORPH_CLOSE, np.ones((GAP_PX, GAP_PX), np.uint8))
    middle = points_m.reshape(3, -1)[:, np.flatnonzero(level)[:: max(np.count_nonzero(level) // 100, 1)]].mean(axis=1)
    away_m = float(np.linalg.norm(middle - camera.T_base_camera[:3, 3]))
    narrow = max(round(NARROW_M * float(camera.K[0, 0]) / away_m), 1)
    wide = cv2.morphologyEx(closed, cv2.MORPH_OPEN, np.ones((narrow, narrow), np.uint8))
    _, parts = cv2.connectedComponents(wide, connectivity=4, ltype=cv2.CV_32S)
    area = np.bincount(parts[level], minlength=2)
    area[0] = 0
    part = parts == int(area.argmax())
    largest = level & part
    where = np.flatnonzero(largest)
    if len(where) < MIN_PART * level.size:
        return None
    sides = part[0], part[-1], part[:, 0], part[:, -1]
    if not any(np.count_nonzero(side) > MIN_SIDE * len(side) for side in sides):
        return None
    xy = points_m.reshape(3, -1)[:2].take(where[:: max(len(where) // 1000, 1)], axis=1)
    _, edges, _ = min_area_rectangle(xy.T)
    if edges.max() < MIN_LONG_M or edges.min() < MIN_SHORT_M:
        return None
    if not _is_beside(largest, support, points_m):
        return None
    outline, _ = cv2.findContours(largest.view(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    hull = np.zeros(level.shape, dtype=np.uint8)
    cv2.fillConvexPoly(hull, cv2.convexHull(np.concatenate(outline)), 1)
    own = level & (hull > 0)
    return own if np.count_nonzero(own) > MIN_SHARE * own.size else None


def _is_beside(bench: Bool, support: Bool, points_m: F32) -> bool:
    """Whether a line on the support has the one on its one side and the other on its other, seen from above."""
    angles = np.arange(LINES) * (2 * np.pi / LINES)
    across = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    of_bench, of_support = (
        across @ points_m.reshape(3, -1)[:2].take(where[:: max(len(where) // SAMPLE, 1)], axis=1)
        for where in (np.flatnonzero(bench), np.flatnonzero(support))
    )
    line = np.quantile(of_bench, MAX_ACROSS, axis=1, keepdims=True)
    return bool((np.count_nonzero(of_support > line, axis=1) < MAX_ACROSS * of_support.shape[1]).any())


def _with_likes(own: Bool, away_m: F32, above: Bool, cells: Cells) -> Bool:
    """A bench with the parts that connect to it, are nearly as high and have its colours, such as screws and grooves."""
    like = TableColours.of(cells, own, above & (np.abs(away_m) > BESIDE_M)).seen(cells)
    beside = own | (above & (np.abs(away_m) < BESIDE_M) & like)
    count, parts = cv2.connectedComponents(beside.view(np.uint8), connectivity=8, ltype=cv2.CV_32S)
    holds = np.bincount(parts[own], minlength=count) > 0
    holds[0] = False
    return np.asarray(holds.take(np.asarray(parts)))


def _risers(bench: Bool, lower: Bool, plane: SupportPlane, points_m: F32, camera: Camera) -> Bool:
    """Those of the ``lower`` pixels (H, W) vertically above which the bench is seen: its front, and deep grooves."""
    at = np.flatnonzero(lower & ~bench)
    near = cv2.dilate(bench.view(np.uint8), np.ones((2 * RISER_PX + 1,) * 2, np.uint8))
    feet, _ = feet_px(points_m.reshape(3, -1).take(at, axis=1), plane, camera)  # beyond the image: its border decides
    out = np.zeros(bench.shape, dtype=bool)
    out.reshape(-1)[at[near[feet] > 0]] = True
    return out
