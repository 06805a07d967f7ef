"""Every n-th pixel of a frame, and colours around the rim of an object."""

import numpy as np
import pytest

from stvla_ros.tabletop.boundaries import _distance
from stvla_ros.tabletop.instances import every_nth


@pytest.mark.parametrize("shape", [(240, 320), (241, 320), (48, 65)])
@pytest.mark.parametrize("stride", [1, 2, 3, 4, 5])
def test_every_nth_pixel_begins_with_the_first(shape: tuple[int, int], stride: int) -> None:
    rng = np.random.default_rng(0)
    rgb, depth = rng.integers(0, 256, (*shape, 3), dtype=np.uint8), rng.random(shape, dtype=np.float32)
    for image in (rgb, depth):
        few = every_nth(image, stride)
        assert np.array_equal(few, image[::stride, ::stride])
        assert few.flags.c_contiguous


@pytest.mark.parametrize("rows", [slice(3, 6), slice(17, 24), slice(34, 37), slice(3, 37)])
def test_distance_to_the_mean_colour_around_each_pixel(rows: slice) -> None:
    rng = np.random.default_rng(1)
    colours, of, radius = rng.random((40, 50, 4), dtype=np.float32), rng.random((40, 50)) < 0.1, 3
    inner = np.zeros((40, 50), bool)  # away from the border, which is mirrored
    inner[rows, radius:-radius] = rng.random((40, 50))[rows, radius:-radius] < 0.3
    away, known = _distance(colours, of, np.flatnonzero(inner), radius)
    for (y, x), distance, enough in zip(np.argwhere(inner), away, known, strict=True):
        window = slice(y - radius, y + radius + 1), slice(x - radius, x + radius + 1)
        around = colours[window][of[window]]
        assert enough == (len(around) > 2)
        if enough:
            assert distance == pytest.approx(np.linalg.norm(colours[y, x] - around.mean(axis=0)), abs=1e-5)
