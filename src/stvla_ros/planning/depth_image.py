"""Depth as a colour image: shows the measured depth to a model that takes RGB."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from stvla_ros.types import F64, U8, Bool, RgbdFrame

LEVELS = 255
"""Number of colours from nearest to farthest. Black, in addition, means "no depth"."""

SHARE = 0.01
"""This share of the depths is clipped at each end: flying pixels, far walls."""

MIN_SPAN_M = 0.05
"""Smallest depth range of all colours, so that a flat scene is not stretched over all of them."""


def _palette() -> U8:
    """(256, 3): 0 is black; 1 red (near) over yellow, green and cyan to 255 blue (far), at full brightness."""
    corners = np.array([[255, 0, 0], [255, 255, 0], [0, 255, 0], [0, 255, 255], [0, 0, 255]], dtype=np.float64)
    at = np.linspace(0, len(corners) - 1, LEVELS)
    colours = np.column_stack([np.interp(at, np.arange(len(corners)), channel) for channel in corners.T])
    return np.vstack([[0, 0, 0], np.rint(colours)]).astype(np.uint8)


PALETTE = _palette()


def valid(depth_m: npt.NDArray[np.float32]) -> Bool:
    """(H, W) pixels with depth: finite and in front of the camera."""
    return np.asarray(np.isfinite(depth_m) & (depth_m > 0))


def depth_range(depth_m: npt.NDArray[np.float32]) -> tuple[float, float] | None:
    """Depths of the nearest and the farthest colour, m; None without any depth."""
    depths = depth_m[valid(depth_m)]
    if not len(depths):
        return None
    near, far = (float(x) for x in np.quantile(depths, [SHARE, 1 - SHARE]))
    spare = max(MIN_SPAN_M - (far - near), 0.0) / 2
    return near - spare, far + spare


def colourised_depth(frame: RgbdFrame) -> U8:
    """(H, W, 3) uint8: red is near, over yellow, green and cyan to blue, which is far; black has no depth.

    Colours are linear in depth between the 1 % nearest and the 1 % farthest valid pixels (at least 5 cm apart).
    """
    span = depth_range(frame.depth_m)
    if span is None:
        return np.zeros_like(frame.rgb)
    near, far = span
    known = valid(frame.depth_m)
    share: F64 = (np.where(known, frame.depth_m, near).astype(np.float64) - near) / (far - near)
    level = 1 + np.rint(np.clip(share, 0, 1) * (LEVELS - 1))
    return PALETTE[np.where(known, level, 0).astype(np.uint8)]
