"""Split touching objects where the surface is concave or the outline has a constriction (a narrow neck).

The surface is concave where two bodies meet, and steps up where one stands behind another; on a single convex body
neither happens. Concavity is measured over centimetres, so that it shows in images of a sensor that smears edges over
several pixels.
"""

from __future__ import annotations

import cv2
import numpy as np
from scipy.ndimage import find_objects

from stvla_ros.geometry.components import connected, fill_holes, nearest_label, renumber, sizes, solidity
from stvla_ros.tabletop.fragments import (
    INSIDE_OUTLINE,
    ON_SUPPORT_M,
    SAME_COLOUR,
    Fragment,
    is_boss,
    split_and_merge,
    stands_in,
)
from stvla_ros.tabletop.regions import TRAY_TOP_M
from stvla_ros.types import F32, I32, Bool

BASELINE_M = 0.015
"""The concavity at a pixel is measured over this distance to both sides."""

MIN_CONCAVITY_M = 0.004
"""A pixel is concave if the chord passes at least this far above the surface."""

SMALL_SHARE = 0.05
"""Pieces that are a smaller share of their neighbour belong to it."""

MAX_NECK_WIDTH = 0.6
"""Width of the neck of a bottle, as a share of the bottle's."""

MAX_NECK = 0.62
"""Largest width of a neck, as a share of the width of the narrower part."""

MAX_SOLIDITY = 0.92
"""Regions that fill more of their convex hull have no neck."""

MIN_PART_SOLIDITY = 0.82
"""Smallest share of its convex hull that a part fills."""

MIN_PART_SHARE = 0.12
"""Smallest part, as a share of the region."""

SEARCH_PX = 96
"""Larger regions are scaled down to at most this size for the search."""


def concavity(height_m: F32, baseline_px: int) -> F32:
    """(H, W) how far the surface lies below a chord along a row, a column or a diagonal, m; the largest of these.

    Args:
        height_m: (H, W) height above the table, NaN where unknown (taken for 0).
        baseline_px: Distance to the two ends of the chord.
    """
    surface = cv2.GaussianBlur(np.nan_to_num(height_m, nan=0.0), (3, 3), 0)
    h, w = surface.shape
    k, slant = baseline_px, max(round(0.7 * baseline_px), 1)
    wide = cv2.copyMakeBorder(surface, k, k, k, k, cv2.BORDER_REPLICATE)
    chord = np.zeros((h, w), dtype=np.float32)
    for dy, dx in ((0, k), (k, 0), (slant, slant), (slant, -slant)):
        there = wide[k + dy : k + dy + h, k + dx : k + dx + w]
        back = wide[k - dy : k - dy + h, k - dx : k - dx + w]
        np.maximum(chord, there + back, out=chord)
    return np.asarray(chord / 2 - surface, dtype=np.float32)


def baseline_px(depth_m: F32, standing: Bool, focal_px: float) -> int:
    """:data:`BASELINE_M` in pixels, at the median depth of the pixels ``standing``."""
    return int(np.clip(round(focal_px * BASELINE_M / float(np.median(depth_m[standing]))), 2, 16))


def split_at_concavities(
    regions: I32, colours: F32, points_m: F32, bend_m: F32, depth_m: F32, height_m: F32, step_m: float, noise_m: float,
    min_px: int,
) -> I32:  # fmt: skip
    """Regions 1..n, split where objects touch.

    Args:
        regions: (H, W) regions connected in depth, 0 elsewhere.
        colours: (H, W, 4) features of the colours (:func:`stvla_ros.tabletop.surface_colours.colour_feature`).
        points_m: (3, H, W) points in the base frame.
        bend_m: (H, W) concavity of the surface (:func:`concavity`).
        depth_m: (H, W) depth.
        height_m: (H, W) height above the table.
        step_m: Depth step that ends an object.
        noise_m: Standard deviation of the heights.
        min_px: Smallest object.
    """
    firm = (regions > 0) & ~(bend_m > MIN_CONCAVITY_M + noise_m)
    pieces = connected(firm, depth_m, step_m, regions)
    pieces = renumber(pieces, sizes(pieces) >= min_px)

    def divide(own: Bool, window: tuple[slice, slice]) -> I32:
        inner = np.where(own, pieces[window], 0)
        return renumber(inner, sizes(inner) > 0)

    return split_and_merge(
        regions, colours, points_m, height_m, divide, lambda a, b, seam: _same(a, b, seam, min_px, noise_m)
    )


def _same(a: Fragment, b: Fragment, seam_m: F32, min_px: int, noise_m: float) -> bool:
    """Two pieces belong to one object although the seam between them is concave."""
    smaller, larger = (a, b) if a.area_px < b.area_px else (b, a)
    if smaller.area_px < max(SMALL_SHARE * larger.area_px, 3 * min_px):
        return True
    plate = a.top_m < TRAY_TOP_M and b.top_m < TRAY_TOP_M  # its rim and its floor
    lower = a if a.top_m < b.top_m else b
    inside = lower.outline < INSIDE_OUTLINE and not stands_in(lower, seam_m, noise_m)  # the bottom of a bowl
    return plate or inside or is_boss(a, b, seam_m) or _is_neck(a, b)


def _is_neck(a: Fragment, b: Fragment) -> bool:
    """One piece is the neck of the other, as of a bottle: narrower, in its middle, of its colour, off the support."""
    upper, lower = (a, b) if a.top_m >= b.top_m else (b, a)
    if upper.height_m[0] < ON_SUPPORT_M or upper.size_m[0] > MAX_NECK_WIDTH * lower.size_m[0]:
        return False
    centred = np.hypot(*(upper.centre_m - lower.centre_m)) < lower.size_m[0] / 3
    return bool(centred and np.linalg.norm(upper.colour - lower.colour) < SAME_COLOUR)


def split_at_constrictions(labels: I32, min_px: int) -> I32:
    """Regions 1..n, split in two or more where a narrow neck joins solid parts.

    Args:
        labels: (H, W) regions 1..n, 0 elsewhere.
        min_px: Smallest part.
    """
    out = labels.copy()
    count = int(labels.max(initial=0))
    top = count
    area = sizes(labels)
    for label, window in enumerate(find_objects(labels), start=1):
        if area[label] < 4 * min_px:
            continue
        parts = _parts(out[window] == label, max(min_px / area[label], MIN_PART_SHARE))
        for part in range(2, int(parts.max()) + 1):
            top += 1
            out[window][parts == part] = top
    return renumber(out, sizes(out) > 0) if top > count else labels


def _parts(own: Bool, min_share: float) -> I32:
    """(h, w) parts 1..n of one region; a large region is scaled down for the search."""
    h, w = own.shape
    step = -(-max(h, w) // SEARCH_PX)
    small = fill_holes(own[::step, ::step])
    if solidity(small) > MAX_SOLIDITY:
        return own.astype(np.int32)
    parts = _split(small, min_share * np.count_nonzero(small))
    if parts.max() < 2:
        return own.astype(np.int32)
    spread = parts.repeat(step, axis=0)[:h].repeat(step, axis=1)[:, :w]
    return np.where(own, nearest_label(np.where(own, spread, 0).astype(np.int32)), 0).astype(np.int32)


def _split(own: Bool, min_px: float) -> I32:
    """(h, w) parts 1..n of one region; all 1 where it has no neck."""
    wide = cv2.copyMakeBorder(own.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    padded = cv2.distanceTransform(wide, cv2.DIST_L2, 5)
    distance = np.asarray(padded[1:-1, 1:-1], dtype=np.float32)
    whole = own.astype(np.int32)
    for level in np.linspace(0.25, 0.7, 7) * float(distance.max()):
        cores = _cores(distance, float(level))
        if cores.max() < 2:
            continue
        parts = np.where(own, nearest_label(cores), 0).astype(np.int32)
        count = int(parts.max())
        if all(
            np.count_nonzero(parts == i) >= min_px and solidity(parts == i) > MIN_PART_SOLIDITY
            for i in range(1, count + 1)
        ):
            return parts
    return whole


def _cores(distance: F32, level: float) -> I32:
    """What remains of the parts after everything narrower than ``level`` is removed, if they are clearly wider."""
    count, found = cv2.connectedComponents((distance > level).astype(np.uint8), connectivity=4, ltype=cv2.CV_32S)
    cores = np.asarray(found, dtype=np.int32)
    if count < 3:
        return cores
    widest = np.zeros(count, dtype=np.float32)
    np.maximum.at(widest, cores.ravel(), distance.ravel())
    return renumber(cores, level < MAX_NECK * widest)
