"""Which surface a start belongs to, and its depth."""

from dataclasses import replace

import numpy as np
import pytest
from ray_caster import Box, Scene, block, button, front_camera, with_holes

from stvla_ros.tabletop.start_depth import StartRule, start_depth
from stvla_ros.types import RgbdFrame

SIZES = pytest.mark.parametrize("size", [(640, 480), (256, 256), (1280, 720)])
THINGS = [block("red", 0.5, 0.1, 0.4), block("blue", 0.6, -0.1, 1.0), *button("green", 0.45, -0.25)]


def pixels(mask: np.ndarray, count: int = 60) -> np.ndarray:
    """(count, 2) pixels of a mask, the same in every run."""
    rows, columns = np.nonzero(mask)
    chosen = np.random.default_rng(0).permutation(len(rows))[:count]
    return np.column_stack([columns, rows])[chosen]


def errors_m(frame: RgbdFrame, exact: RgbdFrame, at: np.ndarray) -> np.ndarray:
    return np.array([abs(start_depth(frame, px) - exact.depth_m[px[1], px[0]]) for px in at])


@SIZES
def test_noise_and_holes_cost_less_than_five_millimetres(size: tuple[int, int]) -> None:
    exact, ids = Scene(THINGS).render(front_camera(*size))
    noisy, _ = Scene(THINGS).render(front_camera(*size), noise_m=0.0015, seed=3)
    frame = replace(noisy, depth_m=with_holes(noisy.depth_m, 0.3, 1))
    assert np.quantile(errors_m(frame, exact, pixels(ids > 0)), 0.95) < 0.005


@SIZES
def test_never_a_mixture_of_two_sides_of_an_edge(size: tuple[int, int]) -> None:
    exact, ids = Scene(THINGS).render(front_camera(*size))
    depths = exact.depth_m
    for x, y in pixels(ids == 1):
        near = depths[y - 1 : y + 2, x - 1 : x + 2]
        assert near.min() - 0.006 < start_depth(exact, [x, y]) < depths[y, x] + 0.012


def beside(ids: np.ndarray, off_px: int) -> tuple[np.ndarray, np.ndarray]:
    """A pixel above the upper edge of thing 1, and the edge's own."""
    rows, columns = np.nonzero(ids == 1)
    top = rows.min()
    column = int(np.median(columns[rows == top]))
    return np.array([column, top - off_px]), np.array([column, top])


def test_a_start_beside_a_thing_on_the_table_belongs_to_the_thing() -> None:
    frame, ids = Scene([block("red", 0.5, 0.0)]).render()
    for off in (1, 2, 3):
        px, edge = beside(ids, off)
        assert abs(start_depth(frame, px) - frame.depth_m[edge[1], edge[0]]) < 0.005
    px, _ = beside(ids, 6)
    assert abs(start_depth(frame, px) - frame.depth_m[px[1], px[0]]) < 0.005
    px, _ = beside(ids, 2)
    assert abs(start_depth(frame, px, StartRule(snap_px=0.0)) - frame.depth_m[px[1] - 1, px[0]]) < 0.01


def test_a_start_on_a_thing_stays_on_it_whatever_passes_before_it() -> None:
    behind = Box((0.5, 0.0, 0.15), (0.12, 0.3, 0.3), 0.0, (0.2, 0.2, 0.7))
    frame, ids = Scene([block("red", 0.6, 0.0), behind]).render()
    px, _ = beside(ids, 2)
    assert ids[px[1], px[0]] == 2
    assert abs(start_depth(frame, px) - frame.depth_m[px[1], px[0]]) < 0.003


def test_flying_pixels_and_small_holes_do_not_count() -> None:
    frame, ids = Scene([block("red", 0.5, 0.0)]).render()
    x, y = pixels(ids == 1, 200).mean(axis=0).astype(int)
    truth = frame.depth_m[y, x]
    depth = frame.depth_m.copy()
    depth[y, x - 1 : x + 1] -= 0.2
    assert abs(start_depth(replace(frame, depth_m=depth), [x, y]) - truth) < 0.004
    depth[y - 2 : y + 3, x - 2 : x + 3] = np.nan
    assert abs(start_depth(replace(frame, depth_m=depth), [x, y]) - truth) < 0.008


@pytest.mark.parametrize("bad", [np.nan, 0.0, -1.0, np.inf, -np.inf, 65.535])
def test_no_measurement_is_no_depth(bad: float) -> None:
    frame, _ = Scene().render(front_camera(64, 48))
    assert np.isnan(start_depth(replace(frame, depth_m=np.full((48, 64), bad, np.float32)), [20, 20]))


@pytest.mark.parametrize("px", [[500.0, 20.0], [-50.0, 20.0], [20.0, 1e9], [np.nan, 20.0], [np.inf, 0.0]])
def test_points_out_of_the_image_have_no_depth(px: list[float]) -> None:
    frame, _ = Scene().render(front_camera(64, 48))
    assert np.isnan(start_depth(frame, px))


@pytest.mark.parametrize("px", [[-0.5, -0.5], [63.5, 47.5]])
def test_the_corners_belong_to_the_image(px: list[float]) -> None:
    frame, _ = Scene().render(front_camera(64, 48))
    x, y = np.clip(np.rint(px), 0, [63, 47]).astype(int)
    assert start_depth(frame, px) == pytest.approx(frame.depth_m[y, x], abs=0.2)
