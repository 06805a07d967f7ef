"""Grain: the texture of a surface, continued into the hole by copies of its visible parts.

The membrane of a hole holds its low frequencies. The rest is copied from places on the same plane, piece by piece, as
He and Sun do ("Statistics of Patch Offsets for Image Completion", ECCV 2012), with offsets in the coordinates of the
plane, as Huang et al. do ("Image Completion using Planar Structure Guidance", SIGGRAPH 2014): so lines keep their
direction and patterns their size on the table. What is copied is the ratio to the local mean colour: so the light is
that of the hole, and the low frequencies stay those of the membrane.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from scipy.ndimage import find_objects
from scipy.spatial import cKDTree

from stvla_ros.perception.inpaint.grid import Grid, Slices
from stvla_ros.perception.inpaint.sources import Sources
from stvla_ros.perception.inpaint.surfaces import MAX_DEPTH_M
from stvla_ros.types import F32, F64, I32, U8, Bool, Camera

Indices = npt.NDArray[np.intp]
FloatArray = npt.NDArray[np.floating]

_TILES = (32, 16, 8)
"""Edge of the pieces of a hole that look for a source together, in cells: smaller ones for what is left."""

_LEAST_INVERSE_M = 1e-3
"""Inverse depths are taken to be at least this, so that all coordinates are finite."""

_DIRECTIONS, _DISTANCES = 16, (1.0, 1.5)
_PLACES = 24
_PROBES = 24
_MISSING, _ZOOM = 3.0, 2.0
"""Weights of missing sources, and of the logarithm of the ratio in scale, against differences at the border."""

_NO_MATCH = 1.2
"""Difference at the border, in standard deviations of the grain, where it cannot be compared: that of chance."""

_STEPS = np.stack(np.meshgrid([-0.6, 0, 0.6], [-0.6, 0, 0.6]), axis=-1).reshape(-1, 2)
"""Steps about the best offset, in cells."""


@dataclass(frozen=True, eq=False)
class Plane:
    """Coordinates on a plane for the cells of a grid.

    Two base coordinates serve, those that are least steep on the plane: a shift of them is a shift on the plane.

    Attributes:
        grid: The cells.
        H: (3, 3) from pixels (u, v, 1) to (x, y, 1) times the inverse depth; x and y in m.
        back: Its inverse, from (x, y, 1) to (u, v, 1) times the depth.
    """

    grid: Grid
    H: F64
    back: F64

    @classmethod
    def of(cls, grid: Grid, camera: Camera, plane: F64) -> Plane | None:
        """From a camera without distortion and a (3,) plane in inverse depth; None if it is seen edge-on."""
        T = camera.T_base_camera
        rows = T[:3, :3] @ np.linalg.inv(camera.K) + np.outer(T[:3, 3], plane)
        steepest = np.abs(T[:3, :3] @ camera.K.T @ plane).argmax()
        H = np.vstack([np.delete(rows, steepest, axis=0), plane])
        return cls(grid, H, np.linalg.inv(H)) if np.linalg.cond(H) < 1e9 else None

    def xy(self, cells: Indices) -> F64:
        """(..., 2) coordinates of the centres of cells (..., 2), given by row and column."""
        s, (rows, columns) = self.grid.stride, self.grid.window
        u, v = columns.start + (cells[..., 1] + 0.5) * s - 0.5, rows.start + (cells[..., 0] + 0.5) * s - 0.5
        p = u[..., None] * self.H[:, 0] + v[..., None] * self.H[:, 1] + self.H[:, 2]
        return np.asarray(p[..., :2] / np.maximum(p[..., 2:], _LEAST_INVERSE_M))

    def ahead(self) -> Bool:
        """(rows, columns) cells that show the plane within reach, not the horizon or beyond."""
        rows, columns = (
            w.start + (np.arange(n) + 0.5) * self.grid.stride
            for w, n in zip(self.grid.window, self.grid.cells, strict=True)
        )
        return np.asarray(self.H[2, 0] * columns + (self.H[2, 1] * rows + self.H[2, 2])[:, None] > 1 / MAX_DEPTH_M)

    def cells(self, x: FloatArray, y: FloatArray) -> tuple[Indices, F32]:
        """(...,) flat index, in the grid with a border of one cell around it, of the cells at places.

        The second result is their depth; places outside or behind the camera are in the border.
        """
        (rows, columns), s, (top, left) = self.grid.cells, self.grid.stride, (w.start for w in self.grid.window)
        to_cell = np.array([[1, 0, 0.5 - left], [0, 1, 0.5 - top], [0, 0, s]]) / s  # rounds down to the cell
        a, b, c = (to_cell @ self.back).astype(np.float32)
        x, y = x.astype(np.float32, copy=False), y.astype(np.float32, copy=False)
        column, row, depth = (k[0] * x for k in (a, b, c))
        for p, k in ((column, a), (row, b), (depth, c)):  # in place: new arrays cost more than the sums
            p += k[1] * y
            p += k[2]
        inverse = 1 / np.maximum(depth, np.float32(1e-3))
        for p, n in ((column, columns), (row, rows)):
            p *= inverse
            np.clip(p, -1, n, out=p)
            p += 1
        index = row.astype(np.intp)
        index *= columns + 2
        index += column.astype(np.intp)
        return index, depth

    def shifts(self, offsets: F64) -> F64:
        """(K, 3, 3) from pixels to those that show the plane by offsets (K, 2) further."""
        return np.asarray(np.eye(3) + (offsets @ self.back[:, :2].T)[:, :, None] * self.H[2])


@dataclass(frozen=True, eq=False)
class Groups:
    """Cells that look for a source together, sorted by group.

    Attributes:
        cells: (N, 2) row and column.
        start: (K + 1,) bounds of the groups.
    """

    cells: Indices
    start: Indices

    @classmethod
    def of(cls, labels: I32) -> Groups:
        """From (rows, columns) labels, 0 for none."""
        flat = labels.ravel()
        cells = np.flatnonzero(flat)
        cells = cells[np.argsort(flat[cells], kind="stable")]
        start = np.flatnonzero(np.diff(flat[cells], prepend=0))
        return cls(np.column_stack(np.divmod(cells, labels.shape[1])), np.append(start, len(cells)))

    def some(self, count: int) -> Indices:
        """(K, count, 2) cells spread over each group."""
        size = np.diff(self.start)[:, None]
        return self.cells[self.start[:-1, None] + (np.arange(count) * size) // count]


@dataclass(frozen=True, eq=False)
class Copies:
    """Where the grain of hidden cells comes from.

    Attributes:
        which: (rows, columns) number of a copy, -1 where there is none.
        offsets: (K, 2) on the plane, from each copy to its source.
        xy: (N, 2) places on the plane of the cells that have a copy, in raster order.
    """

    which: I32
    offsets: F64
    xy: F64

    @classmethod
    def of(cls, plane: Plane, hidden: Bool, sources: Sources, before: Copies | None = None) -> Copies:
        """Copies for hidden cells; those of an earlier view of the plane stay where they can still be seen."""
        which, offsets = np.full(hidden.shape, -1, dtype=np.int32), np.zeros((0, 2))
        if before is not None and len(before.xy):
            offsets = before.offsets
            which = _remembered(plane, hidden, sources, before)
        lenders = np.argwhere(sources.usable)
        rng = np.random.default_rng(0)  # a frame is always filled alike
        for tile in _TILES if len(lenders) else ():
            labels = _pieces(hidden & (which < 0), tile)
            groups = Groups.of(labels)
            if not len(groups.cells):
                break
            tried = plane.xy(lenders[rng.integers(len(lenders), size=(len(groups.start) - 1, _PLACES))])
            found = _Search.of(plane, groups, labels, sources).offsets(groups, tried, tile == _TILES[0])
            number = np.repeat(np.arange(len(found)), np.diff(groups.start))
            _take(which, groups.cells, number, len(offsets), _usable(plane, groups.cells, found[number], sources))
            offsets = np.vstack([offsets, found])
        used, number = np.unique(which[which >= 0], return_inverse=True)
        which[which >= 0] = number
        return cls(which, offsets[used], plane.xy(np.argwhere(which >= 0)))


def _take(which: I32, cells: Indices, number: Indices, first: int, good: Bool) -> None:
    v, u = cells[good].T
    which[v, u] = number[good] + first


def _usable(plane: Plane, cells: Indices, offset: F64, sources: Sources) -> Bool:
    """(N,) whether cells (N, 2) can be copied from an offset (N, 2)."""
    x, y = (plane.xy(cells) + offset).T
    return np.asarray(~np.isnan(sources.lent.take(plane.cells(x, y)[0])))


def _remembered(plane: Plane, hidden: Bool, sources: Sources, before: Copies) -> I32:
    which, cells = np.full(hidden.shape, -1, dtype=np.int32), np.argwhere(hidden)
    if not len(cells):
        return which
    reach = float(np.median(np.abs(plane.xy(cells + 1) - plane.xy(cells)).max(axis=1)))
    distance, nearest = cKDTree(before.xy).query(plane.xy(cells), distance_upper_bound=reach)
    near = np.isfinite(distance)
    cells, number = cells[near], before.which[before.which >= 0][nearest[near]]
    _take(which, cells, number, 0, _usable(plane, cells, before.offsets[number], sources))
    return which


def _pieces(cells: Bool, tile: int) -> I32:
    """(rows, columns) labels of connected cells, cut along a lattice of tiles; 0 elsewhere."""
    _, labels = cv2.connectedComponents(cells.astype(np.uint8), connectivity=8)
    v, u = np.nonzero(cells)
    key = (labels[v, u].astype(np.int64) * 4096 + v // tile) * 4096 + u // tile
    out = np.zeros(cells.shape, dtype=np.int32)
    out[v, u] = np.unique(key, return_inverse=True)[1].ravel() + 1
    return out


@dataclass(frozen=True, eq=False)
class _Search:
    """Compares offsets of K groups of cells.

    Attributes:
        plane: Coordinates.
        points: (K, P, 2) places in each group, then visible ones around it.
        here: (K, P) grain of the visible ones, NaN for the others.
        value: Grain by index of :meth:`Plane.cells`, in standard deviations, NaN where it cannot be copied.
    """

    plane: Plane
    points: F32
    here: F32
    value: F32

    @classmethod
    def of(cls, plane: Plane, groups: Groups, labels: I32, sources: Sources) -> _Search:
        value = sources.grey
        rim = cv2.dilate(labels.astype(np.float32), np.ones((5, 5), np.uint8)).astype(np.int32)
        rim[(labels > 0) | np.isnan(value)] = 0
        cells = groups.some(_PROBES)
        around, here = cells.copy(), np.full(cells.shape[:2], np.nan, dtype=np.float32)
        present = np.unique(rim[rim > 0]) - 1
        if len(present):
            around[present] = Groups.of(rim).some(_PROBES)
            here[present] = value[around[present, :, 0], around[present, :, 1]]
        points = plane.xy(np.concatenate([cells, around], axis=1)).astype(np.float32)
        return cls(plane, points, here, sources.lent)

    def offsets(self, groups: Groups, places: F64, whole: bool) -> F64:
        """(K, 2) the best offset of each group to some places (K, M, 2), for whole holes also regular ones; refined."""
        one = groups.some(1)
        cell = np.abs(self.plane.xy(one + 1) - self.plane.xy(one))
        inside = self.points[:, :_PROBES]
        tried = places - inside.mean(axis=1, keepdims=True)
        if whole:
            angle = np.arange(_DIRECTIONS) * (2 * np.pi / _DIRECTIONS)
            way = np.column_stack([np.cos(angle), np.sin(angle)])
            size = np.ptp(inside, axis=1, keepdims=True) + 3 * cell
            reach = np.min(size / np.maximum(np.abs(way), 1e-6), axis=2, keepdims=True)
            tried = np.concatenate([tried, *(d * reach * way for d in _DISTANCES)], axis=1)
        return self._best(self._best(tried)[:, None] + _STEPS * cell)

    def _best(self, offsets: F64) -> F64:
        """(K, 2) the best of (K, C, 2) offsets."""
        which = self._cost(offsets.astype(np.float32)).argmin(axis=1)
        return np.asarray(offsets[np.arange(len(offsets)), which])

    def _cost(self, offsets: F32) -> F32:
        x, y = (self.points[:, None, :, i] + offsets[:, :, None, i] for i in range(2))
        index, depth = self.plane.cells(x, y)
        value = self.value.take(index)
        missing = np.count_nonzero(np.isnan(value[..., :_PROBES]), axis=2) / np.float32(_PROBES)
        step = np.abs(value[..., _PROBES:] - self.here[:, None])
        step = np.where(np.isnan(step), np.float32(_NO_MATCH), step).mean(axis=2)
        here = self.plane.cells(*np.moveaxis(self.points[:, 0], -1, 0))[1][:, None]
        zoom = np.abs(np.log(np.maximum(depth[..., 0], np.float32(1e-3)) / here))
        return np.asarray(_MISSING * missing + _ZOOM * zoom + step)


def detail(plane: Plane, copies: Copies, rgb: U8, sources: Sources) -> F32:
    """(h, w, 3) the copies over the grid's window: their ratio to the local mean colour, 1 where there is none.

    Args:
        plane: Its grid has the window.
        copies: Of the same cells.
        rgb: (H, W, 3) the image.
        sources: Of the same frame.
    """
    grid, s = plane.grid, plane.grid.stride
    h, w = (side.stop - side.start for side in grid.window)
    free = cv2.resize((copies.which < 0).astype(np.float32), None, fx=s, fy=s, interpolation=cv2.INTER_LINEAR)[:h, :w]
    out = cv2.merge([free, free, free])  # what no copy weighs
    to_source = plane.shifts(copies.offsets)
    for k, (rows, columns) in enumerate(find_objects(copies.which + 1)):
        y, x = max(rows.start - 1, 0), max(columns.start - 1, 0)
        cells = (copies.which[y : rows.stop + 1, x : columns.stop + 1] == k).astype(np.float32)
        weight = cv2.resize(cells, None, fx=s, fy=s, interpolation=cv2.INTER_LINEAR)[: h - y * s, : w - x * s]
        part = slice(y * s, y * s + weight.shape[0]), slice(x * s, x * s + weight.shape[1])
        weight = cv2.merge([weight, weight, weight])  # without broadcasting, which is slow over three channels
        cv2.accumulateProduct(_ratio(grid, to_source[k], part, rgb, sources.mean), weight, out[part])
    return np.asarray(out, dtype=np.float32)


def _ratio(grid: Grid, to_source: F64, part: Slices, rgb: U8, mean: F32) -> F32:
    """One copy over a part of the window, given its matrix from pixels to their sources."""
    (rows, columns), s = grid.window, grid.stride
    size = part[1].stop - part[1].start, part[0].stop - part[0].start
    start = np.array([[1, 0, columns.start + part[1].start], [0, 1, rows.start + part[0].start], [0, 0, 1.0]])
    to_cell = np.array([[1, 0, 0.5 - s / 2 - columns.start], [0, 1, 0.5 - s / 2 - rows.start], [0, 0, s]]) / s
    M = to_source @ start
    inverse, border = cv2.WARP_INVERSE_MAP, cv2.BORDER_REPLICATE
    there = cv2.warpPerspective(rgb, M, size, flags=inverse | cv2.INTER_CUBIC, borderMode=border)
    usual = cv2.warpPerspective(mean, to_cell @ M, size, flags=inverse | cv2.INTER_LINEAR, borderMode=border)
    return np.asarray(cv2.divide(there, usual, dtype=cv2.CV_32F), dtype=np.float32)
