"""Occupied cells as fewer, larger ones."""

import numpy as np

from stvla_ros.motion.scene import coarser


def test_few_cells_stay_as_they_are() -> None:
    cells = np.array([[0.005, 0.015, -0.005]], np.float32)
    centres, edge_m = coarser(cells, 0.01, 1)
    assert centres is cells
    assert edge_m == 0.01
    assert coarser(cells[:0], 0.01, 1)[0].shape == (0, 3)


def test_larger_cells_contain_all_small_ones() -> None:
    corner = np.stack(np.meshgrid(*[np.arange(-20, 20)] * 3), -1).reshape(-1, 3)
    cells = ((corner + 0.5) * 0.01).astype(np.float32)
    centres, edge_m = coarser(cells, 0.01, 2500)
    assert edge_m == 0.04
    assert len(centres) == 1000
    away = np.abs(cells[:, None] - centres[None]).max(axis=2).min(axis=1)
    assert away.max() <= edge_m / 2
