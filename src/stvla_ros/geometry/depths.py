"""Depth images of real sensors: valid pixels, edges, specks and noise."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from stvla_ros.types import F32, F64, Bool

MIN_RANGE_M = 0.05
"""Anything nearer to the camera is neither a valid measurement nor a place for a tool."""

EDGE_M = 0.010
"""Neighbouring pixels whose depths differ by more show different surfaces; grows with noise beyond 1 m."""

NOISE_FREE_M = 0.0004
"""A depth image that a small median changes by less is free of noise."""

WIDE_PX = 480
"""Images at least this wide get a median over 5x5 pixels, smaller ones over 3x3."""

_FAR_M = np.float32(1e6)


def valid_depth(depth_m: F32, range_m: float) -> Bool:
    """(H, W) pixels with valid depth: not NaN, zero, negative, infinite or saturated."""
    return np.asarray((depth_m > MIN_RANGE_M) & (depth_m < range_m))


def depth_edge_m(depth_m: npt.ArrayLike) -> F64:
    """Smallest depth step between neighbouring pixels that is an edge: stereo noise grows with the square of depth."""
    return np.asarray(EDGE_M * np.maximum(1.0, np.asarray(depth_m, dtype=np.float64) ** 2))


def without_specks(depth_m: F32) -> F32:
    """Depth with isolated missing pixels filled by the nearest of their neighbours' depths.

    A pixel is filled if at least five of its eight neighbours are valid: small holes in dark or shiny surfaces close,
    large ones stay.

    Args:
        depth_m: (H, W) depth, NaN or <= 0 where unknown.

    Returns:
        (H, W), NaN where still unknown.
    """
    valid = np.isfinite(depth_m) & (depth_m > 0)
    if valid.all():
        return depth_m
    far = np.where(valid, depth_m, np.float32(np.inf))
    neighbours = cv2.boxFilter(valid.view(np.uint8), -1, (3, 3), normalize=False, borderType=cv2.BORDER_CONSTANT)
    nearest = cv2.erode(far, np.ones((3, 3), np.uint8))
    fillable = ~valid & (neighbours >= 5)
    return np.where(fillable, nearest, np.where(valid, depth_m, np.float32(np.nan))).astype(np.float32, copy=False)


def denoise(depth_m: F32) -> F32:
    """Depth without the noise of single pixels, by a median, which preserves edges.

    A noise-free image (below :data:`NOISE_FREE_M` on average) stays unchanged, because a median rounds corners.

    Args:
        depth_m: (H, W) depth, NaN where unknown, which counts as far away.
    """
    known = np.isfinite(depth_m)
    far = np.where(known, depth_m, _FAR_M)
    smooth = cv2.medianBlur(far, 3)
    change = np.abs(smooth - far)[::3, ::3][known[::3, ::3]]
    if not len(change) or np.mean(np.minimum(change, 0.01)) < NOISE_FREE_M:
        return depth_m
    if depth_m.shape[1] >= WIDE_PX:
        smooth = cv2.medianBlur(far, 5)
    return np.where(known & (smooth < _FAR_M), smooth, depth_m)
