"""Kinds by shape, names by colour, on rendered scenes."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ray_caster import Box, Disc, Scene, block, button, home_robot, plate

from stvla_ros.colours import COLOURS
from stvla_ros.geometry.cameras import cloud
from stvla_ros.geometry.depths import without_specks
from stvla_ros.geometry.se3 import tool_down
from stvla_ros.tabletop.objects import TableObject, recognise_objects
from stvla_ros.tabletop.regions import RegionConfig, find_regions, min_area_rectangle
from stvla_ros.tabletop.self_filter import held_object_mask, may_hold, robot_mask
from stvla_ros.tabletop.surface_colours import colour_costs
from stvla_ros.types import RgbdFrame


def things(objects: list[Box | Disc], noise_m: float = 0.0, seed: int = 0) -> list[TableObject]:
    frame, _ = Scene(objects).render(noise_m=noise_m, seed=seed)
    depth = without_specks(frame.depth_m)
    parts = find_regions(frame.rgb, depth, cloud(frame), np.zeros(depth.shape, bool), RegionConfig())
    return recognise_objects(parts, frame.rgb)


@settings(deadline=None)
@given(st.sampled_from(sorted(COLOURS)), st.floats(0.9, 1.1))
def test_colours_are_named_under_varying_light(name: str, gain: float) -> None:
    costs = colour_costs(np.clip(np.array(COLOURS[name]) * gain, 0, 1))
    assert min(costs, key=costs.__getitem__) == name


@pytest.mark.parametrize("colour", sorted(COLOURS))
@pytest.mark.parametrize("noise", [0.0, 0.0012])
def test_every_colour_as_block_and_button(colour: str, noise: float) -> None:
    rng = np.random.default_rng(sorted(COLOURS).index(colour))
    x, y, yaw = rng.uniform(0.35, 0.6), rng.uniform(-0.25, 0.0), rng.uniform(0, 3)
    found = things([block(colour, x, y, yaw), *button(colour, 0.45, 0.2)], noise)
    by_kind = {thing.kind: thing for thing in found}
    assert sorted(by_kind) == ["block", "button"]
    assert {thing.colour for thing in found} == {colour}
    np.testing.assert_allclose(by_kind["block"].centre_m, [x, y, 0.04], atol=0.001 if noise == 0 else 0.005)
    np.testing.assert_allclose(by_kind["button"].centre_m, [0.45, 0.2, 0.037], atol=0.002 if noise == 0 else 0.005)


@pytest.mark.parametrize("colour", ["red", "white", "silver", "black", "gray"])
def test_a_block_in_the_plate_is_still_a_block(colour: str) -> None:
    found = things([*plate(0.5, 0.05), block(colour, 0.5, 0.05, 0.4, z=0.028)])
    assert sorted(t.name for t in found) == sorted([f"{colour} block", "plate"])
    dish = next(t for t in found if t.kind == "plate")
    np.testing.assert_allclose(dish.centre_m[:2], [0.5, 0.05], atol=0.003)


@pytest.mark.parametrize(
    ("upper", "lower"), [("red", "blue"), ("white", "silver"), ("black", "white"), ("lime", "lime")]
)
def test_stacked_blocks_are_two(upper: str, lower: str) -> None:
    found = things([block(lower, 0.5, 0.05, 0.3), block(upper, 0.5, 0.05, 0.3, z=0.06)])
    assert [t.kind for t in found] == ["block", "block"]
    top, bottom = sorted(found, key=lambda t: -t.top_m)
    assert (top.colour, top.covered, bottom.covered) == (upper, False, True)
    assert bottom.may_be(lower)
    assert top.bottom_m > 0.03


def test_touching_blocks_of_two_colours_are_two() -> None:
    found = things([block("red", 0.5, 0.0), block("green", 0.5, 0.041)], 0.001)
    assert sorted(t.name for t in found) == ["green block", "red block"]


def test_an_empty_table_has_nothing() -> None:
    assert things([], 0.0015) == []


def test_top_rectangle() -> None:
    angle = 0.3
    axes = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    grid = np.stack(np.meshgrid(np.linspace(-0.03, 0.03, 20), np.linspace(-0.01, 0.01, 20)), -1).reshape(-1, 2)
    centre, size, direction = min_area_rectangle(grid @ axes.T + [0.4, -0.2])
    np.testing.assert_allclose(centre, [0.4, -0.2], atol=1e-3)
    np.testing.assert_allclose(sorted(size), [0.02, 0.06], atol=1e-3)
    assert min(abs((direction - angle + k * np.pi / 2 + 1e-4) % np.pi) for k in range(2)) < 0.01


def test_what_is_between_the_fingers_counts_as_robot() -> None:
    held, other = block("red", 0.5, 0.0, z=0.15), block("blue", 0.5, 0.2)
    frame, ids = Scene([held, other]).render()
    home = home_robot(0.04)
    holding = replace(home, T_base_tcp=tool_down([0.5, 0.0, 0.15], np.pi / 2))
    mask = robot_mask(cloud(frame), holding)
    assert mask[ids == 1].mean() > 0.95
    assert not mask[ids == 2].any()
    assert not held_object_mask(cloud(frame), home)[ids == 1].any()
    empty = replace(holding, gripper_m=0.08)
    assert not robot_mask(cloud(frame), empty)[ids == 1].any()


@pytest.mark.parametrize(("width", "holds"), [(0.0, False), (0.003, False), (0.04, True), (0.08, False)])
def test_finger_distance_says_whether_something_can_be_held(width: float, holds: bool) -> None:
    assert may_hold(home_robot(width)) is holds


def test_a_frame_without_depth_has_no_things() -> None:
    frame, _ = Scene([block("red", 0.5, 0.0)]).render()
    blind = RgbdFrame(frame.rgb, np.full_like(frame.depth_m, np.nan), frame.camera, 0)
    parts = find_regions(blind.rgb, blind.depth_m, cloud(blind), np.zeros(blind.depth_m.shape, bool), RegionConfig())
    assert recognise_objects(parts, blind.rgb) == []
