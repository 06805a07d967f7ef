"""The sensor's depth where a path starts. Planner and lifter share it because depth offsets are relative to it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stvla_ros.geometry.cameras import back_project
from stvla_ros.geometry.components import connected
from stvla_ros.geometry.depths import depth_edge_m, valid_depth
from stvla_ros.types import F32, F64, I32, RgbdFrame

SPECK = 0.02
"""Regions that cover a smaller share of the window are flying pixels."""

MIN_PX = 3
"""A window with fewer valid pixels has no depth."""

RISE_M = 0.008
"""A surface this far above the table is raised."""

NEIGHBOURS = 9
"""The depth is the median of this many pixels. More would reach across creases, fewer let noise through."""

MIN_SNAP_PX = 2.0
"""Objects lose pixels at their edges, so snapping reaches at least this far in small images."""


@dataclass(frozen=True)
class StartRule:
    """Which surface a start belongs to.

    Attributes:
        window_px: Half size of the window looked at, at an image width of 640.
        snap_px: A start on the table this close to a raised surface snaps to it; at an image width of 640, 0: never.
        low_m: Surfaces lower than this above z = 0 of the base frame are table.
        range_m: Greater depths are invalid.
    """

    window_px: float = 8.0
    snap_px: float = 3.0
    low_m: float = 0.015
    range_m: float = 10.0


@dataclass(frozen=True, eq=False)
class _Window:
    """The N pixels around a point with valid depth: offset from the point, depth, label of their surface."""

    offset_px: F64
    depth_m: F64
    region: I32
    min_px: int

    def away_px(self) -> dict[int, float]:
        """Distance of the point from each surface larger than a speck."""
        away = np.hypot(*self.offset_px.T)
        names, counts = np.unique(self.region, return_counts=True)
        solid = [int(n) for n, c in zip(names, counts, strict=True) if c >= self.min_px] or [
            int(names[counts.argmax()])
        ]
        return {n: float(away[self.region == n].min()) for n in solid}


def start_depth(frame: RgbdFrame, px: npt.ArrayLike, rule: StartRule | None = None) -> float:
    """Depth of the surface that a path starts on, m; NaN when the window has none.

    Depth edges divide the window around the pixel into surfaces. Regions of a few pixels are flying pixels and do
    not count. The start belongs to the nearest surface in the image: the one under it, unless it falls into a hole.
    If that surface is the table and a raised surface begins within ``snap_px`` more, the start belongs to the raised
    one: a hand reaches for an object, not for the table next to it. A start on an object stays on it, whatever is in
    front of it. The depth is the median of the nearest pixels of the surface.

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
    snap_px = max(rule.snap_px * scale, MIN_SNAP_PX) if rule.snap_px > 0 else 0.0
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
    valid = valid_depth(patch, range_m)
    if valid.sum() < MIN_PX:
        return None
    labels = connected(valid, patch, float(depth_edge_m(np.median(patch[valid]))))
    ys, xs = np.nonzero(valid)
    min_px = max(MIN_PX, round(SPECK * patch.size))
    return _Window(np.column_stack([xs, ys]) + low - px, patch[ys, xs].astype(np.float64), labels[ys, xs], min_px)


def _meant(window: _Window, frame: RgbdFrame, px: F64, snap_px: float, low_m: float) -> int:
    """Label of the surface that the point belongs to."""
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
