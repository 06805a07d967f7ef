"""Merged boxes fill exactly the space of their voxels."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from stvla_ros.motion.ompl import merge_voxels

cells = st.lists(st.tuples(*[st.integers(-4, 4)] * 3), min_size=0, max_size=60)


@settings(max_examples=60, deadline=None)
@given(cells)
def test_same_space(cells: list[tuple[int, int, int]]) -> None:
    index = np.array(sorted(set(cells)), dtype=np.int64).reshape(-1, 3)
    voxels = ((index + 0.5) * 0.02).astype(np.float32)
    centres, sizes = merge_voxels(voxels, 0.02)
    assert np.isclose((sizes / 0.02).prod(axis=1).sum(), len(index))  # nothing twice, nothing more
    inside = (np.abs(voxels[:, None] - centres) < sizes / 2).all(axis=2)
    assert (inside.sum(axis=1) == 1).all()


def test_a_full_block_is_one_box() -> None:
    index = np.stack(np.meshgrid(*[np.arange(6)] * 3), -1).reshape(-1, 3)
    centres, sizes = merge_voxels(((index + 0.5) * 0.01).astype(np.float32), 0.01)
    np.testing.assert_allclose(sizes, [[0.06] * 3])
    np.testing.assert_allclose(centres, [[0.03] * 3])
