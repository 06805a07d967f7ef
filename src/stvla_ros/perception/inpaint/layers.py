"""The background layer behind each hidden pixel.

Most holes lie on the table with nothing else visible around them. If pixels beyond the table are visible at a hole, the
straight edges of the table are located to a fraction of a pixel, between neighbours of which one shows the table and
the other the background. The table is the intersection of their inner sides, since a table is convex. If straight edges
do not explain the surroundings (a round table), the border is the level line of the membrane over both.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from stvla_ros.perception.inpaint.grid import Grid, Membrane
from stvla_ros.perception.inpaint.masks import between, spread_cells, square_dilated
from stvla_ros.types import F32, F64, U8, Bool

TABLE, LOOSE = 0, 255
"""Labels of the table and of the layer without a plane; planes have 1, 2, ..."""

BELOW_M = 0.02
"""Depth this far below the table's plane shows the background beyond the table."""

PLANE_TOLERANCE = 0.015
"""A pixel belongs to a plane when their inverse depths differ by less than this share (three sigma of a stereo camera
at 3 m)."""

_WALL_SHARE = 0.03
_GAP_PX = 6
_MAX_EDGES = 4
_MISFIT = 0.04
_RING_PX = 12
_SAMPLES = 8000
_MAX_PLANES = 3
_BUDGET = 1500


@dataclass(frozen=True, eq=False)
class LayerMap:
    """Attributes:
    labels: (h, w) layer of each hidden pixel of a window, and of pixels near by that of the nearest hidden one; None if
        all belong to the table.
    planes: Inverse depth of the layers 1, 2, ... as (3,) for ``plane @ (u, v, 1)``.
    """

    labels: U8 | None
    planes: list[F64] = field(default_factory=list)


def split_layers(grid: Grid, hidden: U8, table: U8, beyond: U8, depth_m: F32, near_px: int) -> LayerMap:
    """Assign the hidden pixels of a window to layers.

    Args:
        grid: Cells over the window.
        hidden: (h, w) the hole; this and the other masks are 0 and 255.
        table: (h, w) pixels that show the table.
        beyond: (h, w) pixels that show the background behind or beside it.
        depth_m: (h, w).
        near_px: How far around the hole pixels have a label.
    """
    at_edge = _touching(grid, hidden, beyond)
    if at_edge is None:
        return LayerMap(None)
    off = _off_table(grid, at_edge, table, beyond)
    v, u = np.divmod(np.flatnonzero(off), off.shape[1])
    if len(u) < grid.stride**2:  # less than a cell: within the error of the edge
        return LayerMap(None)
    planes, which = _planes_behind(grid, beyond, depth_m, np.column_stack([u, v]))
    which = _without_crumbs(which, grid.stride**2)
    labels = np.full(hidden.shape, TABLE, dtype=np.uint8)
    labels[v, u] = which
    _continue(labels, hidden, near_px)
    return LayerMap(labels, planes)


def _without_crumbs(which: U8, least_px: int) -> U8:
    """Labels (N,) of pixels, in which those with fewer pixels than ``least_px`` become the most frequent one."""
    counts = np.bincount(which)
    return np.where(counts[which] < least_px, np.uint8(counts.argmax()), which)


def _continue(labels: U8, hidden: U8, near_px: int) -> None:
    """Label the pixels around hidden ones beyond the table like the nearest hidden pixel."""
    x, y, width, height = cv2.boundingRect(labels)
    part = slice(max(y - near_px, 0), y + height + near_px), slice(max(x - near_px, 0), x + width + near_px)
    ours = hidden[part] > 0
    _, nearest = cv2.distanceTransformWithLabels(
        (~ours).astype(np.uint8), cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL
    )
    own = np.zeros(int(nearest.max()) + 1, dtype=np.uint8)
    own[nearest[ours]] = labels[part][ours]
    labels[part] = own[nearest]


def pixels_beyond(grid: Grid, height_m: F32, other: U8, tolerance_m: float) -> U8:
    """Pixels (255) that show the background: below the table, or large and above it (a wall).

    Args:
        grid: Cells over the window.
        height_m: (h, w) above the table.
        other: (h, w) visible pixels that do not show the table.
        tolerance_m: Pixels within this height show the table.
    """
    if not cv2.countNonZero(other):
        return other
    below = between(height_m, -1e6, -max(tolerance_m, BELOW_M)) & other
    above = between(height_m, tolerance_m, 1e6) & other
    if cv2.countNonZero(above) < _WALL_SHARE * above.size:
        return below
    cells = (grid.share(above) > 0.5).astype(np.uint8)
    _, regions, stats, _ = cv2.connectedComponentsWithStats(cells, connectivity=4)
    large = stats[:, cv2.CC_STAT_AREA] > _WALL_SHARE * cells.size
    large[0] = False
    if not large.any():
        return below
    return below | (above & spread_cells(large[regions], grid.stride, above.shape))


def _touching(grid: Grid, hidden: U8, beyond: U8) -> U8 | None:
    """The regions of the hole next to at least a few cells of background, if any."""
    if not cv2.countNonZero(beyond):
        return None
    cells = (grid.share(hidden) > 0).astype(np.uint8)
    count, regions = cv2.connectedComponents(cells, connectivity=8)
    near = cv2.dilate(regions.astype(np.uint16), np.ones((7, 7), np.uint8))
    seen = np.bincount(near[grid.share(beyond) > 0.5], minlength=count) >= 4
    seen[0] = False
    if not seen.any():
        return None
    return hidden & spread_cells(seen[regions], grid.stride, hidden.shape)


def _off_table(grid: Grid, hidden: U8, table: U8, beyond: U8) -> Bool:
    """Hidden pixels with background, not table, behind them."""
    edges = table_edges(table, beyond)
    h, w = hidden.shape
    u, v = np.arange(w, dtype=np.float32), np.arange(h, dtype=np.float32)[:, None]
    inside = np.ones((h, w), dtype=bool)
    for line in edges:
        a, b, c = np.float32(line[0]), np.float32(line[1]), np.float32(line[2])
        inside &= a * u + b * v + c > 0
    ring = square_dilated(hidden, _RING_PX) > 0
    on, off = ring & (table > 0), ring & (beyond > 0)
    wrong, seen = (on & ~inside) | (off & inside), on | off
    if np.count_nonzero(wrong) > _MISFIT * np.count_nonzero(seen):
        inside = _level_line(grid, hidden, table, beyond)
    return np.asarray((hidden > 0) & ~inside)


def _level_line(grid: Grid, hidden: U8, table: U8, beyond: U8) -> Bool:
    """Where the membrane between table (1) and background (0) exceeds one half."""
    on, off = grid.share(table), grid.share(beyond)
    known = on + off > 0.25
    unknown = (grid.share(hidden) > 0) & ~known
    cells = np.where(known, on / np.maximum(on + off, 1e-6), 1).astype(np.float32)
    cells[unknown] = Membrane(unknown, known).solve(cells[..., None], np.ones(1))[:, 0]
    return np.asarray(grid.spread(cells) > 0.5)


def table_edges(table: U8, beyond: U8) -> list[F64]:
    """Straight edges between the table and the background.

    Args:
        table: (h, w) pixels that show the table, not 0.
        beyond: (h, w) pixels that show the background, not 0.

    Returns:
        (a, b, c) with ``a u + b v + c`` the distance in pixels on the table's side; the most supported edge first.
    """
    points = np.concatenate([_crossings(table, beyond, axis) for axis in (1, 0)])
    v, u = np.nonzero(table[::6, ::6])
    surface = 6.0 * np.column_stack([u, v])
    rng = np.random.default_rng(0)
    if len(points) > 1500:
        points = points[rng.choice(len(points), 1500, replace=False)]
    edges: list[F64] = []
    while len(points) >= 12 and len(surface) and len(edges) < _MAX_EDGES:
        edge = _best_line(points, surface, rng)
        if edge is None:
            break
        edges.append(edge)
        points = points[np.abs(points @ edge[:2] + edge[2]) > 3]
    return edges


def _crossings(table: U8, beyond: U8, axis: int) -> F64:
    """(N, 2) points (u, v) between neighbours of both kinds along an axis, at most a few missing pixels apart."""
    reach = np.ones((2 * _GAP_PX + 1, 1) if axis == 0 else (1, 2 * _GAP_PX + 1), np.uint8)
    near_table, near_beyond = (np.asarray(cv2.dilate(mask, reach), dtype=np.uint8) for mask in (table, beyond))
    kind = (table & 1 & near_beyond) | (beyond & 2 & near_table)
    at = np.flatnonzero(kind > 0)
    place = np.divmod(at, kind.shape[1])
    kinds, line, along = kind.take(at), place[1 - axis], place[axis]
    if axis == 0:
        order = np.lexsort((along, line))
        kinds, line, along = kinds[order], line[order], along[order]
    gap = np.diff(along)
    near = (kinds[1:] != kinds[:-1]) & (line[1:] == line[:-1]) & (gap <= _GAP_PX)
    kinds, line, along, gap = kinds[:-1][near], line[:-1][near], along[:-1][near], gap[near]
    order = np.lexsort((kinds, gap))  # stable: in the order of the lines otherwise
    points = np.column_stack([along + gap / 2, line])[order]
    return points[:, ::-1] if axis == 0 else points


def _best_line(points: F64, surface: npt.NDArray[np.floating], rng: np.random.Generator) -> F64 | None:
    """RANSAC for the line through most points with the whole surface on one side."""
    pairs = points[rng.integers(len(points), size=(120, 2))]
    along = pairs[:, 1] - pairs[:, 0]
    length = np.linalg.norm(along, axis=1)
    pairs, along, length = pairs[length > 10], along[length > 10], length[length > 10]
    if not len(pairs):
        return None
    normal = np.column_stack([-along[:, 1], along[:, 0]]) / length[:, None]
    offset = -np.einsum("ij,ij->i", normal, pairs[:, 0])
    votes = (np.abs(points @ normal.T + offset) < 1.5).sum(axis=0)
    for k in np.argsort(-votes)[:12]:
        if votes[k] < max(12, 0.04 * len(points)):
            break
        line = _refined(points, np.append(normal[k], offset[k]))
        line = line if np.median(surface @ line[:2] + line[2]) > 0 else -line
        if np.mean(surface @ line[:2] + line[2] < -1.5) < 0.01:
            return line
    return None


def _refined(points: F64, line: F64) -> F64:
    """Total least squares over the points near a line, twice."""
    for tolerance in (1.5, 1.0):
        near = points[np.abs(points @ line[:2] + line[2]) < tolerance]
        if len(near) < 3:
            return line
        centre = near.mean(axis=0)
        off = near - centre
        normal = np.linalg.eigh(off.T @ off)[1][:, 0]
        line = np.append(normal, -normal @ centre)
    return line


def _planes_behind(grid: Grid, beyond: U8, depth_m: F32, px: npt.NDArray[np.intp]) -> tuple[list[F64], U8]:
    """Planes through the visible background near hidden pixels (N, 2), and the label of each of those pixels.

    A hidden pixel belongs to the plane of the nearest visible pixel.
    """
    left, top = np.maximum(px.min(axis=0) - 20 * grid.stride, 0)
    right, bottom = px.max(axis=0) + 20 * grid.stride
    step = 1 + math.isqrt((bottom - top) * (right - left) // _SAMPLES)
    v, u = np.nonzero(beyond[top:bottom:step, left:right:step])
    if not len(u):
        return [], np.full(len(px), LOOSE, dtype=np.uint8)
    u, v = u * step + left, v * step + top
    rows, columns = grid.window
    A = np.column_stack([u + columns.start, v + rows.start, np.ones(len(u))]).astype(np.float64)
    fits = fit_planes(A, 1.0 / depth_m[v, u].astype(np.float64))
    labels = np.full(len(u), LOOSE, dtype=np.uint8)
    for k, (_, inliers) in enumerate(fits, start=1):
        labels[inliers] = k
    nearest = (
        cKDTree(np.column_stack([u, v])).query(px)[1] if len(np.unique(labels)) > 1 else np.zeros(len(px), np.intp)
    )
    return [plane for plane, _ in fits], labels[nearest]


def fit_planes(A: F64, inverse_depth: F64, seed: int = 0) -> list[tuple[F64, npt.NDArray[np.intp]]]:
    """Sequential RANSAC for planes in inverse depth.

    Args:
        A: (N, 3) rows (x, y, 1) in pixels.
        inverse_depth: (N,) 1/m.
        seed: Seed of the random triples, so that a frame is always filled alike.

    Returns:
        Up to three planes (3,), for which ``A @ plane`` is the inverse depth, and the indices of their pixels.
    """
    rng = np.random.default_rng(seed)
    left = np.arange(len(A))
    planes: list[tuple[F64, npt.NDArray[np.intp]]] = []
    while len(left) > 60 and len(planes) < _MAX_PLANES:
        sub = left[rng.integers(len(left), size=min(len(left), _BUDGET))]
        plane = _best_of_triples(A[sub], inverse_depth[sub], rng)
        if plane is None:
            break
        for _ in range(2):
            inside = _close(A[left], inverse_depth[left], plane)
            if inside.sum() < 3:
                return planes
            plane = refit(A[left[inside]], inverse_depth[left[inside]])
        planes.append((plane, left[inside]))
        left = left[~inside]
    return planes


def refit(A: F64, inverse_depth: F64) -> F64:
    """(3,) least-squares plane of (N, 3) rows and (N,) inverse depths."""
    return np.asarray(np.linalg.lstsq(A.T @ A, A.T @ inverse_depth, rcond=None)[0], dtype=np.float64)


def _close(A: F64, inverse_depth: F64, plane: F64) -> npt.NDArray[np.bool_]:
    return np.asarray(np.abs(A @ plane - inverse_depth) < PLANE_TOLERANCE * inverse_depth)


def _best_of_triples(A: F64, inverse_depth: F64, rng: np.random.Generator) -> F64 | None:
    """The plane through three of the pixels with most support; None if less than a tenth supports it."""
    triples = rng.integers(len(A), size=(80, 3))
    M = A[triples]
    good = np.abs(np.linalg.det(M)) > 50  # three pixels on a line span no plane
    if not good.any():
        return None
    planes = np.linalg.solve(M[good], inverse_depth[triples[good]][..., None])[..., 0]
    votes = (np.abs(A @ planes.T - inverse_depth[:, None]) < PLANE_TOLERANCE * inverse_depth[:, None]).sum(axis=0)
    return np.asarray(planes[votes.argmax()]) if votes.max() >= 0.1 * len(A) else None
