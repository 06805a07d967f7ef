"""Depth of one surface near a pixel."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from stvla_ros.geometry.components import connected
from stvla_ros.types import F32

EDGE_M = 0.010
"""Neighbouring pixels whose depths differ by more show different surfaces."""


STILL_M = 0.0004
"""A depth image that a small median changes by less has no noise."""

WIDE_PX = 480
"""Images at least this wide bear a median over 5x5 pixels, smaller ones over 3x3."""

_FAR_M = np.float32(1e6)


def surface_depth(depth_m: F32, px: npt.ArrayLike, radius_px: float | None = None) -> float:
    """Median depth of the surface at a pixel, taken from pixels that connect to it without a depth edge.

    Args:
        depth_m: (H, W) depth, NaN or <= 0 where unknown.
        px: (2,) pixel coordinates.
        radius_px: Half size of the window looked at; 1/80 of the image's width when not given.

    Returns:
        Metres; NaN when no valid pixel lies in the window.
    """
    h, w = depth_m.shape
    radius = max(radius_px if radius_px is not None else w / 80, 2.0)
    x, y = np.asarray(px, dtype=np.float64)
    if not np.isfinite([x, y]).all():
        return float("nan")
    columns = slice(max(int(np.ceil(x - radius)), 0), min(int(np.floor(x + radius)) + 1, w))
    rows = slice(max(int(np.ceil(y - radius)), 0), min(int(np.floor(y + radius)) + 1, h))
    window = depth_m[rows, columns]
    valid = np.isfinite(window) & (window > 0)
    if not valid.any():
        return float("nan")
    ys, xs = np.nonzero(valid)
    nearest = int(np.argmin((xs + columns.start - x) ** 2 + (ys + rows.start - y) ** 2))
    labels = connected(valid, window, EDGE_M)
    own = labels == labels[ys[nearest], xs[nearest]]
    return float(np.median(window[own]))


def without_specks(depth_m: F32) -> F32:
    """Depth with single missing pixels given the nearest of their neighbours' depths.

    A pixel is filled when at least five of its eight neighbours are valid: holes in dark or shiny surfaces close,
    wide ones stay.

    Args:
        depth_m: (H, W) depth, NaN or <= 0 where unknown.

    Returns:
        (H, W), NaN where still unknown.
    """
    valid = np.isfinite(depth_m) & (depth_m > 0)
    if valid.all():
        return depth_m
    far = np.where(valid, depth_m, np.float32(np.inf))
    neighbours = cv2.boxFilter(valid.astype(np.float32), -1, (3, 3), normalize=False, borderType=cv2.BORDER_CONSTANT)
    nearest = cv2.erode(far, np.ones((3, 3), np.uint8))
    fillable = ~valid & (neighbours >= 5)
    return np.where(fillable, nearest, np.where(valid, depth_m, np.float32(np.nan))).astype(np.float32, copy=False)


def steady(depth_m: F32) -> F32:
    """Depth with the noise of single pixels taken out by a median, which leaves edges where they are.

    A depth image without such noise (under :data:`STILL_M` on average) stays as it is, for a median rounds corners.

    Args:
        depth_m: (H, W) depth, NaN where unknown; counts as far away.
    """
    known = np.isfinite(depth_m)
    far = np.where(known, depth_m, _FAR_M)
    smooth = cv2.medianBlur(far, 3)
    change = np.abs(smooth - far)[::3, ::3][known[::3, ::3]]
    if not len(change) or np.mean(np.minimum(change, 0.01)) < STILL_M:
        return depth_m
    if depth_m.shape[1] >= WIDE_PX:
        smooth = cv2.medianBlur(far, 5)
    return np.where(known & (smooth < _FAR_M), smooth, depth_m)
