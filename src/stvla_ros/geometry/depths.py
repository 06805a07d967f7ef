"""Depth of one surface near a pixel."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from stvla_ros.geometry.components import connected
from stvla_ros.types import F32

EDGE_M = 0.010
"""Neighbouring pixels whose depths differ by more show different surfaces."""


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
