"""Outlines at full resolution, and what lies inside a rim, on small pictures."""

import numpy as np
import pytest

from stvla_ros.tabletop.hollow import stands, ways, whole_hollows
from stvla_ros.tabletop.outlines import at_full_resolution, with_tips
from stvla_ros.tabletop.surface_colours import colour_feature
from stvla_ros.tabletop.table_colours import TableColours, colour_cells


def picture(step: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A slanted shape: its mask, image and depth (``step`` nearer than the rest)."""
    y, x = np.mgrid[:61, :83]
    own = (x > 20 + 0.3 * y) & (x < 60 - 0.2 * y) & (y > 11) & (y < 48)
    rgb = np.full((61, 83, 3), 120, np.uint8)
    rgb[own] = (40, 60, 200) if not step else 120
    return own, rgb, (1.0 - step * own).astype(np.float32)


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("step", [0.0, 0.05])
def test_outlines_follow_colour_or_depth(stride: int, step: float) -> None:
    own, rgb, depth = picture(step)
    few = own[::stride, ::stride].astype(np.int32), depth[::stride, ::stride]
    colours = colour_feature(rgb[::stride, ::stride])
    out = at_full_resolution(*few, colours, rgb, depth, stride, 0.012)
    np.testing.assert_array_equal(out, own)


def test_tips_come_back_by_their_colour_and_the_background_does_not_join() -> None:
    own, rgb, depth = picture()
    labels = own.astype(np.int32)
    labels[47, ::4] = labels[12, ::5] = 0
    assert (labels != own).any()
    out = with_tips(labels, depth, colour_feature(rgb), 0.012)
    assert (out[own] == 1).all()
    assert not out[~own].any()
    np.testing.assert_array_equal(
        with_tips(own.astype(np.int32), depth, colour_feature(np.full_like(rgb, 9)), 0.012), own
    )


def test_ways_count_the_directions_in_which_a_mask_is_met() -> None:
    mask = np.zeros((9, 11), bool)
    mask[2, 2:9] = mask[6, 2:9] = True
    mask[2:7, 2] = mask[2:7, 8] = True
    count = ways(mask)
    assert count[4, 5] == 8
    assert count[0, 0] == 1  # along the diagonal
    mask[6] = False
    assert ways(mask)[4, 5] == 5
    assert ways(mask)[8, 5] == 3
    assert ways(np.zeros((3, 4), bool)).max() == 0


def ring(gap: bool) -> tuple[np.ndarray, np.ndarray]:
    y, x = np.mgrid[:120, :160]
    r = np.hypot(x - 40, 1.4 * (y - 30))
    labels = ((r < 34) & (r > 26)).astype(np.int32)
    if gap:
        labels[40:, 33:47] = 0
    return labels, r < 34


@pytest.mark.parametrize("like_table", [False, True])
@pytest.mark.parametrize("gap", [False, True])
def test_a_bowl_is_filled_up_to_its_rim(gap: bool, like_table: bool) -> None:
    labels, whole = ring(gap)
    like = np.ones(labels.shape, bool) if like_table else ~whole
    out = whole_hollows(labels, np.zeros(labels.shape, np.float32), like, np.zeros(labels.shape, bool), 160)
    filled = (out[whole] == 1).mean()
    assert (out[~whole] == 1).sum() < 0.03 * whole.sum()
    assert filled > (0.98 if not gap else 0.95 if not like_table else 0.6)


def test_what_stands_in_a_bowl_stays_itself_and_its_bottom_does_not() -> None:
    labels, _ = ring(False)
    labels[25:36, 34:47] = 2
    height = np.where(labels == 1, 0.05, 0.01).astype(np.float32)
    nothing = np.zeros(labels.shape, bool)
    assert whole_hollows(labels, height, nothing, nothing, 160).max() == 1
    height[labels == 2] = 0.04
    assert stands(labels == 2, height)
    assert (whole_hollows(labels, height, nothing, nothing, 160)[labels == 2] == 2).all()


def test_colours_of_the_table_are_those_that_lie_on_it() -> None:
    rng = np.random.default_rng(0)
    rgb = rng.normal((120, 90, 60), 6, (80, 100, 3)).clip(0, 255).astype(np.uint8)
    rgb[:, 50:60] = (60, 45, 30)  # a shadow
    rgb[20:50, 10:30] = 230  # a white bowl, whose bottom (8 x 8) is at the table's height
    standing = np.zeros((80, 100), bool)
    standing[20:50, 10:30] = True
    standing[30:38, 15:23] = False
    cells = colour_cells(rgb)
    like = TableColours.of(cells, ~standing, standing).seen(cells)
    assert not like[20:50, 10:30].any()
    assert like[~standing].mean() > 0.95
    assert like[:, 50:60].all()
    assert not TableColours.of(cells, np.zeros((80, 100), bool), standing).seen(cells).any()
