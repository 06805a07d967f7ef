"""The support plane under objects and noise, and what stands on it."""

import numpy as np
import pytest
from ray_caster import Scene, block, front_camera, plane_depth

from stvla_ros.geometry.cameras import cloud, rays
from stvla_ros.tabletop.regions import RegionConfig, depth_regions
from stvla_ros.tabletop.support_plane import SupportPlane, fit_support_plane


@pytest.mark.parametrize("noise", [0.0, 0.0012, 0.003])
def test_the_table_is_found_under_objects_and_noise(noise: float) -> None:
    frame, _ = Scene([block(c, 0.4 + 0.06 * i, 0.1 * i - 0.2) for i, c in enumerate(("red", "blue", "white"))]).render(
        noise_m=noise
    )
    table = fit_support_plane(cloud(frame))
    heights = table.height(np.array([[0.3, 0.6, 0.5], [-0.3, 0.3, 0.0], [0.0, 0.0, 0.0]], np.float32))
    assert np.abs(heights).max() < 0.001
    assert table.noise_m < 1.5 * noise + 1e-4


def test_a_slightly_tilted_calibration_is_followed() -> None:
    frame, _ = Scene().render()
    points = cloud(frame)
    points[2] += 0.02 * points[0] - 0.01
    table = fit_support_plane(points)
    assert (table.a, table.c) == pytest.approx((0.02, -0.01), abs=1e-4)


def test_without_points_the_calibrated_table_is_taken() -> None:
    assert fit_support_plane(np.full((3, 40, 40), np.nan, np.float32)).c == 0.0


def test_pixels_that_are_left_out_do_not_move_the_table() -> None:
    frame, _ = Scene().render()
    points = cloud(frame)
    left_out = np.zeros(frame.depth_m.shape, bool)
    left_out[:, ::2] = True
    without = fit_support_plane(np.where(left_out, np.float32(np.nan), points))
    points[2, left_out] += 0.02
    table = fit_support_plane(points, left_out)
    assert (table.a, table.b, table.c, table.noise_m) == (without.a, without.b, without.c, without.noise_m)


def test_plane_depth_is_affine_in_inverse_depth() -> None:
    camera = front_camera()
    depth = plane_depth(camera, SupportPlane(), rays(camera)).astype(np.float64)
    frame, _ = Scene().render(camera)
    on_table = np.isfinite(depth) & (np.abs(depth - frame.depth_m) < 1e-4)
    assert on_table.sum() > 100_000
    inverse = 1 / depth[200:300, 200:400]
    assert np.abs(np.diff(inverse, 2, axis=1)).max() < 1e-6


def test_the_opening_of_a_noisy_mask_does_not_move_it() -> None:
    frame, ids = Scene([block("red", 0.5, 0.1, 0.3)]).render(noise_m=0.0012)
    points = cloud(frame)
    table = fit_support_plane(points)
    nobody = np.zeros(ids.shape, bool)
    labels = depth_regions(frame.depth_m, points, table.height(points), nobody, table, RegionConfig())
    found, true = (np.nonzero(mask)[1].mean() for mask in (labels == 1, ids == 1))
    assert abs(found - true) < 0.4
