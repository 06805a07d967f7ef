"""Split touching objects where the surface is concave.

The surface is concave where two bodies meet, and steps up where one stands behind another; on a single convex body
neither happens. Concavity is measured over a centimetre, so that it shows in images of a sensor that smears edges over
several pixels.
"""

from __future__ import annotations

import cv2
import numpy as np

from stvla_ros.geometry.components import connected, renumber, sizes
from stvla_ros.tabletop.fragments import Fragment, is_boss, split_and_merge
from stvla_ros.tabletop.regions import TRAY_TOP_M
from stvla_ros.types import F32, I32, Bool

BASELINE_M = 0.009
"""The concavity at a pixel is measured over this distance to both sides."""

MIN_CONCAVITY_M = 0.004
"""A pixel is concave if the chord passes at least this far above the surface."""

SMALL_SHARE = 0.05
"""Pieces that are a smaller share of their neighbour belong to it."""


def concave_pixels(height_m: F32, baseline_px: int, min_m: float) -> Bool:
    """(H, W) pixels where the surface is concave along a row, a column or a diagonal.

    Args:
        height_m: (H, W) height above the table, NaN where unknown (not concave).
        baseline_px: Distance to the two pixels that each pixel is compared with.
        min_m: Smallest height of the chord between those two above the pixel.
    """
    surface = cv2.GaussianBlur(np.nan_to_num(height_m, nan=0.0), (3, 3), 0)
    h, w = surface.shape
    k, slant = baseline_px, max(round(0.7 * baseline_px), 1)
    wide = cv2.copyMakeBorder(surface, k, k, k, k, cv2.BORDER_REPLICATE)
    bend = np.zeros((h, w), dtype=np.float32)
    for dy, dx in ((0, k), (k, 0), (slant, slant), (slant, -slant)):
        there = wide[k + dy : k + dy + h, k + dx : k + dx + w]
        back = wide[k - dy : k - dy + h, k - dx : k - dx + w]
        np.maximum(bend, there + back, out=bend)
    return np.asarray(bend > 2 * (surface + np.float32(min_m)))


def split_at_concavities(
    regions: I32,
    colours: F32,
    points_m: F32,
    height_m: F32,
    depth_m: F32,
    focal_px: float,
    step_m: float,
    noise_m: float,
    min_px: int,
) -> I32:
    """Regions 1..n, split where objects touch.

    Args:
        regions: (H, W) regions connected in depth, 0 elsewhere.
        colours: (H, W, 4) features of the colours (:func:`stvla_ros.tabletop.surface_colours.colour_feature`).
        points_m: (3, H, W) points in the base frame.
        height_m: (H, W) height above the table.
        depth_m: (H, W) depth.
        focal_px: Focal length of the image.
        step_m: Depth step that ends an object.
        noise_m: Standard deviation of the heights.
        min_px: Smallest object.
    """
    standing = regions > 0
    if not standing.any():
        return regions
    baseline_px = int(np.clip(round(focal_px * BASELINE_M / float(np.median(depth_m[standing]))), 2, 12))
    firm = standing & ~concave_pixels(height_m, baseline_px, MIN_CONCAVITY_M + noise_m)
    pieces = connected(firm, depth_m, step_m, regions)
    pieces = renumber(pieces, sizes(pieces) >= min_px)

    def divide(own: Bool, window: tuple[slice, slice]) -> I32:
        inner = np.where(own, pieces[window], 0)
        return renumber(inner, sizes(inner) > 0)

    return split_and_merge(regions, colours, points_m, height_m, divide, lambda a, b, _: _same(a, b, min_px))


def _same(a: Fragment, b: Fragment, min_px: int) -> bool:
    """Two pieces belong to one object although the seam between them is concave."""
    smaller, larger = (a, b) if a.area_px < b.area_px else (b, a)
    if smaller.area_px < max(SMALL_SHARE * larger.area_px, 3 * min_px):
        return True
    plate = a.top_m < TRAY_TOP_M and b.top_m < TRAY_TOP_M  # its rim and its floor
    lower = a if a.top_m < b.top_m else b
    inside = lower.outline < 0.1  # the bottom of a bowl
    return plate or inside or is_boss(a, b)
