"""Masks made from the truth, damaged as a model's are, and put right by depth."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache

import cv2
import numpy as np
import pytest
from ray_caster import Box, Disc, Scene, block, front_camera, home_robot, plate

from stvla_ros.geometry.cameras import cloud
from stvla_ros.perception.geometric import GeometricConfig, GeometricSegmenter
from stvla_ros.perception.sam2.evidence import Evidence, Surface, may_be_thing, surroundings
from stvla_ros.perception.sam2.fusion import Thing, fuse
from stvla_ros.perception.sam2.masks import MaskLimits
from stvla_ros.tabletop.self_filter import robot_mask
from stvla_ros.types import RgbdFrame

LIMITS = MaskLimits(0.8, 0.95, 0.25, 0.5, 60 / (640 * 480))
CAMERA = front_camera(320, 240, 32.0)
THINGS = [
    block("red", 0.5, 0.12, 0.3, size=0.06, z=0.03),
    block("blue", 0.58, -0.05, 0.9, size=0.06, z=0.03),
    Disc((0.42, 0.02), 0.03, 0.0, 0.13, (0.2, 0.5, 0.3)),
    *plate(0.45, -0.2),
]
RED, BLUE, BOTTLE, PLATE = range(4)


def bowl(x: float, y: float) -> list[Disc | Box]:
    """A rim of blocks around a bottom that is a millimetre above the table, too little for depth to see."""
    angles = np.arange(24) * np.pi / 12
    wall = [
        Box((x + 0.06 * np.cos(a), y + 0.06 * np.sin(a), 0.02), (0.012, 0.02, 0.04), a, (0.9, 0.9, 0.9)) for a in angles
    ]
    return [Disc((x, y), 0.06, 0.0, 0.001, (0.9, 0.9, 0.9)), *wall]


def look(frame: RgbdFrame) -> Evidence:
    points = cloud(frame)
    arm = robot_mask(points, home_robot())
    labels = GeometricSegmenter(GeometricConfig()).segment(frame, home_robot()).labels
    labels = np.where(arm, np.int32(-1), np.maximum(labels, 0))
    return Evidence(surroundings(points, arm, CAMERA), frame.rgb, points, frame.depth_m, labels)


@cache
def seen() -> tuple[Evidence, list[np.ndarray], np.ndarray]:
    """Evidence, true masks and true ids of the usual scene."""
    frame, ids = Scene(THINGS).render(CAMERA, 0.001)
    return look(frame), [ids == i for i in range(1, len(THINGS) + 1)], ids


def fused(masks: Sequence[np.ndarray], evidence: Evidence | None = None) -> list[Thing]:
    return fuse(masks, evidence or seen()[0], LIMITS)[0]


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / max((a | b).sum(), 1))


def matched(things: Sequence[Thing], true: Sequence[np.ndarray]) -> list[float]:
    """IoU of the instance that fits each true mask best; things without any truth are an error."""
    assert all(max(iou(thing.mask, t) for t in true) > 0.3 for thing in things), "an instance of nothing"
    return [max(iou(thing.mask, t) for thing in things) for t in true]


def grown(mask: np.ndarray, px: int) -> np.ndarray:
    return cv2.dilate(mask.astype(np.uint8), np.ones((2 * px + 1, 2 * px + 1), np.uint8)).astype(bool)


def upper(mask: np.ndarray, share: float) -> np.ndarray:
    """The mask's upper rows."""
    rows = np.flatnonzero(mask.any(axis=1))
    return mask & (np.arange(len(mask)) < rows[int(share * len(rows))])[:, None]


def test_right_masks_stay_as_they_are() -> None:
    _, true, _ = seen()
    things = fused(true)
    assert [thing.source for thing in things] == [0, 1, 2, 3]
    assert min(iou(thing.mask, mask) for thing, mask in zip(things, true)) > 0.97
    assert fuse(true, seen()[0], LIMITS)[1] == ()


def test_without_masks_the_regions_are_the_instances() -> None:
    evidence, _, _ = seen()
    things = fused([])
    assert {thing.source for thing in things} == {None}
    for region, thing in enumerate(things, start=1):
        np.testing.assert_array_equal(thing.mask, evidence.labels == region)
    assert len(things) == evidence.labels.max() == 4


@pytest.mark.parametrize("noise_seed", range(3))
def test_masks_of_the_bare_table_and_the_floor_are_dropped(noise_seed: int) -> None:
    evidence, true, ids = seen()
    rng = np.random.default_rng(noise_seed)
    table = np.zeros((2, *ids.shape), np.uint8)
    for one, (y, x) in zip(table, rng.permutation(np.argwhere(ids == 0))):
        cv2.ellipse(one, (int(x), int(y)), (30, 15), 0, 0, 360, 1, -1)
    bare = [(one > 0) & (ids == 0) for one in table]
    floor = evidence.around.shows(Surface.ELSEWHERE)
    things, notes = fuse([*bare, floor, *true], evidence, LIMITS)
    assert [thing.source for thing in things] == [3, 4, 5, 6]
    assert notes == ("3 outlines of the model show the bare table in depth and were dropped.",)


@pytest.mark.parametrize("pair", [(RED, BLUE), (BLUE, BOTTLE), (RED, BOTTLE)])
def test_a_mask_over_two_things_that_stand_apart_is_split(pair: tuple[int, int]) -> None:
    evidence, true, _ = seen()
    a, b = pair
    masks = [true[a] | true[b], *(mask for i, mask in enumerate(true) if i not in pair)]
    things, notes = fuse(masks, evidence, LIMITS)
    assert min(matched(things, true)) > 0.95
    assert [thing.source for thing in things] == [0, 0, 1, 2]
    assert "1 masks of the model covered things that depth sees apart" in notes[0]


def test_a_mask_over_two_things_that_have_masks_of_their_own_vanishes() -> None:
    _, true, _ = seen()
    things = fused([true[RED] | true[BLUE], *true])
    assert [thing.source for thing in things] == [1, 2, 3, 4]
    assert min(matched(things, true)) > 0.97


def test_a_thing_that_something_nearer_divides_stays_one() -> None:
    """A long box behind a bottle: depth sees two ends far apart, and why."""
    scene = Scene(
        [
            Box((0.4, 0.0, 0.03), (0.04, 0.3, 0.06), 0.0, (0.8, 0.3, 0.2)),
            Disc((0.55, 0.0), 0.03, 0.0, 0.15, (0.2, 0.4, 0.7)),
        ]
    )
    frame, ids = scene.render(CAMERA, 0.001)
    things = fused([ids == 1, ids == 2], look(frame))
    assert [thing.source for thing in things] == [0, 1]
    assert min(matched(things, [ids == 1, ids == 2])) > 0.95


@pytest.mark.parametrize("missing", [(RED,), (BOTTLE, PLATE), (RED, BLUE, BOTTLE, PLATE)])
def test_what_the_model_missed_comes_from_depth(missing: tuple[int, ...]) -> None:
    _, true, _ = seen()
    things = fused([mask for i, mask in enumerate(true) if i not in missing])
    assert [thing.source for thing in things].count(None) == len(missing)
    assert min(matched(things, true)) > 0.85


@pytest.mark.parametrize("share", [0.25, 0.4, 0.6])
@pytest.mark.parametrize("given", ["both parts", "the upper part", "the lower part", "whole and part"])
def test_parts_join_what_stands_on_the_table(share: float, given: str) -> None:
    """The cap of a bottle, though it has an edge of its own."""
    _, true, _ = seen()
    top = upper(true[BOTTLE], share)
    parts = {
        "both parts": [top, true[BOTTLE] & ~top],
        "the upper part": [top],
        "the lower part": [true[BOTTLE] & ~top],
        "whole and part": [top, true[BOTTLE]],
    }
    things = fused([true[RED], true[BLUE], *parts[given], true[PLATE]])
    assert len(things) == 4
    assert min(matched(things, true)) > 0.9


def test_two_that_touch_and_both_stand_are_two_if_the_model_says_so() -> None:
    """Depth and colour see one block twice as wide; nothing but the model can know."""
    pair = [block("red", 0.5, 0.0, size=0.05, z=0.025), block("red", 0.5, 0.05, size=0.05, z=0.025)]
    frame, ids = Scene(pair).render(CAMERA, 0.001)
    evidence = look(frame)
    assert evidence.labels.max() == 1
    things = fused([ids == 1, ids == 2], evidence)
    assert min(matched(things, [ids == 1, ids == 2])) > 0.95


def test_what_depth_sees_as_touching_and_the_model_as_one_is_one_with_a_note() -> None:
    pair = [block("red", 0.5, 0.0, size=0.05, z=0.025), block("blue", 0.5, 0.05, size=0.05, z=0.025)]
    frame, ids = Scene(pair).render(CAMERA, 0.001)
    evidence = look(frame)
    assert evidence.labels.max() == 2
    things, notes = fuse([ids > 0], evidence, LIMITS)
    assert len(things) == 1
    assert "cover what depth sees as touching things" in notes[0]


def test_what_lies_in_a_bowl_is_no_part_of_it_and_the_bottom_is() -> None:
    inside = block("red", 0.5, 0.0, size=0.03, z=0.016)
    frame, ids = Scene([*bowl(0.5, 0.0), inside]).render(CAMERA, 0.001)
    content = ids == ids.max()
    whole = (ids > 0) & ~content
    bottom = ids == 1
    evidence = look(frame)
    assert not may_be_thing(bottom, evidence.around, 0.5)
    for given in (whole, whole & ~bottom):
        things = fused([given, content], evidence)
        assert [thing.source for thing in things] == [0, 1]
        assert min(matched(things, [whole, content])) > 0.93


def ragged(mask: np.ndarray, seed: int, px: float) -> np.ndarray:
    noise = cv2.GaussianBlur(np.random.default_rng(seed).normal(size=mask.shape).astype(np.float32), (0, 0), 3)
    inside, outside = (cv2.distanceTransform(m.astype(np.uint8), cv2.DIST_L2, 5) for m in (mask, ~mask))
    return np.asarray(inside - outside + px * noise / noise.std() > 0)


@pytest.mark.parametrize(
    ("damage", "before", "after"),
    [
        (lambda mask, seed: ragged(mask, seed, 2.5), 0.85, 0.88),
        (lambda mask, seed: grown(mask, 6), 0.65, 0.85),
    ],
    ids=["ragged", "spilled over the table"],
)
def test_edges_come_back_to_the_thing(
    damage: Callable[[np.ndarray, int], np.ndarray], before: float, after: float
) -> None:
    _, true, _ = seen()
    solid = [true[i] for i in (RED, BLUE, BOTTLE)]
    damaged = [damage(mask, i) for i, mask in enumerate(solid)]
    found = fused([*damaged, true[PLATE]])
    assert np.mean([iou(a, b) for a, b in zip(damaged, solid)]) < before
    assert np.mean(matched(found, true)[:3]) > after


@pytest.mark.parametrize("hole", [1.0, 0.5])
def test_a_thing_without_depth_is_kept_if_it_stands_on_the_table(hole: float) -> None:
    """A glass: no depth in it, or half of it shows the table behind it. The same mask on a bare table is none."""
    ids = seen()[2]
    bare = Scene([THINGS[RED], THINGS[BLUE], *THINGS[PLATE:]]).render(CAMERA, 0.001)[0]
    glass = ids == 1 + BOTTLE
    lost = glass & (np.random.default_rng(0).random(ids.shape) < hole)
    through = replace(bare, depth_m=np.where(lost, np.float32(np.nan), bare.depth_m))
    things = fused([glass], look(through))
    assert iou(things[0].mask, glass) > 0.95
    assert things[0].source == 0
    assert all(thing.source is None for thing in fused([glass], look(bare)))


def test_a_hole_in_the_depth_at_the_border_has_no_place() -> None:
    frame, ids = Scene(THINGS).render(CAMERA, 0.001)
    border = np.zeros(ids.shape, bool)
    border[:, :20] = True
    evidence = look(replace(frame, depth_m=np.where(border, np.float32(np.nan), frame.depth_m)))
    corner = border.copy()
    corner[:150] = False
    assert [thing.source for thing in fused([corner], evidence)] == [None] * 4


def test_the_order_of_masks_decides_names_only() -> None:
    true = seen()[1]
    masks = [true[RED] | true[BLUE], upper(true[BOTTLE], 0.3), true[BOTTLE], grown(true[PLATE], 3)]
    one = fused(masks)
    other = fused(masks[::-1])
    assert len(one) == len(other)
    for thing in one:
        assert max(iou(thing.mask, again.mask) for again in other) == 1.0


def test_instances_never_overlap_and_leave_the_robot_alone() -> None:
    evidence, true, _ = seen()
    rng = np.random.default_rng(5)
    masks = [ragged(np.roll(mask, tuple(rng.integers(-15, 15, 2)), (0, 1)), i, 4) for i, mask in enumerate(true * 2)]
    robot = replace(evidence, labels=np.where(true[BOTTLE], np.int32(-1), evidence.labels))
    things = fused(masks, robot)
    assert np.sum([thing.mask for thing in things], axis=0).max() == 1
    assert not any((thing.mask & true[BOTTLE]).any() for thing in things)
