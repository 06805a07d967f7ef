"""Smooth 3D paths from noisy measurements with outliers and gaps: what is wrong is rejected first, then the rest is smoothed.

Rejection is a smoothing spline that is fitted again and again with Tukey's biweight (Beaton and Tukey 1974), from a start
that a Hampel filter has cleaned. Smoothing is a Kalman filter with constant acceleration and white jerk, and the
backward pass of Rauch, Tung and Striebel (1965), which also tells the uncertainty. A path with a corner, as where a hand
touches something, is smoothed in parts that end there.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from scipy.interpolate import make_smoothing_spline

from stvla_ros.types import F64, Bool

WINDOW, HAMPEL_MAD = 9, 3.0
"""Of the Hampel filter: frames, and how many deviations off is wrong."""

MAD = 1.4826
"""A normal distribution's standard deviation over its median absolute deviation."""

ROUNDS, TUKEY = 6, 4.0
"""Fits of the spline, and the deviations from which on a measurement counts for nothing."""

FLOOR_SIGMAS = 1.33
"""The scale of deviations is never below this multiple of the measurements' own standard deviation."""

LEAST = 5
"""A spline needs as many measurements."""


@dataclass(frozen=True, eq=False)
class SmoothPath:
    """A smoothed path.

    Attributes:
        xyz_m: (N, 3) positions; NaN where nothing is known: before the first and after the last measurement, and in
            gaps that are too long.
        sigma_m: (N,) standard deviation of a position, the largest of the axes; NaN as well.
        rejected: (N,) measurements that were wrong.
        filled: (N,) positions without a measurement that was used.
    """

    xyz_m: F64
    sigma_m: F64
    rejected: Bool
    filled: Bool


def smooth_path(
    t_s: F64, xyz_m: F64, sigma_m: F64, jerk_m_s3: float = 10.0, gap_frames: int = 10, gap_m: float = 0.08
) -> SmoothPath:
    """Smooth a path.

    Args:
        t_s: (N,) increasing times.
        xyz_m: (N, 3) measured positions; NaN where there is none.
        sigma_m: (N, 3) or (3,) standard deviations of the measurements along the axes. A position that is certain, as
            one set by a person, has a small one: then it is never rejected against many uncertain ones around it.
        jerk_m_s3: Standard deviation of the white jerk [m/s^3 per root Hz], i.e. how quickly the acceleration changes.
        gap_frames: In longer gaps nothing is filled in.
        gap_m: Neither in gaps whose ends are further apart.

    Raises:
        ValueError: Times do not increase, or shapes differ.
    """
    t, xyz = np.asarray(t_s, np.float64), np.asarray(xyz_m, np.float64)
    if xyz.shape != (len(t), 3) or not (np.diff(t) > 0.0).all():
        raise ValueError(f"Wanted (N,) increasing times and (N, 3) positions, found {t.shape} and {xyz.shape}.")
    sigma = np.broadcast_to(np.asarray(sigma_m, np.float64), xyz.shape)
    measured = np.isfinite(xyz).all(axis=1)
    rejected = np.zeros(len(t), bool)
    rejected[measured] = _outliers(t[measured], xyz[measured], sigma[measured])
    used = measured & ~rejected
    smooth, deviation = _smooth(t, xyz, sigma, used, jerk_m_s3)
    unknown = _unknown(used, smooth, gap_frames, gap_m)
    smooth[unknown], deviation[unknown] = np.nan, np.nan
    return SmoothPath(smooth, deviation, rejected, ~used & ~unknown)


def _outliers(t: F64, xyz: F64, sigma: F64) -> Bool:
    """(N,) which measurements are wrong."""
    if len(t) < LEAST:
        return np.zeros(len(t), bool)
    floor = FLOOR_SIGMAS * sigma
    weight = (~_hampel(xyz, floor)).astype(np.float64)
    for _ in range(ROUNDS):
        kept = weight > 0.0
        if np.count_nonzero(kept) < LEAST:
            return np.zeros(len(t), bool)
        off = np.empty_like(xyz)
        for axis in range(3):
            spline = make_smoothing_spline(
                t[kept], xyz[kept, axis], weight[kept] / sigma[kept, axis] ** 2 * np.min(sigma) ** 2
            )
            off[:, axis] = xyz[:, axis] - spline(t)
        scale = np.maximum(floor, MAD * np.median(np.abs(off[kept]), axis=0))
        u = np.abs(off / scale).max(axis=1) / TUKEY
        weight = np.where(u < 1.0, (1.0 - np.minimum(u, 1.0) ** 2) ** 2, 0.0)
    return np.asarray(weight == 0.0)


def _hampel(xyz: F64, floor: F64) -> Bool:
    """(N,) what is far from the median of its neighbours."""
    half = WINDOW // 2
    padded = np.pad(xyz, ((half, half), (0, 0)), mode="reflect" if len(xyz) > half else "edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, WINDOW, axis=0)
    median = np.median(windows, axis=-1)
    mad = MAD * np.median(np.abs(windows - median[..., None]), axis=-1)
    return np.asarray((np.abs(xyz - median) > HAMPEL_MAD * np.maximum(mad, floor)).any(axis=1))


def _smooth(t: F64, xyz: F64, sigma: F64, used: Bool, jerk: float) -> tuple[F64, F64]:
    """(N, 3) positions and (N,) standard deviations by the smoother; the axes are independent."""
    smooth, deviation = np.full_like(xyz, np.nan), np.full(len(t), np.nan)
    at = np.flatnonzero(used)
    if len(at) == 0:
        return smooth, deviation
    first, last = at[0], at[-1]
    variances = np.zeros((last + 1 - first, 3))
    for axis in range(3):
        part = slice(first, last + 1)
        smooth[part, axis], variances[:, axis] = _rts(t[part], xyz[part, axis], sigma[part, axis], used[part], jerk)
    deviation[first : last + 1] = np.sqrt(variances.max(axis=1))
    return smooth, deviation


def _rts(t: F64, x: F64, sigma: F64, used: Bool, jerk: float) -> tuple[F64, F64]:
    """Position and its variance by the Kalman filter and its backward pass; state: position, velocity, acceleration."""
    n = len(t)
    m, P = np.array([x[0], 0.0, 0.0]), np.diag([sigma[0] ** 2, 1.0, 25.0])  # a hand: about 1 m/s and 5 m/s^2
    means, covariances = np.empty((n, 3)), np.empty((n, 3, 3))
    ahead, ahead_covariances, steps = np.empty((n, 3)), np.empty((n, 3, 3)), np.empty((n, 3, 3))
    for k in range(n):
        if k > 0:
            steps[k], noise = _step(t[k] - t[k - 1], jerk)
            m, P = steps[k] @ m, steps[k] @ P @ steps[k].T + noise
        ahead[k], ahead_covariances[k] = m, P
        if used[k] and k > 0:
            gain = P[:, 0] / (P[0, 0] + sigma[k] ** 2)
            m, P = m + gain * (x[k] - m[0]), P - np.outer(gain, P[0])
        means[k], covariances[k] = m, P
    for k in range(n - 2, -1, -1):
        back = covariances[k] @ steps[k + 1].T @ np.linalg.inv(ahead_covariances[k + 1])
        means[k] += back @ (means[k + 1] - ahead[k + 1])
        covariances[k] += back @ (covariances[k + 1] - ahead_covariances[k + 1]) @ back.T
    return means[:, 0], np.maximum(covariances[:, 0, 0], 0.0)


def _step(dt: float, jerk: float) -> tuple[F64, F64]:
    """Transition and noise of the state over a time, for white jerk."""
    F = np.array([[1.0, dt, dt**2 / 2], [0.0, 1.0, dt], [0.0, 0.0, 1.0]])
    Q = np.array([
        [dt**5 / 20, dt**4 / 8, dt**3 / 6],
        [dt**4 / 8, dt**3 / 3, dt**2 / 2],
        [dt**3 / 6, dt**2 / 2, dt],
    ])  # fmt: skip
    return F, jerk**2 * Q


def _unknown(used: Bool, xyz: F64, gap_frames: int, gap_m: float) -> Bool:
    """(N,) where nothing should be filled in."""
    unknown: Bool = np.asarray(np.isnan(xyz).any(axis=1))
    at = np.flatnonzero(used)
    for before, after in itertools.pairwise(at):
        length = after - before - 1
        if length > gap_frames or (length > 0 and np.linalg.norm(xyz[after] - xyz[before]) > gap_m):
            unknown[before + 1 : after] = True
    return unknown
