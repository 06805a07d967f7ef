"""Polylines: length, resampling, distance."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from stvla_ros.types import F64, Trace3d


def valid_points(trace: Trace3d) -> F64:
    """(N, 3) points of a path that are neither INVALID nor non-finite."""
    valid = (trace.source != 0) & np.isfinite(trace.xyz_m).all(axis=1)
    return np.asarray(trace.xyz_m[valid], dtype=np.float64)


def arc_length(points: npt.ArrayLike) -> F64:
    """(N,) length along the polyline up to each of its (N, D) points; the first is 0."""
    steps = np.linalg.norm(np.diff(np.asarray(points, dtype=np.float64), axis=0), axis=1)
    return np.concatenate([[0.0], np.cumsum(steps)])


def resample(points: npt.ArrayLike, count: int) -> F64:
    """(count, D) points at equal steps of length along the (N, D) polyline, both ends included."""
    points = np.asarray(points, dtype=np.float64)
    s = arc_length(points)
    wanted = np.linspace(0.0, s[-1], count)
    return np.column_stack([np.interp(wanted, s, axis) for axis in points.T])


def subdivide(points: npt.ArrayLike, step: float) -> tuple[F64, npt.NDArray[np.intp]]:
    """Add points so that no two neighbours are further apart than ``step``; the given points stay.

    Args:
        points: (N, D) polyline.
        step: Longest distance wanted, > 0.

    Returns:
        (M, D) points, and the (N,) indices of the given points among them.
    """
    points = np.asarray(points, dtype=np.float64)
    steps = np.linalg.norm(np.diff(points, axis=0), axis=1) / step
    counts = np.maximum(np.ceil(steps - 1e-6), 1).astype(np.intp)  # rounding error must not add a point
    where = np.concatenate([[0], np.cumsum(counts)])
    leg = np.repeat(np.arange(len(counts)), counts)
    t = (np.arange(where[-1]) - where[leg]) / counts[leg]
    between = points[leg] + t[:, None] * (points[leg + 1] - points[leg])
    return np.concatenate([between, points[-1:]]), where


MIN_BEND = 0.17
"""Corners that turn by less (10 degrees) are not rounded: |a + b| of the unit vectors along both legs."""


def round_corners(points: npt.ArrayLike, deviation: float) -> tuple[F64, npt.NDArray[np.intp]]:
    """Round the corners of a polyline; the ends stay.

    Each corner becomes three points of a quadratic Bezier curve that has the corner as its control point and starts
    and ends on the legs, at most a third of a leg away. Hence no point moves by more than ``deviation``.

    Args:
        points: (N, D) polyline without coincident neighbours.
        deviation: Largest distance between a corner and the curve; 0 leaves the polyline as it is.

    Returns:
        (M, D) points, and the (N,) indices of those that correspond to the given points.
    """
    points = np.asarray(points, dtype=np.float64)
    pieces, where = [points[:1]], [0]
    for before, corner, after in zip(points[:-2], points[1:-1], points[2:], strict=True):
        curve = _curve(before, corner, after, deviation)
        where.append(sum(map(len, pieces)) + len(curve) // 2)
        pieces.append(curve)
    if len(points) > 1:
        where.append(sum(map(len, pieces)))
        pieces.append(points[-1:])
    return np.concatenate(pieces), np.array(where, dtype=np.intp)


def _curve(before: F64, corner: F64, after: F64, deviation: float) -> F64:
    """One or three points for a corner."""
    legs = np.stack([before - corner, after - corner])
    lengths = np.linalg.norm(legs, axis=1)
    a, b = legs / np.maximum(lengths, 1e-12)[:, None]
    bend = float(np.linalg.norm(a + b))
    if bend < MIN_BEND or deviation <= 0 or lengths.min() == 0:
        return corner[None]
    cut = min(4 * deviation / bend, lengths.min() / 3)
    return np.stack([corner + cut * a, corner + cut / 4 * (a + b), corner + cut * b])


def runs(mask: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    """First index, and index after the last, of each run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def distance(points: npt.ArrayLike, polyline: npt.ArrayLike) -> F64:
    """(N,) distance of (N, D) points to the nearest place on a (M, D) polyline (M = 1: to that point)."""
    p, line = np.asarray(points, dtype=np.float64), np.asarray(polyline, dtype=np.float64)
    if len(line) == 1:
        return np.asarray(np.linalg.norm(p - line[0], axis=1))
    a, d = line[:-1], np.diff(line, axis=0)
    length2 = np.maximum(np.einsum("sd,sd->s", d, d), 1e-18)
    t = np.clip((p @ d.T - np.einsum("sd,sd->s", a, d)) / length2, 0.0, 1.0)  # (N, S) foot on each segment
    # |p - a - t d|^2 expanded, so that no (N, S, D) array is made
    pa2 = np.einsum("nd,nd->n", p, p)[:, None] - 2 * p @ a.T + np.einsum("sd,sd->s", a, a)
    along = p @ d.T - np.einsum("sd,sd->s", a, d)
    squared = pa2 - 2 * t * along + t * t * length2
    return np.asarray(np.sqrt(np.maximum(squared.min(axis=1), 0.0)))


def simplify(points: npt.ArrayLike, tolerance: float = 1e-6) -> F64:
    """The polyline without points that lie (within ``tolerance``) on the segment between their two neighbours."""
    given: F64 = np.asarray(points, dtype=np.float64)
    moved = np.linalg.norm(np.diff(given, axis=0), axis=1) > tolerance
    line: F64 = given[np.concatenate([[True], moved])]  # else two equal neighbours would remove each other
    if len(line) < 3:
        return line
    before, here, after = line[:-2], line[1:-1], line[2:]
    chord = after - before
    square = np.maximum(np.einsum("nd,nd->n", chord, chord), 1e-18)
    t = np.clip(np.einsum("nd,nd->n", here - before, chord) / square, 0.0, 1.0)
    off = np.linalg.norm(here - before - t[:, None] * chord, axis=1)
    corners: F64 = line[np.concatenate([[True], off > tolerance, [True]])]
    return corners
