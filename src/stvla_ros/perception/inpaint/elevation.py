"""What stands on the table seen from above, and the shadow that it casts in the light of a lamp."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from stvla_ros.perception.inpaint.grid import Grid
from stvla_ros.tabletop.support_plane import SupportPlane, inverse_depth_plane
from stvla_ros.types import F32, F64, U8, Camera

TALLEST_M = 0.4
"""What is higher above the table casts no shadow here: the arm and a wall are no columns that stand on the table."""

_LOWEST_M = 0.008
_MOST_CELLS = 200
_REACH_M = 0.15
_GAP_CELLS = 5
_THICK = 3


@dataclass(frozen=True, eq=False)
class Ground:
    """Where the cells of an image lie on the table.

    Attributes:
        xy_m: (2, rows, columns) the cell's centre on the table in the base frame, NaN above the horizon.
        cell_m: Median distance on the table between neighbouring cells of a row.
    """

    xy_m: F64
    cell_m: float

    @classmethod
    def of(cls, grid: Grid, camera: Camera, table: SupportPlane) -> Ground:
        rows, columns = grid.cells
        middle = (grid.stride - 1) / 2
        u = np.arange(columns) * grid.stride + grid.window[1].start + middle
        v = np.arange(rows) * grid.stride + grid.window[0].start + middle
        a, b, c = inverse_depth_plane(camera, table)
        inverse = a * u + (b * v + c)[:, None]
        depth = 1 / np.where(inverse > 0.1, inverse, np.nan)
        seen = depth[np.isfinite(depth)]
        typical = float(np.median(seen)) if len(seen) else 1.0
        return cls(_at(camera, u, v[:, None], depth)[:2], grid.stride * typical / float(camera.K[0, 0]))


@dataclass(frozen=True, eq=False)
class ElevationMap:
    """Heights of what stands on the table, in square cells on the table; 0 where nothing stands.

    Attributes:
        removed_m: (rows along y, columns along x) height of what goes.
        kept_m: The same of everything else.
        corner_m: (2,) x and y of the first cell's outer corner.
        cell_m: Edge of a cell.
    """

    removed_m: F32
    kept_m: F32
    corner_m: F64
    cell_m: float

    @classmethod
    def of(cls, grid: Grid, camera: Camera, height_m: F32, depth_m: F32, gone: U8, kept: U8, cell_m: float) -> ElevationMap | None:
        """The map of a window; None if nothing that goes is measured above the table.

        Args:
            grid: Cells over the window.
            camera: Of the whole image.
            height_m: (h, w) above the table, NaN where unknown.
            depth_m: (h, w) along the optical axis.
            gone: (h, w) pixels of what goes, 255.
            kept: (h, w) pixels of what stays, 255.
            cell_m: Edge of a cell.
        """
        step = max(grid.stride // 2, 1)
        height = height_m[::step, ::step]
        v, u = np.nonzero((height > _LOWEST_M) & (height < TALLEST_M) & ((gone | kept)[::step, ::step] > 0))
        goes = gone[::step, ::step][v, u] > 0
        if not goes.any():
            return None
        u, v, height = u * step, v * step, height[v, u]
        rows, columns = grid.window
        xy = _at(camera, u + columns.start, v + rows.start, depth_m[v, u])[:2]
        corner, far = xy[:, goes].min(axis=1) - _REACH_M, xy[:, goes].max(axis=1) + _REACH_M
        cell = max(cell_m, float((far - corner).max()) / _MOST_CELLS)
        size = np.ceil((far - corner) / cell).astype(int)
        x, y = np.floor((xy - corner[:, None]) / cell).astype(int)
        inside = (x >= 0) & (y >= 0) & (x < size[0]) & (y < size[1])
        both = [_highest(x[k], y[k], height[k], size) for k in (inside & goes, inside & ~goes)]
        return cls(*both, corner, cell)

    def coarser(self, factor: int) -> ElevationMap:
        """The same in larger cells."""
        kernel = np.ones((factor, factor), np.uint8)
        large = [
            np.ascontiguousarray(cv2.dilate(m, kernel, anchor=(0, 0))[::factor, ::factor])
            for m in (self.removed_m, self.kept_m)
        ]
        return ElevationMap(*large, self.corner_m, self.cell_m * factor)

    def places(self, xy_m: F64) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.bool_]]:
        """Flat index of the cell of each point (2, ...), 0 beyond the map; and which points lie on it."""
        x, y = np.floor((np.nan_to_num(xy_m, nan=1e6) - self.corner_m.reshape(2, *[1] * (xy_m.ndim - 1))) / self.cell_m)
        inside = (x >= 0) & (y >= 0) & (x < self.removed_m.shape[1]) & (y < self.removed_m.shape[0])
        return np.where(inside, y * self.removed_m.shape[1] + x, 0).astype(np.intp), inside


def shadow_depth_m(height_m: F32, cell_m: float, lamp: F64) -> F32:
    """How far below the edge of the shadow each cell of the table lies, m above the table; not positive: it is lit.

    A ray from the table to the lamp is followed in steps that double, so that the cost grows with the logarithm of the
    shadow's length.

    Args:
        height_m: (rows, columns) of what stands there; it fills the column from the table up.
        cell_m: Edge of a cell.
        lamp: (3,) the shadow's shift along x and y for each unit of height, in the middle of the map; and how much that
            grows per metre: the inverse height of the lamp, 0 for the sun.
    """
    rows, columns = height_m.shape
    reach = np.hypot(lamp[0], lamp[1]) + lamp[2] * cell_m * max(rows, columns) / 2
    top, shaded = float(height_m.max()), height_m
    step = cell_m / max(reach, 1e-6)
    while step < top:
        a, b = 1 - step * lamp[2], step / cell_m
        move = np.array(
            [[a, 0, (1 - a) * columns / 2 - b * lamp[0]], [0, a, (1 - a) * rows / 2 - b * lamp[1]]]
        )
        flags = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
        higher = cv2.subtract(cv2.warpAffine(shaded, move, (columns, rows), flags=flags), step)
        shaded = np.asarray(cv2.max(shaded, higher), dtype=np.float32)
        step *= 2
    return shaded


def reach_m(height_m: F32, cell_m: float, slope: float) -> F32:
    """How high what stands near each cell of the table rises above a cone over that cell, m; not positive: not near.

    Args:
        height_m: (rows, columns) of what stands there.
        cell_m: Edge of a cell.
        slope: Of the longest shadow: its length over the height of what casts it.
    """
    near, cells, fall = height_m, 1, cell_m / slope
    while cells * fall < float(height_m.max()):
        square = np.ones((2 * cells + 1,) * 2, np.uint8)
        near = np.asarray(cv2.max(near, cv2.subtract(cv2.dilate(near, square), cells * fall)), dtype=np.float32)
        cells *= 2
    return near


def _highest(
    x: npt.NDArray[np.intp], y: npt.NDArray[np.intp], height_m: F32, size: npt.NDArray[np.intp]
) -> F32:
    """The greatest height in each cell, with small gaps closed."""
    cells = np.zeros((size[1], size[0]), dtype=np.float32)
    np.maximum.at(cells, (y, x), height_m)
    closed = cv2.morphologyEx(cells, cv2.MORPH_CLOSE, np.ones((_GAP_CELLS,) * 2, np.uint8))
    return np.asarray(cv2.dilate(closed, np.ones((_THICK,) * 2, np.uint8)), np.float32)


def _at(camera: Camera, u: npt.ArrayLike, v: npt.ArrayLike, depth_m: npt.NDArray[np.floating]) -> F64:
    """(3, ...) points in the base frame of pixels with depth."""
    M = camera.T_base_camera[:3, :3] @ np.linalg.inv(camera.K)
    u, v = np.broadcast_arrays(u, v)
    return np.asarray(np.tensordot(M, np.stack([u, v, np.ones_like(u)]), 1) * depth_m + _column(camera, u.ndim))


def _column(camera: Camera, dims: int) -> F64:
    return np.asarray(camera.T_base_camera[:3, 3].reshape(3, *[1] * dims), dtype=np.float64)
