"""Depth as a colour image: how a model that sees RGB is shown what the depth camera measured."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from stvla_ros.types import F64, U8, Bool, RgbdFrame

LEVELS = 255
"""Colours from the nearest to the farthest; beside them black means "no depth"."""

SHARE = 0.01
"""This share of the depths may lie before the nearest colour, as much behind the farthest: flying pixels, far walls."""

LEAST_SPAN_M = 0.05
"""A flat scene is not stretched over all colours."""


def _palette() -> U8:
    """(256, 3): 0 is black; 1 red (near) over yellow, green and cyan to 255 blue (far), at full brightness."""
    corners = np.array([[255, 0, 0], [255, 255, 0], [0, 255, 0], [0, 255, 255], [0, 0, 255]], dtype=np.float64)
    at = np.linspace(0, len(corners) - 1, LEVELS)
    colours = np.column_stack([np.interp(at, np.arange(len(corners)), channel) for channel in corners.T])
    return np.vstack([[0, 0, 0], np.rint(colours)]).astype(np.uint8)


PALETTE = _palette()


def valid(depth_m: npt.NDArray[np.float32]) -> Bool:
    """(H, W) pixels with a depth: finite and before the camera."""
    return np.asarray(np.isfinite(depth_m) & (depth_m > 0))


def depth_range(depth_m: npt.NDArray[np.float32]) -> tuple[float, float] | None:
    """Nearest and farthest depth that get a colour of their own, m; None when nothing has depth."""
    depths = depth_m[valid(depth_m)]
    if not len(depths):
        return None
    near, far = (float(x) for x in np.quantile(depths, [SHARE, 1 - SHARE]))
    spare = max(LEAST_SPAN_M - (far - near), 0.0) / 2
    return near - spare, far + spare


def colourised_depth(frame: RgbdFrame) -> U8:
    """(H, W, 3) uint8: red is near, over yellow, green and cyan to blue, which is far; black has no depth.

    The colours are even in depth between the 1 % nearest and the 1 % farthest of the valid pixels (at least 5 cm apart).
    """
    span = depth_range(frame.depth_m)
    if span is None:
        return np.zeros_like(frame.rgb)
    near, far = span
    known = valid(frame.depth_m)
    share: F64 = (np.where(known, frame.depth_m, near).astype(np.float64) - near) / (far - near)
    level = 1 + np.rint(np.clip(share, 0, 1) * (LEVELS - 1))
    return PALETTE[np.where(known, level, 0).astype(np.uint8)]
