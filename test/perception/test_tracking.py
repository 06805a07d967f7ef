"""Ids that stay: noise, moves, splits, merges, occlusion, a moving camera, a thing that the hand carries."""

from dataclasses import replace

import numpy as np
import pytest
from ray_caster import Scene, block, front_camera, home_robot, look_at, plate

from stvla_ros.geometry.cameras import cloud
from stvla_ros.geometry.se3 import tool_down
from stvla_ros.perception.geometric import GeometricConfig, GeometricSegmenter
from stvla_ros.perception.tracking import InstanceTracker, TrackerConfig
from stvla_ros.types import Camera, RgbdFrame, RobotState, Segments

CAMERA = front_camera(320, 240)
RED, BLUE, GREEN = block("red", 0.5, 0.1, 0.4), block("blue", 0.62, -0.1), block("green", 0.4, 0.25)


def shot(*things: object, camera: Camera = CAMERA, stamp_s: float = 0.0) -> tuple[RgbdFrame, np.ndarray]:
    return Scene(list(things)).render(camera, 0.001, int(1000 * stamp_s), int(1e9 * stamp_s))  # type: ignore[arg-type]


def update(tracker: InstanceTracker, frame: RgbdFrame, labels: np.ndarray, robot: RobotState | None = None) -> Segments:
    raw = Segments(labels.astype(np.int32), tuple(np.unique(labels[labels > 0]).tolist()))
    return tracker.update(raw, frame, cloud(frame), robot or home_robot())


def name_of(segments: Segments, where: np.ndarray) -> int:
    """The stable id on most pixels of a mask."""
    return int(np.bincount(segments.labels[where] + 1).argmax()) - 1


def test_the_first_frame_keeps_the_segmenters_ids() -> None:
    frame, ids = shot(RED, BLUE, GREEN)
    segments = update(InstanceTracker(TrackerConfig()), frame, ids)
    np.testing.assert_array_equal(segments.labels, ids)


def test_ids_outlive_another_order_of_labels_and_small_moves() -> None:
    tracker = InstanceTracker(TrackerConfig())
    update(tracker, *shot(RED, BLUE, GREEN))
    for k in range(1, 8):
        moved = replace(RED, centre_m=(0.5, 0.1 + 0.02 * k, 0.02))
        frame, ids = shot(GREEN, moved, BLUE, stamp_s=0.1 * k)
        segments = update(tracker, frame, ids)
        assert [name_of(segments, ids == i) for i in (1, 2, 3)] == [3, 1, 2]


def test_ids_outlive_a_moving_camera() -> None:
    tracker = InstanceTracker(TrackerConfig())
    update(tracker, *shot(RED, BLUE, GREEN))
    camera = replace(CAMERA, T_base_camera=look_at((1.0, 0.5, 0.8), (0.45, 0.0, 0.05)))
    frame, ids = shot(BLUE, GREEN, RED, camera=camera, stamp_s=0.1)
    segments = update(tracker, frame, ids)
    assert [name_of(segments, ids == i) for i in (1, 2, 3)] == [2, 3, 1]


def test_a_new_thing_gets_an_id_that_was_never_used() -> None:
    tracker = InstanceTracker(TrackerConfig(memory_s=0.0))
    update(tracker, *shot(RED, BLUE))
    update(tracker, *shot(RED, stamp_s=0.1))
    frame, ids = shot(RED, GREEN, stamp_s=0.2)
    assert update(tracker, frame, ids).ids == (1, 3)


@pytest.mark.parametrize(("away_s", "kept"), [(2.0, True), (20.0, False)])
def test_a_thing_out_of_sight_is_remembered_for_a_while(away_s: float, kept: bool) -> None:
    tracker = InstanceTracker(TrackerConfig(memory_s=10.0))
    update(tracker, *shot(RED, BLUE))
    update(tracker, *shot(RED, stamp_s=0.1))
    update(tracker, *shot(RED, stamp_s=away_s))
    frame, ids = shot(RED, BLUE, stamp_s=away_s + 0.1)
    assert (name_of(update(tracker, frame, ids), ids == 2) == 2) == kept


def halves(ids: np.ndarray, thing: int, fresh: int) -> np.ndarray:
    out = ids.copy()
    columns = np.nonzero(ids == thing)[1]
    right = (ids == thing) & (np.arange(ids.shape[1]) > np.median(columns))
    out[right] = fresh
    return out


def test_a_split_counts_only_when_it_lasts() -> None:
    tracker = InstanceTracker(TrackerConfig(patience=3))
    frame, ids = shot(RED, BLUE)
    update(tracker, frame, ids)
    for _ in range(3):
        assert update(tracker, frame, halves(ids, 1, 3)).ids == (1, 2)
    assert update(tracker, frame, ids).ids == (1, 2)
    for _ in range(3):
        assert update(tracker, frame, halves(ids, 1, 3)).ids == (1, 2)
    assert update(tracker, frame, halves(ids, 1, 3)).ids == (1, 2, 3)


def test_a_merge_counts_only_when_it_lasts() -> None:
    tracker = InstanceTracker(TrackerConfig(patience=3))
    frame, ids = shot(RED, BLUE)
    update(tracker, frame, ids)
    one = np.where(ids > 0, 1, 0)
    for _ in range(3):
        np.testing.assert_array_equal(update(tracker, frame, one).labels, ids)
    assert len(update(tracker, frame, one).ids) == 1


def test_what_the_arm_cuts_in_two_stays_one_thing() -> None:
    tracker = InstanceTracker(TrackerConfig(patience=2))
    frame, ids = shot(*plate(0.5, 0.0), BLUE)
    update(tracker, frame, ids)
    columns = np.nonzero(ids == 1)[1]
    arm = np.abs(np.arange(ids.shape[1]) - np.median(columns)) < 5
    cut = np.where(arm, -1, halves(ids, 1, 3))
    for _ in range(8):
        assert update(tracker, frame, cut).ids == (1, 2)


def test_what_the_hand_carries_off_keeps_its_id() -> None:
    tracker = InstanceTracker(TrackerConfig())
    update(tracker, *shot(RED, BLUE))

    def at(x: float, y: float, z: float) -> RobotState:
        return replace(home_robot(0.04), T_base_tcp=tool_down([x, y, z], 0.0))

    frame, ids = shot(RED, BLUE, stamp_s=0.1)
    update(tracker, frame, np.where(ids == 1, -1, ids), at(0.5, 0.1, 0.02))
    for k in range(2, 40):  # longer than the memory
        frame, ids = shot(BLUE, stamp_s=float(k))
        assert update(tracker, frame, np.where(ids == 1, 2, 0), at(0.45, -0.2, 0.2)).ids == (2,)
    frame, ids = shot(replace(RED, centre_m=(0.45, -0.25, 0.02)), BLUE, stamp_s=41.0)
    segments = update(tracker, frame, ids, at(0.45, -0.25, 0.08))
    assert name_of(segments, ids == 1) == 1


def test_with_the_geometric_segmenter_a_still_scene_keeps_all_ids() -> None:
    tracker, segmenter = InstanceTracker(TrackerConfig()), GeometricSegmenter(GeometricConfig())
    seen = set()
    for k in range(12):
        frame, _ = shot(RED, BLUE, GREEN, *plate(0.45, -0.22), stamp_s=0.1 * k)
        seen.add(tracker.update(segmenter.segment(frame, home_robot()), frame, cloud(frame), home_robot()).ids)
    assert len(seen) == 1


def test_instances_say_where_things_are() -> None:
    tracker = InstanceTracker(TrackerConfig())
    update(tracker, *shot(RED, BLUE))
    red = tracker.instances[0]
    assert red.id == 1
    assert np.linalg.norm(red.centre_m - [0.5, 0.1, 0.025]) < 0.015
    assert (red.size_m < 0.062).all()


def test_frames_without_instances_and_without_depth() -> None:
    tracker = InstanceTracker(TrackerConfig())
    frame, ids = shot(RED)
    assert update(tracker, frame, np.zeros_like(ids)).ids == ()
    blind = RgbdFrame(frame.rgb, np.full_like(frame.depth_m, np.nan), frame.camera, 1)
    assert update(tracker, blind, ids).ids == (1,)
    assert tracker.instances == ()
