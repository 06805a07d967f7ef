"""The hole: what goes, its own shadow and its fringe, and nothing more, on plain tables and on grain."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from ray_caster import Box, Scene, block, front_camera

from stvla_ros.geometry.cameras import cloud
from stvla_ros.perception.inpaint import Filled, fill
from stvla_ros.perception.inpaint.elevation import reach_m, shadow_depth_m
from stvla_ros.perception.inpaint.lamp import Evidence, find_lamp
from stvla_ros.tabletop.support_plane import fit_support_plane
from stvla_ros.types import RgbdFrame

GONE = (block("blue", 0.62, 0.02, 1.0, 0.04, 0.08), block("green", 0.45, 0.28, 0.2, 0.03, 0.06))
KEPT = (block("red", 0.5, -0.1, 0.4, 0.03, 0.06),)
LAMP = (0.45, -0.5)
TABLES = pytest.mark.parametrize("table", ["plain", "wood", "checks"])


def print_on(frame: RgbdFrame, ids: np.ndarray, table: str) -> RgbdFrame:
    """The frame with a picture on its table, fixed in metres: planks with grain along x, or a woven pattern."""
    x, y, _ = cloud(frame)
    if table == "plain":
        return frame
    if table == "wood":
        rng = np.random.default_rng(0)
        planks = rng.uniform(0.94, 1.06, 40)[np.clip((y / 0.12 + 20).astype(int), 0, 39)]
        grain = cv2.GaussianBlur(rng.normal(0, 1, (400, 400)).astype(np.float32), (0, 0), 1.0, sigmaY=8.0)
        at = (np.clip((y + 1) * 200, 0, 399).astype(int), np.clip(x * 250, 0, 399).astype(int))
        picture = planks * (1 + 0.06 * (grain / grain.std()).T[at[1], at[0]])
    else:
        picture = 1 - 0.12 * (np.sin(x * 150) > 0.5) - 0.12 * (np.sin(y * 150) > 0.5)
    rgb = np.where(
        ((ids == 0) & (np.abs(cloud(frame)[2]) < 0.001))[..., None], frame.rgb * picture[..., None], frame.rgb
    )
    return replace(frame, rgb=np.clip(rgb + 0.5, 0, 255).astype(np.uint8))


def shadow_of(frame: RgbdFrame, ids: np.ndarray, boxes: tuple[Box, ...]) -> np.ndarray:
    """(H, W) pixels of the table from which a box hides the lamp."""
    x, y, z = cloud(frame)
    shaded = np.zeros(ids.shape, dtype=bool)
    for box in boxes:
        c, s = np.cos(box.yaw_rad), np.sin(box.yaw_rad)
        for t in np.linspace(0, box.size_m[2], 40):
            dx, dy = x - LAMP[0] * t - box.centre_m[0], y - LAMP[1] * t - box.centre_m[1]
            shaded |= (np.abs(c * dx + s * dy) < box.size_m[0] / 2) & (np.abs(c * dy - s * dx) < box.size_m[1] / 2)
    return shaded & (ids == 0) & (np.abs(z) < 0.001)


def seen(
    table: str, shadows: bool = True, hand: Box | None = None
) -> tuple[RgbdFrame, np.ndarray, np.ndarray, np.ndarray]:
    """A noisy frame; what goes; what stays; the shadow of what goes alone. A hand casts none."""
    frame, ids = Scene([*KEPT, *GONE, *([hand] if hand else [])]).render(front_camera())
    printed = print_on(frame, ids, table)
    mine, theirs = shadow_of(frame, ids, GONE), shadow_of(frame, ids, KEPT)
    rgb = printed.rgb * np.where((mine | theirs) & shadows, 0.65, 1.0)[..., None]
    rng = np.random.default_rng(0)
    depth = frame.depth_m + rng.normal(0, 0.001, ids.shape) * frame.depth_m**2
    rgb = np.clip(rgb + rng.normal(0, 2, rgb.shape) + 0.5, 0, 255).astype(np.uint8)
    return (
        RgbdFrame(rgb, depth.astype(np.float32), frame.camera, 0),
        (ids == 2) | (ids == 3),
        (ids == 1) | (ids > 3),
        mine & ~theirs,
    )


def filled(frame: RgbdFrame, remove: np.ndarray, keep: np.ndarray) -> Filled:
    points = cloud(frame)
    table = fit_support_plane(np.where(remove | keep, np.float32(np.nan), points))
    return fill(frame, remove, keep, table, table.height(points))


def grown(mask: np.ndarray, px: int) -> np.ndarray:
    return cv2.dilate(mask.astype(np.uint8), np.ones((2 * px + 1,) * 2, np.uint8)) > 0


@TABLES
def test_without_shadows_the_hole_is_little_more_than_what_goes(table: str) -> None:
    frame, gone, keep, _ = seen(table, shadows=False)
    hidden = filled(frame, gone, keep).hidden
    assert hidden[gone].all()
    assert hidden.sum() < 1.3 * gone.sum()


@TABLES
def test_a_hole_has_the_shadow_of_what_goes_and_is_hardly_larger(table: str) -> None:
    frame, gone, keep, shadow = seen(table)
    hidden = filled(frame, gone, keep).hidden
    assert hidden[shadow].mean() > 0.9
    assert hidden.sum() < 1.3 * (gone | shadow).sum()


@TABLES
def test_the_shadow_of_what_stays_stays(table: str) -> None:
    frame, gone, keep, shadow = seen(table)
    theirs = shadow_of(*Scene([*KEPT, *GONE]).render(front_camera()), KEPT) & ~grown(gone | shadow, 8)
    assert theirs.sum() > 300
    assert filled(frame, gone, keep).hidden[theirs].mean() < 0.02


@pytest.mark.parametrize("table", ["wood", "checks"])
def test_a_hand_over_what_goes_keeps_no_shadow_at_its_own_foot(table: str) -> None:
    """It hovers: what is dark at the foot of things that go is theirs, though the hand is thrice as high. Further away
    it may be the hand's."""
    hand = block("white", 0.6, -0.02, z=0.22, size=0.12)
    frame, gone, keep, shadow = seen(table, hand=hand)
    assert shadow.sum() > 1000
    assert filled(frame, gone, keep).hidden[shadow].mean() > 0.7, "0.18 if it stood there"


def test_what_a_mask_left_out_goes_when_its_colour_says_so() -> None:
    frame, gone, keep, _ = seen("plain", shadows=False)
    small = cv2.erode(gone.astype(np.uint8), np.ones((7, 7), np.uint8)) > 0
    hidden = filled(frame, small, keep).hidden
    assert hidden[gone].mean() > 0.99
    assert hidden.sum() < 1.3 * gone.sum()


def test_lost_depth_beside_what_goes_is_filled_and_in_its_shadow_also_coloured() -> None:
    frame, gone, keep, shadow = seen("plain")
    lost = grown(gone, 9) & ~gone & ~keep
    out = filled(replace(frame, depth_m=np.where(lost, np.float32(np.nan), frame.depth_m)), gone, keep)
    assert np.isfinite(out.depth_m[lost]).all()
    dark = lost & shadow
    assert dark.sum() > 200
    assert (out.rgb[dark].mean(axis=1) > frame.rgb[dark].mean(axis=1) + 10).mean() > 0.9


@TABLES
def test_what_has_no_depth_casts_a_shadow_too(table: str) -> None:
    frame, gone, keep, shadow = seen(table)
    unseen = replace(frame, depth_m=np.where(gone, np.float32(np.nan), frame.depth_m))
    assert filled(unseen, gone, keep).hidden[shadow].mean() > 0.9


def test_table_that_is_pulled_up_beside_what_goes_is_replaced_and_keeps_its_colour() -> None:
    frame, gone, keep, _ = seen("plain", shadows=False)
    ring = grown(gone, 8) & ~grown(gone, 5) & ~grown(keep, 8)
    above = frame.camera.T_base_camera[2, 3]
    pulled = np.where(ring, frame.depth_m * np.float32(1 - 0.012 / above), frame.depth_m)
    out = filled(replace(frame, depth_m=pulled), gone, keep)
    off = np.abs(out.depth_m - frame.depth_m)[ring]
    assert (off < 0.004).mean() > 0.95
    np.testing.assert_array_equal(out.rgb[ring], frame.rgb[ring])


def test_a_shadow_ends_where_the_ray_to_the_lamp_passes_over() -> None:
    height = np.zeros((100, 100), np.float32)
    height[48:52, 20:24] = 0.1
    depth = shadow_depth_m(height, 0.01, np.array([2.0, 0.0, 0.0]))
    assert (depth[50, 24:43] > 0).all(), "twenty centimetres long"
    assert not (depth[50, 46:] > 0).any()
    assert not (depth[40:46] > 0).any()
    overhead = shadow_depth_m(height, 0.01, np.zeros(3))
    np.testing.assert_array_equal(overhead > 0, height > 0)


def test_a_lamp_low_above_the_map_throws_longer_shadows_further_away() -> None:
    height = np.zeros((100, 200), np.float32)
    height[48:52, 120:122] = height[48:52, 180:182] = 0.1
    near, far = (
        (shadow_depth_m(height, 0.01, np.array([0.0, 0.0, 2.0])) > 0)[50, s].sum()
        for s in (slice(110, 150), slice(170, 200))
    )
    assert far > 2 * near - 4


def test_shadows_to_all_sides_reach_as_far_as_their_slope() -> None:
    height = np.zeros((101, 101), np.float32)
    height[50, 50] = 0.2
    near = reach_m(height, 0.01, 1.0) > 0
    assert near[50].sum() == pytest.approx(39, abs=2)


@pytest.mark.parametrize("lamp", [(0.5, 0.3), (-0.8, 0.1), (0.0, -0.4)])
def test_the_lamp_is_found_by_its_shadows(lamp: tuple[float, float]) -> None:
    rng = np.random.default_rng(0)
    height = np.zeros((100, 100), np.float32)
    for row, column in rng.integers(20, 80, (6, 2)):
        height[row : row + 6, column : column + 6] = 0.1
    place = np.flatnonzero(height == 0)
    shaded = shadow_depth_m(height, 0.01, np.array([*lamp, 0.0])).reshape(-1)[place] > 0
    dark = (0.3 * shaded + rng.normal(0, 0.1, place.shape)).astype(np.float32)
    found = find_lamp(Evidence(dark - dark.mean(), place, height, 0.01))
    assert found is not None
    assert np.hypot(*(found.place[:2] - lamp)) < 0.2
    assert found.strength == pytest.approx(0.3, abs=0.08)
    assert find_lamp(Evidence(rng.normal(0, 0.1, place.shape).astype(np.float32), place, height, 0.01)) is None
