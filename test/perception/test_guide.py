"""Masking and filling: what is kept stays bit for bit, what goes leaves the background behind."""

import numpy as np
import pytest
from drawn_plans import PICK_TO_PLATE, plan_through
from ray_caster import Scene, block, front_camera, home_robot, plate

from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.perception.geometric import GeometricConfig, GeometricSegmenter
from stvla_ros.perception.guide import GuideConfig, SpatialGuide
from stvla_ros.perception.overlay import overlay
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
    assert [g.mode for g in (full, mask, off)] == ["full", "mask_only", "off"]
    assert overlay(full) is full.frame.rgb
    np.testing.assert_array_equal(overlay(mask, GuideConfig().overlay_alpha), full.frame.rgb)
    assert (overlay(off) != frame.rgb).any()
    np.testing.assert_array_equal(full.frame.depth_m, mask.frame.depth_m)
    assert (full.frame.rgb != mask.frame.rgb).any()


def test_nothing_in_the_tube() -> None:
    frame, _ = Scene(OTHERS).render()
    with pytest.raises(StageError, match="Nothing lies within 5 cm of the path") as caught:
        guide().guide(guide().lift(plan_through(PICK_TO_PLATE, frame), frame), frame, home_robot())
    assert caught.value.code is OutcomeCode.MASK_EMPTY
