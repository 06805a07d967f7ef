"""Masks in OpenCV's format: (h, w) uint8 of 0 and 255."""

from __future__ import annotations

import cv2
import numpy as np

from stvla_ros.geometry.cameras import SATURATED_M
from stvla_ros.types import F32, U8, Bool


def as_mask(mask: Bool) -> U8:
    """255 where True."""
    return np.ascontiguousarray(mask).view(np.uint8) * np.uint8(255)


def and_not(a: U8, b: U8) -> U8:
    """``a`` without ``b``."""
    return np.asarray(cv2.subtract(a, b), dtype=np.uint8)


def between(values: F32, low: float, high: float) -> U8:
    """255 where a value lies in a range; never for NaN."""
    return np.asarray(cv2.inRange(values, low, high), dtype=np.uint8)


def has_depth(depth_m: F32) -> U8:
    """255 where the depth is valid: positive and not saturated."""
    return between(depth_m, 1e-6, SATURATED_M)


def dilated(mask: U8, radius_px: int) -> U8:
    """Dilated by a disc."""
    if radius_px <= 0:
        return mask
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius_px + 1, 2 * radius_px + 1))
    return np.asarray(cv2.dilate(mask, kernel), dtype=np.uint8)


def square_dilated(mask: U8, radius_px: int) -> U8:
    """Dilated by a square: cheaper than a disc."""
    size = 2 * radius_px + 1
    return np.asarray(cv2.dilate(mask, np.ones((size, size), np.uint8)), dtype=np.uint8)


def spread_cells(cells: Bool, stride: int, shape: tuple[int, ...]) -> U8:
    """255 at the pixels of True cells."""
    return repeated(as_mask(cells), stride, shape)


def repeated(cells: U8, stride: int, shape: tuple[int, ...]) -> U8:
    """The value of its cell (rows, columns) or (rows, columns, c) at each pixel of an image (h, w, ...)."""
    full = cv2.resize(cells, None, fx=stride, fy=stride, interpolation=cv2.INTER_NEAREST)
    return np.ascontiguousarray(full[: shape[0], : shape[1]], dtype=np.uint8)
