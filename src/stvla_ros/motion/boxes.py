"""Voxels joined to few boxes, for collision checkers that have no octree."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from stvla_ros.types import F32, F64

Grid = npt.NDArray[np.int64]


def merge_voxels(voxels_m: F32, size_m: float) -> tuple[F64, F64]:
    """Boxes that fill exactly the same space as the voxels.

    Runs of voxels are joined along z, equal runs then along x, and equal plates along y.

    Args:
        voxels_m: (N, 3) centres.
        size_m: Edge of a voxel.

    Returns:
        (B, 3) centres and (B, 3) full edge lengths.
    """
    cell = np.unique(np.floor(voxels_m / size_m).astype(np.int64), axis=0)
    low, high = cell, cell + 1
    for axis in (2, 0, 1):
        low, high = _join(low, high, axis)
    return (low + high) / 2 * size_m, (high - low) * size_m


def _join(low: Grid, high: Grid, axis: int) -> tuple[Grid, Grid]:
    """Join boxes that touch along ``axis`` and agree in the other two."""
    if not len(low):
        return low, high
    others = [i for i in range(3) if i != axis]
    order = np.lexsort([low[:, axis], *(side[:, i] for i in others for side in (low, high))])
    low, high = low[order], high[order]
    same = (low[1:, others] == low[:-1, others]).all(axis=1) & (high[1:, others] == high[:-1, others]).all(axis=1)
    begins = np.r_[True, ~same | (low[1:, axis] != high[:-1, axis])]
    ends = np.r_[begins[1:], True]
    joined = low[begins].copy(), high[begins].copy()
    joined[1][:, axis] = high[ends, axis]
    return joined
