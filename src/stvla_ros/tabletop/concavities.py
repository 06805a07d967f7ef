"""Things that touch: cut along the valleys between them.

Where two bodies meet, the surface bends upwards (it is concave), and where one stands behind another it steps up; on
one convex body it never does. The bend is measured over a centimetre, so that a sensor that smears an edge over
several pixels shows it too.
"""

from __future__ import annotations

import cv2
import numpy as np

from stvla_ros.geometry.components import connected, renumber, sizes
from stvla_ros.tabletop.fragments import Fragment, divided, is_boss
from stvla_ros.tabletop.regions import LOW_M
from stvla_ros.types import F32, I32, Bool

ARM_M = 0.009
"""The bend at a pixel is that of the surface this far to both sides."""

BEND_M = 0.004
"""Least height of the chord over the surface in a valley."""

SMALL_SHARE = 0.05
"""Smaller pieces, as a share of their neighbour, are parts of it."""


def valleys(height_m: F32, arm_px: int, least_m: float) -> Bool:
    """(H, W) pixels where the surface is bent upwards along a row, a column or a diagonal.

    Args:
        height_m: (H, W) height above the table, NaN where unknown (no valley).
        arm_px: Distance to the two pixels that each pixel is compared with.
        least_m: Least height of the chord between these over the pixel.
    """
    surface = cv2.GaussianBlur(np.nan_to_num(height_m, nan=0.0), (3, 3), 0)
    h, w = surface.shape
    k, slant = arm_px, max(round(0.7 * arm_px), 1)
    wide = cv2.copyMakeBorder(surface, k, k, k, k, cv2.BORDER_REPLICATE)
    bend = np.zeros((h, w), dtype=np.float32)
    for dy, dx in ((0, k), (k, 0), (slant, slant), (slant, -slant)):
        there = wide[k + dy : k + dy + h, k + dx : k + dx + w]
        back = wide[k - dy : k - dy + h, k - dx : k - dx + w]
        np.maximum(bend, there + back, out=bend)
    return np.asarray(bend > 2 * (surface + np.float32(least_m)))


def cut_creases(
    regions: I32,
    colours: F32,
    points_m: F32,
    height_m: F32,
    depth_m: F32,
    focal_px: float,
    step_m: float,
    noise_m: float,
    least_px: int,
) -> I32:
    """Regions 1..n cut where things touch.

    Args:
        regions: (H, W) regions connected in depth, 0 is none.
        colours: (H, W, 4) features of its colours (:func:`stvla_ros.tabletop.surface_colours.colour_feature`).
        points_m: (3, H, W) points in the base frame.
        height_m: (H, W) height above the table.
        depth_m: (H, W) depth.
        focal_px: Focal length of the image.
        step_m: Depth step at which a thing ends.
        noise_m: Standard deviation of the heights.
        least_px: Smallest part.
    """
    standing = regions > 0
    if not standing.any():
        return regions
    arm_px = int(np.clip(round(focal_px * ARM_M / float(np.median(depth_m[standing]))), 2, 12))
    firm = standing & ~valleys(height_m, arm_px, BEND_M + noise_m)
    pieces = connected(firm, depth_m, step_m, regions)
    pieces = renumber(pieces, sizes(pieces) >= least_px)

    def divide(own: Bool, window: tuple[slice, slice]) -> I32:
        inner = np.where(own, pieces[window], 0)
        return renumber(inner, sizes(inner) > 0)

    return divided(regions, colours, points_m, height_m, divide, lambda a, b, _: _same(a, b, least_px))


def _same(a: Fragment, b: Fragment, least_px: int) -> bool:
    """Two pieces with a valley between them belong together all the same."""
    smaller, larger = (a, b) if a.area_px < b.area_px else (b, a)
    if smaller.area_px < max(SMALL_SHARE * larger.area_px, 3 * least_px):
        return True
    plate = a.top_m < LOW_M and b.top_m < LOW_M  # its rim and its floor
    lower = a if a.top_m < b.top_m else b
    inside = lower.outer < 0.1  # the bottom of a bowl
    return plate or inside or is_boss(a, b)
