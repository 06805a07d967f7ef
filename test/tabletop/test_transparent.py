"""Transparent things: depth in patches and a tint together, and neither of them alone."""

import numpy as np
import pytest

from stvla_ros.tabletop.surface_colours import colour_feature
from stvla_ros.tabletop.transparent import with_transparent
from stvla_ros.types import I32, Bool

SHAPE = (240, 320)
GLASS = np.s_[40:75, 60:85]
MIN_PX = 15


def found(patches: bool = True, tint: bool = True, bright: bool = False, objects: Bool | None = None) -> I32:
    """Labels of a grained table with a glass, of which depth has patches and colour is tinted, or not."""
    rng = np.random.default_rng(3)
    rgb = np.array([150.0, 120.0, 90.0]) + rng.normal(0, 6, (*SHAPE, 3)) + 8 * rng.normal(0, 1, (*SHAPE, 1))
    glass = np.zeros(SHAPE, dtype=bool)
    glass[GLASS] = True
    if tint:
        rgb[glass] = rgb[glass] * [0.7, 0.8, 0.95]
    if bright:
        rgb[glass] = 254.0
    depth = np.full(SHAPE, 0.9, dtype=np.float32)
    rows, columns = np.indices(SHAPE)
    if patches:
        depth[glass & ((rows // 5 + columns // 5) % 2 == 0)] = np.nan
    labels = np.zeros(SHAPE, dtype=np.int32) if objects is None else objects.astype(np.int32)
    support = np.isfinite(depth) & (labels == 0)
    colours = colour_feature(np.clip(rgb, 0, 255).astype(np.uint8))
    return with_transparent(labels, colours, depth, support, np.zeros(SHAPE, dtype=bool), MIN_PX)


def test_patches_without_depth_and_a_tint_are_a_thing_with_its_whole_outline() -> None:
    labels, glass = found(), np.zeros(SHAPE, dtype=bool)
    glass[GLASS] = True
    assert labels.max() == 1
    assert np.count_nonzero((labels == 1) & glass) > 0.85 * np.count_nonzero((labels == 1) | glass)


@pytest.mark.parametrize(
    "look", [{"patches": False}, {"tint": False}, {"bright": True}], ids=["print", "specks", "glare"]
)
def test_one_of_the_two_is_none(look: dict[str, bool]) -> None:
    assert not found(**look).any()


def test_missing_depth_between_things_is_none() -> None:
    objects = np.zeros(SHAPE, dtype=bool)
    objects[35:80, 50:60] = objects[35:80, 85:95] = True
    assert np.array_equal(found(objects=objects) > 0, objects)
