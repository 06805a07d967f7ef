"""The guide on input that no camera should send: a typed outcome or a right picture, never a crash."""

from dataclasses import replace

import numpy as np
import pytest
from drawn_plans import PICK_TO_PLATE, plan_through
from ray_caster import Scene, block, front_camera, home_robot, plate

from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.perception.geometric import GeometricConfig, GeometricSegmenter
from stvla_ros.perception.guide import GuideConfig, SpatialGuide
from stvla_ros.types import Guidance, RgbdFrame, RobotState, Segments, Trace3d

CAMERA = front_camera(320, 240)
SCENE = Scene([block("red", 0.5, 0.1, 0.4), *plate(0.45, -0.22), block("blue", 0.65, 0.0), block("green", 0.4, 0.28)])


class Given:
    """A segmenter that says what it was told."""

    def __init__(self, labels: np.ndarray) -> None:
        self._segments = Segments(labels.astype(np.int32), tuple(np.unique(labels[labels > 0]).tolist()))

    def segment(self, frame: RgbdFrame, robot: RobotState) -> Segments:
        return self._segments

    def refresh(self) -> None:
        pass


@pytest.fixture(scope="module")
def shot() -> tuple[RgbdFrame, np.ndarray, Trace3d]:
    frame, ids = SCENE.render(CAMERA, 0.001)
    return frame, ids, SpatialGuide(Given(ids), GuideConfig()).lift(plan_through(PICK_TO_PLATE, frame), frame)


def guided(labels: np.ndarray, frame: RgbdFrame, trace: Trace3d) -> Guidance:
    return SpatialGuide(Given(labels), GuideConfig(mode="mask_only")).guide(trace, frame, home_robot())


def with_depth(frame: RgbdFrame, where: np.ndarray | slice, value: float) -> RgbdFrame:
    depth = frame.depth_m.copy()
    depth[where] = value
    return replace(frame, depth_m=depth)


@pytest.mark.parametrize("value", [np.nan, 0.0, -1.0, np.inf, 65.535])
def test_a_frame_without_any_real_depth_is_refused(shot: tuple[RgbdFrame, np.ndarray, Trace3d], value: float) -> None:
    frame, _, trace = shot
    blind = with_depth(frame, slice(None), value)
    guide = SpatialGuide(GeometricSegmenter(GeometricConfig()), GuideConfig())
    with pytest.raises(StageError) as caught:
        guide.guide(trace, blind, home_robot())
    assert caught.value.code is OutcomeCode.MASK_EMPTY


@pytest.mark.parametrize("value", [np.nan, 0.0, -1.0, np.inf, 65.535])
def test_strewn_wrong_depth_changes_no_decision(shot: tuple[RgbdFrame, np.ndarray, Trace3d], value: float) -> None:
    frame, ids, trace = shot
    strewn = with_depth(frame, np.random.default_rng(1).random(ids.shape) < 0.1, value)
    guide = SpatialGuide(GeometricSegmenter(GeometricConfig()), GuideConfig(mode="mask_only"))
    guidance = guide.guide(trace, strewn, home_robot())
    kept = guidance.frame.rgb[np.isin(ids, [1, 2])] == frame.rgb[np.isin(ids, [1, 2])]
    gone = (guidance.frame.rgb[ids > 2] != frame.rgb[ids > 2]).any(axis=1)
    assert kept.mean() > 0.99
    assert gone.mean() > 0.95


@pytest.mark.parametrize("value", [0.0, -1.0, np.inf, 65.535])
def test_wide_holes_are_holes_whatever_the_camera_writes_there(
    shot: tuple[RgbdFrame, np.ndarray, Trace3d], value: float
) -> None:
    """Else a saturated patch looks like the floor beyond the table, and what is removed beside it is filled with that."""
    frame, ids, trace = shot
    holes = np.zeros(ids.shape, dtype=bool)
    for v, u in np.argwhere(ids > 2)[::60]:
        holes[v - 4 : v + 5, u + 8 : u + 30] = True
    holes &= ids != 1
    unknown, other = (with_depth(frame, holes, v) for v in (np.nan, value))
    first, second = (
        SpatialGuide(GeometricSegmenter(GeometricConfig()), GuideConfig(mode="mask_only")).guide(trace, f, home_robot())
        for f in (unknown, other)
    )
    assert (second.kept_ids, second.removed_ids) == (first.kept_ids, first.removed_ids)
    np.testing.assert_array_equal(second.frame.rgb, first.frame.rgb)
    known = np.isfinite(first.frame.depth_m)
    np.testing.assert_array_equal(second.frame.depth_m[known], first.frame.depth_m[known])


def test_no_instances(shot: tuple[RgbdFrame, np.ndarray, Trace3d]) -> None:
    frame, ids, trace = shot
    with pytest.raises(StageError, match="0 instances lie elsewhere") as caught:
        guided(np.zeros_like(ids), frame, trace)
    assert caught.value.code is OutcomeCode.MASK_EMPTY


def test_two_hundred_instances(shot: tuple[RgbdFrame, np.ndarray, Trace3d]) -> None:
    frame, ids, trace = shot
    rows, columns = np.nonzero(ids == 0)
    crowded = ids.copy()
    for k, at in enumerate(np.random.default_rng(2).permutation(len(rows))[:196], start=5):
        crowded[max(rows[at] - 1, 0) : rows[at] + 2, max(columns[at] - 1, 0) : columns[at] + 2] = k
    present = np.unique(crowded[crowded > 0])
    guidance = guided(crowded, frame, trace)
    assert len(guidance.kept_ids) + len(guidance.removed_ids) == len(present) > 190
    kept = np.isin(crowded, guidance.kept_ids)
    np.testing.assert_array_equal(guidance.frame.rgb[kept], frame.rgb[kept])


def test_a_mask_of_one_pixel_and_one_of_the_whole_frame(shot: tuple[RgbdFrame, np.ndarray, Trace3d]) -> None:
    frame, ids, trace = shot
    single = np.where(np.isin(ids, [1, 2]), ids, 0)
    single[3, 5] = 7
    assert guided(single, frame, trace).removed_ids == (7,)
    everything = guided(np.ones_like(ids), frame, trace)
    assert everything.kept_ids == (1,)
    np.testing.assert_array_equal(everything.frame.rgb, frame.rgb)


def test_masks_of_another_size_are_a_defect_of_the_segmenter(shot: tuple[RgbdFrame, np.ndarray, Trace3d]) -> None:
    frame, ids, trace = shot
    with pytest.raises(ValueError, match=r"wanted labels of the frame's size \(240, 320\), got \(120, 160\)"):
        guided(ids[::2, ::2], frame, trace)


def test_a_path_outside_the_image_and_one_without_length(shot: tuple[RgbdFrame, np.ndarray, Trace3d]) -> None:
    frame, ids, trace = shot
    behind = replace(trace, xyz_m=trace.xyz_m + np.float32([3.0, 0.0, 0.0]))
    with pytest.raises(StageError) as caught:
        guided(ids, frame, behind)
    assert caught.value.code is OutcomeCode.MASK_EMPTY
    point = replace(trace, xyz_m=np.tile(trace.xyz_m[:1], (len(trace.xyz_m), 1)))
    assert guided(ids, frame, point).kept_ids == (1,)


def test_another_camera_in_the_middle_of_a_plan(shot: tuple[RgbdFrame, np.ndarray, Trace3d]) -> None:
    """A driver that was restarted with another resolution: ids start from places in the base frame."""
    frame, _, trace = shot
    guide = SpatialGuide(GeometricSegmenter(GeometricConfig()), GuideConfig())
    first = guide.guide(trace, frame, home_robot())
    other, _ = SCENE.render(front_camera(256, 256), 0.001, stamp_ns=1)
    second = guide.guide(trace, other, home_robot())
    assert (second.kept_ids, second.removed_ids) == (first.kept_ids, first.removed_ids)


@pytest.mark.parametrize("mode", ["full", "mask_only", "off"])
@pytest.mark.parametrize(
    ("field", "place", "value"),
    [
        ("T_base_camera", (0, 3), np.nan),
        ("T_base_camera", (2, 3), np.inf),
        ("T_base_camera", (0, 0), 3.0),
        ("K", (0, 0), 0.0),
        ("K", (1, 1), -300.0),
        ("K", (0, 2), np.nan),
    ],
)
def test_a_camera_that_is_none_is_refused(
    shot: tuple[RgbdFrame, np.ndarray, Trace3d], field: str, place: tuple[int, int], value: float, mode: str
) -> None:
    frame, ids, trace = shot
    numbers = getattr(frame.camera, field).copy()
    numbers[place] = value
    broken = replace(frame, camera=replace(frame.camera, **{field: numbers}))
    with pytest.raises(StageError, match=r"The camera's images cannot be used: wanted") as caught:
        SpatialGuide(Given(ids), GuideConfig(mode=mode)).guide(trace, broken, home_robot())
    assert caught.value.code is OutcomeCode.STALE_IMAGE


def test_points_that_are_none(shot: tuple[RgbdFrame, np.ndarray, Trace3d]) -> None:
    frame, ids, trace = shot
    holed = trace.xyz_m.copy()
    holed[len(holed) // 2] = np.nan
    assert guided(ids, frame, replace(trace, xyz_m=holed)).kept_ids == guided(ids, frame, trace).kept_ids
    with pytest.raises(StageError, match="has no valid point") as caught:
        guided(ids, frame, replace(trace, source=np.zeros_like(trace.source)))
    assert caught.value.code is OutcomeCode.MASK_EMPTY
