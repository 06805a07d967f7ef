"""The geometric segmenter on scenes whose instances are known."""

from dataclasses import replace

import numpy as np
import pytest
from tabletop import Scene, block, button, front_camera, home_robot, plate, with_holes

from stvla_ros.geometry.se3 import tool_down
from stvla_ros.perception.geometric import GeometricConfig, GeometricSegmenter
from stvla_ros.types import RgbdFrame, Segments

SCENE = Scene(
    [
        block("red", 0.5, 0.1, 0.4),
        *plate(0.45, -0.22),
        block("blue", 0.62, -0.1, 1.0),
        block("green", 0.4, 0.25, 0.2),
        *button("cyan", 0.6, 0.2),
    ]
)


def segment(frame: RgbdFrame) -> Segments:
    return GeometricSegmenter(GeometricConfig()).segment(frame, home_robot())


def best_overlap(labels: np.ndarray, truth: np.ndarray) -> float:
    """Intersection over union of the instance that fits best."""
    return max(
        (((labels == i) & truth).sum() / ((labels == i) | truth).sum() for i in range(1, labels.max() + 1)), default=0.0
    )


@pytest.mark.parametrize("size", [(640, 480), (256, 256)])
@pytest.mark.parametrize("noise", [0.0, 0.0012])
def test_instances_match_the_truth(size: tuple[int, int], noise: float) -> None:
    frame, ids = SCENE.render(front_camera(*size), noise_m=noise)
    segments = segment(frame)
    blocks = [best_overlap(segments.labels, ids == i) for i in (1, 3, 4)]
    assert min(blocks) > (0.75 if size == (256, 256) else 0.82)
    assert best_overlap(segments.labels, ids == 2) > 0.7
    assert segments.ids == tuple(range(1, segments.labels.max() + 1))
    assert len(segments.ids) <= 8


def test_holes_in_the_depth_do_not_break_things_apart() -> None:
    frame, ids = SCENE.render(noise_m=0.001)
    holed = RgbdFrame(frame.rgb, with_holes(frame.depth_m, 0.15, 3), frame.camera, 0)
    segments = segment(holed)
    assert min(best_overlap(segments.labels, ids == i) for i in (1, 3, 4)) > 0.7
    assert len(segments.ids) <= 9


def test_table_and_floor_are_background() -> None:
    frame, ids = SCENE.render()
    assert (segment(frame).labels[ids == 0] > 0).mean() < 0.001


@pytest.mark.parametrize("depth", [np.nan, 0.0, np.inf])
def test_a_frame_without_depth_has_no_instances(depth: float) -> None:
    frame, _ = SCENE.render()
    segments = segment(RgbdFrame(frame.rgb, np.full_like(frame.depth_m, depth), frame.camera, 0))
    assert segments.ids == ()
    assert not (segments.labels > 0).any()


def test_the_held_object_is_no_instance() -> None:
    frame, ids = Scene([block("red", 0.5, 0.0, z=0.2), block("blue", 0.5, 0.2)]).render()
    robot = replace(home_robot(0.04), T_base_tcp=tool_down([0.5, 0.0, 0.2], np.pi / 2))
    labels = GeometricSegmenter(GeometricConfig()).segment(frame, robot).labels
    assert (labels[ids == 1] == -1).mean() > 0.95
    assert set(np.unique(labels[ids == 2])) <= {0, 1}
