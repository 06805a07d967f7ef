"""Planes behind the table, as affine functions of the pixel in inverse depth."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from stvla_ros.types import F64

TOLERANCE = 0.015
"""A pixel belongs to a plane when their inverse depths differ by less than this share (three sigma of a stereo camera
at 3 m)."""

_MAX_PLANES = 3
_BUDGET = 1500


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
    """(3,) the least squares plane of (N, 3) rows and (N,) inverse depths."""
    return np.asarray(np.linalg.lstsq(A, inverse_depth, rcond=None)[0], dtype=np.float64)


def _close(A: F64, inverse_depth: F64, plane: F64) -> npt.NDArray[np.bool_]:
    return np.asarray(np.abs(A @ plane - inverse_depth) < TOLERANCE * inverse_depth)


def _best_of_triples(A: F64, inverse_depth: F64, rng: np.random.Generator) -> F64 | None:
    """The plane through three of the pixels that most agree with, None when less than a tenth does."""
    triples = rng.integers(len(A), size=(80, 3))
    M = A[triples]
    good = np.abs(np.linalg.det(M)) > 50  # three pixels on a line span no plane
    if not good.any():
        return None
    planes = np.linalg.solve(M[good], inverse_depth[triples[good]][..., None])[..., 0]
    votes = (np.abs(A @ planes.T - inverse_depth[:, None]) < TOLERANCE * inverse_depth[:, None]).sum(axis=0)
    return np.asarray(planes[votes.argmax()]) if votes.max() >= 0.1 * len(A) else None
