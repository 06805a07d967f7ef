"""The geometric segmenter on what real tables and real depth cameras do, rendered with known truth."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from ray_caster import Box, Disc, Scene, block, front_camera, home_robot, look_at

from stvla_ros.colours import COLOURS
from stvla_ros.geometry.cameras import cloud, rays
from stvla_ros.perception.geometric import GeometricConfig, GeometricSegmenter
from stvla_ros.sim.sensor import Sensor, SensorConfig
from stvla_ros.types import Camera, RgbdFrame, Segments

CAMERA = front_camera(480, 360)
STEREO = SensorConfig(enabled=True, depth_noise=0.001, unevenness=0.003, unevenness_px=9, fattening_px=4)


def segment(frame: RgbdFrame) -> Segments:
    return GeometricSegmenter(GeometricConfig()).segment(frame, home_robot())


def overlap(labels: np.ndarray, truth: np.ndarray) -> float:
    """Intersection over union of the instance that fits best."""
    ids = np.unique(labels[truth & (labels > 0)])
    return max((((labels == i) & truth).sum() / ((labels == i) | truth).sum() for i in ids), default=0.0)


def grained(frame: RgbdFrame, ids: np.ndarray, seed: int = 0) -> RgbdFrame:
    """The same with wood grain on everything that is no thing."""
    rows = np.random.default_rng(seed).normal(1.0, 0.12, (frame.rgb.shape[0], 1)).astype(np.float32)
    grain = cv2.GaussianBlur(np.repeat(rows, frame.rgb.shape[1], axis=1), (0, 0), 1.0)
    rgb = np.where(ids[..., None] > 0, frame.rgb, np.clip(frame.rgb * grain[..., None], 0, 255)).astype(np.uint8)
    return replace(frame, rgb=rgb)


def seen(frame: RgbdFrame, config: SensorConfig = STEREO, stamp_ns: int = 1) -> RgbdFrame:
    sensor = Sensor(config, float(frame.camera.K[0, 0]), 0)
    return RgbdFrame(*sensor(frame.rgb, frame.depth_m, stamp_ns), frame.camera, stamp_ns)


def with_bowl(
    frame: RgbdFrame, at: tuple[float, float], radius_m: float, high_m: float
) -> tuple[RgbdFrame, np.ndarray]:
    """The frame with a white bowl, a paraboloid that stands on the table, and the pixels that show it."""
    direction, eye = rays(frame.camera).astype(np.float64), frame.camera.T_base_camera[:3, 3]
    dx, dy, dz = direction
    ox, oy, oz = eye - [*at, 0.0]
    k = high_m / radius_m**2  # z = k (x^2 + y^2)
    a, b, c = k * (dx**2 + dy**2), 2 * k * (ox * dx + oy * dy) - dz, k * (ox**2 + oy**2) - oz
    root = np.sqrt(np.maximum(b * b - 4 * a * c, 0.0))
    first, second = (-b - root) / (2 * a), (-b + root) / (2 * a)
    depth, rgb = frame.depth_m.copy(), frame.rgb.copy()
    bowl = np.zeros(depth.shape, bool)
    for t, shade in ((second, 225), (first, 190)):  # inside, then outside, which is nearer
        here = (b * b > 4 * a * c) & (t > 0) & (oz + t * dz < high_m) & (t <= depth + 1e-6)
        depth[here], rgb[here], bowl = t[here], shade, bowl | here
    return RgbdFrame(rgb, depth.astype(np.float32), frame.camera, 0), bowl


@pytest.mark.parametrize("noise", [0.0, 0.003])
def test_a_bowl_is_whole_though_its_bottom_is_as_low_as_the_table(noise: float) -> None:
    empty, ids = Scene().render(CAMERA, noise_m=noise)
    frame, bowl = with_bowl(grained(empty, ids), (0.5, 0.05), 0.08, 0.045)
    noisy = np.random.default_rng(1).normal(0, noise, bowl.shape) * bowl
    segments = segment(replace(frame, depth_m=(frame.depth_m + noisy).astype(np.float32)))
    assert segments.ids == (1,)
    assert overlap(segments.labels, bowl) > 0.93


LIGHT_WOOD = np.array([214, 200, 180], np.uint8)


@pytest.mark.parametrize(("radius", "high"), [(0.09, 0.03), (0.13, 0.04)])
def test_a_white_bowl_on_light_wood_is_whole_though_the_noise_of_the_table_hides_its_bottom(
    radius: float, high: float
) -> None:
    empty, ids = Scene().render(CAMERA)
    wood = grained(replace(empty, rgb=np.broadcast_to(LIGHT_WOOD, empty.rgb.shape)), ids)
    frame, bowl = with_bowl(wood, (0.5, 0.05), radius, high)
    assert (cloud(frame)[2][bowl] < 0.012).mean() > 0.2  # the largest noise floor of a support plane
    segments = segment(seen(frame, replace(STEREO, depth_noise=0.002, unevenness=0.006)))
    assert overlap(segments.labels, bowl) > 0.93


@pytest.mark.parametrize("seed", range(3))
def test_an_uneven_bare_table_has_no_instances(seed: int) -> None:
    empty, ids = Scene().render(CAMERA)
    rough = replace(STEREO, unevenness=0.006)
    assert segment(seen(grained(empty, ids, seed), rough, 1 + seed)).ids == ()


def test_a_chair_behind_the_table_is_no_instance() -> None:
    """Its seat is as high as the table, its back is higher."""
    seat = Box((-0.78, 0.0, -0.05), (0.45, 0.5, 0.1), 0.0, (0.1, 0.4, 0.45))
    back = Box((-1.0, 0.0, 0.15), (0.06, 0.5, 0.5), 0.0, (0.1, 0.4, 0.45))
    camera = replace(CAMERA, T_base_camera=look_at((1.2, 0.0, 0.7), (0.2, 0.0, 0.05)))
    frame, ids = Scene([seat, back, block("red", 0.45, 0.0, 0.3)]).render(camera, noise_m=0.001)
    assert (ids == 2).any()
    segments = segment(frame)
    assert segments.ids == (1,)
    assert overlap(segments.labels, ids == 3) > 0.9


def test_a_wall_behind_the_table_is_no_instance_and_takes_nothing_with_it() -> None:
    """A bottle touches it in the image."""
    wall = Box((-0.25, 0.0, 0.5), (0.1, 3.0, 1.0), 0.0, (0.8, 0.8, 0.78))
    bottle = Disc((-0.1, 0.25), 0.035, 0.0, 0.25, (0.1, 0.3, 0.5))
    frame, ids = Scene([wall, bottle, block("red", 0.45, 0.0, 0.3)]).render(CAMERA, noise_m=0.001)
    segments = segment(frame)
    assert len(segments.ids) == 2
    assert overlap(segments.labels, ids == 2) > 0.85
    assert not (segments.labels[ids == 1] > 0).mean() > 0.01


BENCH = Box((0.46, 0.52, 0.025), (1.2, 0.6, 0.05), 0.0, (0.75, 0.76, 0.78))
"""Beside the table, 5 cm higher; it fills the right quarter of the image from above."""


def screws(count: int) -> list[Box | Disc]:
    return [Disc((0.22 + 0.05 * i, 0.26 + 0.03 * (i % 3)), 0.008, 0.05, 0.062, (0.2, 0.2, 0.22)) for i in range(count)]


@pytest.mark.parametrize("noise", [0.001, 0.003])
def test_a_bench_beside_the_table_is_no_instance_and_neither_is_what_stands_on_it(noise: float) -> None:
    pedestal = Disc((0.5, 0.36), 0.05, 0.05, 0.18, (0.9, 0.9, 0.9))
    carton = Box((0.3, 0.12, 0.08), (0.07, 0.16, 0.16), 0.1, COLOURS["red"])  # it hides a part of the bench's edge
    things = [BENCH, pedestal, *screws(9), carton, block("green", 0.5, -0.1, 0.4), block("blue", 0.55, 0.14, 0.2)]
    frame, ids = Scene(things).render(from_above(), noise_m=noise)
    segments = segment(frame)
    assert len(segments.ids) == 3
    assert min(overlap(segments.labels, ids == i) for i in (12, 13, 14)) > 0.85
    assert segments.notes == ("A bench 5 cm above the support: nothing on it is an instance.",)


@pytest.mark.parametrize(("y", "long", "wide"), [(0.34, 0.28, 0.2), (0.4, 0.45, 0.5)])
def test_a_carton_at_the_border_of_the_image_is_no_bench(y: float, long: float, wide: float) -> None:
    carton = Box((0.4, y, 0.03), (long, wide, 0.06), 0.0, COLOURS["orange"])
    frame, ids = Scene([carton, block("green", 0.5, -0.1, 0.4)]).render(from_above(), noise_m=0.001)
    segments = segment(frame)
    assert len(segments.ids) == 2
    assert min(overlap(segments.labels, ids == i) for i in (1, 2)) > 0.9
    assert segments.notes == ()


def walls(x: float, y: float, wide: float, deep: float, high: float, rgb: tuple[float, float, float]) -> list[Box]:
    """A bin without a floor: 6 mm walls."""
    t = 0.006
    return [
        *(Box((x, y + s * deep / 2, high / 2), (wide + t, t, high), 0.0, rgb) for s in (-1, 1)),
        *(Box((x + s * wide / 2, y, high / 2), (t, deep, high), 0.0, rgb) for s in (-1, 1)),
    ]


def from_above() -> Camera:
    return replace(CAMERA, T_base_camera=look_at((0.47, 0.0, 0.75), (0.46, 0.0, 0.0)))


def test_the_bin_around_the_support_is_no_instance() -> None:
    """The support is its floor: what lies on it are instances, and the walls stay."""
    things = [
        *walls(0.46, 0.0, 0.52, 0.68, 0.12, (0.2, 0.35, 0.6)),
        block("red", 0.4, 0.1, 0.3),
        block("green", 0.5, -0.1),
    ]
    frame, ids = Scene(things).render(from_above(), noise_m=0.001)
    segments = segment(frame)
    assert len(segments.ids) == 2
    assert min(overlap(segments.labels, ids == i) for i in (5, 6)) > 0.9


@pytest.mark.parametrize("noise", [0.0, 0.001])
def test_a_container_is_one_with_its_floor_and_without_what_stands_in_it(noise: float) -> None:
    bottom = Box((0.48, 0.0, 0.002), (0.16, 0.22, 0.004), 0.0, COLOURS["navy"])
    things = [*walls(0.48, 0.0, 0.16, 0.22, 0.05, COLOURS["navy"]), bottom, block("orange", 0.5, 0.04, 0.5, z=0.024)]
    frame, ids = Scene(things).render(from_above(), noise_m=noise)
    labels = segment(frame).labels
    assert labels.max() == 2
    assert overlap(labels, ids == 6) > 0.85
    assert overlap(labels, (ids > 0) & (ids < 6)) > 0.9


def test_a_box_and_a_tin_that_touch_are_two() -> None:
    """No edge of a rectangle separates them, but a crease does, and their colours differ."""
    box = Box((0.45, 0.0, 0.03), (0.07, 0.07, 0.06), 0.3, COLOURS["red"])
    tin = Disc((0.45, 0.085), 0.04, 0.0, 0.06, COLOURS["teal"])
    frame, ids = Scene([box, tin]).render(from_above(), noise_m=0.001)
    labels = segment(frame).labels
    assert min(overlap(labels, ids == i) for i in (1, 2)) > 0.85


def test_a_fringe_of_smeared_depth_belongs_to_the_table() -> None:
    frame, ids = Scene([block("red", 0.5, 0.1, 0.4), Disc((0.45, -0.1), 0.035, 0.0, 0.1, COLOURS["blue"])]).render(
        CAMERA
    )
    labels = segment(seen(grained(frame, ids))).labels
    assert min(overlap(labels, ids == i) for i in (1, 2)) > 0.9


def test_a_black_thing_without_depth_is_found_where_the_support_is_seen_around_it() -> None:
    black = Box((0.5, 0.1, 0.03), (0.08, 0.08, 0.06), 0.3, (0.03, 0.03, 0.03))
    frame, ids = Scene([block("red", 0.45, -0.1), black]).render(CAMERA)
    depth = frame.depth_m.copy()
    depth[ids == 2] = np.nan
    segments = segment(replace(grained(frame, ids), depth_m=depth))
    assert len(segments.ids) == 2
    assert overlap(segments.labels, ids == 2) > 0.85
    assert segments.notes == ()


def test_the_bare_table_without_depth_is_no_thing_and_a_highlight_is_noted() -> None:
    frame, ids = Scene([block("red", 0.45, -0.1)]).render(CAMERA)
    depth, rgb = frame.depth_m.copy(), grained(frame, ids).rgb.copy()
    patch = (slice(230, 270), slice(280, 340))
    assert not ids[patch].any()
    depth[patch] = np.nan
    assert len(segment(replace(frame, rgb=rgb, depth_m=depth)).ids) == 1
    rgb[patch] = 253
    segments = segment(replace(frame, rgb=rgb, depth_m=depth))
    assert len(segments.ids) == 1
    assert "without depth (1)" in segments.notes[0]
