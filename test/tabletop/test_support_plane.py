"""Table plane, holes, noise."""

import numpy as np
import pytest
from tabletop import Scene, block, front_camera, with_holes

from stvla_ros.geometry.cameras import cloud, project, rays
from stvla_ros.geometry.depths import steady, without_specks
from stvla_ros.tabletop.regions import PartsConfig, find_regions
from stvla_ros.tabletop.support_plane import Table, fit_table, plane_depth


@pytest.mark.parametrize("noise", [0.0, 0.0012, 0.003])
def test_the_table_is_found_under_objects_and_noise(noise: float) -> None:
    frame, _ = Scene([block(c, 0.4 + 0.06 * i, 0.1 * i - 0.2) for i, c in enumerate(("red", "blue", "white"))]).render(
        noise_m=noise
    )
    table = fit_table(cloud(frame))
    heights = table.height(np.array([[0.3, 0.6, 0.5], [-0.3, 0.3, 0.0], [0.0, 0.0, 0.0]], np.float32))
    assert np.abs(heights).max() < 0.001
    assert table.noise_m < 1.5 * noise + 1e-4


def test_a_slightly_tilted_calibration_is_followed() -> None:
    frame, _ = Scene().render()
    points = cloud(frame)
    points[2] += 0.02 * points[0] - 0.01
    table = fit_table(points)
    assert (table.a, table.c) == pytest.approx((0.02, -0.01), abs=1e-4)


def test_without_points_the_calibrated_table_is_taken() -> None:
    assert fit_table(np.full((3, 40, 40), np.nan, np.float32)).c == 0.0


def test_pixels_that_are_left_out_do_not_move_the_table() -> None:
    frame, _ = Scene().render()
    points = cloud(frame)
    left_out = np.zeros(frame.depth_m.shape, bool)
    left_out[:, ::2] = True
    without = fit_table(np.where(left_out, np.float32(np.nan), points))
    points[2, left_out] += 0.02
    table = fit_table(points, left_out)
    assert (table.a, table.b, table.c, table.noise_m) == (without.a, without.b, without.c, without.noise_m)


def test_plane_depth_is_affine_in_inverse_depth() -> None:
    camera = front_camera()
    depth = plane_depth(camera, Table(), rays(camera)).astype(np.float64)
    frame, _ = Scene().render(camera)
    on_table = np.isfinite(depth) & (np.abs(depth - frame.depth_m) < 1e-4)
    assert on_table.sum() > 100_000
    inverse = 1 / depth[200:300, 200:400]
    assert np.abs(np.diff(inverse, 2, axis=1)).max() < 1e-6


def test_specks_close_and_holes_stay() -> None:
    depth = with_holes(np.ones((100, 100), np.float32), 0.15, 1)
    depth[40:60, 40:60] = np.nan
    closed = without_specks(depth)
    assert np.isnan(closed[42:58, 42:58]).all()
    assert np.isnan(closed[:35]).mean() < 0.02
    np.testing.assert_array_equal(closed[np.isfinite(depth)], 1.0)


def test_the_point_of_a_block_projects_onto_it() -> None:
    camera = front_camera()
    _, ids = Scene([block("red", 0.5, 0.1)]).render(camera)
    px, _ = project(camera, [0.5, 0.1, 0.04])
    assert ids[tuple(np.round(px[::-1]).astype(int))] == 1


def test_steady_depth_has_less_noise_and_the_same_edges() -> None:
    depth = np.full((120, 640), 1.0, np.float32)
    depth[:, 300:] = 1.2
    noisy = depth + np.random.default_rng(0).normal(0, 0.002, depth.shape).astype(np.float32)
    noisy[50:60, 100:110] = np.nan
    calm = steady(noisy)
    assert np.nanstd(calm[:, :280] - 1.0) < 0.0008
    assert (np.abs(calm - depth)[:, 295:305] < 0.005).all()
    np.testing.assert_array_equal(np.isnan(calm), np.isnan(noisy))
    assert steady(depth) is depth
    nothing = np.full((8, 9), np.nan, np.float32)
    assert np.isnan(steady(nothing)).all()


def test_the_opening_of_a_noisy_mask_does_not_move_it() -> None:
    frame, ids = Scene([block("red", 0.5, 0.1, 0.3)]).render(noise_m=0.0012)
    points = cloud(frame)
    table = fit_table(points)
    nobody = np.zeros(ids.shape, bool)
    labels = find_regions(frame.depth_m, points, table.height(points), nobody, table, PartsConfig())
    found, true = (np.nonzero(mask)[1].mean() for mask in (labels == 1, ids == 1))
    assert abs(found - true) < 0.4
