"""Which colours of one region are things of their own, and which are print.

A region of the depth image may hold several things that touch. Its colours say where one may end, its shape says
whether one does. Two neighbouring fragments of different colour stay two when

* one stands on the other: it begins where the other ends, and the seam is level;
* one stands in the other, which is low and flat (a block in a plate);
* each has a top face of its own, at different heights;
* they stand side by side: both are plain, compact and mostly bounded by the region's outline, neither lies between two
  of the same colour, and the seam follows an edge of the rectangle that one of them fills when seen from above, as it
  does between blocks that are pushed together.

All else is print, a label, a handle of another colour: one thing. So is a low boss in the middle of a wider base, like
the cap of a button. A merge only keeps a neighbour in sight; a wrong split paints out half a thing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations

import cv2
import numpy as np
import numpy.typing as npt
from scipy.ndimage import find_objects

from stvla_ros.geometry.components import connected, nearest_label, renumber, sizes, solidity
from stvla_ros.tabletop.regions import LOW_M, pixel_classes, top_rectangle
from stvla_ros.types import F32, F64, I32, U8, Bool

LEAST_SHARE = 0.04
"""Smaller fragments, as a share of their region, are print."""

FACE_M = 0.006
"""Points this close under the top of a fragment are its top face."""

FLAT_SHARE = 0.3
"""Least share of a fragment that is top face, for it to have one."""

RISE_M = 0.010
"""Least difference in height between the top faces of two things."""

BOSS_M = 0.017
"""A cap rises at most this far above its base."""

COMPACT, OUTER, PLAIN, SEAM_M, LONG = 0.76, 0.34, 0.88, 0.004, 2.6
"""Of things side by side: least share of the convex hull, of the border that is outline, and of one colour; largest
distance of the seam from an edge; largest ratio of length to width."""

ENOUGH_PX = 1000
"""Fragments are measured at so many of their pixels."""

ALIKE = 0.12
"""Colours (see :func:`stvla_ros.tabletop.surface_colours.colour_feature`) that differ by less are one."""


@dataclass(frozen=True, eq=False)
class Fragment:
    """A part of a region that has one colour. It is measured when asked: most judgements need little of it.

    Attributes:
        label: Its number among the pieces of its region.
        near: (h + 2, w + 2) pieces of the region in the fragment's window and one pixel around it, 0 is outside.
        colours: (h, w, 4) features of the window's colours (:func:`stvla_ros.tabletop.surface_colours.colour_feature`).
        points_m: (3, h, w) points of the window in the base frame.
        heights_m: (h, w) heights of the window above the table.
        area_px: Its size.
        plain: Share of it that has its own colour, the rest is print.
        neighbours: Other fragments of the region that it touches.
    """

    label: int
    near: I32
    colours: F32
    points_m: F32
    heights_m: F32
    area_px: int
    plain: float
    neighbours: list[Fragment] = field(default_factory=list)

    @cached_property
    def own(self) -> U8:
        """(h, w) 1 where it is."""
        return np.asarray(self.near[1:-1, 1:-1] == self.label).astype(np.uint8)

    @cached_property
    def _some(self) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
        return _evenly(self.own)

    @cached_property
    def height_m(self) -> F32:
        """Heights above the table below which 5, 10, 50, 90 and 97 percent of it are."""
        heights = self.heights_m[self._some]
        at = [int(q * (len(heights) - 1)) for q in (0.05, 0.1, 0.5, 0.9, 0.97)]
        return np.asarray(np.partition(heights, at)[at])

    @property
    def top_m(self) -> float:
        return float(self.height_m[4])

    @cached_property
    def flat(self) -> bool:
        """It has a top face."""
        return bool((self.heights_m[self._some] > self.top_m - FACE_M).mean() > FLAT_SHARE)

    @cached_property
    def compact(self) -> float:
        """Share of its convex hull that it fills."""
        return solidity(self.own)

    @cached_property
    def outer(self) -> float:
        """Share of its border that is the region's outline."""
        own = cv2.copyMakeBorder(self.own, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
        ring = cv2.dilate(own, np.ones((3, 3), np.uint8)) > own
        return int(np.count_nonzero(ring & (self.near == 0))) / max(int(np.count_nonzero(ring)), 1)

    @cached_property
    def shade(self) -> npt.NDArray[np.floating]:
        """(F,) its colour's features."""
        rows, columns = self._some
        few = slice(None, None, max(len(rows) // 100, 1))
        return np.asarray(np.median(self.colours[rows[few], columns[few]], axis=0))

    @cached_property
    def inlaid(self) -> bool:
        """It lies between two others that have one colour."""
        shades = [other.shade for other in self.neighbours]
        return any(float(np.linalg.norm(p - q)) < ALIKE for p, q in combinations(shades, 2))

    @cached_property
    def _rectangle(self) -> tuple[F64, F64, float]:
        return _footprint(self.own, self.points_m[:2])

    @property
    def centre_m(self) -> F64:
        """(2,) middle of the smallest rectangle around its footprint."""
        return self._rectangle[0]

    @property
    def size_m(self) -> tuple[float, float]:
        """Long and short edge of the rectangle."""
        edges = self._rectangle[1]
        return float(edges.max()), float(edges.min())

    def edge_distance(self, xy_m: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
        """(N,) distance of (2, N) points to the nearest edge of the rectangle (its line, where within its span)."""
        centre, edges, turn = self._rectangle
        c, s = np.cos(turn), np.sin(turn)
        local = np.abs(np.array([[c, s], [-s, c]]) @ (xy_m - centre[:, None]))
        return np.asarray(np.abs(local - edges[:, None] / 2).min(axis=0))


def split_colours(
    regions: I32, colours: F32, depth_m: F32, points_m: F32, height_m: F32, step_m: float, noise_m: float, least_px: int
) -> I32:
    """Regions divided where their colour changes and their shape says that things meet there.

    Args:
        regions: (H, W) regions 1..n connected in depth, 0 is none.
        colours: (H, W, 4) features of its colours (:func:`stvla_ros.tabletop.surface_colours.colour_feature`).
        depth_m: (H, W) depth.
        points_m: (3, H, W) points in the base frame.
        height_m: (H, W) height above the table.
        step_m: Depth step at which a thing ends.
        noise_m: Standard deviation of the heights.
        least_px: Smallest part.

    Returns:
        (H, W) labels 1..m of things, 0 outside the regions.
    """

    def divide(own: Bool, window: tuple[slice, slice]) -> I32 | None:
        area = int(np.count_nonzero(own))
        if area < 2 * least_px:
            return None
        classes = np.zeros(own.shape, dtype=np.uint8)
        classes[own] = pixel_classes(colours[window][own], height_m[window][own], least_px)
        if not classes.any():
            return None
        smooth = np.asarray(cv2.medianBlur(classes, 5), dtype=np.uint8)
        pieces = connected(own, depth_m[window], step_m, smooth)
        return renumber(pieces, sizes(pieces) >= max(least_px, LEAST_SHARE * area))

    return divided(regions, colours, points_m, height_m, divide, lambda a, b, seam: not _apart(a, b, seam, noise_m))


def divided(
    regions: I32,
    colours: F32,
    points_m: F32,
    height_m: F32,
    divide: Callable[[Bool, tuple[slice, slice]], I32 | None],
    same: Callable[[Fragment, Fragment, F32], bool],
) -> I32:
    """Regions divided into pieces, but not between neighbours that are the same thing.

    Args:
        regions: (H, W) regions 1..n, 0 is none.
        colours: (H, W, 4) features of its colours.
        points_m: (3, H, W) points in the base frame.
        height_m: (H, W) height above the table.
        divide: Pieces 1..k of a region (0 goes to the nearest), given its mask and the window of the image that the
            mask shows; None for one piece.
        same: Judges two neighbours and the (3, N) points along the seam between them.

    Returns:
        (H, W) labels 1..m that fill the regions.
    """
    out, count = regions.copy(), int(regions.max(initial=0))
    first_new = count + 1
    for region, window in enumerate(find_objects(regions), start=1):
        own = regions[window] == region
        pieces = divide(own, window)
        if pieces is None or pieces.max() < 2:
            continue
        parts = _joined(own, pieces, colours[window], points_m[(slice(None), *window)], height_m[window], same)
        for part in range(2, int(parts.max()) + 1):
            count += 1
            out[window][parts == part] = count
    return renumber(out, sizes(out) > 0) if count >= first_new else regions


def _joined(
    own: Bool, pieces: I32, colours: F32, points_m: F32, height_m: F32, same: Callable[[Fragment, Fragment, F32], bool]
) -> I32:
    """(h, w) parts 1..n of one region."""
    grown = np.where(own, nearest_label(pieces), 0).astype(np.int32)
    known, seams = _fragments(grown, pieces, colours, points_m, height_m), _seams(grown)
    for i, j in seams:
        known[i - 1].neighbours.append(known[j - 1])
        known[j - 1].neighbours.append(known[i - 1])
    parent = np.arange(len(known) + 1)
    for (a, b), seam in sorted(seams.items(), key=lambda item: -len(item[1])):
        if parent[a] != parent[b] and same(known[a - 1], known[b - 1], points_m[:, *np.divmod(seam, own.shape[1])]):
            parent[parent == parent[b]] = parent[a]
    merged = parent[grown].astype(np.int32)
    return renumber(merged, sizes(merged) > 0)


def _fragments(grown: I32, pieces: I32, colours: F32, points_m: F32, height_m: F32) -> list[Fragment]:
    """Pieces 1..n of a region, which they fill as ``grown`` says."""
    area, firm = sizes(grown), sizes(pieces)
    around = np.asarray(cv2.copyMakeBorder(grown, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0), dtype=np.int32)
    found = []
    for label, (rows, columns) in enumerate(find_objects(grown), start=1):
        near = around[rows.start : rows.stop + 2, columns.start : columns.stop + 2]
        points, share = points_m[:, rows, columns], float(firm[label] / area[label])
        found.append(
            Fragment(label, near, colours[rows, columns], points, height_m[rows, columns], int(area[label]), share)
        )
    return found


def _seams(pieces: I32) -> dict[tuple[int, int], npt.NDArray[np.intp]]:
    """Flat indices of the pixels where two pieces meet, by pair."""
    width = pieces.shape[1]
    found = []
    for a, b, step in ((pieces[:, 1:], pieces[:, :-1], 1), (pieces[1:], pieces[:-1], 0)):
        y, x = np.divmod(np.flatnonzero((a != b) & (a > 0) & (b > 0)), a.shape[1])
        first, second = a[y, x], b[y, x]
        at = y * width + x + 1 if step else (y + 1) * width + x
        found.append(np.stack([np.minimum(first, second), np.maximum(first, second), at]))
    low, high, at = np.concatenate(found, axis=1)
    key = low * (int(pieces.max()) + 1) + high
    return {(int(low[k][0]), int(high[k][0])): at[k] for k in (np.flatnonzero(key == v) for v in np.unique(key))}


def _evenly(mask: Bool | U8) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Rows and columns of at most about :data:`ENOUGH_PX` pixels of a mask, which tell as much as all."""
    rows, columns = np.nonzero(mask)  # in raster order
    every = slice(None, None, max(len(rows) // ENOUGH_PX, 1))
    return rows[every], columns[every]


def _footprint(own: U8, xy_m: F32) -> tuple[F64, F64, float]:
    """Smallest rectangle around a piece seen from above, without the pixels along its outline, which mix two depths."""
    inner = np.asarray(cv2.erode(own, np.ones((3, 3), np.uint8), borderValue=0), dtype=np.uint8)
    firm = inner if np.count_nonzero(inner) > 0.4 * np.count_nonzero(own) else own
    rows, columns = _evenly(firm)
    xy = xy_m[:, rows, columns]
    away = np.abs(xy - np.sort(xy, axis=1)[:, xy.shape[1] // 2, None]).max(axis=0)
    xy = xy[:, away <= np.sort(away)[int(0.99 * len(away))] * 1.05]
    return top_rectangle(xy[:, :: max(xy.shape[1] // 400, 1)].T)


def _apart(a: Fragment, b: Fragment, seam_m: F32, noise_m: float) -> bool:
    """Two fragments are two things."""
    upper, lower = (a, b) if a.top_m >= b.top_m else (b, a)
    rise = upper.top_m - lower.top_m
    if is_boss(a, b):
        return False
    slack = 0.006 + 2 * noise_m
    above = rise > 0.015 and upper.height_m[1] > lower.height_m[3] - slack
    stacked = above and lower.outer > OUTER and float(np.std(seam_m[2])) < slack
    in_a_plate = rise > 0.012 and lower.top_m < LOW_M and lower.height_m[3] - lower.height_m[1] < 0.013
    own_tops = rise > RISE_M + 4 * noise_m and a.flat and b.flat
    return bool(stacked or in_a_plate or own_tops) or _side_by_side(a, b, seam_m, noise_m)


def is_boss(a: Fragment, b: Fragment) -> bool:
    """One is a low cap in the middle of the other, a wider base."""
    upper, lower = (a, b) if a.top_m >= b.top_m else (b, a)
    if upper.top_m - lower.top_m >= BOSS_M:
        return False
    centred = np.hypot(*(upper.centre_m - lower.centre_m)) < 0.25 * lower.size_m[0]
    return bool(centred and lower.size_m[0] > 1.25 * upper.size_m[0])


def _side_by_side(a: Fragment, b: Fragment, seam_m: F32, noise_m: float) -> bool:
    for part in (a, b):
        if part.plain < PLAIN or part.outer < OUTER or part.compact < COMPACT:
            return False
    for part in (a, b):
        if part.size_m[0] > LONG * part.size_m[1] or part.inlaid:
            return False
    off = min(float(np.quantile(part.edge_distance(seam_m[:2]), 0.7)) for part in (a, b))
    return off < SEAM_M + noise_m
