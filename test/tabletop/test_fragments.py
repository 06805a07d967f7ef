"""Creases, necks, fragments and fringes on small pictures."""

import cv2
import numpy as np
import pytest

from stvla_ros.tabletop.boundaries import refine_boundaries
from stvla_ros.tabletop.regions import RegionConfig, depth_regions, low_pixels
from stvla_ros.tabletop.support_plane import SupportPlane
from stvla_ros.tabletop.surface_colours import colour_feature
from stvla_ros.tabletop.touching import concavity, split_at_constrictions


def test_a_step_and_a_groove_are_valleys_and_a_ridge_is_not() -> None:
    height = np.full((40, 60), 0.04, np.float32)
    height[:, 20:] = 0.07
    step = concavity(height, 4) > 0.004
    assert step[:, 16:20].all()
    assert not step[:, 20:].any()
    assert not step[:, :15].any()
    x = np.abs(np.arange(60) - 30).astype(np.float32) * np.ones((40, 1), np.float32)
    groove, ridge = concavity(0.04 + 0.002 * x, 4) > 0.004, concavity(0.1 - 0.002 * x, 4) > 0.004
    assert groove[:, 30].all()
    assert not groove[:, :25].any()
    assert not ridge[5:-5, 5:-5].any()


def test_a_slope_is_no_valley() -> None:
    slope = np.linspace(0.0, 0.3, 60, dtype=np.float32) * np.ones((40, 1), np.float32)
    assert not (concavity(slope, 5) > 0.002)[6:-6, 6:-6].any()


def two_discs(gap: int) -> np.ndarray:
    y, x = np.mgrid[:60, :100]
    near = [(x - cx) ** 2 + (y - 30) ** 2 < 20**2 for cx in (30, 30 + gap)]
    return (near[0] | near[1]).astype(np.int32)


def test_discs_that_touch_are_cut_and_one_is_not() -> None:
    labels = split_at_constrictions(two_discs(38), 20)
    assert labels.max() == 2
    assert labels[30, 20] != labels[30, 80]
    assert (labels > 0).sum() == two_discs(38).sum()
    assert split_at_constrictions(two_discs(16), 20).max() == 1
    assert split_at_constrictions(two_discs(0), 20).max() == 1


def test_a_ring_has_no_neck() -> None:
    ring = two_discs(0)
    y, x = np.mgrid[:60, :100]
    ring[(x - 30) ** 2 + (y - 30) ** 2 < 12**2] = 0
    assert split_at_constrictions(ring, 20).max() == 1


TABLE = SupportPlane(noise_m=0.002)


def scene() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Labels of the upper part of a red thing on a grey table, image, depth and heights."""
    labels, rgb = np.zeros((80, 280), np.int32), np.full((80, 280, 3), 150, np.uint8)
    rgb[20:60, 100:140] = (200, 30, 30)
    labels[20:56, 100:140] = 1
    depth, height = np.ones((80, 280), np.float32), np.zeros((80, 280), np.float32)
    height[20:56, 100:140] = 0.03
    return labels, rgb, depth, height


def refined(
    labels: np.ndarray, rgb: np.ndarray, depth: np.ndarray, height: np.ndarray, arm: np.ndarray | None = None
) -> np.ndarray:
    """Boundaries refined, with the table's grey as the table's colour."""
    nobody = np.zeros(depth.shape, bool)
    like_table = (rgb == 150).all(axis=2)
    exclude = nobody if arm is None else arm
    return refine_boundaries(labels, colour_feature(rgb), depth, height, exclude, like_table, TABLE, depth.shape[1])


def test_what_a_camera_smears_over_the_table_is_not_the_thing() -> None:
    """Depth of the thing, colour of the table: a fringe as stereo cameras make it, and a crumb that it joined."""
    labels, rgb, depth, height = scene()
    thing = rgb[..., 0] == 200
    labels[17:56, 98:142] = 1
    height[17:56, 98:142] = 0.03
    rgb[17:19, 140:142] = (30, 200, 30)
    out = refined(labels, rgb, depth, height)
    assert (out[thing] == 1).mean() > 0.97
    assert (out[~thing & (labels == 1)] == 1).mean() < 0.05
    assert not out[17:19, 140:142].any()


def test_pieces_that_their_colour_connects_are_one_thing() -> None:
    """A crumpled cloth: two folds rise above the noise, the cloth between them does not."""
    labels, rgb, depth, height = scene()
    labels[:] = 0
    labels[20:60, 100:112], labels[20:60, 122:140] = 1, 2
    height[labels == 0] = 0.0
    height[labels > 0] = 0.03
    out = refined(labels, rgb, depth, height)
    assert out.max() == 1
    assert (out[20:60, 100:140] == 1).mean() > 0.95
    rgb[:, 112:122] = 150
    assert refined(labels, rgb, depth, height).max() == 2


def test_colour_features_are_the_same_for_an_image_and_its_pixels() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (7, 9, 3)).astype(np.uint8)
    feature = colour_feature(rgb)
    assert feature.shape == (7, 9, 4)
    np.testing.assert_array_equal(feature.reshape(-1, 4), colour_feature(rgb.reshape(-1, 3)))
    c = rgb / 255.0
    mean = c.mean(axis=2, keepdims=True)
    np.testing.assert_allclose(feature[..., :3], 0.4 * (c - mean) / (mean + 0.04), atol=1e-5)
    np.testing.assert_allclose(feature[..., 3:], 0.15 * np.log(mean + 0.06), atol=1e-5)


def test_the_rim_is_taken_by_colour_and_the_table_is_not() -> None:
    labels, rgb, depth, height = scene()
    out = refined(labels, rgb, depth, height)
    assert (out[57:59, 102:138] == 1).all()
    red = rgb[..., 0] == 200
    assert not out[~red].any()


def test_the_rim_is_not_taken_from_the_robot_nor_on_a_table_of_its_colour() -> None:
    labels, rgb, depth, height = scene()
    arm = np.zeros(depth.shape, bool)
    arm[56:] = True
    assert not refined(labels, rgb, depth, height, arm)[56:].any()
    same = np.full_like(rgb, 150)
    np.testing.assert_array_equal(refined(labels, same, depth, height), labels)


def test_holes_go_to_the_thing_around_them() -> None:
    labels, rgb, depth, height = scene()
    labels[30:40, 110:125] = 0
    depth[30:40, 110:125] = np.nan
    out = refined(labels, rgb, depth, height)
    assert (out[20:56, 100:140] == 1).all()


def test_low_things_are_seen_through_noise() -> None:
    rng = np.random.default_rng(1)
    height = rng.normal(0.0, 0.0015, (240, 320)).astype(np.float32)
    height[80:160, 100:200] += 0.005
    low, _ = low_pixels(height, SupportPlane(noise_m=0.0015), np.zeros(height.shape, bool))
    low |= height > SupportPlane(noise_m=0.0015).noise_floor_m
    assert low[85:155, 105:195].mean() > 0.99
    away = np.ones(low.shape, bool)
    away[74:166, 94:206] = False
    assert low[away].mean() < 0.005
    assert not np.any(low_pixels(height, SupportPlane(noise_m=0.0002), np.zeros(height.shape, bool)))


UNEVEN = SupportPlane(noise_m=0.0026)


def uneven(seed: int) -> np.ndarray:
    """Heights of a bare table in noise that neighbouring pixels share."""
    noise = cv2.GaussianBlur(np.random.default_rng(seed).normal(size=(240, 320)), (0, 0), 2.0)
    return (noise * (UNEVEN.noise_m / noise.std())).astype(np.float32)


def regions_of(height: np.ndarray) -> np.ndarray:
    y, x = np.mgrid[:240, :320]
    points = np.stack([1.0 - y / 400, x / 400 - 0.4, height]).astype(np.float32)
    robot = np.zeros(height.shape, bool)
    low = low_pixels(height, UNEVEN, robot)
    return depth_regions(1 - height, points, height, robot, UNEVEN, RegionConfig(), low)


@pytest.mark.parametrize("seed", range(4))
def test_a_plate_is_whole_though_it_is_lower_than_noise_that_neighbouring_pixels_share(seed: int) -> None:
    height = uneven(seed)
    plate, floor = (cv2.circle(np.zeros((240, 320), np.uint8), (160, 120), r, 1, -1) > 0 for r in (24, 20))
    height[floor] += 0.006
    height[plate & ~floor] += 0.011
    labels = regions_of(height)
    found = labels == np.bincount(labels[plate & (labels > 0)]).argmax()
    assert (found & plate).sum() / (found | plate).sum() > 0.75


@pytest.mark.parametrize("seed", range(4))
def test_bare_table_in_shared_noise_has_no_regions(seed: int) -> None:
    assert not regions_of(uneven(seed)).any()


def test_two_things_stay_two_though_the_table_between_them_is_measured_higher() -> None:
    height = uneven(0)
    height[100:140, 120:150] += 0.03
    height[100:140, 162:192] += 0.03
    height[105:135, 150:162] += 0.006
    labels = regions_of(height)
    assert 0 < labels[120, 135] != labels[120, 177] > 0
