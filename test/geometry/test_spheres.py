"""A part of a circle or a sphere tells the whole."""

import numpy as np
import pytest

from stvla_ros.geometry.spheres import fit_sphere


@pytest.mark.parametrize("noise_m", [0.0, 0.0005])
def test_half_a_sphere(noise_m: float) -> None:
    rng = np.random.default_rng(0)
    normals = rng.normal(size=(800, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    points = [0.5, -0.1, 0.077] + 0.03 * normals[normals[:, 0] > 0.1] + rng.normal(scale=noise_m, size=3)
    centre, radius = fit_sphere(points)
    np.testing.assert_allclose(centre, [0.5, -0.1, 0.077], atol=1e-9 + 3 * noise_m)
    assert radius == pytest.approx(0.03, abs=1e-9 + 3 * noise_m)


def test_a_third_of_a_circle_in_single_precision() -> None:
    angle = np.linspace(-1.0, 1.0, 50)
    points = np.stack([0.6 + 0.044 * np.cos(angle), 0.044 * np.sin(angle)], axis=1).astype(np.float32)
    centre, radius = fit_sphere(points)
    np.testing.assert_allclose(centre, [0.6, 0.0], atol=1e-5)
    assert radius == pytest.approx(0.044, abs=1e-5)
