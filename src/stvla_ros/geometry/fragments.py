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

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import combinations

import cv2
import numpy as np
import numpy.typing as npt
from scipy.ndimage import find_objects

from stvla_ros.geometry.components import connected, renumber, sizes
from stvla_ros.geometry.parts import LOW_M, colour_feature, pixel_classes, top_rectangle
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

ALIKE = 0.12
"""Colours (see :func:`stvla_ros.geometry.parts.colour_feature`) that differ by less are one."""


@dataclass(frozen=True, eq=False)
class Fragment:
    """A part of a region that has one colour.

    Attributes:
        area_px: Its size.
        height_m: Heights above the table below which 5, 10, 50, 90 and 97 percent of it are.
        flat: It has a top face.
        compact: Share of its convex hull that it fills.
        outer: Share of its border that is the region's outline.
        plain: Share of it that has its own colour, the rest is print.
        shade: (F,) its colour's features.
        inlaid: It lies between two others that have one colour.
        centre_m: (2,) middle of the smallest rectangle around its footprint.
        edges_m: Edges of this rectangle.
        turn_rad: Direction of the first edge.
    """

    area_px: int
    height_m: npt.NDArray[np.floating]
    flat: bool
    compact: float
    outer: float
    plain: float
    shade: npt.NDArray[np.floating]
    inlaid: bool
    centre_m: npt.NDArray[np.floating]
    edges_m: npt.NDArray[np.floating]
    turn_rad: float

    @property
    def size_m(self) -> tuple[float, float]:
        """Long and short edge of the rectangle."""
        return float(self.edges_m.max()), float(self.edges_m.min())

    def edge_distance(self, xy_m: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
        """(N,) distance of (2, N) points to the nearest edge of the rectangle (its line, where within its span)."""
        c, s = np.cos(self.turn_rad), np.sin(self.turn_rad)
        local = np.abs(np.array([[c, s], [-s, c]]) @ (xy_m - self.centre_m[:, None]))
        return np.asarray(np.abs(local - self.edges_m[:, None] / 2).min(axis=0))

    @property
    def top_m(self) -> float:
        return float(self.height_m[4])


def split_colours(
    regions: I32, rgb: U8, depth_m: F32, points_m: F32, height_m: F32, step_m: float, noise_m: float, least_px: int
) -> I32:
    """Regions divided where their colour changes and their shape says that things meet there.

    Args:
        regions: (H, W) regions 1..n connected in depth, 0 is none.
        rgb: (H, W, 3) image.
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
        area = int(own.sum())
        if area < 2 * least_px:
            return None
        classes = np.zeros(own.shape, dtype=np.uint8)
        classes[own] = pixel_classes(rgb[window][own], height_m[window][own], least_px)
        if not classes.any():
            return None
        smooth = np.asarray(cv2.medianBlur(classes, 5), dtype=np.uint8)
        pieces = connected(own, depth_m[window], step_m, smooth)
        return renumber(pieces, sizes(pieces) >= max(least_px, LEAST_SHARE * area))

    return divided(regions, rgb, points_m, height_m, divide, lambda a, b, seam: not _apart(a, b, seam, noise_m))


def divided(
    regions: I32,
    rgb: U8,
    points_m: F32,
    height_m: F32,
    divide: Callable[[Bool, tuple[slice, slice]], I32 | None],
    same: Callable[[Fragment, Fragment, F32], bool],
) -> I32:
    """Regions divided into pieces, but not between neighbours that are the same thing.

    Args:
        regions: (H, W) regions 1..n, 0 is none.
        rgb: (H, W, 3) image.
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
        parts = _joined(own, pieces, rgb[window], points_m[(slice(None), *window)], height_m[window], same)
        for part in range(2, int(parts.max()) + 1):
            count += 1
            out[window][parts == part] = count
    return renumber(out, sizes(out) > 0) if count >= first_new else regions


def _joined(
    own: Bool, pieces: I32, rgb: U8, points_m: F32, height_m: F32, same: Callable[[Fragment, Fragment, F32], bool]
) -> I32:
    """(h, w) parts 1..n of one region."""
    grown = np.where(own, nearest_label(pieces), 0).astype(np.int32)
    plain = sizes(pieces)[1:] / sizes(grown)[1:]
    windows = find_objects(grown)
    known = [
        _describe(grown, i, window, rgb, points_m, height_m, float(p))
        for i, (window, p) in enumerate(zip(windows, plain, strict=True), start=1)
    ]
    seams = _seams(grown)
    known = [replace(f, inlaid=_between_alike(i, seams, known)) for i, f in enumerate(known, start=1)]
    parent = np.arange(len(known) + 1)
    for (a, b), seam in sorted(seams.items(), key=lambda item: -len(item[1])):
        if parent[a] != parent[b] and same(known[a - 1], known[b - 1], points_m.reshape(3, -1)[:, seam]):
            parent[parent == parent[b]] = parent[a]
    merged = parent[grown].astype(np.int32)
    return renumber(merged, sizes(merged) > 0)


def _between_alike(i: int, pairs: Iterable[tuple[int, int]], known: list[Fragment]) -> bool:
    """Two neighbours of the i-th fragment have one colour."""
    shades = [known[a + b - i - 1].shade for a, b in pairs if i in (a, b)]
    return any(float(np.linalg.norm(p - q)) < ALIKE for p, q in combinations(shades, 2))


def nearest_label(labels: I32) -> I32:
    """(H, W) label of the nearest labelled pixel."""
    free = (labels <= 0).astype(np.uint8)
    if free.all():
        return np.zeros_like(labels)
    _, index = cv2.distanceTransformWithLabels(free, cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL)
    of_index = np.zeros(int(index.max()) + 1, dtype=np.int32)
    of_index[index[free == 0]] = labels[free == 0]
    return np.asarray(of_index[index], dtype=np.int32)


def _seams(pieces: I32) -> dict[tuple[int, int], npt.NDArray[np.intp]]:
    """Flat indices of the pixels where two pieces meet, by pair."""
    width = pieces.shape[1]
    found = []
    for a, b, step in ((pieces[:, 1:], pieces[:, :-1], 1), (pieces[1:], pieces[:-1], 0)):
        y, x = np.nonzero((a != b) & (a > 0) & (b > 0))
        first, second = a[y, x], b[y, x]
        at = y * width + x + 1 if step else (y + 1) * width + x
        found.append(np.stack([np.minimum(first, second), np.maximum(first, second), at]))
    low, high, at = np.concatenate(found, axis=1)
    key = low * (int(pieces.max()) + 1) + high
    return {(int(low[k][0]), int(high[k][0])): at[k] for k in (np.flatnonzero(key == v) for v in np.unique(key))}


def _describe(
    pieces: I32, label: int, window: tuple[slice, slice], rgb: U8, points_m: F32, height_m: F32, plain: float
) -> Fragment:
    own = pieces[window] == label
    heights = height_m[window][own]
    at = [int(q * (len(heights) - 1)) for q in (0.05, 0.1, 0.5, 0.9, 0.97)]
    quantiles = np.partition(heights, at)[at]
    centre, edges, turn = _footprint(own, points_m[(slice(0, 2), *window)])
    few = rgb[window][own][:: max(len(heights) // 100, 1)]
    return Fragment(
        len(heights),
        quantiles,
        bool((heights > quantiles[4] - FACE_M).mean() > FLAT_SHARE),
        solidity(own),
        _outer_share(pieces, own, window),
        plain,
        np.median(colour_feature(few), axis=0),
        False,
        centre,
        edges,
        turn,
    )


def _footprint(own: Bool, xy_m: F32) -> tuple[F64, F64, float]:
    """Smallest rectangle around a piece seen from above, without the pixels along its outline, which mix two depths."""
    inner = cv2.erode(own.astype(np.uint8), np.ones((3, 3), np.uint8), borderValue=0).astype(bool)
    firm = inner if inner.sum() > 0.4 * own.sum() else own
    xy = xy_m[:, firm].T
    away = np.abs(xy - np.median(xy, axis=0)).max(axis=1)
    xy = xy[away <= np.quantile(away, 0.99) * 1.05]
    return top_rectangle(xy[:: max(len(xy) // 400, 1)])


def filled(mask: Bool) -> Bool:
    """A mask without holes, and without notches one pixel wide."""
    closed = cv2.morphologyEx(np.pad(mask.astype(np.uint8), 2), cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))
    outline, _ = cv2.findContours(closed, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return np.asarray(cv2.drawContours(closed, outline, -1, 1, cv2.FILLED)[2:-2, 2:-2]).astype(bool)


def solidity(mask: Bool) -> float:
    """Share of its convex hull that a mask fills."""
    outline, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    if not outline:
        return 0.0
    hull = np.zeros(mask.shape, dtype=np.uint8)
    cv2.fillConvexPoly(hull, cv2.convexHull(np.concatenate(outline)), 1)
    return float(mask.sum() / max(int(hull.sum()), 1))


def _outer_share(pieces: I32, own: Bool, window: tuple[slice, slice]) -> float:
    """Share of the pixels around a piece, which fills ``window`` as ``own`` says, that are none of its region."""
    mask = np.pad(own.astype(np.uint8), 1)
    ring = (cv2.dilate(mask, np.ones((3, 3), np.uint8)) > mask).astype(bool)
    h, w = pieces.shape
    (rows, columns), around = window, np.zeros(mask.shape, dtype=np.int32)
    y, x = max(rows.start - 1, 0), max(columns.start - 1, 0)
    seen = pieces[y : min(rows.stop + 1, h), x : min(columns.stop + 1, w)]
    dy, dx = y - rows.start + 1, x - columns.start + 1
    around[dy : dy + seen.shape[0], dx : dx + seen.shape[1]] = seen
    return float((around[ring] == 0).mean())


def _apart(a: Fragment, b: Fragment, seam_m: F32, noise_m: float) -> bool:
    """Two fragments are two things."""
    upper, lower = (a, b) if a.top_m >= b.top_m else (b, a)
    rise = upper.top_m - lower.top_m
    if is_boss(a, b):
        return False
    slack = 0.006 + 2 * noise_m
    level = float(np.std(seam_m[2])) < slack
    stacked = rise > 0.015 and upper.height_m[1] > lower.height_m[3] - slack and level and lower.outer > OUTER
    flat_below = lower.top_m < LOW_M and lower.height_m[3] - lower.height_m[1] < 0.013
    own_tops = a.flat and b.flat and rise > RISE_M + 4 * noise_m
    return stacked or (flat_below and rise > 0.012) or own_tops or _side_by_side(a, b, seam_m, noise_m)


def is_boss(a: Fragment, b: Fragment) -> bool:
    """One is a low cap in the middle of the other, a wider base."""
    upper, lower = (a, b) if a.top_m >= b.top_m else (b, a)
    rise = upper.top_m - lower.top_m
    centred = np.hypot(*(upper.centre_m - lower.centre_m)) < 0.25 * lower.size_m[0]
    wider = lower.size_m[0] > 1.25 * upper.size_m[0]
    return bool(rise < BOSS_M and centred and wider)


def _side_by_side(a: Fragment, b: Fragment, seam_m: F32, noise_m: float) -> bool:
    for part in (a, b):
        slender = part.size_m[0] > LONG * part.size_m[1]
        if part.inlaid or slender or part.compact < COMPACT or part.outer < OUTER or part.plain < PLAIN:
            return False
    off = min(float(np.quantile(part.edge_distance(seam_m[:2]), 0.7)) for part in (a, b))
    return off < SEAM_M + noise_m
