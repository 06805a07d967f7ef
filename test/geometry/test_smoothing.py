"""Hands' paths with noise, outliers and gaps, against the truth that they were made from."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from stvla_ros.geometry.smoothing import smooth_path
from stvla_ros.types import F64

SIGMA = np.array([0.0015, 0.0015, 0.003])
"""Of a fingertip lifted to 3D at 0.8 m [m]."""


def minimum_jerk(a: F64, b: F64, n: int) -> F64:
    """(n, 3) from one point to another (Flash and Hogan 1985)."""
    s = np.linspace(0.0, 1.0, n, endpoint=False)[:, None]
    return a + (b - a) * (10 * s**3 - 15 * s**4 + 6 * s**5)


def measured(seed: int) -> tuple[F64, F64, F64, np.ndarray, slice]:
    """Times, truth and measurements of reach, carry and place at 30 Hz; which are outliers; where the gap is."""
    rng = np.random.default_rng(seed)
    points = [rng.uniform([-0.3, -0.2, 0.5], [0.3, 0.2, 1.0]) for _ in range(4)]
    truth = np.concatenate([minimum_jerk(a, b, int(rng.integers(22, 36))) for a, b in itertools.pairwise(points)])
    noisy = truth + SIGMA * rng.normal(size=truth.shape)
    wrong = rng.random(len(truth)) < 0.06
    noisy[wrong, 2] += rng.choice([-1.0, 1.0], wrong.sum()) * rng.uniform(0.03, 0.15, wrong.sum())
    start = int(rng.integers(10, len(truth) - 20))
    gap = slice(start, start + int(rng.integers(4, 9)))
    noisy[gap] = np.nan
    wrong[gap] = False
    return np.arange(len(truth)) / 30.0, truth, noisy, wrong, gap


def test_outliers_go_and_the_rest_is_smooth() -> None:
    seen, hidden, found, false = [], [], [], []
    for seed in range(12):
        t, truth, noisy, wrong, gap = measured(seed)
        smooth = smooth_path(t, noisy, SIGMA, gap_m=1.0)
        off = np.linalg.norm(smooth.xyz_m - truth, axis=1)
        inside = np.zeros(len(t), bool)
        inside[gap] = True
        seen += [*off[~inside & np.isfinite(off)] ** 2]
        hidden += [*off[inside] ** 2]
        found += [*smooth.rejected[wrong]]
        false += [*smooth.rejected[~wrong & ~inside]]
    assert np.sqrt(np.mean(seen)) < 0.0025, "raw: 24 mm"
    assert np.sqrt(np.mean(hidden)) < 0.006
    assert np.mean(found) > 0.98
    assert np.mean(false) < 0.005


def test_the_stated_deviation_is_that_of_the_errors() -> None:
    rng = np.random.default_rng(1)
    t = np.arange(90) / 30.0
    ratios = []
    for _ in range(12):
        truth = minimum_jerk(rng.uniform(-0.3, 0.3, 3), rng.uniform(-0.3, 0.3, 3), 90)
        smooth = smooth_path(t, truth + SIGMA * rng.normal(size=truth.shape), SIGMA)
        ratios.append((smooth.xyz_m[:, 2] - truth[:, 2]) / smooth.sigma_m)
    assert 0.7 < np.std(ratios) < 1.3


def test_gaps_that_are_too_long_or_wide_stay_open() -> None:
    t, xyz = np.arange(60) / 30.0, np.stack([np.linspace(0.0, 0.3, 60), np.zeros(60), np.ones(60)], axis=1)
    holed = xyz.copy()
    holed[:2], holed[20:25], holed[40:51] = np.nan, np.nan, np.nan
    smooth = smooth_path(t, holed, SIGMA)
    known = np.isfinite(smooth.xyz_m).all(axis=1)
    assert not known[:2].any(), "nothing is guessed before the first measurement"
    assert known[2:40].all()
    assert smooth.filled[20:25].all()
    assert not known[40:51].any(), "11 frames"
    assert known[51:].all()
    assert np.allclose(smooth.xyz_m[20:25], xyz[20:25], atol=0.001)
    assert smooth.sigma_m[22] > smooth.sigma_m[10]
    assert not np.isfinite(smooth_path(t, holed, SIGMA, gap_m=0.02).xyz_m[20:25]).any(), "3 cm"


def test_a_certain_point_is_kept() -> None:
    """A contact that a person has set, among measurements that are all off by 8 mm."""
    t = np.arange(40) / 30.0
    xyz = np.tile([0.0, 0.0, 0.808], (40, 1)) + SIGMA * np.random.default_rng(2).normal(size=(40, 3))
    sigma = np.tile(SIGMA, (40, 1))
    xyz[-1], sigma[-1] = [0.0, 0.0, 0.8], 0.0002
    smooth = smooth_path(t, xyz, sigma)
    assert np.abs(smooth.xyz_m[-1] - xyz[-1]).max() < 0.0005
    assert not smooth.rejected[-1]


@pytest.mark.parametrize("count", [0, 1, 2, 4])
def test_few_measurements_are_not_judged(count: int) -> None:
    t, xyz = np.arange(12) / 30.0, np.full((12, 3), np.nan)
    xyz[3 : 3 + count] = [0.1, 0.2, 0.8]
    smooth = smooth_path(t, xyz, SIGMA)
    assert np.isfinite(smooth.xyz_m).all(axis=1).sum() == count
    assert not smooth.rejected.any()


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="increasing times"):
        smooth_path(np.array([0.0, 0.0]), np.zeros((2, 3)), SIGMA)
    with pytest.raises(ValueError, match=r"found \(3,\) and \(2, 3\)"):
        smooth_path(np.arange(3.0), np.zeros((2, 3)), SIGMA)
