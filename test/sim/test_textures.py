"""Computed textures: of the asked colour, with grain, and the same for the same seed."""

import numpy as np
import pytest

from stvla_ros.sim.textures import PATTERNS, cloudy, texture

OAK = (0.62, 0.44, 0.28)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_pattern_has_grain_and_is_made_of_its_seed(pattern: str) -> None:
    image = texture(pattern, 3, 128, OAK)
    assert image.shape == (128, 128, 3)
    assert image.dtype == np.uint8
    assert np.array_equal(image, texture(pattern, 3, 128, OAK))
    assert (image != texture(pattern, 4, 128, OAK)).any(axis=2).mean() > 0.3
    assert image.astype(float).std(axis=(0, 1)).min() > 0.5
    assert np.abs(np.diff(image.astype(float), axis=1)).mean() > 0.3, "fine enough for the fill to be seen"


@pytest.mark.parametrize("pattern", [p for p in PATTERNS if p not in ("prints", "flowers", "weave", "carpet")])
def test_most_of_it_has_the_asked_colour(pattern: str) -> None:
    mean = texture(pattern, 5, 256, OAK).reshape(-1, 3).mean(axis=0) / 255
    np.testing.assert_allclose(mean, OAK, atol=0.09)


def test_boards_run_along_the_columns_and_have_joints() -> None:
    grey = texture("planks", 2, 512, OAK).astype(float).mean(axis=2)
    assert np.abs(np.diff(grey, axis=0)).mean() < 0.5 * np.abs(np.diff(grey, axis=1)).mean()
    joints = (grey.mean(axis=0) < 0.7 * grey.mean()).sum()
    assert 3 <= joints <= 40


def test_clouds_have_unit_size_and_more_lumps_where_asked() -> None:
    coarse, fine = (cloudy(np.random.default_rng(1), 200, (n, n), 2) for n in (2, 30))
    for field in (coarse, fine):
        assert field.mean() == pytest.approx(0.0, abs=1e-4)
        assert field.std() == pytest.approx(1.0, abs=1e-3)
    assert np.abs(np.diff(fine)).mean() > 5 * np.abs(np.diff(coarse)).mean()
