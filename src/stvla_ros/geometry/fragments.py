"""Which colours of one region are things of their own, and which are print.

A region of the depth image may hold several things that touch. Its colours say where one may end, its shape says
whether one does. Two neighbouring fragments of different colour stay two when

* one stands on the other: it begins where the other ends, and the seam is level;
* one stands in the other, which is low and flat (a block in a plate);
* each has a top face of its own, at different heights;
* they stand side by side: both are plain, compact and mostly bounded by the region's outline, and the seam between
  them lies in one upright plane, as two blocks do that are pushed together.

All else is print, a label, a handle of another colour: one thing. So is a low boss in the middle of a wider base, like
the cap of a button. A merge only keeps a neighbour in sight; a wrong split paints out half a thing.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from stvla_ros.geometry.components import bounding_slices, member_pixels, renumber, sizes
from stvla_ros.types import F32, I32, Bool

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

LOW_M = 0.022
"""Plates and trays end below this height; what is higher stands in them."""

COMPACT, OUTER, PLAIN, SEAM_M, LONG = 0.85, 0.42, 0.88, 0.0035, 2.6
"""Of things side by side: least share of the convex hull, of the border that is outline, and of one colour; largest
deviation of the seam; largest ratio of length to width."""


@dataclass(frozen=True, eq=False)
class Fragment:
    """A part of a region that has one colour.

    Attributes:
        height_m: Heights above the table below which 5, 10, 50, 90 and 97 percent of it are.
        flat: It has a top face.
        compact: Share of its convex hull that it fills.
        outer: Share of its border that is the region's outline.
        plain: Share of it that has its own colour, the rest is print.
        centre_m: (2,) middle of its footprint.
        size_m: Long and short edge of the smallest rectangle around its footprint.
    """

    height_m: npt.NDArray[np.floating]
    flat: bool
    compact: float
    outer: float
    plain: float
    centre_m: npt.NDArray[np.floating]
    size_m: tuple[float, float]

    @property
    def top_m(self) -> float:
        return float(self.height_m[4])


def merge_print(regions: I32, pieces: I32, points_m: F32, height_m: F32, noise_m: float) -> I32:
    """Join the pieces of each region that are not things of their own.

    Args:
        regions: (H, W) regions connected in depth, 0 is none.
        pieces: (H, W) connected pieces of one colour, each within one region, 0 outside.
        points_m: (3, H, W) points in the base frame.
        height_m: (H, W) height above the table.
        noise_m: Standard deviation of the heights.

    Returns:
        (H, W) labels 1..n of things, 0 outside the regions.
    """
    large, plain = _without_small(regions, pieces)
    pairs = _seams(regions, large)
    if not pairs:
        return renumber(large, sizes(large) > 0)
    members = member_pixels(large, int(large.max()))
    fragments = {i: _describe(large, i, members[i - 1], points_m, height_m, plain) for i in {k for p in pairs for k in p}}
    parent = np.arange(int(large.max()) + 1)
    for (a, b), seam in sorted(pairs.items(), key=lambda item: -len(item[1])):
        if not _apart(fragments[a], fragments[b], points_m.reshape(3, -1)[:, seam], noise_m):
            parent[parent == parent[b]] = parent[a]
    merged = parent[large].astype(np.int32)
    return renumber(merged, sizes(merged) > 0)


def _without_small(regions: I32, pieces: I32) -> tuple[I32, npt.NDArray[np.floating]]:
    """Small pieces become part of the nearest large one of their region; also each piece's share of own colour."""
    area, whole = sizes(pieces), sizes(regions)
    region = np.zeros(len(area), dtype=np.int32)
    region[pieces.ravel()] = regions.ravel()
    large = area >= LEAST_SHARE * whole[region]
    biggest = np.zeros(len(whole), dtype=np.int32)
    order = np.argsort(area, kind="stable")
    biggest[region[order]] = order  # the last one written is the largest
    large[biggest] = True
    large[0] = False
    keep = large[pieces]
    out = np.where(keep, pieces, 0).astype(np.int32)
    rest = np.flatnonzero((pieces.ravel() > 0) & ~keep.ravel())
    if len(rest):
        near = nearest_label(out).ravel()[rest]
        own = regions.ravel()[rest]
        out.reshape(-1)[rest] = np.where(region[near] == own, near, biggest[own])
    return out, area / np.maximum(np.bincount(out.ravel(), minlength=len(area)), 1)


def nearest_label(labels: I32) -> I32:
    """(H, W) label of the nearest labelled pixel."""
    free = (labels <= 0).astype(np.uint8)
    if free.all():
        return np.zeros_like(labels)
    _, index = cv2.distanceTransformWithLabels(free, cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL)
    of_index = np.zeros(int(index.max()) + 1, dtype=np.int32)
    of_index[index[free == 0]] = labels[free == 0]
    return np.asarray(of_index[index], dtype=np.int32)


def _seams(regions: I32, pieces: I32) -> dict[tuple[int, int], npt.NDArray[np.intp]]:
    """Flat indices of the pixels where two pieces of one region meet, by pair."""
    index = np.arange(pieces.size).reshape(pieces.shape)
    found = []
    for a, b in (
        ((slice(None), slice(1, None)), (slice(None), slice(None, -1))),
        ((slice(1, None), slice(None)), (slice(None, -1), slice(None))),
    ):
        meet = (pieces[a] != pieces[b]) & (regions[a] == regions[b]) & (pieces[a] > 0) & (pieces[b] > 0)
        first, second = pieces[a][meet], pieces[b][meet]
        found.append(np.stack([np.minimum(first, second), np.maximum(first, second), index[a][meet]]))
    low, high, at = np.concatenate(found, axis=1)
    key = low.astype(np.int64) * (int(pieces.max()) + 1) + high
    return {(int(low[k][0]), int(high[k][0])): at[k] for k in (np.flatnonzero(key == v) for v in np.unique(key))}


def _describe(
    pieces: I32, label: int, pixels: npt.NDArray[np.intp], points_m: F32, height_m: F32, plain: npt.NDArray[np.floating]
) -> Fragment:
    rows, columns = np.divmod(pixels, pieces.shape[1])
    window = (
        slice(max(int(rows.min()) - 1, 0), int(rows.max()) + 2),
        slice(max(int(columns.min()) - 1, 0), int(columns.max()) + 2),
    )
    own = pieces[window] == label
    heights = height_m.ravel()[pixels]
    quantiles = np.quantile(heights, [0.05, 0.1, 0.5, 0.9, 0.97])
    xy = points_m[:2].reshape(2, -1)[:, pixels].T
    (cx, cy), edges, _ = cv2.minAreaRect(np.ascontiguousarray(xy * 1000.0, dtype=np.float32))
    return Fragment(
        quantiles,
        bool((heights > quantiles[4] - FACE_M).mean() > FLAT_SHARE),
        solidity(own),
        _outer_share(pieces[window], own),
        float(plain[label]),
        np.array([cx, cy]) / 1000.0,
        (max(edges) / 1000.0, min(edges) / 1000.0),
    )


def solidity(mask: Bool) -> float:
    """Share of its convex hull that a mask fills."""
    window = bounding_slices(mask)
    if window is None:
        return 0.0
    points = cv2.findNonZero(mask.astype(np.uint8))
    hull = np.zeros(mask.shape, dtype=np.uint8)
    cv2.fillConvexPoly(hull, cv2.convexHull(points), 1)
    return float(mask.sum() / max(int(hull.sum()), 1))


def _outer_share(pieces: I32, own: Bool) -> float:
    ring = cv2.dilate(own.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool) & ~own
    return float((pieces[ring] == 0).sum() / max(int(ring.sum()), 1))


def _apart(a: Fragment, b: Fragment, seam_m: F32, noise_m: float) -> bool:
    """Two fragments are two things."""
    upper, lower = (a, b) if a.top_m >= b.top_m else (b, a)
    rise = upper.top_m - lower.top_m
    if _is_boss(upper, lower, rise):
        return False
    slack = 0.006 + 2 * noise_m
    level = float(np.std(seam_m[2])) < slack
    stacked = rise > 0.015 and upper.height_m[1] > lower.height_m[3] - slack and level and lower.outer > OUTER
    flat_below = lower.top_m < LOW_M and lower.height_m[3] - lower.height_m[1] < 0.013
    own_tops = a.flat and b.flat and rise > RISE_M + 4 * noise_m
    return stacked or (flat_below and rise > 0.012) or own_tops or _side_by_side(a, b, seam_m, noise_m)


def _is_boss(upper: Fragment, lower: Fragment, rise: float) -> bool:
    """A low cap in the middle of a wider base that is no plate."""
    centred = np.hypot(*(upper.centre_m - lower.centre_m)) < 0.25 * lower.size_m[0]
    wider = lower.size_m[0] > 1.25 * upper.size_m[0]
    return bool(rise < BOSS_M and centred and wider)


def _side_by_side(a: Fragment, b: Fragment, seam_m: F32, noise_m: float) -> bool:
    for part in (a, b):
        if part.compact < COMPACT or part.outer < OUTER or part.plain < PLAIN or part.size_m[0] > LONG * part.size_m[1]:
            return False
    xy = seam_m[:2].T - seam_m[:2].T.mean(axis=0)
    across = np.linalg.svd(xy, full_matrices=False)[1][-1] / np.sqrt(len(xy))
    return bool(across < SEAM_M + noise_m)
