"""A layer's surface in one frame: the pixels that show it, their deviation from its plane, and its depth elsewhere."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stvla_ros.perception.inpaint.grid import Grid
from stvla_ros.perception.inpaint.layers import LOOSE, PLANE_TOLERANCE, TABLE
from stvla_ros.perception.inpaint.masks import between, has_depth
from stvla_ros.tabletop.support_plane import SupportPlane, inverse_depth_plane
from stvla_ros.types import F32, F64, U8, Camera, RgbdFrame

MAX_DEPTH_M = 20.0
"""A ray that meets a plane further away counts as missing it."""

FAR_M = 4.0
"""Depth where no surface is met and no depth is visible."""


def table_tolerance_m(table: SupportPlane) -> float:
    """Visible pixels this close to the table's plane show the table."""
    return max(2 * table.noise_floor_m, 0.006)


@dataclass(frozen=True, eq=False)
class Surface:
    """Attributes:
    layer: Its label.
    plane: (3,) with ``plane @ (u, v, 1)`` the inverse depth; None for the layer without a plane.
    above_m: Height of the camera above the table.
    tolerance: Largest deviation of a pixel that shows it, m for the table, a share of the depth for other planes.
    """

    layer: int
    plane: F64 | None
    above_m: float
    tolerance: float

    @classmethod
    def make(cls, layer: int, planes: list[F64], camera: Camera, table: SupportPlane) -> Surface:
        o = camera.T_base_camera[:3, 3]
        above = float(o[2] - table.a * o[0] - table.b * o[1] - table.c)
        if layer == TABLE:
            return cls(layer, inverse_depth_plane(camera, table), above, table_tolerance_m(table))
        return cls(layer, None if layer == LOOSE else planes[layer - 1], above, PLANE_TOLERANCE)

    def seen(self, grid: Grid, frame: RgbdFrame, height_m: F32, open_: U8) -> tuple[F32, U8]:
        """Deviation from the surface (h, w) in a window, and the open pixels that show it.

        The deviation is the height for the table, 1 - z / z_plane for other planes, and the inverse depth for the layer
        without a plane.
        """
        height, depth = height_m[grid.window], frame.depth_m[grid.window]
        if self.layer == TABLE:
            return height, between(height, -self.tolerance, self.tolerance) & open_
        if self.plane is None:
            with np.errstate(divide="ignore"):
                loose = has_depth(depth) & ~between(height, -self.tolerance, self.tolerance)
                return np.asarray(1 / depth, dtype=np.float32), loose & open_
        rows, columns = grid.window
        a, b, c = self.plane
        u, v = np.arange(columns.start, columns.stop), np.arange(rows.start, rows.stop)
        inverse = (a * u).astype(np.float32) + (b * v + c).astype(np.float32)[:, None]
        deviation = 1 - depth * inverse
        return deviation, between(deviation, -self.tolerance, self.tolerance) & open_

    def depth(self, deviation: F32, u: F32, v: F32) -> F32:
        """(N,) depth at pixels, given the deviation there; NaN where the surface is not met."""
        if self.plane is None:
            inverse, share = deviation, np.ones_like(deviation)
        else:
            a, b, c = self.plane.astype(np.float32)
            inverse = a * u + b * v + c
            share = 1 - deviation / np.float32(self.above_m if self.layer == TABLE else 1)
        met = inverse > 1 / MAX_DEPTH_M
        return np.where(met, share / np.where(met, inverse, np.float32(1)), np.float32(np.nan)).astype(np.float32)


def deepest(depth_m: F32, open_: U8) -> float:
    """The largest visible depth in open pixels: where no surface is met, the background is at least as far."""
    seen = depth_m[(open_ & has_depth(depth_m)) > 0]
    return float(seen.max()) if len(seen) else FAR_M
