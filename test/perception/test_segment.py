"""The geometric segmenter on scenes whose instances are known."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from ray_caster import Box, Disc, Printed, Scene, block, button, front_camera, home_robot, look_at, plate, with_holes
from scipy.spatial.transform import Rotation

from stvla_ros.colours import COLOURS
from stvla_ros.geometry.se3 import tool_down
from stvla_ros.perception.geometric import GeometricConfig, GeometricSegmenter
from stvla_ros.sim.sensor import Sensor, SensorConfig
from stvla_ros.types import Camera, RgbdFrame, Segments

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


@pytest.mark.parametrize("noise", [0.0, 0.0012])
def test_a_thing_that_tapers_off_is_one_to_its_end(noise: float) -> None:
    """The tip is no higher than the table's noise; its colour tells whose it is."""
    tip = Box((0.5, 0.045, 0.001), (0.014, 0.05, 0.002), 0.0, COLOURS["blue"])
    frame, ids = Scene([block("blue", 0.5, 0.0), tip]).render(noise_m=noise)
    labels = segment(frame).labels
    assert labels.max() == 1
    assert (labels[ids == 2] == 1).mean() > 0.9
    assert (labels[ids == 0] == 1).sum() < 0.1 * (ids > 0).sum()


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


def pieces(labels: np.ndarray, own: np.ndarray) -> list[int]:
    """Instances that hold more than a twentieth of a thing's pixels."""
    ids, counts = np.unique(labels[own], return_counts=True)
    return [int(i) for i, n in zip(ids, counts) if i > 0 and n > 0.05 * own.sum()]


def whole(labels: np.ndarray, *masks: np.ndarray) -> bool:
    """Each of the things is one instance of its own and nothing else."""
    return all(best_overlap(labels, own) > 0.75 and len(pieces(labels, own)) == 1 for own in masks)


@pytest.mark.parametrize("size", [(640, 480), (256, 256)])
@pytest.mark.parametrize("noise", [0.0, 0.0015])
@pytest.mark.parametrize("colour", ["red", "white", "black", "gray"])
def test_cap_and_base_of_a_button_are_one(size: tuple[int, int], noise: float, colour: str) -> None:
    frame, ids = Scene([*button(colour, 0.5, 0.1), block("blue", 0.45, -0.1)]).render(front_camera(*size), noise)
    labels = segment(frame).labels
    assert whole(labels, np.isin(ids, (1, 2)), ids == 3)


@pytest.mark.parametrize("colour", ["red", "white", "silver"])
def test_a_block_in_a_plate_is_its_own_and_the_plate_is_one(colour: str) -> None:
    frame, ids = Scene([*plate(0.5, 0.05), block(colour, 0.5, 0.05, 0.4, z=0.028)]).render(noise_m=0.0012)
    labels = segment(frame).labels
    assert labels.max() == 2
    assert best_overlap(labels, ids == 1) > 0.9
    assert best_overlap(labels, ids == 2) > (0.85 if colour == "red" else 0.7)  # white on white: up to the rim


def carton(yaw: float) -> Printed:
    patches = [((x - 0.02, y - 0.018, -1.0), (x + 0.02, y + 0.018, 1.0), (0.85, 0.6, 0.2)) for x, y in
               ((-0.05, 0.01), (0.0, -0.015), (0.05, 0.012))]  # fmt: skip
    stripe = ((-0.07, -1.0, -0.03), (0.07, 1.0, -0.01), (0.9, 0.9, 0.9))
    return Printed((0.45, 0.0, 0.08), (0.16, 0.08, 0.16), yaw, COLOURS["red"], (*patches, stripe))


def labelled(yaw: float) -> Printed:
    return Printed((0.45, 0.0, 0.03), (0.12, 0.08, 0.06), yaw, COLOURS["white"],
                   (((-0.035, -0.02, 0.02), (0.035, 0.02, 0.04), COLOURS["blue"]),))  # fmt: skip


def banded(yaw: float) -> Printed:
    return Printed((0.45, 0.0, 0.03), (0.14, 0.06, 0.06), yaw, COLOURS["green"],
                   (((-0.025, -1.0, -1.0), (0.025, 1.0, 1.0), COLOURS["white"]),))  # fmt: skip


@pytest.mark.parametrize("thing", [carton, labelled, banded])
@pytest.mark.parametrize("yaw", [0.0, 0.5, 1.2])
def test_print_does_not_break_a_thing_apart(thing: Callable[[float], Printed], yaw: float) -> None:
    frame, ids = Scene([thing(yaw)]).render(noise_m=0.0012)
    assert whole(segment(frame).labels, ids == 1)


def test_a_tool_of_two_colours_is_one() -> None:
    handle, shaft = Box((0.45, 0.0, 0.018), (0.1, 0.03, 0.036), 0.0, COLOURS["red"]), Box(
        (0.53, 0.0, 0.018), (0.06, 0.014, 0.02), 0.0, COLOURS["silver"])  # fmt: skip
    frame, ids = Scene([handle, shaft]).render(noise_m=0.0012)
    assert whole(segment(frame).labels, ids > 0)


@pytest.mark.parametrize("yaw", [0.0, 0.4, 1.1])
@pytest.mark.parametrize("side", [0.0, 0.016])
def test_touching_blocks_of_two_colours_are_two(yaw: float, side: float) -> None:
    x, y = 0.45 + 0.0405 * np.cos(yaw) - side * np.sin(yaw), 0.0405 * np.sin(yaw) + side * np.cos(yaw)
    frame, ids = Scene([block("red", 0.45, 0.0, yaw), block("cyan", x, y, yaw)]).render(noise_m=0.0008)
    assert whole(segment(frame).labels, ids == 1, ids == 2)


def test_touching_things_of_one_colour_and_two_heights_are_two() -> None:
    high = Box((0.45, 0.046, 0.045), (0.05, 0.05, 0.09), 0.3, COLOURS["green"])
    frame, ids = Scene([block("green", 0.45, 0.0, 0.3), high]).render(noise_m=0.0008)
    assert whole(segment(frame).labels, ids == 1, ids == 2)


def test_a_thing_cut_by_the_image_border_is_one_up_to_the_border() -> None:
    frame, ids = SCENE.render(front_camera(640, 480, 22.0), noise_m=0.001)
    cut = sorted({*ids[[0, -1]].ravel().tolist(), *ids[:, [0, -1]].ravel().tolist()} - {0})
    assert cut == [2, 4, 5]
    labels = segment(frame).labels
    assert whole(labels, ids == 2, ids == 4, np.isin(ids, (5, 6)))


LAID = [
    carton(0.3), *button("red", 0.62, 0.12), block("black", 0.58, -0.12, 0.4), block("white", 0.35, 0.2, 1.0),
    Disc((0.3, -0.12), 0.033, 0.0, 0.1, (0.8, 0.15, 0.2)), Disc((0.33, 0.06), 0.085, 0.0, 0.018, (0.2, 0.3, 0.6)),
    Box((0.6, 0.0, 0.02), (0.05, 0.1, 0.04), 0.7, (0.95, 0.45, 0.1)),
]  # fmt: skip


def from_above() -> Camera:
    """A camera half a metre over the table, as calibrated: a centimetre and half a degree off."""
    T = look_at((0.47, 0.0, 0.62), (0.46, 0.0, 0.0))
    T[:3, :3] = Rotation.from_rotvec([0.006, 0.008, 0.0]).as_matrix() @ T[:3, :3]
    K = np.array([[632.0, 0.0, 639.5], [0.0, 632.0, 359.5], [0.0, 0.0, 1.0]])
    return Camera(K, 1280, 720, T)


def test_a_frame_of_a_real_depth_camera_goes_through() -> None:
    camera = from_above()
    frame, ids = Scene(LAID).render(camera)
    rgb = frame.rgb.copy()
    rgb[ids == 6] = np.where(np.indices(ids.shape)[1][ids == 6, None] % 23 < 4, 255, rgb[ids == 6])  # gloss
    defects = SensorConfig(
        enabled=True, depth_noise=0.003, unevenness=0.006, unevenness_px=9, fattening_px=3, highlight_holes=0.8
    )
    seen = Sensor(defects, 632.0, 1)(rgb, frame.depth_m, 1)
    off = camera.T_base_camera.copy()
    off[2, 3] += 0.008
    labels = segment(RgbdFrame(*seen, replace(camera, T_base_camera=off), 0)).labels
    assert whole(labels, *(np.isin(ids, i) for i in (1, (2, 3), 4, 5, 6, 7, 8)))
    assert (labels[ids == 0] > 0).mean() < 0.02
    assert labels.max() <= 9


def test_a_still_scene_under_noise_gives_the_same_instances() -> None:
    frame, ids = SCENE.render(front_camera(320, 240))
    for stamp in range(1, 13):
        seen = Sensor(SensorConfig(enabled=True), 290.0, 0)(frame.rgb, frame.depth_m, stamp)
        labels = segment(RgbdFrame(*seen, frame.camera, stamp)).labels
        assert labels.max() == 5
        assert whole(labels, ids == 1, ids == 2, ids == 3, ids == 4, np.isin(ids, (5, 6)))


@pytest.mark.parametrize("depth", [-1.0, -np.inf, 65.535, 1e-6])
def test_depth_that_means_nothing_gives_no_instances(depth: float) -> None:
    frame, _ = SCENE.render()
    assert segment(RgbdFrame(frame.rgb, np.full_like(frame.depth_m, depth), frame.camera, 0)).ids == ()


def test_saturated_pixels_do_not_matter() -> None:
    frame, ids = SCENE.render()
    depth = frame.depth_m.copy()
    depth[np.random.default_rng(0).random(depth.shape) < 0.05] = 65.535
    assert (
        min(best_overlap(segment(RgbdFrame(frame.rgb, depth, frame.camera, 0)).labels, ids == i) for i in (1, 3, 4))
        > 0.75
    )


def test_no_objects_no_instances() -> None:
    for noise in (0.0, 0.0012, 0.003):
        assert segment(Scene().render(noise_m=noise)[0]).ids == ()


def test_two_hundred_things() -> None:
    shape, T = (480, 640), np.diag([1.0, -1.0, -1.0, 1.0])
    T[:3, 3] = 0.6, 0.0, 1.0
    camera = Camera(np.array([[600.0, 0.0, 319.5], [0.0, 600.0, 239.5], [0.0, 0.0, 1.0]]), 640, 480, T)
    depth, rgb = np.full(shape, 1.0, np.float32), np.full((*shape, 3), 140, np.uint8)
    corners = [(20 + 44 * i, 12 + 30 * j) for i in range(10) for j in range(20)]
    for y, x in corners:
        depth[y : y + 16, x : x + 16] = 0.97
        rgb[y : y + 16, x : x + 16] = (30, 90, 160)
    segments = segment(RgbdFrame(rgb, depth, camera, 0))
    assert segments.ids == tuple(range(1, 201))
    assert len({int(segments.labels[y + 8, x + 8]) for y, x in corners}) == 200
    assert np.bincount(segments.labels.ravel())[1:].tolist() == [256] * 200


def test_a_thing_that_fills_the_image() -> None:
    big = Box((0.45, 0.0, 0.15), (0.8, 0.8, 0.3), 0.0, COLOURS["olive"])
    camera = replace(front_camera(320, 240, 30.0), T_base_camera=look_at((0.6, 0.0, 0.8), (0.45, 0.0, 0.3)))
    frame, ids = Scene([big]).render(camera)
    assert (ids == 1).all()
    labels = segment(frame).labels
    assert (labels == 1).mean() > 0.99


def test_small_images_and_no_table() -> None:
    frame, ids = SCENE.render(front_camera(64, 48))
    assert best_overlap(segment(frame).labels, ids == 2) > 0.5
    floating, ids = Scene([block("red", 0.5, 0.1, 0.4, z=0.1)], table=False).render()
    assert best_overlap(segment(floating).labels, ids == 1) > 0.9
