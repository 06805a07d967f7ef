"""Figures of one answer against its truth, as the paper's appendix I and the public evaluators define them."""

from __future__ import annotations

import numpy as np

from stvla_ros.types import F64

TOP = 999.0
"""Paths are compared on a scale of 0..999 of width and height (Embodied-R1's evaluator, whose tables the paper continues)."""


def resampled(path: F64, count: int) -> F64:
    """(count, 2): linear interpolation by index; a path of one point or to one point stays as it is."""
    if len(path) < 2 or count < 2:
        return path
    old, new = np.arange(len(path)), np.linspace(0, len(path) - 1, count)
    return np.stack([np.interp(new, old, path[:, k]) for k in (0, 1)], axis=1)


def path_errors(uv: F64, truth: F64) -> tuple[float, float]:
    """RMSE and MAE of a path, both on 0..999, after both have been resampled to the longer one's length.

    RMSE is the root of the mean squared distance; MAE the mean of ``(|dx| + |dy|) / 2``.

    Args:
        uv: (N, 2) drawn, 0..1000, N >= 2.
        truth: (M, 2) right, 0..1000, M >= 2.
    """
    count = max(len(uv), len(truth))
    gap = (resampled(uv, count) - resampled(truth, count)) * TOP / 1000
    return float(np.sqrt((gap**2).sum(axis=1).mean())), float(np.abs(gap).mean())


def distance(uv: F64, spot: F64) -> float:
    """Euclidean distance of the first point (of (N, 2)) from the right one, in thousandths of width and height."""
    return float(np.linalg.norm(uv[0] - spot))


def depth_errors(offset_m: F64, truth_m: F64, start_m: float | None, ratio: float) -> tuple[float, float | None]:
    """MAD in centimetres, and the share of waypoints whose depth is right.

    Args:
        offset_m: (8,) answered.
        truth_m: (8,) right.
        start_m: Depth at the start; without it there is no share.
        ratio: A depth is right when it is off by at most this part of the true depth. (The paper's value is lost in
            the available text.)
    """
    gap = np.abs(offset_m - truth_m)
    share = None if start_m is None else float((gap <= ratio * np.abs(start_m + truth_m)).mean())
    return float(100 * gap.mean()), share
