"""Layered fill: what is painted out is replaced by the surface behind it, in depth and colour together.

The inverse depth of a plane is exactly affine in the pixel, so hidden depth is taken from planes: the
table first, other background planes where the table does not reach. Colour is the harmonic function that
the visible pixels of the same layer determine (Laplace's equation, solved on half the resolution where the
image is large and smoothed on the full one), without flux from kept objects, and eased in over a few pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.sparse.linalg import splu

from stvla_ros.geometry.cameras import rays
from stvla_ros.geometry.components import bounding_slices
from stvla_ros.geometry.tables import Table, plane_depth
from stvla_ros.types import F32, F64, U8, Bool, RgbdFrame

LAYER_TOLERANCE_M = 0.02
"""A visible pixel this close to a layer's plane belongs to it; depth is never blended across more."""

_MAX_LAYERS = 3


@dataclass(frozen=True, eq=False)
class Filled:
    """Outcome of :func:`fill`.

    Attributes:
        rgb: (H, W, 3).
        depth_m: (H, W).
        hidden: (H, W) pixels that were replaced; feathered ones around them not counted.
    """

    rgb: U8
    depth_m: F32
    hidden: Bool


def fill(frame: RgbdFrame, remove: Bool, keep: Bool, table: Table, height_m: F32, feather_px: int = 3) -> Filled:
    """Replace pixels by the background behind them.

    Args:
        frame: The image.
        remove: (H, W) pixels of what is painted out.
        keep: (H, W) pixels that must stay bit for bit (kept objects, the robot).
        table: The table in this frame.
        height_m: (H, W) height of each pixel above the table.
        feather_px: Width of the soft edge outside the replaced pixels.
    """
    grow = max(round(frame.camera.width_px / 128), 1)
    hidden = _grow(remove, grow)
    hidden |= _grow(remove, 2 * grow) & ~np.isfinite(frame.depth_m)  # holes that depth cameras see beside things
    hidden &= ~keep
    window = bounding_slices(hidden)
    if window is None:
        return Filled(frame.rgb, frame.depth_m, hidden)
    window = _padded(window, 4 * grow + feather_px, hidden.shape)
    layers = _Layers(frame, hidden, keep, table, height_m)
    depth, rgb = frame.depth_m.copy(), frame.rgb.copy()
    behind = layers.behind(window)
    soft = _grow(hidden[window], feather_px) & ~keep[window] & layers.on_background(window, behind)
    area = hidden[window] | soft
    smooth = harmonic(rgb[window], area, ~keep[window] & ~area & layers.on_background(window, behind), behind)
    weight = _feather(hidden[window], feather_px)[..., None]
    blended = weight * smooth + (1 - weight) * rgb[window]
    rgb[window][area] = np.clip(blended[area] + 0.5, 0, 255).astype(np.uint8)
    depth[window][hidden[window]] = behind[hidden[window]]
    return Filled(rgb, depth, hidden)


def _grow(mask: Bool, radius_px: int) -> Bool:
    size = 2 * radius_px + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    return np.asarray(cv2.dilate(mask.astype(np.uint8), kernel).astype(bool))


def _padded(window: tuple[slice, slice], pad: int, shape: tuple[int, ...]) -> tuple[slice, slice]:
    rows, columns = (slice(max(s.start - pad, 0), min(s.stop + pad, n)) for s, n in zip(window, shape, strict=True))
    return rows, columns


def _feather(hidden: Bool, feather_px: int) -> F32:
    """1 on hidden pixels, falling smoothly (3t^2 - 2t^3) to 0 ``feather_px`` outside them."""
    if feather_px == 0:
        return hidden.astype(np.float32)
    away = cv2.distanceTransform((~hidden).astype(np.uint8), cv2.DIST_L2, 3)
    t = np.clip(1 - away / (feather_px + 1), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), dtype=np.float32)


class _Layers:
    """The background as planes: the table inside its outline, others outside."""

    def __init__(self, frame: RgbdFrame, hidden: Bool, keep: Bool, table: Table, height_m: F32) -> None:
        self._depth = frame.depth_m
        self._directions = rays(frame.camera)
        self._table = plane_depth(frame.camera, table, self._directions)
        self._visible = ~hidden & ~keep & np.isfinite(frame.depth_m)
        on_table = self._visible & (np.abs(height_m) < max(2 * table.floor_m, 0.006))
        self._outline = _outline(on_table | (hidden & np.isfinite(self._table) & _surrounded(on_table)))
        self._hidden = hidden

    def behind(self, window: tuple[slice, slice]) -> F32:
        """Depth of the background in a window, everywhere."""
        depth = np.where(self._outline[window], self._table[window], np.float32(np.nan))
        rest = self._hidden[window] & ~np.isfinite(depth)
        if rest.any():
            self._add_planes(depth, rest, window)
        outside = ~self._hidden[window] & ~self._outline[window]
        depth[outside] = self._depth[window][outside]
        return np.asarray(depth, dtype=np.float32)

    def on_background(self, window: tuple[slice, slice], behind: F32) -> Bool:
        """Visible pixels that show the layer behind."""
        with np.errstate(invalid="ignore"):
            close = np.abs(self._depth[window] - behind) < LAYER_TOLERANCE_M
        return np.asarray(self._visible[window] & close)

    def _add_planes(self, depth: F32, rest: Bool, window: tuple[slice, slice]) -> None:
        """Fill what the table does not cover from planes in inverse depth; the nearest plane that covers wins."""
        pad = _padded(window, 40, self._depth.shape)
        sample = self._visible[pad] & ~self._outline[pad]
        v, u = np.nonzero(sample)
        inverse = 1.0 / self._depth[pad][v, u].astype(np.float64)
        v, u = v + pad[0].start, u + pad[1].start
        ry, rx = np.nonzero(rest)
        target = np.column_stack([rx + window[1].start, ry + window[0].start, np.ones(len(rx))])
        best = np.full(len(rx), np.nan)
        for plane, inliers in fit_planes(np.column_stack([u, v, np.ones(len(u))]).astype(np.float64), inverse):
            hull = cv2.convexHull(np.column_stack([u[inliers], v[inliers]]).astype(np.int32))
            covers = np.zeros(self._depth.shape, dtype=np.uint8)
            cv2.fillConvexPoly(covers, hull, 1)
            value = target @ plane
            inside = covers[target[:, 1].astype(int), target[:, 0].astype(int)].astype(bool) & (value > 0)
            best = np.where(inside & ~(best >= value), value, best)
        missing = ~np.isfinite(best)
        if missing.any() and len(u):
            best[missing] = _nearest_value(np.column_stack([u, v]), inverse, target[missing, :2])
        depth[ry, rx] = np.where(np.isfinite(best), 1.0 / best, self._table[window][ry, rx])


def fit_planes(A: F64, inverse_depth: F64, seed: int = 0) -> list[tuple[F64, npt.NDArray[np.intp]]]:
    """Sequential RANSAC for planes in inverse depth.

    Args:
        A: (N, 3) rows (x, y, 1) in pixels.
        inverse_depth: (N,) 1/m.
        seed: Of the random triples, so that a frame always fills the same.

    Returns:
        Up to three planes (3,) with ``A @ plane`` the inverse depth, and the indices of their pixels.
    """
    rng = np.random.default_rng(seed)
    left = np.arange(len(A))
    planes: list[tuple[F64, npt.NDArray[np.intp]]] = []
    while len(left) > 60 and len(planes) < _MAX_LAYERS:
        sub = left[rng.integers(len(left), size=min(len(left), 1500))]
        tolerance = 0.006 * inverse_depth[sub]
        triples = rng.integers(len(sub), size=(80, 3))
        M = A[sub][triples]
        good = np.abs(np.linalg.det(M)) > 50
        if not good.any():
            break
        candidates = np.linalg.solve(M[good], inverse_depth[sub][triples[good]][..., None])[..., 0]
        votes = (np.abs(A[sub] @ candidates.T - inverse_depth[sub][:, None]) < tolerance[:, None]).sum(axis=0)
        if votes.max() < 0.1 * len(sub):
            break
        plane = candidates[votes.argmax()]
        for _ in range(2):
            inside = np.abs(A[left] @ plane - inverse_depth[left]) < 0.006 * inverse_depth[left]
            plane = np.linalg.lstsq(A[left[inside]], inverse_depth[left[inside]], rcond=None)[0]
        planes.append((plane, left[inside]))
        left = left[~inside]
    return planes


def _nearest_value(px: npt.NDArray[np.integer], values: F64, wanted: F64) -> F64:
    from scipy.spatial import cKDTree

    return np.asarray(values[cKDTree(px).query(wanted)[1]], dtype=np.float64)


def _surrounded(mask: Bool) -> Bool:
    """Pixels inside the bounding box of a mask: cheap bound on where its outline can be."""
    out = np.zeros_like(mask)
    window = bounding_slices(mask)
    if window is not None:
        out[window] = True
    return out


def _outline(on_table: Bool) -> Bool:
    """Convex hull of the largest coherent part of a plane's pixels, at a quarter of the resolution."""
    coarse = cv2.erode(on_table[::4, ::4].astype(np.uint8), np.ones((2, 2), np.uint8))
    count, labels, stats, _ = cv2.connectedComponentsWithStats(coarse, connectivity=8)
    out: U8 = np.zeros(on_table.shape, dtype=np.uint8)
    if count > 1:
        big = [i for i in range(1, count) if stats[i, cv2.CC_STAT_AREA] >= 0.05 * coarse.sum()]
        v, u = np.nonzero(np.isin(labels, big))
        if len(u) >= 3:
            cv2.fillConvexPoly(out, cv2.convexHull(4 * np.column_stack([u, v]).astype(np.int32)), 1)
            out = np.asarray(cv2.dilate(out, np.ones((5, 5), np.uint8)), dtype=np.uint8)
    return out.astype(bool)


def harmonic(rgb: U8, area: Bool, boundary: Bool, behind_m: F32) -> F32:
    """Solve Laplace's equation for the colours of ``area``.

    Args:
        rgb: (h, w, 3) image.
        area: (h, w) unknown pixels.
        boundary: (h, w) pixels whose colours (averaged over a few neighbours, against noise) are given; other
            pixels let nothing through.
        behind_m: (h, w) depth of the layer of each unknown pixel; colour does not flow across layers.

    Returns:
        (h, w, 3) float32, the image itself outside ``area``.
    """
    out = rgb.astype(np.float32)
    if not boundary.any():
        return out
    known = _averaged(out, boundary)
    if area.sum() > 3000:
        out[area] = _coarse(known, area, boundary, behind_m)[area]
        return _relax(out, known, area, boundary, behind_m, rounds=12)
    out[area] = _solve(known, area, boundary, behind_m)
    return out


def _averaged(image: F32, mask: Bool, size: int = 5) -> F32:
    """Mean over the pixels of ``mask`` in a window around each pixel."""
    weight = mask.astype(np.float32)
    total = cv2.boxFilter(image * weight[..., None], -1, (size, size), normalize=False)
    count = cv2.boxFilter(weight, -1, (size, size), normalize=False)
    return np.asarray(total / np.maximum(count, 1)[..., None], dtype=np.float32)


def _coarse(known: F32, area: Bool, boundary: Bool, behind_m: F32) -> F32:
    """The solution at half the resolution, spread back."""
    half = _solve_image(known[::2, ::2], area[::2, ::2], boundary[::2, ::2], behind_m[::2, ::2])
    return np.asarray(
        cv2.resize(half, (area.shape[1], area.shape[0]), interpolation=cv2.INTER_LINEAR), dtype=np.float32
    )


def _solve_image(known: F32, area: Bool, boundary: Bool, behind_m: F32) -> F32:
    out = known.copy()
    if area.any() and boundary.any():
        out[area] = _solve(known, area, boundary, behind_m)
    return out


def _links(area: Bool, boundary: Bool, behind_m: F32) -> list[tuple[tuple[slice, slice], tuple[slice, slice], F32]]:
    """Neighbour pairs (down and right) with the weight of the link between them."""
    pairs = []
    for a, b in (
        ((slice(None, -1), slice(None)), (slice(1, None), slice(None))),
        ((slice(None), slice(None, -1)), (slice(None), slice(1, None))),
    ):
        takes_part = (area | boundary)[a] & (area | boundary)[b] & (area[a] | area[b])
        with np.errstate(invalid="ignore"):
            same = np.abs(behind_m[a] - behind_m[b]) < 0.05 * behind_m[a]
        pairs.append((a, b, np.where(same, np.float32(1.0), np.float32(1e-4)) * takes_part))
    return pairs


def _solve(known: F32, area: Bool, boundary: Bool, behind_m: F32) -> F32:
    """(N, 3) colours of the N unknown pixels by a sparse direct solver."""
    index = np.full(area.shape, -1, dtype=np.int32)
    n = int(area.sum())
    index[area] = np.arange(n)
    diagonal = np.full(n, 1e-6)
    right = np.full((n, 3), 1e-6) * known[boundary].mean(axis=0)
    rows: list[npt.NDArray[np.integer]] = []
    columns: list[npt.NDArray[np.integer]] = []
    values: list[npt.NDArray[np.floating]] = []
    for a, b, weight in _links(area, boundary, behind_m):
        for here, there in ((a, b), (b, a)):
            i, j = index[here], index[there]
            inner, edge = (i >= 0) & (j >= 0) & (weight > 0), (i >= 0) & (j < 0) & (weight > 0)
            rows.append(i[inner])
            columns.append(j[inner])
            values.append(-weight[inner])
            diagonal += np.bincount(i[inner], weight[inner], n) + np.bincount(i[edge], weight[edge], n)
            for c in range(3):
                right[:, c] += np.bincount(i[edge], weight[edge] * known[there][edge][:, c], n)
    rows.append(np.arange(n))
    columns.append(np.arange(n))
    values.append(diagonal)
    A = sparse.csc_matrix((np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))), shape=(n, n))
    factor = splu(A, permc_spec="MMD_AT_PLUS_A", options={"SymmetricMode": True}, diag_pivot_thresh=0.0)
    return np.asarray(factor.solve(right), dtype=np.float32)


def _relax(image: F32, known: F32, area: Bool, boundary: Bool, behind_m: F32, rounds: int) -> F32:
    """Damped Jacobi sweeps on the full resolution, which remove the staircase of the coarse solution."""
    image = image.copy()
    image[boundary] = known[boundary]
    links = _links(area, boundary, behind_m)
    total = np.zeros(area.shape, dtype=np.float32)
    for a, b, weight in links:
        total[a] += weight
        total[b] += weight
    share = (0.8 * area / np.maximum(total, 1e-6))[..., None]
    for _ in range(rounds):
        flow = np.zeros_like(image)
        for a, b, weight in links:
            step = weight[..., None] * (image[b] - image[a])
            flow[a] += step
            flow[b] -= step
        image += share * flow
    return image
