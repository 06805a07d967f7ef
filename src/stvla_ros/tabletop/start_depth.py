"""The sensor's depth where a path starts: planner and lifter read it alike, since offsets refer to it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stvla_ros.geometry.cameras import back_project
from stvla_ros.geometry.components import connected
from stvla_ros.geometry.depths import edge_m, usable
from stvla_ros.types import F32, F64, I32, RgbdFrame

SPECK = 0.02
"""Regions of a smaller share of the window are flying pixels."""

LEAST_PX = 3
"""Fewer pixels with depth in the window are none."""

RISE_M = 0.008
"""What is higher than the table by more is raised."""

NEIGHBOURS = 9
"""Pixels whose median is the depth: more would reach over creases and along slopes, fewer let the noise through."""

SNAP_LEAST_PX = 2.0
"""Edges of things lose pixels: snapping reaches at least this far in small images."""


@dataclass(frozen=True)
class StartRule:
    """Which surface a start belongs to.

    Attributes:
        window_px: Half size of the window looked at, at an image width of 640.
        snap_px: A start on the table this close beside a raised surface belongs to that; at an image width of 640, 0: never.
        low_m: What is lower over z = 0 of the base frame is table.
        range_m: Greater depths are no measurement.
    """

    window_px: float = 8.0
    snap_px: float = 3.0
    low_m: float = 0.015
    range_m: float = 10.0


@dataclass(frozen=True, eq=False)
class _Window:
    """The N pixels around a point that have a depth: offset from the point, depth, number of their surface."""

    offset_px: F64
    depth_m: F64
    region: I32
    least: int

    def away_px(self) -> dict[int, float]:
        """Distance of the point from each surface that is no speck."""
        away = np.hypot(*self.offset_px.T)
        names, counts = np.unique(self.region, return_counts=True)
        solid = [int(n) for n, c in zip(names, counts, strict=True) if c >= self.least] or [int(names[counts.argmax()])]
        return {n: float(away[self.region == n].min()) for n in solid}


def start_depth(frame: RgbdFrame, px: npt.ArrayLike, rule: StartRule | None = None) -> float:
    """Depth of the surface meant by a start, m; NaN when there is none in the window.

    The window around the pixel is cut into surfaces at depth edges. Regions of a few pixels are flying pixels and do
    not count. The start belongs to the surface that is nearest to it in the image: the one under it, unless it falls
    into a hole. If that one lies on the table and a raised surface begins at most ``snap_px`` further off, the start
    belongs to the raised one: hands reach for things, not for the table beside them. A start on a thing stays on it,
    whatever passes before it. The depth is the median of the nearest pixels of that surface.

    Args:
        frame: Image with depth.
        px: (2,) pixel coordinates.
        rule: Settings; the defaults when not given.
    """
    rule = rule or StartRule()
    px = np.asarray(px, dtype=np.float64)
    scale = frame.camera.width_px / 640
    window = _window(frame.depth_m, px, max(rule.window_px * scale, 2.0), rule.range_m)
    if window is None:
        return float("nan")
    snap_px = max(rule.snap_px * scale, SNAP_LEAST_PX) if rule.snap_px > 0 else 0.0
    own = window.region == _meant(window, frame, px, snap_px, rule.low_m)
    nearest = np.argsort(np.hypot(*window.offset_px[own].T), kind="stable")[:NEIGHBOURS]
    return float(np.median(window.depth_m[own][nearest]))


def _window(depth_m: F32, px: F64, radius: float, range_m: float) -> _Window | None:
    if not np.isfinite(px).all():
        return None
    h, w = depth_m.shape
    low = np.clip(np.ceil(px - radius), 0, [w, h]).astype(int)
    high = np.clip(np.floor(px + radius) + 1, 0, [w, h]).astype(int)
    patch = depth_m[low[1] : high[1], low[0] : high[0]]
    valid = usable(patch, range_m)
    if valid.sum() < LEAST_PX:
        return None
    labels = connected(valid, patch, float(edge_m(np.median(patch[valid]))))
    ys, xs = np.nonzero(valid)
    least = max(LEAST_PX, round(SPECK * patch.size))
    return _Window(np.column_stack([xs, ys]) + low - px, patch[ys, xs].astype(np.float64), labels[ys, xs], least)


def _meant(window: _Window, frame: RgbdFrame, px: F64, snap_px: float, low_m: float) -> int:
    """The surface that the point belongs to."""
    away = window.away_px()
    own = min(away, key=away.__getitem__)
    if len(away) == 1:
        return own
    height = back_project(frame.camera, px + window.offset_px, window.depth_m)[:, 2]
    level = {n: float(np.median(height[window.region == n])) for n in away}
    depth = {n: float(np.median(window.depth_m[window.region == n])) for n in away}
    if level[own] >= low_m:
        return own
    near = {n: d for n, d in away.items() if d <= away[own] + snap_px}
    raised = [n for n in near if level[n] > level[own] + RISE_M and depth[n] < depth[own]]
    return min(raised, key=near.__getitem__, default=own)
