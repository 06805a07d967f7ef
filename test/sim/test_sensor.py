"""Defects of the camera: off by default, as large as asked for, and the same for the same image."""

from dataclasses import replace

import numpy as np
import pytest

from stvla_ros.config import ConfigError, build
from stvla_ros.sim.cell import Cell, CellConfig
from stvla_ros.sim.sensor import Sensor, SensorConfig
from stvla_ros.types import F32, U8

SHAPE = (120, 160)
FOCAL = 150.0
CLEAN = SensorConfig(
    enabled=True, depth_noise=0.0, edge_holes=0.0, dark_holes=0.0, glancing_holes=0.0, exposure_jitter=0.0,
    white_balance_jitter=0.0, colour_noise=0.0, quantum_m=0.0,
)  # fmt: skip


def apply(
    config: SensorConfig, depth_m: F32 | None = None, grey: int = 128, stamp: int = 1, seed: int = 0
) -> tuple[U8, F32]:
    depth = np.full(SHAPE, 1.0, np.float32) if depth_m is None else depth_m
    return Sensor(config, FOCAL, seed)(np.full((*SHAPE, 3), grey, np.uint8), depth, stamp)


def test_off_leaves_everything_but_the_range() -> None:
    depth = np.full(SHAPE, 1.2345, np.float32)
    depth[0, 0], depth[0, 1] = np.inf, 5.0
    rgb, seen = apply(SensorConfig(), depth)
    assert (rgb == 128).all()
    assert np.isnan(seen[0, :2]).all()
    assert (seen[1:] == np.float32(1.2345)).all()


def test_all_defects_at_zero_change_nothing() -> None:
    rgb, seen = apply(CLEAN)
    assert (rgb == 128).all()
    assert (seen == 1.0).all()


@pytest.mark.parametrize("z_m", [0.5, 1.0, 2.0])
def test_depth_noise_grows_with_the_square_of_the_distance(z_m: float) -> None:
    _, seen = apply(replace(CLEAN, depth_noise=0.002), np.full(SHAPE, z_m, np.float32))
    error = seen - z_m
    assert error.std() == pytest.approx(0.002 * z_m**2, rel=0.05)
    assert abs(error.mean()) < 0.0001 * z_m**2


def test_depth_comes_in_steps() -> None:
    _, seen = apply(replace(CLEAN, depth_noise=0.002, quantum_m=0.001))
    assert np.allclose(seen * 1000, np.rint(seen * 1000), atol=1e-3)
    assert len(np.unique(seen)) > 3


def test_edges_lose_depth_and_nothing_else_does() -> None:
    depth = np.full(SHAPE, 1.5, np.float32)
    depth[:, 80:] = 1.0
    _, seen = apply(replace(CLEAN, edge_holes=0.6), depth)
    lost = np.isnan(seen)
    assert lost[:, 79:81].mean() == pytest.approx(0.6, abs=0.1)
    assert not lost[:, :78].any()
    assert not lost[:, 82:].any()


def test_dark_surfaces_lose_depth() -> None:
    config = replace(CLEAN, dark_holes=0.5)
    assert np.isnan(apply(config, grey=0)[1]).mean() == pytest.approx(0.5, abs=0.03)
    assert not np.isnan(apply(config, grey=128)[1]).any()


def test_surfaces_seen_edge_on_lose_depth() -> None:
    config = replace(CLEAN, glancing_holes=1.0)
    rows = np.arange(-60, 60, dtype=np.float32)[:, None] / FOCAL * np.ones(SHAPE[1], np.float32)
    for slope, lost in ((2.0, 0.0), (3.9, 0.0), (6.0, 0.5)):
        seen = apply(replace(config, max_range_m=20.0), np.exp(slope * rows))[1]
        assert np.isnan(seen).mean() == pytest.approx(lost, abs=0.05)


def test_brightness_and_balance_vary() -> None:
    means = [apply(replace(CLEAN, exposure_jitter=0.08), stamp=s)[0].mean() for s in range(1, 80)]
    assert np.std(means) / 128 == pytest.approx(0.08, rel=0.25)
    balance = [apply(replace(CLEAN, white_balance_jitter=0.05), seed=s)[0].mean(axis=(0, 1)) for s in range(100)]
    assert np.std(np.array(balance) / 128, axis=0) == pytest.approx([0.05] * 3, rel=0.25)
    noisy = apply(replace(CLEAN, colour_noise=4.0))[0]
    assert noisy.std() == pytest.approx(4.0, rel=0.1)


def test_an_image_has_its_own_noise_and_always_the_same() -> None:
    config = SensorConfig(enabled=True)
    a, again, later, elsewhere = (apply(config, stamp=s, seed=k)[1] for s, k in ((1, 0), (1, 0), (2, 0), (1, 1)))
    assert np.array_equal(a, again, equal_nan=True)
    assert not np.array_equal(a, later, equal_nan=True)
    assert not np.array_equal(a, elsewhere, equal_nan=True)


def test_the_cell_applies_it() -> None:
    config = build(CellConfig, {"sensor": {"enabled": True}}, "test")
    cell, ideal = Cell(config), Cell()
    try:
        cell.reset("pick_place", 0)
        ideal.reset("pick_place", 0)
        seen, true = cell.render(), ideal.render()
        error = (seen.depth_m - true.depth_m)[300:, 100:500]
        assert 0.001 < np.nanstd(error) < 0.006
        assert 0.0 < np.isnan(error).mean() < 0.05
        assert not np.array_equal(seen.rgb, true.rgb)
    finally:
        cell.close()
        ideal.close()


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"sensor\.edge_holes: wanted 0\.0 to 1\.0, got 2\.0"):
        build(CellConfig, {"sensor": {"edge_holes": 2.0}}, "sim")
    with pytest.raises(ConfigError, match="Did you mean 'sensor'"):
        build(CellConfig, {"senser": {}}, "sim")


def test_unevenness_is_shared_by_neighbours_and_stays() -> None:
    config = replace(CLEAN, unevenness=0.003, unevenness_px=40)
    flat = np.full((480, 640), 2.0, np.float32)
    rgb = np.full((480, 640, 3), 128, np.uint8)
    error, later = (Sensor(config, 600.0, 3)(rgb, flat, stamp)[1] - 2.0 for stamp in (1, 2))
    assert error.std() == pytest.approx(0.003 * 2.0**2, rel=0.05)
    assert np.abs(np.diff(error, axis=1)).mean() < 0.1 * error.std()
    assert np.corrcoef(error[:, :-160].ravel(), error[:, 160:].ravel())[0, 1] < 0.4
    assert np.array_equal(error, later)
    assert not np.array_equal(error, Sensor(config, 600.0, 4)(rgb, flat, 1)[1] - 2.0)


def test_near_things_grow_fat() -> None:
    depth = np.full(SHAPE, 1.5, np.float32)
    depth[40:80, 40:80] = 1.0
    _, seen = apply(replace(CLEAN, fattening_px=3), depth)
    assert (seen == 1.0).sum() == 46 * 46
    slanted = np.linspace(1.0, 1.4, SHAPE[0], dtype=np.float32)[:, None] * np.ones(SHAPE[1], np.float32)
    np.testing.assert_allclose(apply(replace(CLEAN, fattening_px=1), slanted)[1], slanted, atol=1e-6)


def test_highlights_lose_depth_and_white_paper_does_not() -> None:
    rgb = np.full((*SHAPE, 3), 120, np.uint8)
    rgb[20:22, 20:22] = 255
    rgb[60:, 60:] = 250
    seen = Sensor(replace(CLEAN, highlight_holes=1.0), FOCAL, 0)(rgb, np.full(SHAPE, 1.0, np.float32), 1)[1]
    assert np.isnan(seen[20:22, 20:22]).all()
    assert not np.isnan(seen[80:, 80:]).any()
    assert not np.isnan(seen[:18]).any()
