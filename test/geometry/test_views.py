"""Other views of a frame: intrinsics follow the pixels, depth is never mixed, holes get the nearest depth."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ray_caster import Scene, block, front_camera, look_at

from stvla_ros.geometry.cameras import back_project, cloud, project
from stvla_ros.geometry.views import square_camera, square_view, view_from, without_holes


@given(width=st.integers(64, 700), height=st.integers(64, 700), size=st.sampled_from([64, 128, 256]))
@settings(max_examples=40, deadline=None)
def test_a_point_keeps_its_place_in_the_square(width: int, height: int, size: int) -> None:
    """Projected into the view, a point lies where the crop and the resize take its pixel."""
    camera = front_camera(width, height)
    point = np.array([0.5, 0.05, 0.1])
    (x, y), _ = project(camera, point)
    side = min(width, height)
    wanted = (np.array([x - (width - side) // 2, y - (height - side) // 2]) + 0.5) * size / side - 0.5
    found, _ = project(square_camera(camera, size), point)
    np.testing.assert_allclose(found, wanted, atol=1e-9)


def test_depth_is_that_of_one_pixel() -> None:
    frame, _ = Scene([block("red", 0.5, 0.1)]).render(front_camera(320, 240))
    view = square_view(frame, 100)
    assert set(np.unique(view.depth_m)) <= set(np.unique(frame.depth_m))


def test_the_cloud_lies_on_the_scene() -> None:
    """Half a pixel off at most: the table's points are on the table."""
    frame, _ = Scene([]).render(front_camera(640, 480))
    points = cloud(square_view(frame, 128))
    near = (points[0] > 0.2) & (points[0] < 0.7) & (np.abs(points[1]) < 0.3)
    assert np.abs(points[2][near]).max() < 0.004


def test_a_view_of_its_own_size_is_the_frame() -> None:
    frame, _ = Scene([block("red", 0.5, 0.1)]).render(front_camera(128, 128))
    view = square_view(frame, 128)
    np.testing.assert_array_equal(view.rgb, frame.rgb)
    np.testing.assert_array_equal(view.depth_m, frame.depth_m)
    np.testing.assert_allclose(view.camera.K, frame.camera.K)
    np.testing.assert_allclose(back_project(view.camera, [3, 4], 1.0), back_project(frame.camera, [3, 4], 1.0))


def test_holes_take_the_nearest_depth() -> None:
    depth = np.full((6, 8), np.nan, np.float32)
    depth[2, 1], depth[3, 6] = 1.0, 2.0
    depth[0, 0] = 0.0  # no measurement either
    filled = without_holes(depth)
    places = np.argwhere(np.isfinite(depth) & (depth > 0))
    for at in np.ndindex(depth.shape):
        gaps = np.linalg.norm(places - at, axis=1)
        if abs(gaps[0] - gaps[1]) > 0.5:  # the distance transform is approximate
            assert filled[at] == depth[tuple(places[gaps.argmin()])]


def test_whole_depth_stays_as_it_is() -> None:
    depth = np.ones((4, 4), np.float32)
    assert without_holes(depth) is depth


def test_no_depth_at_all_is_an_error() -> None:
    with pytest.raises(ValueError, match="found none in 4x3"):
        without_holes(np.full((3, 4), np.nan, np.float32))


def test_a_view_from_its_own_pose_is_the_frame() -> None:
    frame, _ = Scene([block("red", 0.5, 0.1)]).render(front_camera(128, 96))
    depth = frame.depth_m.copy()
    depth[10:20, 30:50] = np.nan
    view, share = view_from(replace(frame, depth_m=depth), frame.camera)
    inner = np.isnan(depth)
    inner[[10, 19], :], inner[:, [30, 49]] = False, False  # cracks are closed
    assert np.isnan(view.depth_m[inner]).all()
    np.testing.assert_allclose(view.depth_m[~np.isnan(depth)], depth[~np.isnan(depth)], atol=1e-5)
    np.testing.assert_array_equal(view.rgb[~np.isnan(depth)], frame.rgb[~np.isnan(depth)])
    assert share > 0.98


def test_a_view_from_another_pose_is_what_is_seen_there() -> None:
    scene, here = Scene([block("red", 0.5, 0.1)]), front_camera(160, 120)
    there = replace(here, T_base_camera=look_at((1.15, 0.08, 0.72), (0.45, 0.0, 0.05)))
    (frame, _), (truth, _) = scene.render(here), scene.render(there)
    view, share = view_from(frame, there)
    off = np.abs(view.depth_m - truth.depth_m)
    assert share > 0.75
    assert np.nanmedian(off) < 0.003
    truly, shown = (rgb[..., 0] > 2.0 * rgb[..., 1] for rgb in (truth.rgb, view.rgb))
    assert truly.sum() > 40
    assert (truly & shown).sum() / (truly | shown).sum() > 0.7


def test_what_is_behind_a_camera_is_not_seen() -> None:
    frame, _ = Scene([]).render(front_camera(64, 48))
    away = replace(frame.camera, T_base_camera=look_at((1.2, 0.0, 0.7), (3.0, 0.0, 0.9)))
    view, share = view_from(frame, away)
    assert share == 0.0
    assert np.isnan(view.depth_m).all()
