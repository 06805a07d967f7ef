"""Masking and filling: what is kept stays bit for bit, what goes leaves the background behind."""

import cv2
import numpy as np
import pytest
from drawn_plans import PICK_TO_PLATE, plan_through
from tabletop import Scene, block, front_camera, home_robot, plate

from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.geometry.cameras import cloud
from stvla_ros.geometry.tables import fit_table
from stvla_ros.perception.geometric import GeometricConfig, GeometricSegmenter
from stvla_ros.perception.guide import GuideConfig, SpatialGuide
from stvla_ros.perception.inpaint import Filled, fill, fit_planes
from stvla_ros.types import Camera, RgbdFrame

TARGETS = [block("red", 0.5, 0.1, 0.4), *plate(0.45, -0.22)]
OTHERS = [
    block("blue", 0.65, 0.0, 1.0),
    block("green", 0.4, 0.28, 0.2),
    block("white", 0.62, 0.25),
    block("black", 0.7, -0.3),
]
SIZES = pytest.mark.parametrize("size", [(640, 480), (256, 256)])


def render(noise_m: float, camera: Camera) -> tuple[RgbdFrame, np.ndarray, RgbdFrame]:
    """Frame with distractors, its ids, and the truth without distractors."""
    frame, ids = Scene([*TARGETS, *OTHERS]).render(camera, noise_m)
    return frame, ids, Scene([*TARGETS]).render(camera)[0]


def guide(mode: str = "mask_only") -> SpatialGuide:
    return SpatialGuide(GeometricSegmenter(GeometricConfig()), GuideConfig(mode=mode))


@SIZES
@pytest.mark.parametrize("noise", [0.0, 0.0012])
def test_distractors_vanish_and_the_rest_stays(size: tuple[int, int], noise: float) -> None:
    frame, ids, truth = render(noise, front_camera(*size))
    guidance = guide().guide(guide().lift(plan_through(PICK_TO_PLATE, frame), frame), frame, home_robot())
    assert len(guidance.kept_ids) == 2
    assert len(guidance.removed_ids) == 4
    kept, gone = np.isin(ids, [1, 2]), ids > 2
    np.testing.assert_array_equal(guidance.frame.rgb[kept], frame.rgb[kept])
    np.testing.assert_array_equal(guidance.frame.depth_m[kept], frame.depth_m[kept])
    assert np.abs(guidance.frame.depth_m - truth.depth_m)[gone].mean() < 0.001
    assert np.abs(guidance.frame.rgb.astype(int) - truth.rgb)[gone].mean() < 4
    assert np.isfinite(guidance.frame.depth_m[gone]).all()


def test_the_modes() -> None:
    frame, _, _ = render(0.0, front_camera(320, 240))
    traces = guide().lift(plan_through(PICK_TO_PLATE, frame), frame)
    full, mask, off = (guide(m).guide(traces, frame, home_robot()) for m in ("full", "mask_only", "off"))
    assert off.frame is frame
    assert off.removed_ids == ()
    np.testing.assert_array_equal(full.frame.rgb, full.overlay_rgb)
    np.testing.assert_array_equal(full.overlay_rgb, mask.overlay_rgb)
    np.testing.assert_array_equal(full.frame.depth_m, mask.frame.depth_m)
    assert (full.frame.rgb != mask.frame.rgb).any()


def test_nothing_in_the_tube() -> None:
    frame, _ = Scene(OTHERS).render()
    with pytest.raises(StageError, match="Nothing lies within 5 cm of the path") as caught:
        guide().guide(guide().lift(plan_through(PICK_TO_PLATE, frame), frame), frame, home_robot())
    assert caught.value.code is OutcomeCode.MASK_EMPTY


def filled(frame: RgbdFrame, remove: np.ndarray, keep: np.ndarray) -> Filled:
    points = cloud(frame)
    table = fit_table(np.where(remove | keep, np.float32(np.nan), points))
    return fill(frame, remove, keep, table, table.height(points))


def test_holes_beside_what_is_removed_are_filled_too() -> None:
    frame, ids, truth = render(0.0, front_camera())
    depth = frame.depth_m.copy()
    gone = ids == 3
    depth[cv2.dilate(gone.astype(np.uint8), np.ones((13, 13), np.uint8)).astype(bool)] = np.nan
    out = filled(RgbdFrame(frame.rgb, depth, frame.camera, 0), gone, np.isin(ids, [1, 2]))
    assert np.isfinite(out.depth_m).all()
    assert np.abs(out.depth_m - truth.depth_m)[out.hidden & ~np.isin(ids, [4, 5, 6])].max() < 0.002


def test_across_the_edge_of_the_table_both_layers_come_back() -> None:
    camera = front_camera()
    frame, ids = Scene([block("blue", -0.3, 0.2, 0.0, z=0.15, size=0.3)]).render(camera)
    truth, _ = Scene([]).render(camera)
    out = filled(frame, ids == 1, np.zeros(ids.shape, bool))
    error = np.abs(1 / out.depth_m - 1 / truth.depth_m)[ids == 1]
    assert np.median(error) < 0.002
    assert (error < 0.01).mean() > 0.9


def test_removing_nothing_changes_nothing() -> None:
    frame, ids, _ = render(0.001, front_camera(256, 256))
    out = filled(frame, np.zeros(ids.shape, bool), ids > 0)
    assert out.rgb is frame.rgb
    assert out.depth_m is frame.depth_m


@pytest.mark.parametrize("everything", [True, False])
def test_hopeless_masks_still_give_an_image(everything: bool) -> None:
    """All hidden, or hidden pixels shut in by kept ones: no background to take colour from."""
    frame, ids, _ = render(0.0, front_camera(128, 96))
    remove = np.ones(ids.shape, bool) if everything else ids == 3
    out = filled(frame, remove, ~remove)
    assert out.rgb.shape == frame.rgb.shape
    np.testing.assert_array_equal(out.rgb[~remove], frame.rgb[~remove])


def test_all_depth_missing() -> None:
    frame, ids, _ = render(0.0, front_camera(128, 96))
    blind = RgbdFrame(frame.rgb, np.full_like(frame.depth_m, np.nan), frame.camera, 0)
    assert filled(blind, ids == 3, ids == 1).rgb.dtype == np.uint8


def test_sequential_ransac_separates_two_planes() -> None:
    v, u = np.mgrid[0:60, 0:80]
    A = np.column_stack([u.ravel(), v.ravel(), np.ones(u.size)]).astype(float)
    first, second = A @ [1e-3, 2e-3, 0.6], A @ [-1e-3, 0.0, 0.9]
    planes = fit_planes(A, np.where(A[:, 0] < 40, first, second))
    assert len(planes) == 2
    assert (
        max(
            np.abs(A[inside] @ plane - np.where(A[inside, 0] < 40, first[inside], second[inside])).max()
            for plane, inside in planes
        )
        < 0.01
    )
