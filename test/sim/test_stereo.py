"""Faults of the stereo camera: each as large as asked for and alone; the same image always gets the same ones."""

from dataclasses import fields, replace

import numpy as np
import pytest

from stvla_ros.config import build
from stvla_ros.sim.cell import Cell, CellConfig
from stvla_ros.sim.sensor import Sensor, SensorConfig
from stvla_ros.sim.stereo import Optics, StereoConfig, blackness, hidden_from_right, smooth_field
from stvla_ros.types import F32, U8

SHAPE = (240, 320)
FOCAL_PX = 300.0
NONE = StereoConfig(
    noise_px=0.0, step_px=0.0, window_px=0, fattening_px=0, wobble_px=0.0, flying=0.0, shadows=False, multipath=0.0,
    gloss_holes=0.0, dark_holes=0.0, clear_holes=0.0, speckle_holes=0.0, offset_px=0.0,
)  # fmt: skip
PX = 640 / SHAPE[1]
"""Settings are in pixels of an image 640 wide."""


def seen(
    config: StereoConfig,
    depth_m: F32 | float = 1.0,
    grey: int = 128,
    stamp: int = 1,
    seed: int = 0,
    optics: Optics | None = None,
) -> F32:
    """Measured depth, without the steps of the output."""
    sensor = Sensor(SensorConfig(enabled=True, kind="stereo", stereo=config, quantum_m=0.0), FOCAL_PX, seed)
    rgb: U8 = np.full((*SHAPE, 3), grey, np.uint8)
    return sensor(rgb, np.asarray(np.broadcast_to(depth_m, SHAPE), np.float32), stamp, optics)[1]


def step(near_m: float = 0.8, far_m: float = 1.6) -> F32:
    """A near square before a far wall."""
    depth = np.full(SHAPE, far_m, np.float32)
    depth[80:160, 160:240] = near_m
    return depth


def test_without_faults_depth_is_exact() -> None:
    np.testing.assert_allclose(seen(NONE, step()), step(), rtol=1e-5)
    assert np.isnan(seen(NONE, np.inf)).all()


def test_every_fault_is_switched_off_above() -> None:
    sizes = {"baseline_m", "correlation_px", "fixed_share", "multipath_px", "hole_px"}
    assert {f.name for f in fields(StereoConfig) if getattr(NONE, f.name)} == sizes


@pytest.mark.parametrize("z_m", [0.6, 1.2])
def test_noise_grows_with_the_square_of_the_distance(z_m: float) -> None:
    error = seen(replace(NONE, noise_px=0.05), z_m) - z_m
    assert error.std() == pytest.approx(0.05 * z_m**2 / (FOCAL_PX * 0.05), rel=0.05)


def correlation(field: F32, lag: int, axis: int) -> float:
    a, b = np.split(np.moveaxis(field, axis, 0), [lag])[1], np.moveaxis(field, axis, 0)[:-lag]
    return float((a * b).mean() / (field**2).mean())


def test_neighbours_share_noise_more_along_rows() -> None:
    error = seen(replace(NONE, noise_px=0.05, correlation_px=4.0 * PX)) - 1.0
    along, across = 4.0 * np.sqrt(1.6), 4.0 / np.sqrt(1.6)
    assert correlation(error, 6, axis=1) == pytest.approx(np.exp(-(6**2) / (4 * along**2)), abs=0.08)
    assert correlation(error, 6, axis=0) == pytest.approx(np.exp(-(6**2) / (4 * across**2)), abs=0.08)
    assert abs(correlation(error, 40, axis=1)) < 0.15


@pytest.mark.parametrize("share", [0.0, 0.7])
def test_a_share_of_the_noise_stays(share: float) -> None:
    config = replace(NONE, noise_px=0.05, fixed_share=share)
    first, second = (seen(config, stamp=stamp).ravel() for stamp in (1, 2))
    assert np.corrcoef(first, second)[0, 1] == pytest.approx(share, abs=0.06)
    assert abs(np.corrcoef(first, seen(config, seed=1).ravel())[0, 1]) < 0.06


def test_disparity_comes_in_steps() -> None:
    slanted = np.linspace(0.9, 1.1, SHAPE[0], dtype=np.float32)[:, None]
    disparity = FOCAL_PX * 0.05 / seen(replace(NONE, step_px=1 / 32), slanted)
    np.testing.assert_allclose(32 * disparity, np.rint(32 * disparity), atol=1e-3)
    assert len(np.unique(np.rint(32 * disparity))) == round(32 * FOCAL_PX * 0.05 * (1 / 0.9 - 1 / 1.1)) + 1


def test_the_second_imager_shadows_the_left_of_near_things_and_of_the_image() -> None:
    lost = np.isnan(seen(replace(NONE, shadows=True), step(0.5, 1.5)))
    width = FOCAL_PX * 0.05 * (1 / 0.5 - 1 / 1.5)
    rows = lost[80:160]
    assert rows[:, 100:].sum(axis=1) == pytest.approx(width, abs=1.5)
    assert rows[:, 160 - int(width) + 1 : 160].all()
    assert not rows[:, 160:].any()
    band = FOCAL_PX * 0.05 / 1.5
    assert lost[:80].sum(axis=1) == pytest.approx(band, abs=1)
    assert lost[:80, : int(band)].all()


def test_steep_slopes_are_not_taken_for_shadows() -> None:
    disparity = np.linspace(0.0, 30.0, 100, dtype=np.float32)[None]
    assert not hidden_from_right(disparity)[0, 5:].any()


def test_outlines_fly_between_near_and_far() -> None:
    depth = seen(replace(NONE, flying=0.5), step())
    between = (depth > 0.81) & (depth < 1.58)
    ring = np.zeros(SHAPE, bool)
    ring[79:161, 159:241], ring[81:159, 161:239] = True, False
    assert not between[~ring].any()
    assert between[ring].mean() == pytest.approx(0.5, abs=0.1)


def test_near_things_grow() -> None:
    assert (seen(replace(NONE, fattening_px=2 * PX), step()) < 1.0).sum() == 84 * 84


def test_outlines_wobble() -> None:
    def left_edge(wobble_px: float) -> F32:
        depth = seen(replace(NONE, wobble_px=wobble_px * PX), step())
        return np.argmax(depth[84:156] < 1.0, axis=1)

    assert left_edge(0.0).std() == 0.0
    assert left_edge(1.5).std() == pytest.approx(1.5, rel=0.4)


def crease() -> F32:
    """A V-groove, deepest in the middle, seen from the front."""
    x = np.abs(np.arange(SHAPE[1]) - SHAPE[1] // 2) / FOCAL_PX
    return np.asarray(1.0 - np.minimum(x, 0.1), np.float32)


def test_windows_round_creases_but_not_jumps() -> None:
    depth = seen(replace(NONE, window_px=11 * PX), crease())
    raised = crease()[160] - depth[:, 160]
    assert 0.002 < raised.mean() < 0.02
    np.testing.assert_allclose(depth[:, 100], crease()[100], atol=5e-4)
    jump = seen(replace(NONE, window_px=11 * PX), step(0.4, 2.0))
    assert np.abs(jump - step(0.4, 2.0))[:, 158:162].max() < 0.05


def test_hollows_are_raised_and_bumps_stay() -> None:
    config = replace(NONE, multipath=0.5, multipath_px=25 * PX)
    middle, far = SHAPE[1] // 2, 60
    hollow = crease() - seen(config, crease())
    assert hollow[:, middle].mean() > 0.004
    assert abs(hollow[:, far]).max() < 1e-3
    ridge = 2.0 - crease()
    assert abs(seen(config, ridge) - ridge)[:, middle].max() < 1e-3
    assert seen(replace(config, multipath=0.25), crease())[0, middle] > seen(config, crease())[0, middle]


def holes(config: StereoConfig, grey: int = 128, gloss: float = 0.0, opacity: float = 1.0) -> float:
    optics = Optics(np.full(SHAPE, gloss, np.float32), np.full(SHAPE, opacity, np.float32))
    shares = [np.isnan(seen(config, grey=grey, optics=optics, seed=s)).mean() for s in range(6)]
    return float(np.mean(shares))


def test_black_glossy_and_transparent_surfaces_lose_depth_and_others_do_not() -> None:
    small = replace(NONE, hole_px=2.0)
    assert holes(replace(small, dark_holes=0.6), grey=0) == pytest.approx(0.6, abs=0.04)
    assert holes(replace(small, dark_holes=0.6), grey=128) == 0.0
    assert holes(replace(small, gloss_holes=0.5), gloss=1.0) == pytest.approx(0.5, abs=0.04)
    assert holes(replace(small, gloss_holes=0.5), gloss=0.3) < 0.03
    assert holes(replace(small, clear_holes=0.4), opacity=0.3) == pytest.approx(0.4, abs=0.04)
    assert holes(replace(small, clear_holes=0.4), opacity=1.0) == 0.0
    assert holes(replace(small, speckle_holes=0.02)) == pytest.approx(0.02, abs=0.01)


def test_holes_are_blobs_that_stay() -> None:
    config = replace(NONE, dark_holes=0.5, hole_px=5.0 * PX)
    lost, later = (np.isnan(seen(config, grey=0, stamp=stamp)) for stamp in (1, 2))
    assert (lost[:, 1:] == lost[:, :-1]).mean() > 0.9
    assert 0.75 < (lost == later).mean() < 1.0


def test_depth_is_shifted_against_colour() -> None:
    config = replace(NONE, offset_px=3.0 * PX)
    places = []
    for seed in range(16):
        near = np.argwhere(seen(config, step(), seed=seed) < 1.0)
        assert len(near) == 80 * 80
        assert np.array_equal(near, np.argwhere(seen(config, step(), seed=seed, stamp=2) < 1.0))
        places.append(near.mean(axis=0) - [119.5, 199.5])
    assert np.std(places, axis=0) == pytest.approx([3.0, 3.0], rel=0.4)


def test_how_black_a_colour_is() -> None:
    grey = np.array([0, 20, 60, 255], np.uint8)
    assert blackness(np.repeat(grey[None, :, None], 3, axis=2))[0] == pytest.approx([1.0, 1 - 20 / 45, 0.0, 0.0])


@pytest.mark.parametrize("length_px", [0.1, 0.6, 4.0, 15.0])
def test_smooth_noise_has_the_asked_size_and_takes_as_many_numbers(length_px: float) -> None:
    random, other = np.random.default_rng(3), np.random.default_rng(3)
    assert (smooth_field(random, SHAPE, length_px) ** 2).mean() == pytest.approx(1.0, rel=0.03)
    smooth_field(other, SHAPE, 0.1)
    assert random.random() == other.random()


def test_an_image_has_its_own_faults_and_always_the_same() -> None:
    a, again, later, elsewhere = (
        seen(StereoConfig(), step(), stamp=s, seed=k) for s, k in ((1, 0), (1, 0), (2, 0), (1, 1))
    )
    assert np.array_equal(a, again, equal_nan=True)
    assert not np.array_equal(a, later, equal_nan=True)
    assert not np.array_equal(a, elsewhere, equal_nan=True)


def test_the_cell_measures_glass_and_white_bowls_as_a_stereo_camera_does() -> None:
    values = {
        "look": "hard",
        "sensor": {"enabled": True, "kind": "stereo"},
        "camera": {"width_px": 320, "height_px": 240},
    }
    cell = Cell(build(CellConfig, values, "test"))
    try:
        cell.reset("pick_place", 3)
        depth, true = cell.render().depth_m, cell.render(ideal=True).depth_m
        truth, opacity = cell.truth(), cell.optics().opacity
        bare = (truth.labels == 0) & np.isfinite(depth)
        assert 0.001 < np.median(np.abs(depth - true)[bare]) < 0.01
        glass = truth.labels == 1 + next(i for i, name in enumerate(truth.names) if name.startswith("glass"))
        assert (opacity[glass] < 0.5).all()
        assert 0.2 < np.isnan(depth[glass]).mean() < 0.8
        assert np.isnan(depth[:, :4]).all()
    finally:
        cell.close()
