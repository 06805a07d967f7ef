"""What becomes of proposed masks: filters, doubles and overlaps, against brute force."""

import numpy as np
import pytest
from PIL import Image

from stvla_ros.perception.sam2.evidence import Surface, Surroundings
from stvla_ros.perception.sam2.masks import (
    MaskLimits,
    acceptable,
    grid_points,
    inner_points,
    overlaps,
    paint,
    plausible,
    stability,
    suppress,
)
from stvla_ros.perception.sam2.network import MEAN, STD, model_input, shrink, to_frame, to_model

LIMITS = MaskLimits(score=0.8, stability=0.9, share=0.5, background=0.5)
FLAT = np.zeros((20, 30), np.float32)
OPEN = Surroundings(np.full((20, 30), Surface.STANDING, np.uint8), FLAT, 640)


def random_masks(seed: int, count: int = 40) -> np.ndarray:
    """(count, 20, 30) rectangles; many overlap, some are empty."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((count, 20, 30), dtype=bool)
    for mask in masks:
        (top, bottom), (left, right) = np.sort(rng.integers(0, 21, 2)), np.sort(rng.integers(0, 31, 2))
        mask[top:bottom, left:right] = True
    return masks


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return (a & b).sum() / max((a | b).sum(), 1)


@pytest.mark.parametrize("seed", range(5))
def test_suppression_is_that_of_the_definition(seed: int) -> None:
    masks, scores = random_masks(seed), np.random.default_rng(seed).integers(0, 10, 40) / 10
    kept: list[int] = []
    for i in sorted(range(40), key=lambda i: (-scores[i], i)):
        if all(iou(masks[i], masks[k]) <= 0.3 for k in kept):
            kept.append(i)
    assert suppress(masks, scores, 0.3) == kept
    assert 1 < len(kept) < 40


def test_overlaps_are_those_of_the_definition() -> None:
    masks = random_masks(7, 12)
    both, ratio = overlaps(masks, masks[:5])
    for i in range(12):
        for k in range(5):
            assert both[i, k] == (masks[i] & masks[k]).sum()
            assert ratio[i, k] == pytest.approx(iou(masks[i], masks[k]))


def test_stability_compares_a_mask_with_itself() -> None:
    logits = np.random.default_rng(0).normal(0, 2, (6, 20, 30)).astype(np.float32)
    logits[5] = -9
    assert stability(logits) == pytest.approx([*(iou(one > 1, one > -1) for one in logits[:5]), 0.0])
    assert 0.2 < stability(logits)[0] < 0.8


def blob(area: int) -> np.ndarray:
    """(20, 30) clear logits of a mask of so many pixels."""
    logits = np.full(600, -9, dtype=np.float32)
    logits[:area] = 9
    return logits.reshape(20, 30)


@pytest.mark.parametrize(
    ("logits", "score", "why"),
    [
        (blob(301), 0.95, "swallows the frame"),
        (blob(600), 0.95, "is the frame"),
        (blob(0), 0.95, "is empty"),
        (blob(100), 0.79, "is doubted by the model"),
        (blob(100), np.nan, "has no score"),
        (blob(100) * np.float32(np.nan), 0.95, "is not a number"),
        (np.where(blob(100) > 0, 9, blob(200) * 0.05).astype(np.float32), 0.95, "is unstable"),
    ],
)
def test_a_mask_is_dropped_that(logits: np.ndarray, score: float, why: str) -> None:
    both = np.stack([logits, blob(100)])
    assert acceptable(both, np.array([score, 0.95], np.float32), OPEN, LIMITS).tolist() == [False, True], why


def test_a_mask_of_the_table_is_dropped() -> None:
    """The left third stands, the middle is table, the right third has no depth."""
    column = np.arange(30)[None].repeat(20, axis=0)
    around = Surroundings(
        np.select([column < 10, column < 20], [Surface.STANDING, Surface.SUPPORT], Surface.BLIND).astype(np.uint8),
        FLAT,
        640,
    )
    masks = np.stack([(column >= a) & (column < b) for a, b in ((0, 8), (5, 14), (4, 17), (9, 20), (20, 28), (5, 19))])
    masks &= np.arange(20)[None, :, None] < 10  # the share of the frame is not what decides
    wanted = []
    for mask in masks:
        known, on_table = (mask & (column < 20)).sum(), (mask & (column >= 10) & (column < 20)).sum()
        wanted.append(bool(known) and on_table / known <= 0.5)
    assert plausible(masks, around, LIMITS).tolist() == wanted == [True, True, False, False, False, False]


def test_a_crumb_is_dropped() -> None:
    masks = np.stack([blob(area) > 0 for area in (5, 6, 7)])
    assert plausible(masks, OPEN, MaskLimits(0, 0, 1.0, 1.0, min_area=0.01)).tolist() == [False, True, True]


@pytest.mark.parametrize(("shape", "side"), [((480, 640), 4), ((7, 5), 3), ((20, 20), 1)])
def test_the_grid_is_even(shape: tuple[int, int], side: int) -> None:
    points = grid_points(shape, side)
    assert points.shape == (side * side, 2)
    assert points.mean(axis=0) == pytest.approx([(shape[1] - 1) / 2, (shape[0] - 1) / 2])
    assert np.ptp(points, axis=0) == pytest.approx([shape[1] * (side - 1) / side, shape[0] * (side - 1) / side])


def test_a_point_lies_inside_its_instance() -> None:
    y, x = np.mgrid[:40, :60]
    ring = (np.hypot(x - 20, y - 20) < 15) & (np.hypot(x - 20, y - 20) > 8)
    labels = np.where(ring, 1, np.where((x == 59) & (y == 39), 2, 0)).astype(np.int32)
    (rx, ry), corner = inner_points(labels, [1, 2]).astype(int)
    assert labels[ry, rx] == 1
    assert 10 < np.hypot(rx - 20, ry - 20) < 13.5
    assert corner.tolist() == [59, 39]
    assert inner_points(labels, []).shape == (0, 2)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_the_smaller_of_two_masks_wins_in_any_order(order: tuple[int, ...]) -> None:
    plate, block, other = (np.zeros((10, 10), bool) for _ in range(3))
    plate[:8, :8], block[2:4, 2:4], other[3:5, 3:6] = True, True, True
    masks = [plate, block, other]
    labels = paint((10, 10), [masks[i] for i in order])
    number = {i: order.index(i) + 1 for i in order}
    assert labels[2, 2] == number[1]
    assert labels[3, 3] == number[1]
    assert labels[4, 4] == number[2]
    assert labels[0, 0] == number[0]
    assert labels[9, 9] == 0
    assert paint((10, 10), [plate, plate.copy()]).max() == 1


@pytest.mark.parametrize("shape", [(480, 640), (720, 1280), (33, 47), (256, 256)])
def test_a_pixel_goes_to_where_the_image_shows_it(shape: tuple[int, int]) -> None:
    """A bright pixel, found again in the model's input; and a mask of it comes back to the same place."""
    x, y = shape[1] // 3, shape[0] // 4
    rgb = np.zeros((*shape, 3), dtype=np.uint8)
    rgb[y - 2 : y + 3, x - 2 : x + 3] = 255
    bright = model_input(rgb, 256).sum(axis=0) - model_input(np.zeros_like(rgb), 256).sum(axis=0)
    rows, columns = np.indices(bright.shape)
    centre = (columns * bright).sum() / bright.sum(), (rows * bright).sum() / bright.sum()
    assert to_model([[x, y]], shape, (256, 256))[0] == pytest.approx(centre, abs=0.1)
    back = to_frame(np.where(bright > bright.max() / 2, 5, -5).astype(np.float32), shape)
    assert np.array(np.nonzero(back)).mean(axis=1) == pytest.approx([y, x], abs=1.5)


def test_the_model_s_input_is_normalised_as_published() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    wanted = (rgb / 255.0 - MEAN) / STD
    assert np.abs(model_input(rgb, 64) - wanted.transpose(2, 0, 1)).max() < 1e-5
    smooth = np.asarray(Image.fromarray(rgb).resize((16, 16), Image.Resampling.BILINEAR))
    assert np.abs(model_input(rgb, 16) - ((smooth / 255.0 - MEAN) / STD).transpose(2, 0, 1)).max() < 1e-5


def test_a_mask_survives_the_way_to_the_model_and_back() -> None:
    mask = np.zeros((480, 640), bool)
    mask[100:220, 300:420] = True
    small = shrink(mask, (256, 256))
    assert small.sum() == pytest.approx(mask.sum() * 256 * 256 / mask.size, rel=0.03)
    assert iou(to_frame(np.where(small, 5, -5).astype(np.float32), mask.shape), mask) > 0.95
