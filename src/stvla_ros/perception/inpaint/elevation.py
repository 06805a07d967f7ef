"""What stands on the table seen from above, and the shadow that it casts in the light of a lamp."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from stvla_ros.perception.inpaint.grid import Grid
from stvla_ros.tabletop.support_plane import SupportPlane, inverse_depth_plane
from stvla_ros.types import F32, F64, U8, Bool, Camera

TALLEST_M = 0.4
"""What is higher above the table casts no shadow here: arms and walls are no columns that stand on the table."""

HOVERS_M = 0.06
"""What is seen this far above everything below it hovers, as a hand does: no shadow begins at its foot."""

_LOWEST_M = 0.008
_REACH_M = 0.15
_MOST_CELLS = 200
_GAP_CELLS = 5
_FOOT_CELLS = 9
_FURTHEST_M = 10.0
_LOST_SHARE = 0.3


@dataclass(frozen=True, eq=False)
class Ground:
    """Where the cells of an image lie on the table.

    Attributes:
        xy_m: (2, rows, columns) the cell's centre on the table in the base frame, NaN above the horizon.
        cell_m: Median distance on the table between neighbouring cells of a row.
        eye_m: (3,) the camera: x and y in the base frame, and its height above the table.
    """

    xy_m: F64
    cell_m: float
    eye_m: F64

    @classmethod
    def of(cls, grid: Grid, camera: Camera, table: SupportPlane) -> Ground:
        rows, columns = grid.cells
        middle = (grid.stride - 1) / 2
        u = np.arange(columns) * grid.stride + grid.window[1].start + middle
        v = (np.arange(rows) * grid.stride + grid.window[0].start + middle)[:, None]
        a, b, c = inverse_depth_plane(camera, table)
        inverse = a * u + (b * v + c)
        depth = 1 / np.where(inverse > 1 / _FURTHEST_M, inverse, np.nan)
        seen = depth[np.isfinite(depth)]
        typical = float(np.median(seen)) if len(seen) else 1.0
        x, y, z = camera.T_base_camera[:3, 3]
        eye = np.array([x, y, z - table.a * x - table.b * y - table.c])
        return cls(_xy_m(camera, u, v, depth), grid.stride * typical / float(camera.K[0, 0]), eye)

    def away_m(self, xy_m: F64) -> F64:
        """(...) distance of points (2, ...) on the table from the camera's foot."""
        return np.asarray(np.hypot(xy_m[0] - self.eye_m[0], xy_m[1] - self.eye_m[1]))


@dataclass(frozen=True, eq=False)
class ElevationMap:
    """Heights of what stands on the table, in square cells on the table; 0 where nothing stands.

    Attributes:
        removed_m: (rows along y, columns along x) height of what goes.
        kept_m: The same of what stays.
        standing_m: The same of what stays and does not hover (:data:`HOVERS_M`).
        corner_m: (2,) x and y of the first cell's outer corner.
        cell_m: Edge of a cell.
    """

    removed_m: F32
    kept_m: F32
    standing_m: F32
    corner_m: F64
    cell_m: float

    @classmethod
    def of(
        cls, grid: Grid, camera: Camera, height_m: F32, depth_m: F32, gone: U8, kept: U8, ground: Ground
    ) -> ElevationMap | None:
        """The map of a window, from one pixel of each cell; None if nothing that goes stands above the table.

        Args:
            grid: Cells over the window.
            camera: Of the whole image.
            height_m: (h, w) above the table, NaN where unknown.
            depth_m: (h, w) along the optical axis.
            gone: (h, w) pixels of what goes, 255.
            kept: (h, w) pixels of what stays, 255.
            ground: Where the cells lie; the map's cells are as large, and larger if there would be more than 200 in a
                row.
        """
        every = (slice(None, None, grid.stride),) * 2
        thing, goes, height = (gone | kept)[every] > 0, gone[every] > 0, height_m[every]
        v, u = (np.arange(s.start, s.stop, grid.stride) for s in grid.window)
        xy = _xy_m(camera, u, v[:, None], depth_m[every])
        xy, height = _upright(xy, height, thing, ground)
        stands = thing & (height > _LOWEST_M) & (height < TALLEST_M)
        xy, height, goes = xy[:, stands], height[stands], goes[stands]
        if not goes.any():
            return None
        corner, far = xy[:, goes].min(axis=1) - _REACH_M, xy[:, goes].max(axis=1) + _REACH_M
        cell = max(ground.cell_m, float((far - corner).max()) / _MOST_CELLS)
        width, length = np.ceil((far - corner) / cell).astype(int)
        x, y = np.floor((xy - corner[:, None]) / cell).astype(int)
        inside = (x >= 0) & (y >= 0) & (x < width) & (y < length)
        removed_m, kept_m = (
            _highest(x[some], y[some], height[some], (length, width)) for some in (inside & goes, inside & ~goes)
        )
        stays = inside & ~goes
        standing_m = _standing(x[stays], y[stays], height[stays], (length, width))
        return cls(removed_m, kept_m, standing_m, corner, cell)

    @property
    def height_m(self) -> F32:
        """(rows, columns) height of what stands there, whether it goes or stays."""
        return np.asarray(np.maximum(self.removed_m, self.kept_m), dtype=np.float32)

    def halved(self) -> ElevationMap:
        """The same in cells twice as large."""
        removed_m, kept_m, standing_m = (
            np.asarray(cv2.dilate(m, np.ones((2, 2), np.uint8), anchor=(0, 0))[::2, ::2], dtype=np.float32, order="C")
            for m in (self.removed_m, self.kept_m, self.standing_m)
        )
        return ElevationMap(removed_m, kept_m, standing_m, self.corner_m, 2 * self.cell_m)

    def places(self, xy_m: F64) -> tuple[npt.NDArray[np.intp], Bool]:
        """Flat index of the cell of each point (2, rows, columns), 0 beyond the map; and which points lie on it."""
        rows, columns = self.removed_m.shape
        x, y = np.floor((np.nan_to_num(xy_m, nan=1e6) - self.corner_m[:, None, None]) / self.cell_m)
        inside = (x >= 0) & (y >= 0) & (x < columns) & (y < rows)
        return np.where(inside, y * columns + x, 0).astype(np.intp), inside


def shadow_depth_m(height_m: F32, cell_m: float, lamp: F64) -> F32:
    """How far below the edge of the shadow each cell of the table lies, m above the table; not positive: it is lit.

    The ray from the table to the lamp is followed in steps that double: the cost grows with the logarithm of the
    shadow's length.

    Args:
        height_m: (rows, columns) of what stands there; it fills the column from the table up.
        cell_m: Edge of a cell.
        lamp: (3,) shift of the shadow along x and y for each unit of height, in the middle of the map; and how much that
            grows per metre away from the lamp: the inverse of its height, 0 for the sun.
    """
    rows, columns = height_m.shape
    reach = float(np.hypot(lamp[0], lamp[1])) + lamp[2] * cell_m * max(rows, columns) / 2
    step, top, depth = cell_m / max(reach, 1e-6), float(height_m.max()), height_m
    while step < top:
        scale, shift = 1 - step * lamp[2], step / cell_m
        from_ = np.array(
            [
                [scale, 0, (1 - scale) * columns / 2 - shift * lamp[0]],
                [0, scale, (1 - scale) * rows / 2 - shift * lamp[1]],
            ]
        )
        moved = cv2.warpAffine(depth, from_, (columns, rows), flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP)
        depth = np.asarray(cv2.max(depth, cv2.subtract(moved, step)), dtype=np.float32)
        step *= 2
    return depth


def reach_m(height_m: F32, cell_m: float, slope: float) -> F32:
    """How deep each cell of the table lies in shadows that fall to all sides, m; not positive: beyond their reach.

    Args:
        height_m: (rows, columns) of what stands there.
        cell_m: Edge of a cell.
        slope: Length over height of the shadows.
    """
    near, cells, fall = height_m, 1, cell_m / slope
    while cells * fall < float(height_m.max()):
        wider = cv2.dilate(near, np.ones((2 * cells + 1,) * 2, np.uint8))
        near = np.asarray(cv2.max(near, cv2.subtract(wider, cells * fall)), dtype=np.float32)  # type: ignore[call-overload]
        cells *= 2
    return near


def _upright(xy_m: F64, height_m: F32, thing: Bool, ground: Ground) -> tuple[F64, F32]:
    """Places (2, rows, columns) and heights in which what has no depth stands upright, such as glass and black things.

    A column of such cells is a screen at the distance of what it stands on: the table, or the measured thing below.
    Depth at the height of the table counts as none where most cells around it have none: the camera sees through.
    """
    raised = thing & (height_m > _LOWEST_M)
    blind = cv2.morphologyEx((thing & ~raised).astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    if not blind.any():
        return xy_m, height_m
    count, regions = cv2.connectedComponents(blind, connectivity=4)
    cells, lost = (np.bincount(regions[m], minlength=count) for m in (blind > 0, (blind > 0) & ~np.isfinite(height_m)))
    unseen = (blind > 0) & (lost > _LOST_SHARE * cells)[regions]
    if not unseen.any():
        return xy_m, height_m
    away = ground.away_m(ground.xy_m)
    foot = np.where(raised, ground.away_m(xy_m), away)
    row = np.where(unseen, len(thing) - 1, np.arange(len(thing))[:, None])
    below = np.minimum.accumulate(row[::-1], axis=0)[::-1]
    share = np.take_along_axis(foot, below, axis=0) / away
    share = np.where(unseen & (share < 1), share, np.nan)
    eye = ground.eye_m[:2, None, None]
    screen = eye + (ground.xy_m - eye) * share
    height = (ground.eye_m[2] * (1 - share)).astype(np.float32)
    return np.where(unseen, screen, xy_m), np.where(unseen, height, height_m)


def _highest(x: npt.NDArray[np.intp], y: npt.NDArray[np.intp], height_m: F32, shape: tuple[int, int]) -> F32:
    """The greatest height in each cell; gaps between the pixels are closed, and a cell added that faces away."""
    cells = np.zeros(shape, dtype=np.float32)
    np.maximum.at(cells, (y, x), height_m)
    closed = cv2.morphologyEx(cells, cv2.MORPH_CLOSE, np.ones((_GAP_CELLS,) * 2, np.uint8))
    return np.asarray(cv2.dilate(closed, np.ones((3, 3), np.uint8)), dtype=np.float32)


def _standing(x: npt.NDArray[np.intp], y: npt.NDArray[np.intp], height_m: F32, shape: tuple[int, int]) -> F32:
    """:func:`_highest` of what does not hover over the table or over what stands there, from the table up."""
    below, count = np.zeros(shape, dtype=np.float32), -1
    while True:
        stands = height_m < below[y, x] + HOVERS_M
        before, count = count, int(np.count_nonzero(stands))
        if count in (before, len(stands)):
            return _highest(x[stands], y[stands], height_m[stands], shape)
        np.maximum.at(below, (y[stands], x[stands]), height_m[stands])
        below = np.asarray(cv2.dilate(below, np.ones((_FOOT_CELLS,) * 2, np.uint8)), dtype=np.float32)


def _xy_m(
    camera: Camera, u: npt.NDArray[np.number], v: npt.NDArray[np.number], depth_m: npt.NDArray[np.floating]
) -> F64:
    """(2, ...) place of pixels with depth in the base frame."""
    M, o = camera.T_base_camera[:3, :3] @ np.linalg.inv(camera.K), camera.T_base_camera[:3, 3]
    return np.stack([(M[k, 0] * u + (M[k, 1] * v + M[k, 2])) * depth_m + o[k] for k in range(2)])
