"""What has not changed is not found anew, and what has changed is never taken over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from ray_caster import TABLE_RGB, Box, Scene, block, front_camera, home_robot, plate

from stvla_ros.perception.geometric import GeometricConfig, GeometricSegmenter
from stvla_ros.tabletop import instances
from stvla_ros.tabletop.settled import MOST_LOOKS, RENEW_NS
from stvla_ros.types import Camera, RgbdFrame, Segments

CAMERA = front_camera(320, 240)
NOISE_M = 0.001
PERIOD_NS = 66_000_000
STILL = [block("red", 0.5, 0.1, 0.4), *plate(0.45, -0.22), block("green", 0.4, 0.28)]
BLUE = block("blue", 0.65, 0.0)
SCENE = Scene([*STILL, BLUE])


def image(scene: Scene = SCENE, index: int = 0, camera: Camera = CAMERA) -> tuple[RgbdFrame, np.ndarray]:
    return scene.render(camera, NOISE_M, seed=index, stamp_ns=1 + index * PERIOD_NS)


@cache
def still_images() -> list[RgbdFrame]:
    return [image(index=index)[0] for index in range(MOST_LOOKS)]


def settled_on() -> GeometricSegmenter:
    """A segmenter that has settled on the scene."""
    segmenter = GeometricSegmenter(GeometricConfig())
    for frame in still_images():
        segmenter.segment(frame, home_robot())
    return segmenter


def anew(frame: RgbdFrame) -> Segments:
    return GeometricSegmenter(GeometricConfig()).segment(frame, home_robot())


def overlap(labels: np.ndarray, thing: np.ndarray) -> float:
    """Intersection over union of the instance that fits best."""
    found = [labels == i for i in range(1, int(labels.max(initial=0)) + 1)]
    return max((float((own & thing).sum() / (own | thing).sum()) for own in found), default=0.0)


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Shares of the image in which objects were told apart, one per look."""
    done: list[float] = []
    objects = instances._objects

    def counted(regions: np.ndarray, *rest: object) -> np.ndarray:
        done.append(float((regions > 0).mean()))
        return objects(regions, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(instances, "_objects", counted)
    return done


def test_a_still_scene_is_not_looked_at_again(looks: list[float]) -> None:
    segmenter = settled_on()
    looks.clear()
    for index in range(MOST_LOOKS, MOST_LOOKS + 4):
        frame, _ = image(index=index)
        labels, fresh = segmenter.segment(frame, home_robot()).labels, anew(frame).labels
        assert len(looks) == 1  # that of the other segmenter
        looks.clear()
        assert labels.max() == fresh.max() == 4
        assert min(overlap(labels, fresh == i) for i in range(1, 5)) > 0.85


def test_a_thing_that_moves_is_found_where_it_is(looks: list[float]) -> None:
    segmenter = settled_on()
    looks.clear()
    for step in range(1, 9):
        frame, ids = image(Scene([*STILL, block("blue", 0.65 - 0.015 * step, 0.0)]), MOST_LOOKS + step)
        labels = segmenter.segment(frame, home_robot()).labels
        assert overlap(labels, ids == ids.max()) > 0.75
    assert max(looks) < 0.6 * (ids > 0).mean()  # the others were not told apart again


def test_a_thing_in_the_colour_of_the_table_that_moves_is_found_where_it_is() -> None:
    """Its depth alone tells."""
    segmenter = GeometricSegmenter(GeometricConfig())
    for index in range(MOST_LOOKS + 4):
        x = 0.5 - 0.02 * max(index - MOST_LOOKS + 1, 0)
        thing = Box((x, 0.0, 0.02), (0.05, 0.05, 0.04), 0.3, TABLE_RGB)
        frame, ids = image(Scene([*STILL, thing]), index)
        labels = segmenter.segment(frame, home_robot()).labels
        assert overlap(labels, ids == ids.max()) > 0.7


@pytest.mark.parametrize("after", [Scene(STILL), Scene([*STILL, BLUE, block("yellow", 0.55, -0.05)])])
def test_a_thing_that_comes_or_goes_is_noticed_at_once(after: Scene) -> None:
    segmenter = settled_on()
    frame, ids = image(after, MOST_LOOKS)
    labels = segmenter.segment(frame, home_robot()).labels
    present = [i for i in np.unique(ids) if i > 0]
    assert labels.max() == len(anew(frame).ids)
    assert min(overlap(labels, ids == i) for i in present[-2:]) > 0.75


def test_a_thing_of_another_colour_in_its_place_is_looked_at(looks: list[float]) -> None:
    segmenter = settled_on()
    looks.clear()
    segmenter.segment(image(Scene([*STILL, block("yellow", 0.65, 0.0)]), MOST_LOOKS)[0], home_robot())
    assert len(looks) == 1
    assert looks[0] > 0


def _refreshed(segmenter: GeometricSegmenter) -> RgbdFrame:
    segmenter.refresh()
    return image(index=MOST_LOOKS)[0]


def _from_elsewhere(segmenter: GeometricSegmenter) -> RgbdFrame:
    T = CAMERA.T_base_camera.copy()
    T[1, 3] += 1e-4
    return image(index=MOST_LOOKS, camera=replace(CAMERA, T_base_camera=T))[0]


def _older(segmenter: GeometricSegmenter) -> RgbdFrame:
    return replace(image(index=MOST_LOOKS)[0], stamp_ns=0)


def _of_another_size(segmenter: GeometricSegmenter) -> RgbdFrame:
    return image(index=MOST_LOOKS, camera=front_camera(160, 120))[0]


def _much_later(segmenter: GeometricSegmenter) -> RgbdFrame:
    return replace(image(index=MOST_LOOKS)[0], stamp_ns=2 + RENEW_NS)


@pytest.mark.parametrize("next_frame", [_refreshed, _from_elsewhere, _older, _of_another_size, _much_later])
def test_nothing_is_taken_over(next_frame: Callable[[GeometricSegmenter], RgbdFrame]) -> None:
    """The frame is segmented as one of its own, to the pixel."""
    segmenter = settled_on()
    frame = next_frame(segmenter)
    np.testing.assert_array_equal(segmenter.segment(frame, home_robot()).labels, anew(frame).labels)
