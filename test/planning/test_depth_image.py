"""Depth as colours: order, holes, outliers."""

import numpy as np
import pytest
from ray_caster import Camera, RgbdFrame, Scene, block

from stvla_ros.planning.depth_image import PALETTE, colourised_depth, depth_range


def frame(depth: np.ndarray) -> RgbdFrame:
    h, w = depth.shape
    return RgbdFrame(np.zeros((h, w, 3), np.uint8), depth.astype(np.float32), Camera(np.eye(3), w, h, np.eye(4)), 0)


def levels(image: np.ndarray) -> np.ndarray:
    """Palette index of each pixel."""
    place = np.full(1 << 24, -1)
    place[packed(PALETTE)] = np.arange(256)
    found = place[packed(image)]
    assert (found >= 0).all()
    return found


def packed(colours: np.ndarray) -> np.ndarray:
    """One number per colour."""
    return colours.astype(int) @ [1 << 16, 1 << 8, 1]


def test_palette_has_different_colours() -> None:
    assert len(np.unique(PALETTE, axis=0)) == 256
    assert PALETTE[[0, 1, 255]].tolist() == [[0, 0, 0], [255, 0, 0], [0, 0, 255]]


def test_near_is_red_far_is_blue_even_in_depth_and_holes_are_black() -> None:
    depth = np.tile(np.linspace(0.5, 1.5, 300), (4, 1))
    depth[2, 7:12] = np.nan, np.inf, 0.0, -1.0, -np.inf
    got = levels(colourised_depth(frame(depth)))
    assert (got[2, 7:12] == 0).all()
    assert (np.diff(got[0]) >= 0).all()
    assert got[0, [0, -1]].tolist() == [1, 255]
    assert got[0, 150] == pytest.approx(128, abs=1)


def test_a_few_far_pixels_take_no_colours_away() -> None:
    depth = np.tile(np.linspace(0.5, 0.7, 1000), (2, 1))
    depth[:, :5] = 9.0
    assert depth_range(depth.astype(np.float32)) == pytest.approx((0.5, 0.7), abs=0.01)
    assert (levels(colourised_depth(frame(depth)))[:, :5] == 255).all()


def test_flat_scenes_are_not_stretched_and_empty_ones_are_black() -> None:
    assert levels(colourised_depth(frame(np.full((3, 3), 0.8)))) == pytest.approx(128, abs=1)
    assert not colourised_depth(frame(np.full((3, 3), np.nan))).any()


def test_a_block_is_nearer_than_the_table_round_it() -> None:
    seen, ids = Scene([block("red", 0.5, 0.1)]).render()
    got = levels(colourised_depth(seen))
    edge = np.argwhere(ids == 1).min(0)
    assert np.median(got[ids == 1]) < np.median(got[edge[0], :])
