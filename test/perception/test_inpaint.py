"""Filling: what goes leaves the background behind, what is kept stays bit for bit, and a still scene stays still."""

from dataclasses import replace
from functools import lru_cache

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ray_caster import Box, Disc, Scene, block, front_camera, look_at, plane_depth, plate

from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.geometry.cameras import cloud, project, rays
from stvla_ros.perception.inpaint import FillConfig, Filled, Filler, fill, fit_planes
from stvla_ros.perception.inpaint.grid import Grid, Membrane, along_gradients
from stvla_ros.perception.inpaint.layers import LayerMap, split_layers, table_edges
from stvla_ros.tabletop.support_plane import SupportPlane, fit_support_plane, inverse_depth_plane
from stvla_ros.types import Camera, RgbdFrame

TARGETS = [block("red", 0.5, 0.1, 0.4), *plate(0.45, -0.22)]
OTHERS = [
    block("blue", 0.65, 0.0, 1.0),
    block("green", 0.4, 0.28, 0.2),
    block("white", 0.62, 0.25),
    block("black", 0.7, -0.3),
]
SIZES = pytest.mark.parametrize("size", [(640, 480), (256, 256), (161, 119)])


@lru_cache(maxsize=8)
def ideal(width: int, height: int) -> tuple[RgbdFrame, np.ndarray, RgbdFrame]:
    camera = front_camera(width, height)
    return *Scene([*TARGETS, *OTHERS]).render(camera), Scene([*TARGETS]).render(camera)[0]


def render(noise_m: float, camera: Camera, seed: int = 0) -> tuple[RgbdFrame, np.ndarray, RgbdFrame]:
    """Frame of the front camera with distractors, its ids, and the truth without distractors."""
    frame, ids, truth = ideal(camera.width_px, camera.height_px)
    return noisy(frame, noise_m, seed), ids, truth


def noisy(frame: RgbdFrame, noise_m: float, seed: int) -> RgbdFrame:
    if not noise_m:
        return frame
    rng = np.random.default_rng(seed)
    depth = frame.depth_m + rng.normal(0, noise_m, frame.depth_m.shape) * frame.depth_m**2
    return replace(with_rgb(frame, frame.rgb + rng.normal(0, 3, frame.rgb.shape)), depth_m=depth.astype(np.float32))


def arguments(frame: RgbdFrame, remove: np.ndarray, keep: np.ndarray) -> tuple:
    points = cloud(frame)
    table = fit_support_plane(np.where(remove | keep, np.float32(np.nan), points))
    return frame, remove, keep, table, table.height(points)


def filled(frame: RgbdFrame, remove: np.ndarray, keep: np.ndarray, config: FillConfig | None = None) -> Filled:
    return fill(*arguments(frame, remove, keep), config)


def with_rgb(frame: RgbdFrame, rgb: np.ndarray) -> RgbdFrame:
    return replace(frame, rgb=np.clip(rgb + 0.5, 0, 255).astype(np.uint8))


def painted(camera: Camera) -> np.ndarray:
    """(H, W, 3) a smooth picture on the table: a linear function of the pixel."""
    v, u = np.mgrid[0 : camera.height_px, 0 : camera.width_px] / max(camera.width_px, 1)
    return np.stack([60 + 90 * u, 200 - 80 * v, 90 + 40 * u + 40 * v], axis=-1)


@SIZES
@pytest.mark.parametrize("noise_m", [0.0, 0.0015])
def test_depth_of_the_table_comes_back_to_a_third_of_a_millimetre(size: tuple[int, int], noise_m: float) -> None:
    frame, ids, truth = render(noise_m, front_camera(*size))
    out = filled(frame, ids > 2, np.isin(ids, [1, 2]))
    error = 1e3 * np.abs(out.depth_m - truth.depth_m)[out.hidden]
    assert error.mean() < 0.3
    assert np.abs(out.rgb.astype(int) - truth.rgb)[out.hidden].mean() < 1.5


@SIZES
def test_a_linear_picture_comes_back(size: tuple[int, int]) -> None:
    """Linear functions are harmonic: value and gradient go on across the border."""
    camera = front_camera(*size)
    frame, ids, _ = render(0.0, camera)
    picture = painted(camera)
    out = filled(with_rgb(frame, np.where(ids[..., None] > 0, frame.rgb, picture)), ids == 3, np.isin(ids, [1, 2]))
    assert np.abs(out.rgb - picture)[out.hidden].max() < 3


def test_across_the_edge_of_the_table_both_layers_come_back() -> None:
    camera = front_camera()
    frame, ids = Scene([block("blue", -0.3, 0.2, 0.0, z=0.15, size=0.3)]).render(camera)
    truth, _ = Scene([]).render(camera)
    out = filled(frame, ids == 1, np.zeros(ids.shape, bool))
    error = np.abs(1 / out.depth_m - 1 / truth.depth_m)[ids == 1]
    assert np.median(error) < 0.002
    assert (error < 0.01).mean() > 0.98
    assert np.abs(out.rgb.astype(int) - truth.rgb)[ids == 1].mean() < 1.5


@pytest.mark.parametrize("noise_m", [0.0, 0.0015])
def test_a_jar_over_the_edge_of_the_table_leaves_the_edge_where_it_was(noise_m: float) -> None:
    jar = Disc((-0.33, -0.25), 0.05, 0.0, 0.25, (0.7, 0.2, 0.1))
    camera = front_camera()
    frame, ids = Scene([*TARGETS, jar]).render(camera, noise_m)
    truth, _ = Scene(TARGETS).render(camera)
    out = filled(frame, ids == 3, np.isin(ids, [1, 2]))
    beyond = truth.depth_m > plane_depth(camera, SupportPlane(), rays(camera)) + 0.1
    assert 0.2 < beyond[ids == 3].mean() < 0.9, "the jar hides both"
    assert 1e3 * np.abs(out.depth_m - truth.depth_m)[out.hidden].mean() < 12


def test_straight_edges_are_found_between_the_pixels() -> None:
    v, u = np.mgrid[0:200, 0:300]
    distance = 0.6 * u + 0.8 * v - 150.3
    table, beyond = (np.where(side, np.uint8(255), np.uint8(0)) for side in (distance > 1, distance < -1))
    (edge,) = table_edges(table, beyond)
    np.testing.assert_allclose(edge, [0.6, 0.8, -150.3], atol=0.1)


def layers_behind(rows_beyond: int) -> LayerMap:
    """Of a hole 20 px wide that reaches so many rows beyond a straight edge; a floor and a wall are seen there."""
    v, u = np.mgrid[0:200, 0:320]
    depth = np.where(v < 100, np.where(u < 165, 3.0, 5.0), 1.0).astype(np.float32)
    hidden, table, beyond = np.zeros((3, 200, 320), np.uint8)
    hidden[100 - rows_beyond : 130, 150:170] = 255
    table[(v >= 100) & (hidden == 0)] = 255
    beyond[(v < 100) & (hidden == 0)] = 255
    return split_layers(Grid((slice(0, 200), slice(0, 320)), 4), hidden, table, beyond, depth, 20)


def test_less_than_a_cell_beyond_the_edge_is_no_layer() -> None:
    assert layers_behind(0).labels is None
    some = layers_behind(2).labels
    assert some is not None
    assert np.unique(some[98:130, 150:170], return_counts=True)[1].tolist() == [600, 40], "the few px of the other join"
    many = layers_behind(20).labels
    assert many is not None
    assert len(np.unique(many[80:130, 150:170])) == 3


def test_a_round_table_is_followed_to_a_few_pixels() -> None:
    """What the hole hides may be an arc or a corner: the visible border does not tell."""
    v, u = np.mgrid[0:240, 0:320]
    on = (u - 160) ** 2 + (v - 250) ** 2 < 150**2
    camera = front_camera(320, 240)
    height = np.where(on, 0.0, -0.7).astype(np.float32)
    table_m = plane_depth(camera, SupportPlane(), rays(camera))
    depth = np.where(on, table_m, 2.5).astype(np.float32)
    frame = RgbdFrame(np.where(on[..., None], np.uint8(200), np.uint8(40)).repeat(3, 2), depth, camera, 0)
    remove = np.zeros(on.shape, bool)
    remove[85:115, 145:170] = True
    out = fill(frame, remove, np.zeros_like(remove), SupportPlane(), height)
    wrong = ((out.depth_m > 2) != ~on) & out.hidden
    assert wrong.sum(axis=0).max() < 10
    assert wrong.sum() < 5 * out.hidden.any(axis=0).sum()


def test_where_no_straight_edge_fits_the_border_is_a_level_line() -> None:
    """A border like a saw: what is seen on both sides of the hole decides, without a straight edge."""
    v, u = np.mgrid[0:240, 0:320]
    on = v > 100 + np.abs((u % 40) - 20)
    camera = front_camera(320, 240)
    table_m = plane_depth(camera, SupportPlane(), rays(camera))
    depth = np.where(on, table_m, 2.5).astype(np.float32)
    frame = RgbdFrame(np.where(on[..., None], np.uint8(200), np.uint8(40)).repeat(3, 2), depth, camera, 0)
    remove = np.zeros(on.shape, bool)
    remove[90:130, 150:170] = True
    out = fill(frame, remove, np.zeros_like(remove), SupportPlane(), np.where(on, 0.0, -0.7).astype(np.float32))
    assert (((out.depth_m > 2) != ~on) & out.hidden).sum() < 12 * out.hidden.any(axis=0).sum()
    assert (out.depth_m[out.hidden & (v > 125)] < 2).all()
    assert (out.depth_m[out.hidden & (v < 95)] > 2).all()


def test_depth_lost_beside_what_goes_is_filled_and_its_colour_stays() -> None:
    frame, ids, truth = render(0.0, front_camera())
    gone = ids == 3
    depth = frame.depth_m.copy()
    lost = cv2.dilate(gone.astype(np.uint8), np.ones((21, 21), np.uint8)).astype(bool)
    depth[lost] = np.nan
    far = (slice(400, 420), slice(20, 60))
    depth[far] = np.nan
    out = filled(replace(frame, depth_m=depth), gone, np.isin(ids, [1, 2]))
    assert np.isfinite(out.depth_m[lost]).all()
    assert np.abs(out.depth_m - truth.depth_m)[out.hidden & ~np.isin(ids, [4, 5, 6])].max() < 0.002
    assert np.isnan(out.depth_m[far]).all(), "invalid depth elsewhere is none of our business"
    rim = lost & ~cv2.dilate(gone.astype(np.uint8), np.ones((19, 19), np.uint8)).astype(bool)
    np.testing.assert_array_equal(out.rgb[rim], frame.rgb[rim])


def test_flying_pixels_beside_what_goes_go_too() -> None:
    frame, ids, truth = render(0.0, front_camera())
    gone = ids == 3
    rim = cv2.dilate(gone.astype(np.uint8), np.ones((17, 17), np.uint8)).astype(bool) & ~gone
    depth = np.where(rim, frame.depth_m - 0.05, frame.depth_m)
    out = filled(replace(frame, depth_m=depth), gone, np.isin(ids, [1, 2]))
    assert np.abs(out.depth_m - truth.depth_m)[rim].max() < 0.001


def shaded(frame: RgbdFrame, ids: np.ndarray, centre_m: tuple[float, float], radius_m: float) -> tuple:
    """The frame with a round shadow on its table, and the shadow."""
    x, y, _ = cloud(frame)
    shadow = (np.hypot(x - centre_m[0], y - centre_m[1]) < radius_m) & (ids == 0)
    return with_rgb(frame, np.where(shadow[..., None], 0.6 * frame.rgb, frame.rgb)), shadow


@SIZES
def test_the_shadow_of_what_goes_goes_too(size: tuple[int, int]) -> None:
    frame, ids, truth = render(0.0, front_camera(*size))
    dark, shadow = shaded(frame, ids, (0.63, 0.03), 0.03)
    out = filled(dark, ids == 3, np.isin(ids, [1, 2]))
    assert np.abs(out.rgb.astype(int) - truth.rgb)[shadow].max() < 12
    left = filled(dark, ids == 3, np.isin(ids, [1, 2]), FillConfig(shadows=False))
    assert np.abs(left.rgb.astype(int) - truth.rgb)[shadow].mean() > 15


@pytest.mark.parametrize(
    ("what", "centre_m", "radius_m"),
    [
        ("of a kept thing", (0.48, 0.14), 0.05),
        ("that touches nothing", (0.55, -0.1), 0.05),
        ("too large for a block", (0.3, -0.1), 0.42),
    ],
)
def test_other_dark_places_stay(what: str, centre_m: tuple[float, float], radius_m: float) -> None:
    frame, ids, _ = render(0.0, front_camera())
    dark, shadow = shaded(frame, ids, centre_m, radius_m)
    gone = ids == 3
    out = filled(dark, gone, np.isin(ids, [1, 2]))
    away = shadow & ~cv2.dilate(gone.astype(np.uint8), np.ones((31, 31), np.uint8)).astype(bool)
    assert away.sum() > 200
    np.testing.assert_array_equal(out.rgb[away], dark.rgb[away], err_msg=f"a shadow {what}")


things = st.lists(
    st.builds(
        lambda x, y, size, yaw: Box((x, y, size / 2), (size, size, size), yaw, (0.2, 0.8, 0.3)),
        *(st.floats(low, high) for low, high in ((0.2, 0.8), (-0.4, 0.4), (0.02, 0.12), (0, 3))),
    ),
    min_size=2,
    max_size=5,
)


@settings(max_examples=25, deadline=None)
@given(things=things, seed=st.integers(0, 1000), feather_px=st.integers(0, 8))
def test_fills_are_bounded_and_the_rest_stays_bit_for_bit(things: list[Box], seed: int, feather_px: int) -> None:
    camera = front_camera(160, 120)
    frame, ids = Scene(things).render(camera, 0.001, seed)
    rng = np.random.default_rng(seed)
    frame = with_rgb(frame, np.where(ids[..., None] > 0, frame.rgb, rng.integers(60, 180, frame.rgb.shape)))
    keep = ids == 1
    frame_, _, _, table, height = given_ = arguments(frame, ids > 1, keep)
    out = fill(*given_, FillConfig(feather_px=feather_px, shadows=False))
    assert frame_ is frame
    touched = cv2.dilate(out.hidden.astype(np.uint8), np.ones((2 * feather_px + 1,) * 2, np.uint8)).astype(bool)
    for new, old in ((out.rgb, frame.rgb), (out.depth_m, frame.depth_m)):
        np.testing.assert_array_equal(new[keep], old[keep])
        np.testing.assert_array_equal(new[~touched], old[~touched])
    seen = ~out.hidden & ~keep & (np.abs(height) < 0.02)
    if (ids > 1).any() and seen.any() and not (height < -0.02).any():
        assert (out.rgb[out.hidden] >= frame.rgb[seen].min(axis=0)).all()
        assert (out.rgb[out.hidden] <= frame.rgb[seen].max(axis=0)).all()
        off = (out.depth_m / plane_depth(camera, table, rays(camera)))[out.hidden] - 1
        assert np.abs(off).max() < np.abs(height[seen]).max() / 0.5


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10000))
def test_a_membrane_keeps_the_maximum_principle_whatever_the_gradients(seed: int) -> None:
    rng = np.random.default_rng(seed)
    kind = cv2.blur(rng.random((24, 31)).astype(np.float32), (5, 5))
    unknown, known = kind > 0.52, kind < 0.5
    values = rng.uniform(10, 20, (24, 31, 3)).astype(np.float32)
    tensor = along_gradients(values, known, 7)
    assert np.allclose(tensor[0] + tensor[2], 2, atol=1e-3)
    solved = Membrane(unknown, known, tensor).solve(values, values[known].mean(axis=0))
    assert solved.shape == (unknown.sum(), 3)
    assert ((solved > values[known].min(axis=0) - 1e-3) & (solved < values[known].max(axis=0) + 1e-3)).all()


def test_colour_flows_along_stripes() -> None:
    """Of a striped picture an isotropic membrane keeps less than one that follows the gradients."""
    stripes = (128 + 60 * np.sin(np.arange(48) / 3)).astype(np.float32)[:, None, None] * np.ones((1, 48, 3), np.float32)
    unknown = np.zeros((48, 48), bool)
    unknown[14:34, 18:30] = True
    followed, plain = (
        np.abs(Membrane(unknown, ~unknown, tensor).solve(stripes, np.full(3, 128.0)) - stripes[unknown]).mean()
        for tensor in (along_gradients(stripes, ~unknown, 21), None)
    )
    assert followed < plain / 3


def test_cells_average_what_they_hold() -> None:
    mask = np.zeros((50, 70), np.uint8)
    mask[20:30, 30:45] = 255
    grid = Grid.around(mask, 7, 4)
    share = grid.share(mask[grid.window])
    assert share.shape == grid.cells
    assert share.sum() * 16 == 150
    u = np.arange(70, dtype=np.float32)[None, grid.window[1]].repeat(share.shape[0] * 4, 0)
    np.testing.assert_allclose(grid.spread(grid.pooled(u))[:, 4:-4], u[:, 4:-4], atol=1e-3)


def jittered(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    shape = (slice(None),) * 2
    kind = rng.integers(4)
    if kind < 2:
        change = cv2.erode if kind else cv2.dilate
        return change(mask.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
    return np.roll(mask, rng.integers(-1, 2, 2), (0, 1))[shape]


@pytest.mark.parametrize("size", [(640, 480), (256, 256)])
def test_a_still_noisy_scene_stays_still_though_masks_jitter(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    filler, rgb, depth, masks, given_ = Filler(FillConfig()), [], [], [], []
    for i in range(16):
        frame, ids, _ = render(0.0015, front_camera(*size), seed=i)
        keep = np.isin(ids, [1, 2])
        out = filler.fill(*arguments(frame, jittered(ids > 2, rng) & ~keep, keep))
        if i >= 6:  # the first masks add up to the hole that serves
            rgb.append(out.rgb.astype(float))
            depth.append(out.depth_m)
            given_.append((frame.rgb.astype(float), frame.depth_m))
            masks.append(out.hidden)
    hole, ever = np.logical_and.reduce(masks), np.logical_or.reduce(masks)
    assert ever.sum() < 1.03 * hole.sum(), "the hole itself is steady"
    around = cv2.dilate(ever.astype(np.uint8), np.ones((31, 31), np.uint8)).astype(bool) & ~ever & (ids == 0)
    for new, old in zip((rgb, depth), zip(*given_)):
        steady, noisy = np.std(new, axis=0)[ever], np.std(old, axis=0)[around]
        assert steady.mean() < 0.6 * noisy.mean()
        assert np.percentile(steady, 99) < np.percentile(noisy, 99)


def test_what_moves_is_followed() -> None:
    """After any change of more than jitter a used filler does what a new one does."""
    filler, camera = Filler(FillConfig()), front_camera(320, 240)
    for step in range(6):
        frame, ids = Scene([*TARGETS, block("blue", 0.65 - 0.03 * step, -0.05, 0.3)]).render(camera)
        given_ = arguments(frame, ids == 3, np.isin(ids, [1, 2]))
        out, fresh = filler.fill(*given_), fill(*given_)
        np.testing.assert_array_equal(out.rgb, fresh.rgb)
        np.testing.assert_array_equal(out.depth_m, fresh.depth_m)


def test_a_slow_mover_does_not_drag_its_hole_along() -> None:
    filler, camera = Filler(FillConfig()), front_camera(256, 192)
    for step in range(14):
        frame, ids = Scene([*TARGETS, block("blue", 0.6, -0.1 + 0.004 * step, 0.3)]).render(camera)
        out = filler.fill(*arguments(frame, ids == 3, np.isin(ids, [1, 2])))
        needed = fill(*arguments(frame, ids == 3, np.isin(ids, [1, 2]))).hidden
        assert not (needed & ~cv2.dilate(out.hidden.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool)).any()
        assert out.hidden.sum() < 1.7 * needed.sum()
        assert out.hidden[ids == 3].all()


def test_another_camera_starts_anew() -> None:
    filler = Filler(FillConfig())
    moved = replace(front_camera(320, 240), T_base_camera=look_at((1.18, 0.03, 0.7), (0.45, 0.0, 0.05)))
    for camera in (front_camera(320, 240), moved, front_camera(256, 256)):
        frame, ids = Scene([*TARGETS, *OTHERS]).render(camera)
        given_ = arguments(frame, ids > 2, np.isin(ids, [1, 2]))
        np.testing.assert_array_equal(filler.fill(*given_).rgb, fill(*given_).rgb)


def test_an_arm_that_comes_over_the_hole_stays_visible() -> None:
    filler = Filler(FillConfig())
    frame, ids, _ = render(0.0, front_camera(320, 240))
    keep = np.isin(ids, [1, 2])
    filler.fill(*arguments(frame, ids > 2, keep))
    arm = np.zeros(ids.shape, bool)
    arm[:200, 150:175] = True
    with_arm = with_rgb(frame, np.where(arm[..., None], 255, frame.rgb))
    out = filler.fill(*arguments(with_arm, (ids > 2) & ~arm, keep | arm))
    np.testing.assert_array_equal(out.rgb[arm], with_arm.rgb[arm])
    assert (out.rgb[out.hidden] < 250).all(), "its colour does not flow into the holes beside it"


def test_removing_nothing_changes_nothing() -> None:
    frame, ids, _ = render(0.001, front_camera(256, 256))
    out = filled(frame, np.zeros(ids.shape, bool), ids > 0)
    assert out.rgb is frame.rgb
    assert out.depth_m is frame.depth_m
    assert not out.hidden.any()


def valid_outcome(frame: RgbdFrame, remove: np.ndarray, keep: np.ndarray) -> Filled:
    out = filled(frame, remove, keep)
    np.testing.assert_array_equal(out.rgb[keep], frame.rgb[keep])
    np.testing.assert_array_equal(out.depth_m[keep], frame.depth_m[keep])
    assert out.hidden[remove & ~keep].all()
    assert np.isfinite(out.depth_m[out.hidden]).all()
    assert (out.depth_m[out.hidden] > 0).all()
    return out


@pytest.mark.parametrize("depth_m", [np.nan, 0.0, -1.0, np.inf, 65.535])
def test_senseless_depth_everywhere(depth_m: float) -> None:
    frame, ids, _ = render(0.0, front_camera(128, 96))
    blind = replace(frame, depth_m=np.full_like(frame.depth_m, depth_m))
    out = valid_outcome(blind, ids == 3, ids == 1)
    assert np.abs(out.rgb.astype(int)[ids == 3] - [124, 109, 91]).mean() < 40, "the colour is taken from what is seen"


@pytest.mark.parametrize("share", [0.2, 0.9])
def test_depth_with_holes_all_over(share: float) -> None:
    frame, ids, truth = render(0.0, front_camera(320, 240))
    depth = np.where(np.random.default_rng(0).random(ids.shape) < share, np.float32(np.nan), frame.depth_m)
    out = valid_outcome(replace(frame, depth_m=depth), ids > 2, np.isin(ids, [1, 2]))
    assert np.abs(out.depth_m - truth.depth_m)[ids > 2].mean() < 0.002


@pytest.mark.parametrize("kept", ["nothing", "everything else", "a ring"])
@pytest.mark.parametrize("removed", ["everything", "a block", "one pixel"])
def test_hopeless_masks_still_give_an_image(removed: str, kept: str) -> None:
    """All hidden, or hidden pixels shut in by kept ones: no background to take colour from."""
    frame, ids, _ = render(0.0, front_camera(128, 96))
    remove = np.zeros(ids.shape, bool)
    if removed == "one pixel":
        remove[50, 60] = True
    else:
        remove = np.ones(ids.shape, bool) if removed == "everything" else ids == 3
    ring = cv2.dilate(remove.astype(np.uint8), np.ones((9, 9), np.uint8)).astype(bool)
    keep = {"nothing": np.zeros_like(remove), "everything else": np.ones_like(remove), "a ring": ring}[kept] & ~remove
    valid_outcome(frame, remove, keep)


@pytest.mark.parametrize("size", [(64, 1), (1, 64), (1, 1), (3, 2), (641, 1), (1279, 3)])
def test_images_of_any_size(size: tuple[int, int]) -> None:
    camera = Camera(
        np.array([[300.0, 0, size[0] / 2], [0, 300, size[1] / 2], [0, 0, 1]]), *size, front_camera().T_base_camera
    )
    frame, _ = Scene([]).render(camera)
    remove = np.zeros((size[1], size[0]), bool)
    remove[:, size[0] // 3 : size[0] // 3 + 5] = True
    valid_outcome(frame, remove, np.zeros_like(remove))


def test_masks_of_another_size_are_refused() -> None:
    frame, ids, _ = render(0.0, front_camera(128, 96))
    _, remove, keep, table, height = arguments(frame, ids == 3, ids == 1)
    with pytest.raises(StageError, match=r"image's \(96, 128\) pixels, got \(48, 64\)") as caught:
        fill(frame, remove[::2, ::2], keep, table, height)
    assert caught.value.code is OutcomeCode.INTERNAL


def test_above_the_horizon_the_hole_is_as_deep_as_what_is_seen() -> None:
    camera = replace(front_camera(160, 120), T_base_camera=look_at((1.2, 0.0, 0.3), (0.0, 0.0, 0.5)))
    frame, ids = Scene([Disc((0.4, 0.0), 0.05, 0.0, 0.6, (0.8, 0.1, 0.1))], floor_m=-0.75).render(camera)
    out = valid_outcome(frame, ids == 1, np.zeros(ids.shape, bool))
    assert out.depth_m[out.hidden].max() < 20


def test_two_hundred_things_can_go_at_once() -> None:
    rng = np.random.default_rng(1)
    frame, _ = Scene([]).render(front_camera())
    remove = np.zeros((480, 640), np.uint8)
    for u, v, r in zip(rng.integers(0, 640, 200), rng.integers(0, 480, 200), rng.integers(3, 14, 200)):
        cv2.circle(remove, (int(u), int(v)), int(r), 1, -1)
    out = valid_outcome(frame, remove.astype(bool), np.zeros(remove.shape, bool))
    assert np.abs(out.depth_m / frame.depth_m - 1)[out.hidden].mean() < 0.01


def test_sequential_ransac_separates_two_planes() -> None:
    v, u = np.mgrid[0:60, 0:80]
    A = np.column_stack([u.ravel(), v.ravel(), np.ones(u.size)]).astype(float)
    first, second = A @ [1e-3, 2e-3, 0.6], A @ [-1e-3, 0.0, 0.9]
    planes = fit_planes(A, np.where(A[:, 0] < 40, first, second))
    assert len(planes) == 2
    assert (
        max(
            np.abs(A[inside] @ plane - np.where(A[inside, 0] < 40, first[inside], second[inside])).max()
            for plane, inside in planes
        )
        < 0.01
    )


def test_the_plane_of_inverse_depth_is_that_of_the_table() -> None:
    camera, table = front_camera(), SupportPlane(0.02, -0.01, 0.005)
    px, depth = project(camera, [0.5, 0.1, 0.02 * 0.5 - 0.01 * 0.1 + 0.005])
    assert inverse_depth_plane(camera, table) @ [*px, 1] == pytest.approx(1 / depth)
    below = replace(camera, T_base_camera=look_at((1.2, 0.0, -0.1), (0.45, 0.0, 0.05)))
    assert not inverse_depth_plane(below, table).any()
