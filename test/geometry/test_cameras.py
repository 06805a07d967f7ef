"""Projection, and the two image coordinates."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ray_caster import Scene, block, front_camera

from stvla_ros.geometry.cameras import (
    back_project,
    calibration_fault,
    cloud,
    project,
    px_to_uv,
    rays,
    sampled,
    uv_to_px,
)
from stvla_ros.types import Camera

UV = st.floats(0, 1000)


@settings(deadline=None)
@given(UV, UV, st.sampled_from([(640, 480), (256, 256), (1, 1), (1280, 720)]))
def test_uv_and_pixels_are_inverse(u: float, v: float, size: tuple[int, int]) -> None:
    camera = front_camera(*size)
    np.testing.assert_allclose(px_to_uv(uv_to_px([u, v], camera), camera), [u, v], atol=1e-9)


def test_uv_spans_the_image_from_edge_to_edge() -> None:
    camera = front_camera(640, 480)
    np.testing.assert_allclose(
        uv_to_px([[0, 0], [1000, 1000], [500, 500]], camera), [[-0.5, -0.5], [639.5, 479.5], [319.5, 239.5]]
    )


@settings(deadline=None)
@given(st.floats(0.2, 0.8), st.floats(-0.4, 0.4), st.floats(0, 0.4))
def test_projection_and_back_projection_are_inverse(x: float, y: float, z: float) -> None:
    camera = front_camera()
    px, depth = project(camera, [x, y, z])
    np.testing.assert_allclose(back_project(camera, px, depth), [x, y, z], atol=1e-9)


def test_points_behind_the_camera_have_no_image() -> None:
    px, depth = project(front_camera(), [[2.5, 0.0, 1.5]])
    assert depth[0] < 0
    assert np.isnan(px).all()


def test_cloud_of_an_empty_table_is_flat() -> None:
    frame, _ = Scene().render()
    x, y, z = cloud(frame)
    on_table = (x > 0) & (x < 1) & (np.abs(y) < 0.5)
    assert on_table.sum() > 100_000
    assert np.abs(z[on_table]).max() < 1e-5


@pytest.mark.parametrize("bad", [np.nan, 0.0, -1.0, np.inf, 65.535])
def test_cloud_has_nan_where_depth_is_no_measurement(bad: float) -> None:
    frame, _ = Scene().render()
    depth = frame.depth_m.copy()
    depth[10:20, 30:40] = bad
    points = cloud(type(frame)(frame.rgb, depth, frame.camera, 0))
    assert np.isnan(points[:, 10:20, 30:40]).all()
    assert np.isfinite(points[:, 300, 300]).all()


def test_rays_agree_with_back_projection() -> None:
    camera = front_camera(64, 48)
    point = back_project(camera, [5, 7], 1.3)
    np.testing.assert_allclose(rays(camera)[:, 7, 5] * 1.3 + camera.T_base_camera[:3, 3], point, atol=1e-6)


@settings(deadline=None, max_examples=25)
@given(st.permutations(range(8)), st.integers(0, 1000))
def test_points_are_converted_one_by_one(order: list[int], seed: int) -> None:
    camera = front_camera(640, 480)
    uv = np.random.default_rng(seed).uniform(0, 1000, (8, 2))
    np.testing.assert_allclose(px_to_uv(uv_to_px(uv[order], camera), camera), uv[order], atol=1e-9)
    np.testing.assert_array_equal(uv_to_px(uv, camera)[order], uv_to_px(uv[order], camera))


def test_sampling_takes_the_nearest_pixel_and_nothing_outside() -> None:
    depth = np.arange(1, 13, dtype=np.float32).reshape(3, 4)
    depth[1, 1], depth[2, 2], depth[2, 3] = 0.0, np.inf, -1.0
    at = [
        [0, 0],
        [3.4, 0.4],
        [-0.4, 2.4],
        [1, 1],
        [2, 2],
        [3, 2],
        [-0.6, 0],
        [3.6, 0],
        [0, 2.6],
        [np.nan, 0],
        [1e30, 0],
    ]
    np.testing.assert_array_equal(sampled(depth, at), [1, 4, 9, *[np.nan] * 8])
    np.testing.assert_array_equal(sampled(depth, [[-0.5, -0.5], [3.5, 0.5]]), [1, 4])


def test_calibrations() -> None:
    camera = front_camera(64, 48)
    assert calibration_fault(camera) is None
    for name, place, value in (("K", (0, 0), 0.0), ("K", (1, 2), np.inf), ("T_base_camera", (0, 0), 5.0)):
        bad = np.array(getattr(camera, name))
        bad[place] = value
        fields = {"K": camera.K, "T_base_camera": camera.T_base_camera, name: bad}
        assert "wanted" in str(calibration_fault(Camera(width_px=64, height_px=48, **fields)))
    mirrored = camera.T_base_camera @ np.diag([-1.0, 1, 1, 1])
    assert "rigid" in str(calibration_fault(Camera(camera.K, 64, 48, mirrored)))


def test_the_point_of_a_block_projects_onto_it() -> None:
    camera = front_camera()
    _, ids = Scene([block("red", 0.5, 0.1)]).render(camera)
    px, _ = project(camera, [0.5, 0.1, 0.04])
    assert ids[tuple(np.round(px[::-1]).astype(int))] == 1
