"""The drawn path: where it is drawn, how, and that nothing else is touched."""

from dataclasses import replace

import numpy as np
import pytest
from drawn_plans import PICK_TO_PLATE
from hypothesis import example, given, settings
from hypothesis import strategies as st
from ray_caster import Box, Scene, block, front_camera, plate, with_holes
from scipy.spatial import cKDTree

from stvla_ros.geometry.cameras import project
from stvla_ros.geometry.paths import arc_length, distance, resample, subdivide
from stvla_ros.perception.overlay import draw_trace
from stvla_ros.types import Camera, DepthSource, RgbdFrame, Trace3d

POST = Box((0.56, -0.05, 0.12), (0.04, 0.1, 0.24), 0.2, (0.1, 0.6, 0.6))
FRAME, _ = Scene([block("red", 0.5, 0.1, 0.4), *plate(0.45, -0.22)]).render()


def trace(points: np.ndarray) -> Trace3d:
    fine = subdivide(points, 0.02)[0].astype(np.float32)
    return Trace3d(fine, np.full(len(fine), DepthSource.MODEL, np.uint8), "p1", "")


def grey(camera: Camera) -> np.ndarray:
    return np.full((camera.height_px, camera.width_px, 3), 128, np.uint8)


def changed(points: np.ndarray, camera: Camera | None = None, **how: object) -> np.ndarray:
    """(H, W) largest change of a colour."""
    camera = camera or FRAME.camera
    return np.abs(draw_trace(grey(camera), trace(points), camera, **how).astype(int) - 128).max(axis=2)  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [(640, 480), (256, 256), (1280, 720)])
def test_translucent_and_from_near_red_to_far_blue(size: tuple[int, int]) -> None:
    camera = front_camera(*size)
    out = draw_trace(grey(camera), trace(PICK_TO_PLATE), camera).astype(int)
    px, depth = project(camera, resample(PICK_TO_PLATE, 200))
    columns, rows = np.rint(px).astype(int).T
    red, blue = (out[rows, columns, c] for c in (0, 2))
    near, far = depth.argmin(), depth.argmax()
    assert red[near] > 190
    assert blue[near] < 90
    assert blue[far] > 190
    assert red[far] < 90
    on = np.abs(out - 128).max(axis=2) > 0
    assert out[on].min() >= 128 * 0.4 - 1
    assert out[on].max() <= 128 * 0.4 + 255 * 0.6 + 1


@settings(deadline=None, max_examples=25)
@example(1920, (640, 480), False)  # passes close by the camera
@given(st.integers(0, 10_000), st.sampled_from([(640, 480), (256, 256), (97, 61)]), st.booleans())
def test_nothing_outside_the_stroke_is_touched(seed: int, size: tuple[int, int], hide: bool) -> None:
    """Random paths, partly outside the image and partly behind the camera."""
    rng = np.random.default_rng(seed)
    camera = front_camera(*size)
    points = rng.uniform([-0.2, -1.5, -0.2], [1.8, 1.5, 1.2], (5, 3))
    frame, _ = Scene([POST]).render(camera)
    how = {"depth_m": frame.depth_m} if hide else {}
    out = draw_trace(frame.rgb, trace(points), camera, progress_m=float(rng.uniform(0, 2)), **how)
    rows, columns = np.nonzero((out != frame.rgb).any(axis=2))
    dense = resample(trace(points).xyz_m, 200_000)  # a step is a pixel at most, close to the camera too
    px, depth = project(camera, dense)
    seen = px[(depth > 0.015) & (np.abs(px) < 4000).all(axis=1)]
    if len(rows):
        reach = max(round(size[0] / 213), 2) / 2 + 2
        off, _ = cKDTree(seen).query(np.column_stack([columns, rows]))
        assert off.max() < reach + 1


def test_pure_and_repeatable() -> None:
    rgb = FRAME.rgb.copy()
    once, twice = (draw_trace(rgb, trace(PICK_TO_PLATE), FRAME.camera, depth_m=FRAME.depth_m) for _ in range(2))
    np.testing.assert_array_equal(once, twice)
    np.testing.assert_array_equal(rgb, FRAME.rgb)
    np.testing.assert_array_equal(draw_trace(rgb, trace(PICK_TO_PLATE), FRAME.camera, alpha=0.0), rgb)


@pytest.mark.parametrize("size", [(640, 480), (256, 256), (1280, 720)])
def test_hidden_pieces_are_thinner(size: tuple[int, int]) -> None:
    camera = front_camera(*size)
    frame, ids = Scene([POST]).render(camera)
    across = np.array([[0.4, -0.3, 0.1], [0.4, 0.25, 0.1]])
    plain, hidden = changed(across, camera), changed(across, camera, depth_m=frame.depth_m)
    behind = ids == 1
    behind[:, :-8] &= behind[:, 8:]
    behind[:, 8:] &= behind[:, :-8]
    widths = [(image[:, behind.any(axis=0) & (image > 0).any(axis=0)] > 20).sum(axis=0) for image in (plain, hidden)]
    inner = slice(len(widths[1]) // 4, -len(widths[1]) // 4)
    assert np.median(widths[1][inner]) <= np.median(widths[0][inner]) - 1
    np.testing.assert_array_equal(plain[:, : size[0] // 4], hidden[:, : size[0] // 4])


def test_a_path_in_the_thing_that_is_grasped_is_not_hidden() -> None:
    into = np.array([[0.5, 0.1, 0.02], [0.5, 0.1, 0.3]])
    np.testing.assert_array_equal(changed(into), changed(into, depth_m=FRAME.depth_m))


def test_noise_does_not_change_the_picture() -> None:
    """The sensor's noise decides nothing where the path is clear of the limit."""
    still = changed(PICK_TO_PLATE, depth_m=FRAME.depth_m)
    for seed in range(5):
        noisy, _ = Scene([block("red", 0.5, 0.1, 0.4), *plate(0.45, -0.22)]).render(noise_m=0.0015, seed=seed)
        depth = with_holes(noisy.depth_m, 0.1, seed)
        np.testing.assert_array_equal(changed(PICK_TO_PLATE, depth_m=depth), still)


def test_the_executed_part_is_faint() -> None:
    done = 0.25
    plain, partly = changed(PICK_TO_PLATE), changed(PICK_TO_PLATE, progress_m=done)
    length = arc_length(resample(PICK_TO_PLATE, 2000))
    px, _ = project(FRAME.camera, resample(PICK_TO_PLATE, 2000))
    columns, rows = np.rint(px).astype(int).T
    past, future = length < done - 0.02, length > done + 0.02
    assert (partly[rows, columns][past] > 0).all()
    assert np.median(partly[rows, columns][past]) < 0.25 * np.median(plain[rows, columns][past])
    np.testing.assert_array_equal(partly[rows, columns][future], plain[rows, columns][future])


def test_all_done_and_more_than_all() -> None:
    everything = changed(PICK_TO_PLATE, progress_m=99.0)
    assert 0 < everything.max() < 25
    np.testing.assert_array_equal(changed(PICK_TO_PLATE, progress_m=-1.0), changed(PICK_TO_PLATE))


def test_colours_do_not_change_while_the_path_is_executed() -> None:
    camera = FRAME.camera
    whole, rest = (draw_trace(grey(camera), trace(PICK_TO_PLATE), camera, progress_m=p) for p in (0.0, 0.15))
    last = np.s_[:, :200]
    assert (whole[last] != 128).any()
    np.testing.assert_array_equal(whole[last], rest[last])


def test_cut_off_at_the_camera_and_at_the_border_not_dropped() -> None:
    """A path that comes past the camera: what lies before it is drawn as if the rest were not there."""
    camera = FRAME.camera
    eye, forward = camera.T_base_camera[:3, 3], camera.T_base_camera[:3, 2]
    start, beside = np.array([0.45, -0.2, 0.1]), camera.T_base_camera[:3, 0] * 0.1
    behind = np.stack([start, eye - 0.3 * forward + beside])
    image = changed(behind)
    px, depth = project(camera, resample(behind, 4000))
    inside = (depth > 0.05) & ((px > 3) & (px < [636, 476])).all(axis=1)
    columns, rows = np.rint(px[inside]).astype(int).T
    assert inside.sum() > 500
    assert (image[rows, columns] > 30).all()
    assert changed(np.stack([eye - forward, eye - 2 * forward])).max() == 0


def test_a_path_across_the_whole_image_from_far_outside() -> None:
    image = changed(np.array([[0.45, -40.0, 0.0], [0.45, 40.0, 0.0]]))
    assert ((image > 30).any(axis=0)).all()


def test_invalid_points_are_left_out() -> None:
    good = trace(PICK_TO_PLATE)
    xyz, source = good.xyz_m.copy(), good.source.copy()
    xyz[[5, 20]], source[5] = [[9.0, 9.0, 9.0], [np.nan] * 3], DepthSource.INVALID
    image = draw_trace(FRAME.rgb, replace(good, xyz_m=xyz, source=source), FRAME.camera)
    assert (image != FRAME.rgb).any()
    rows, columns = np.nonzero((image != draw_trace(FRAME.rgb, good, FRAME.camera)).any(axis=2))
    px, _ = project(FRAME.camera, good.xyz_m)
    assert len(rows) == 0 or distance(np.column_stack([columns, rows]), px).max() < 6
    nothing = replace(good, source=np.zeros_like(source))
    np.testing.assert_array_equal(draw_trace(FRAME.rgb, nothing, FRAME.camera), FRAME.rgb)


def test_a_path_of_one_place_is_a_dot() -> None:
    image = changed(np.tile(PICK_TO_PLATE[0], (2, 1)))
    rows, columns = np.nonzero(image)
    assert 0 < len(rows) < 30
    px, _ = project(FRAME.camera, PICK_TO_PLATE[0])
    assert np.hypot(columns - px[0], rows - px[1]).max() < 4


@pytest.mark.parametrize("bad", [np.nan, 0.0, -1.0, np.inf])
def test_where_nothing_is_measured_nothing_is_hidden(bad: float) -> None:
    unknown = np.full_like(FRAME.depth_m, bad)
    np.testing.assert_array_equal(changed(PICK_TO_PLATE, depth_m=unknown), changed(PICK_TO_PLATE))


def _singular(camera: Camera) -> Camera:
    return replace(camera, K=np.zeros((3, 3)))


def test_what_does_not_belong_together_is_refused() -> None:
    frame: RgbdFrame = FRAME
    path = trace(PICK_TO_PLATE)
    with pytest.raises(ValueError, match="wanted rgb of 640x480 px, got 639x480"):
        draw_trace(frame.rgb[:, :-1], path, frame.camera)
    with pytest.raises(ValueError, match="wanted depth of 640x480 px, got 640x479"):
        draw_trace(frame.rgb, path, frame.camera, depth_m=frame.depth_m[:-1])
    with pytest.raises(ValueError, match="wanted intrinsics with positive focal lengths"):
        draw_trace(frame.rgb, path, _singular(frame.camera))
