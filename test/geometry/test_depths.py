"""Specks and noise of depth images."""

import numpy as np
from ray_caster import with_holes

from stvla_ros.geometry.depths import denoise, without_specks


def test_specks_close_and_holes_stay() -> None:
    depth = with_holes(np.ones((100, 100), np.float32), 0.15, 1)
    depth[40:60, 40:60] = np.nan
    closed = without_specks(depth)
    assert np.isnan(closed[42:58, 42:58]).all()
    assert np.isnan(closed[:35]).mean() < 0.02
    np.testing.assert_array_equal(closed[np.isfinite(depth)], 1.0)


def test_steady_depth_has_less_noise_and_the_same_edges() -> None:
    depth = np.full((120, 640), 1.0, np.float32)
    depth[:, 300:] = 1.2
    noisy = depth + np.random.default_rng(0).normal(0, 0.002, depth.shape).astype(np.float32)
    noisy[50:60, 100:110] = np.nan
    calm = denoise(noisy)
    assert np.nanstd(calm[:, :280] - 1.0) < 0.0008
    assert (np.abs(calm - depth)[:, 295:305] < 0.005).all()
    np.testing.assert_array_equal(np.isnan(calm), np.isnan(noisy))
    assert denoise(depth) is depth
    nothing = np.full((8, 9), np.nan, np.float32)
    assert np.isnan(denoise(nothing)).all()
