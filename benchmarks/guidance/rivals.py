"""Other ways to fill the same hole, for comparison: colour and depth each on its own."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from scipy import ndimage, sparse
from scipy.sparse.linalg import splu

from stvla_ros.types import F32, F64, U8, Bool

Fill = Callable[[U8, F32, Bool], tuple[U8, F32]]
"""Colour (H, W, 3), depth (H, W) in metres and hole in; both filled out."""


def zeros(rgb: U8, depth_m: F32, hole: Bool) -> tuple[U8, F32]:
    """Hard masking."""
    return np.where(hole[..., None], np.uint8(0), rgb), np.where(hole, np.float32(0), depth_m)


def rows(rgb: U8, depth_m: F32, hole: Bool) -> tuple[U8, F32]:
    """Linear interpolation along each row between the pixels on both sides."""
    values = np.dstack([rgb.astype(np.float32), depth_m])
    lost = ~np.isfinite(depth_m) & ~hole
    x = np.arange(hole.shape[1])
    for v in np.flatnonzero(hole.any(axis=1)):
        gone = hole[v]
        for c in range(4):
            known = ~gone & ~lost[v] if c == 3 else ~gone
            if known.any():
                values[v, gone, c] = np.interp(x[gone], x[known], values[v, known, c])
    return np.rint(values[..., :3]).astype(np.uint8), values[..., 3]


def opencv(method: int) -> Fill:
    """``cv2.inpaint`` with radius 3; depth as 16 bit millimetres."""

    def run(rgb: U8, depth_m: F32, hole: Bool) -> tuple[U8, F32]:
        mask = hole.astype(np.uint8)
        millimetres = np.nan_to_num(depth_m * 1000, nan=0.0, posinf=0.0).clip(0, 65535).astype(np.uint16)
        lost = (millimetres == 0).astype(np.uint8)  # keeps zeros out of the hole
        depth = cv2.inpaint(millimetres, mask | lost, 3, method) / np.float32(1000)
        return np.asarray(cv2.inpaint(rgb, mask, 3, method)), np.where(hole, depth, depth_m)

    return run


def biharmonic(rgb: U8, depth_m: F32, hole: Bool) -> tuple[U8, F32]:
    """The Laplacian of the Laplacian vanishes in the hole; the image's border is mirrored."""
    lost = ~np.isfinite(depth_m)
    index = ndimage.distance_transform_edt(lost, return_distances=False, return_indices=True)
    values = np.dstack([rgb.astype(np.float64), depth_m[tuple(index)].astype(np.float64)])
    regions, count = ndimage.label(hole, structure=np.ones((3, 3)))
    for k, window in enumerate(ndimage.find_objects(regions)[:count], start=1):
        r, c = (slice(max(s.start - 3, 0), s.stop + 3) for s in window)
        values[r, c] = _biharmonic(values[r, c], regions[r, c] == k)
    return np.clip(np.rint(values[..., :3]), 0, 255).astype(np.uint8), values[..., 3].astype(np.float32)


def _biharmonic(values: F64, hole: Bool) -> F64:
    h, w = hole.shape
    L = sparse.kronsum(_second_difference(w), _second_difference(h)).tocsr()
    gone = np.flatnonzero(hole)
    left = np.flatnonzero(~hole)
    equations = (L @ L)[gone]
    out = values.reshape(-1, values.shape[-1]).copy()
    out[gone] = splu(equations[:, gone].tocsc()).solve(-(equations[:, left] @ out[left]))
    return out.reshape(values.shape)


def _second_difference(n: int) -> sparse.csr_matrix:
    """(n, n) one-dimensional Laplacian with mirrored ends."""
    main = np.full(n, -2.0)
    main[[0, -1]] = -1.0
    return sparse.diags([np.ones(n - 1), main, np.ones(n - 1)], [-1, 0, 1]).tocsr()


RIVALS: dict[str, Fill] = {
    "zeros": zeros,
    "rows": rows,
    "telea": opencv(cv2.INPAINT_TELEA),
    "navier-stokes": opencv(cv2.INPAINT_NS),
    "biharmonic": biharmonic,
}
