"""Grain: a fill goes on with the texture of the table, fixed to the table, and takes nothing from what is no table."""

from dataclasses import replace
from functools import lru_cache
from itertools import pairwise

import cv2
import numpy as np
import pytest
from ray_caster import Scene, block, front_camera, look_at

from stvla_ros.geometry.cameras import cloud, project
from stvla_ros.perception.inpaint import FillConfig, Filled, Filler, fill
from stvla_ros.perception.inpaint.grain import Copies, Plane
from stvla_ros.perception.inpaint.grid import Grid
from stvla_ros.perception.inpaint.sources import Sources, ghosts, odd_cells
from stvla_ros.tabletop.support_plane import SupportPlane, fit_support_plane, inverse_depth_plane
from stvla_ros.types import Camera, RgbdFrame

SMOOTH = FillConfig(grain=0.0)
KEPT = [block("red", 0.5, 0.1, 0.4)]
GONE = [block("blue", 0.62, -0.05, 1.0, z=0.035, size=0.07), block("green", 0.42, -0.15, 0.2, z=0.03, size=0.06)]
ANGLE_RAD = 0.5


def _lattice(x: np.ndarray, y: np.ndarray, width_m: float, height_m: float, seed: int) -> np.ndarray:
    """Smooth noise of standard deviation about 1 with grains of the given size."""
    values = np.random.default_rng(seed).standard_normal((512, 512)).astype(np.float32)
    u, v = (np.mod(a, 500).astype(np.float32) for a in (x / width_m + 250, y / height_m + 250))
    return cv2.remap(values, u, v, cv2.INTER_CUBIC)


def wood(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    along, across = (
        np.cos(ANGLE_RAD) * x + np.sin(ANGLE_RAD) * y,
        -np.sin(ANGLE_RAD) * x + np.cos(ANGLE_RAD) * y,
    )
    tone = 1 + 0.1 * _lattice(along, across, 0.1, 0.004, 1) + 0.05 * _lattice(along, across, 0.3, 0.02, 2)
    return np.array([150.0, 110.0, 78.0]) * tone[..., None]


def speckles(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.array([150.0, 145.0, 135.0]) * (1 + 0.12 * _lattice(x, y, 0.006, 0.006, 3))[..., None]


def plain(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.array([140.0, 124.0, 106.0]) * np.ones(x.shape)[..., None]


def squares(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return 130.0 + 90.0 * np.sign(np.sin(x * np.pi / 0.04) * np.sin(y * np.pi / 0.04))[..., None] * np.ones(3)


TABLES = {"wood": wood, "speckles": speckles, "plain": plain, "squares": squares}


def camera_at(step: int = 0) -> Camera:
    """A camera near the table, which moves by centimetres from step to step."""
    eye = (1.0 + 0.006 * step, 0.012 * step, 0.62 + 0.004 * step)
    return replace(front_camera(384, 288), T_base_camera=look_at(eye, (0.5, 0.0, 0.0)))


@lru_cache(maxsize=16)
def scene(table: str, noise: float = 1.0, step: int = 0, seed: int = 0) -> tuple[RgbdFrame, np.ndarray, np.ndarray]:
    """A frame, its ids, and the colours without what goes."""
    camera = camera_at(step)
    frame, ids = Scene([*KEPT, *GONE]).render(camera)
    without, kept = Scene(KEPT).render(camera)
    return replace(frame, rgb=laid(frame, ids, table, noise, seed)), ids, laid(without, kept, table, noise, seed + 100)


def laid(frame: RgbdFrame, ids: np.ndarray, table: str, noise: float, seed: int) -> np.ndarray:
    """The frame's colours with another table in lamp light, and noise."""
    x, y = np.nan_to_num(cloud(frame)[:2])
    light = 0.8 + 0.3 * np.exp(-((x - 0.3) ** 2 + (y - 0.2) ** 2) / 0.3)
    rgb = np.where(ids[..., None] == 0, TABLES[table](x, y) * light[..., None], frame.rgb)
    rgb = rgb + noise * np.random.default_rng(seed).standard_normal(rgb.shape)
    return np.clip(rgb + 0.5, 0, 255).astype(np.uint8)


def arguments(frame: RgbdFrame, ids: np.ndarray) -> tuple:
    points = cloud(frame)
    table = fit_support_plane(np.where(ids > 0, np.float32(np.nan), points))
    return frame, ids > 1, ids == 1, table, table.height(points)


def filled(table: str, config: FillConfig | None = None, **kind: float) -> tuple[Filled, np.ndarray]:
    frame, ids, truth = scene(table, **kind)
    return fill(*arguments(frame, ids), config), truth


def gradients(rgb: np.ndarray, where: np.ndarray) -> np.ndarray:
    """(N, 2) gradients of the brightness inside a mask."""
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(np.float32)
    inner = cv2.erode(where.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    return np.column_stack([cv2.Sobel(grey, -1, 1, 0)[inner], cv2.Sobel(grey, -1, 0, 1)[inner]])


def low_pass_error(rgb: np.ndarray, truth: np.ndarray, where: np.ndarray) -> float:
    inside = where.astype(np.float32)
    error = cv2.GaussianBlur((rgb.astype(np.float32) - truth) * inside[..., None], (0, 0), 8)
    return float(np.abs(error / np.maximum(cv2.GaussianBlur(inside, (0, 0), 8), 1e-3)[..., None])[where].mean())


@pytest.mark.parametrize("table", ["wood", "speckles"])
def test_a_fill_has_the_grain_of_the_table_and_its_light(table: str) -> None:
    out, truth = filled(table)
    true, ours, smooth = (
        np.hypot(*gradients(rgb, out.hidden).T) for rgb in (truth, out.rgb, filled(table, SMOOTH)[0].rgb)
    )
    bins = [0, *np.geomspace(8, 500, 10)]
    share = [np.histogram(size, bins)[0] / len(size) for size in (true, ours)]
    assert np.abs(share[0] - share[1]).sum() / 2 < 0.2
    assert 0.7 < ours.mean() / true.mean() < 1.3
    assert smooth.mean() < 0.4 * true.mean(), "without it there is none"
    ratio = low_pass_error(out.rgb, truth, out.hidden) / low_pass_error(filled(table, SMOOTH)[0].rgb, truth, out.hidden)
    assert ratio < 1.1


def test_lines_on_the_table_keep_their_direction_in_perspective() -> None:
    out, truth = filled("wood")
    directions = []
    for rgb in (truth, out.rgb):
        x, y = gradients(rgb, out.hidden).T
        directions.append(np.rad2deg(np.arctan2(2 * (x * y).mean(), (x * x - y * y).mean())) / 2)
    assert abs((directions[0] - directions[1] + 90) % 180 - 90) < 5


@pytest.mark.parametrize("noise", [0.0, 2.0])
def test_a_table_without_grain_is_filled_as_without(noise: float) -> None:
    (out, _), (smooth, _) = filled("plain", noise=noise), filled("plain", SMOOTH, noise=noise)
    np.testing.assert_array_equal(out.rgb, smooth.rgb)


def test_no_scraps_of_a_bold_pattern_are_strewn_about() -> None:
    out, smooth = (filled("squares", FillConfig(shadows=False, grain=share))[0] for share in (1.0, 0.0))
    np.testing.assert_array_equal(out.rgb, smooth.rgb)


def test_noise_that_can_be_seen_goes_on() -> None:
    out, truth = filled("plain", noise=8.0)
    ours, true = (gradients(rgb, out.hidden).std() for rgb in (out.rgb, truth))
    assert ours == pytest.approx(true, rel=0.25)


def test_depth_has_no_texture() -> None:
    (out, _), (smooth, _) = filled("wood"), filled("wood", SMOOTH)
    np.testing.assert_array_equal(out.depth_m, smooth.depth_m)


def test_threads_do_not_change_a_pixel() -> None:
    before = cv2.getNumThreads()
    try:
        images = []
        for threads in (1, 3):
            cv2.setNumThreads(threads)
            images.append(filled("speckles")[0].rgb)
    finally:
        cv2.setNumThreads(before)
    np.testing.assert_array_equal(*images)


@pytest.mark.parametrize("colour", [(250, 250, 250), (30, 30, 30), (30, 140, 140), (240, 200, 20)])
@pytest.mark.parametrize("table", ["wood", "plain"])
def test_the_bottom_of_a_bowl_lends_no_colour(table: str, colour: tuple[int, int, int]) -> None:
    """Its rim is removed, its bottom has the height of the table."""
    frame, ids, _ = scene(table)
    v, u = np.argwhere(ids == 2).mean(axis=0)
    rows, columns = np.ogrid[: ids.shape[0], : ids.shape[1]]
    distance = np.hypot(rows - v, columns - u)
    bottom, bowl = distance < 16, distance < 42
    rgb = np.where(bottom[..., None], np.array(colour, np.uint8), frame.rgb)
    points = cloud(frame)
    at_table = np.where(bowl, cloud(replace(frame, depth_m=Scene([]).render(frame.camera)[0].depth_m)), points)
    height = np.where(bowl & ~bottom, np.float32(0.05), SupportPlane().height(at_table))
    remove = (bowl & ~bottom) | (ids == 3)
    out = fill(replace(frame, rgb=rgb.astype(np.uint8)), remove, ids == 1, SupportPlane(), height)
    assert out.hidden[bowl & ~bottom].all()
    seen = frame.rgb[(ids == 0) & ~bowl].astype(int)
    ring = (distance > 20) & (distance < 40)
    inside = out.rgb[ring].astype(int)
    assert (inside >= seen.min(axis=0)).all()
    assert (inside <= seen.max(axis=0)).all()
    assert np.abs(inside.mean(axis=0) - seen.mean(axis=0)).max() < 25


def test_a_mat_under_what_goes_lends_its_colour() -> None:
    """Of another colour than the table, but no part of the thing: it goes on behind it."""
    frame, ids, _ = scene("plain")
    x, y, _ = cloud(replace(frame, depth_m=Scene([]).render(frame.camera)[0].depth_m))
    mat = (np.abs(x - 0.6) < 0.16) & (np.abs(y + 0.05) < 0.14)
    rgb = np.where((mat & (ids == 0))[..., None], np.array([190, 40, 40], np.uint8), frame.rgb)
    out = fill(*arguments(replace(frame, rgb=rgb), np.where(ids == 3, 0, ids)))
    assert np.abs(out.rgb[ids == 2].astype(int) - [190, 40, 40]).mean() < 12


def test_a_stain_is_not_seen_twice() -> None:
    frame, ids, _ = scene("speckles")
    rgb = frame.rgb.copy()
    rng = np.random.default_rng(1)
    for v, u in rng.permutation(np.argwhere(cv2.erode((ids == 0).astype(np.uint8), np.ones((25, 25))) > 0))[:12]:
        cv2.circle(rgb, (int(u), int(v)), 3, (200, 30, 30), -1)
    out = fill(*arguments(replace(frame, rgb=rgb), ids))
    red = out.rgb[..., 0].astype(int) - out.rgb[..., 1]
    assert (red[out.hidden] < 60).all()


def test_grain_does_not_flicker() -> None:
    filler, ours, smooth, given = Filler(FillConfig()), [], [], []
    still = Filler(SMOOTH)
    for seed in range(6):
        frame, ids, _ = scene("wood", 3.0, 0, seed)
        out = filler.fill(*arguments(frame, ids))
        ours.append(out.rgb.astype(float))
        smooth.append(still.fill(*arguments(frame, ids)).rgb.astype(float))
        given.append(frame.rgb.astype(float))
    noise = np.std(given, axis=0)[ids == 0].mean()
    steady = [np.std(images, axis=0)[out.hidden].mean() for images in (ours, smooth)]
    assert steady[0] < steady[1] + 0.1 * noise


def on_table(rgb: np.ndarray, camera: Camera) -> np.ndarray:
    """The image of the table from above."""
    x, y = np.meshgrid(np.linspace(0.35, 0.7, 175), np.linspace(-0.22, 0.05, 135))
    px, _ = project(camera, np.column_stack([x.ravel(), y.ravel(), np.zeros(x.size)]))
    u, v = (px[:, i].reshape(x.shape).astype(np.float32) for i in (0, 1))
    return cv2.remap(rgb, u, v, cv2.INTER_LINEAR).astype(float)


def test_grain_is_fixed_to_the_table_when_the_camera_moves() -> None:
    filler, seen = Filler(FillConfig()), []
    for step in range(4):
        frame, ids, truth = scene("speckles", 0.0, step)
        images = (filler.fill(*arguments(frame, ids)), fill(*arguments(frame, ids)))
        hidden = on_table(images[0].hidden.astype(np.uint8), frame.camera) > 0
        seen.append([hidden, *(on_table(rgb, frame.camera) for rgb in (images[0].rgb, images[1].rgb, truth))])
    hidden = np.logical_and.reduce([s[0] for s in seen])
    assert hidden.sum() > 1000
    change, anew, true = (np.mean([np.abs(a[i] - b[i])[hidden].mean() for a, b in pairwise(seen)]) for i in (1, 2, 3))
    assert anew > 6 * true, "another choice for every frame would swim"
    assert change < 0.4 * anew


def test_another_thing_that_goes_leaves_the_grain_of_the_first() -> None:
    config = FillConfig(shadows=False)
    filler = Filler(config)
    frame, ids, _ = scene("speckles", 0.0)
    first = filler.fill(*arguments(frame, np.where(ids == 3, 1, ids)))
    both = filler.fill(*arguments(frame, ids))
    fresh = fill(*arguments(frame, ids), config)
    again, anew = (np.abs(out.rgb.astype(int) - first.rgb)[ids == 2].mean() for out in (both, fresh))
    assert again < 0.3 * anew


def grid_scene(seed: int) -> tuple[Plane, np.ndarray, Sources]:
    """Crowded cells on a table with noise for grain."""
    camera = front_camera()
    grid = Grid((slice(0, 480), slice(0, 640)), 4)
    plane = Plane.of(grid, camera, inverse_depth_plane(camera, SupportPlane()))
    rng = np.random.default_rng(seed)
    hidden = np.zeros(grid.cells, np.uint8)
    for v, u in zip(rng.integers(30, 110, 15), rng.integers(10, 150, 15)):
        cv2.circle(hidden, (int(u), int(v)), 8, 1, -1)
    rgb = rng.integers(100, 160, (480, 640, 3)).astype(np.uint8)
    clean = (hidden == 0) & (np.arange(120) > 25)[:, None]
    return plane, hidden > 0, Sources.of(grid, rgb, grid.pooled(rgb.astype(np.float32)), clean)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_copies_come_from_what_is_seen_and_do_not_repeat(seed: int) -> None:
    plane, hidden, sources = grid_scene(seed)
    copies = Copies.of(plane, hidden, sources)
    cells = np.argwhere(copies.which >= 0)
    assert (copies.which[~hidden] < 0).all()
    assert len(cells) > 0.98 * hidden.sum()
    index, _ = plane.cells(*(plane.xy(cells) + copies.offsets[copies.which[copies.which >= 0]]).T)
    assert not np.isnan(sources.lent[index]).any()
    assert np.bincount(index).max() <= 8, "no place serves again and again"
    assert np.unique(index).size > 0.4 * len(index)


def test_places_on_the_plane_come_back_to_their_cells() -> None:
    plane, hidden, _ = grid_scene(0)
    cells = np.argwhere(hidden)
    index, depth = plane.cells(*plane.xy(cells).T)
    np.testing.assert_array_equal(index, (cells[:, 0] + 1) * (hidden.shape[1] + 2) + cells[:, 1] + 1)
    assert (depth > 0).all()
    np.testing.assert_allclose(plane.shifts(np.zeros((1, 2))), np.eye(3)[None], atol=1e-9)


def test_a_plane_seen_edge_on_has_no_coordinates() -> None:
    camera = front_camera()
    assert Plane.of(Grid((slice(0, 480), slice(0, 640)), 4), camera, np.zeros(3)) is None


def test_odd_cells_are_those_of_another_colour() -> None:
    v, u = np.mgrid[0:60, 0:80]
    light = 0.6 + 0.5 * u / 80 - 0.2 * (v / 60) ** 2
    colour = (np.array([150, 110, 80]) * light[..., None]).astype(np.float32)
    rng = np.random.default_rng(0)
    colour *= 1 + 0.03 * rng.standard_normal((60, 80, 1)).astype(np.float32)
    shadow, patch = (slice(5, 12), slice(10, 30)), (slice(30, 38), slice(40, 50))
    colour[shadow] *= 0.5
    colour[patch] = [60, 120, 130]
    odd, foreign = odd_cells(colour, np.ones((60, 80), bool))
    assert odd[patch].all()
    assert foreign[patch].all()
    assert odd[shadow].mean() > 0.9
    assert not foreign[shadow].any(), "shadows stay"
    rest = np.ones((60, 80), bool)
    rest[shadow] = rest[patch] = False
    assert odd[rest].mean() < 0.01
    assert not any(part.any() for part in odd_cells(colour[:3, :3], np.ones((3, 3), bool))), "too few to tell"


def test_what_belongs_to_the_hole_is_enclosed_by_it_or_a_fringe_of_it() -> None:
    hidden, odd = np.zeros((2, 60, 80), bool)
    hidden[10:40, 10:40] = True
    hidden[18:30, 18:30] = False
    odd[18:30, 18:30] = True  # the bottom of a bowl
    odd[20:30, 40:43] = True  # a fringe
    odd[40:48, 15:21] = True  # a mat that begins at the hole
    found = ghosts(odd, ~hidden, hidden)
    assert found[18:30, 18:30].all()
    assert found[20:30, 40:43].all()
    assert found.sum() == 12 * 12 + 30
    odd[10:30, 60:75] = True  # the surface has a pattern: its colours are its own
    assert not ghosts(odd, ~hidden, hidden).any()


def test_most_of_what_is_seen_around_a_hole_is_no_foreigner() -> None:
    """Islands of a floor between things that go are the surface, though the rest of it is lit otherwise."""
    hidden = np.ones((40, 60), bool)
    hidden[:, :10] = False
    for u in (20, 30, 40, 50):
        hidden[5:35, u : u + 5] = False
    odd = ~hidden & (np.arange(60) > 10)
    assert not ghosts(odd, ~hidden, hidden).any()


def test_grain_keeps_to_the_range_of_what_is_seen() -> None:
    out, _ = filled("wood")
    frame, ids, _ = scene("wood")
    seen = frame.rgb[ids == 0]
    assert (out.rgb[out.hidden] >= seen.min(axis=0)).all()
    assert (out.rgb[out.hidden] <= seen.max(axis=0)).all()


@pytest.mark.parametrize("roll_rad", [0.0, np.pi])
def test_up_to_the_horizon_and_beyond(roll_rad: float) -> None:
    """A table without end: no coordinate is lost where the image looks past it, whichever side is up."""
    camera = front_camera(256, 192)
    T = look_at((1.2, 0.0, 0.3), (0.0, 0.0, 0.2))
    T[:3, :3] = T[:3, :3] @ np.array(
        [[np.cos(roll_rad), -np.sin(roll_rad), 0], [np.sin(roll_rad), np.cos(roll_rad), 0], [0, 0, 1.0]]
    )
    camera = replace(camera, T_base_camera=T)
    plane = inverse_depth_plane(camera, SupportPlane())
    v, u = np.mgrid[0:192, 0:256]
    inverse = plane[0] * u + plane[1] * v + plane[2]
    depth = np.where(inverse > 0.05, 1 / np.maximum(inverse, 0.05), np.nan).astype(np.float32)
    rgb = np.random.default_rng(0).integers(80, 180, (192, 256, 3)).astype(np.uint8)
    remove = np.abs(u - 128) < 25
    filler = Filler(FillConfig())
    for _ in range(2):
        out = filler.fill(
            RgbdFrame(rgb, depth, camera, 0), remove, np.zeros_like(remove), SupportPlane(), np.float32(0) * depth
        )
        filler.reset()
        assert np.isfinite(out.depth_m[out.hidden]).all()
        on_table_ = remove & (inverse > 0.4)
        assert out.rgb[on_table_].astype(float).std() > 15


def test_copies_do_not_pile_up_while_the_camera_moves() -> None:
    """Those of places that are out of sight are forgotten, and none is of a single cell or two."""
    filler = Filler(FillConfig())
    for step in range(8):
        frame, ids, _ = scene("speckles", 0.0, step)
        filler.fill(*arguments(frame, ids))
        copies = filler._plan.copies
        assert copies is not None
        used = copies.which[copies.which >= 0]
        assert set(used) == set(range(len(copies.offsets)))
        assert len(copies.offsets) < len(used) / 8
