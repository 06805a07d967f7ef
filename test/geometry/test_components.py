"""Connected regions with cuts."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stvla_ros.geometry.components import (
    bounding_slices,
    connected,
    fill_holes,
    flat_indices,
    member_pixels,
    met_pairs,
    nearest_label,
    renumber,
    sizes,
    solidity,
)


def flood(mask: np.ndarray, depth: np.ndarray, step: float, classes: np.ndarray) -> np.ndarray:
    """The same by flood fill, pixel by pixel."""
    labels, count = np.zeros(mask.shape, int), 0
    for seed in zip(*np.nonzero(mask)):
        if labels[seed]:
            continue
        count += 1
        stack, labels[seed] = [seed], count
        while stack:
            y, x = stack.pop()
            for v, u in ((y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)):
                if not (0 <= v < mask.shape[0] and 0 <= u < mask.shape[1]) or not mask[v, u] or labels[v, u]:
                    continue
                if abs(depth[v, u] - depth[y, x]) <= step and classes[v, u] == classes[y, x]:
                    labels[v, u] = count
                    stack.append((v, u))
    return labels


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 14), st.integers(1, 14))
def test_connected_equals_flood_fill(seed: int, height: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.random((height, width)) < 0.7
    depth = rng.integers(0, 3, (height, width)).astype(np.float32) * np.float32(0.01)
    depth[rng.random((height, width)) < 0.1] = np.nan
    classes = rng.integers(0, 2, (height, width))
    ours, brute = connected(mask, depth, 0.011, classes), flood(mask, depth, 0.011, classes)
    pairs = set(zip(ours[mask].tolist(), brute[mask].tolist()))
    assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})  # the same partition
    assert (ours[~mask] == 0).all()


def test_nothing_to_label() -> None:
    empty = np.zeros((5, 6), bool)
    assert bounding_slices(empty) is None
    assert not connected(empty, np.ones((5, 6), np.float32), 0.01).any()


def test_renumber_and_members() -> None:
    labels = np.array([[1, 1, 0], [2, 3, 3]], np.int32)
    kept = renumber(labels, np.array([True, True, False, True]))
    np.testing.assert_array_equal(kept, [[1, 1, 0], [0, 2, 2]])
    assert sizes(kept).tolist() == [2, 2, 2]
    assert [m.tolist() for m in member_pixels(kept, 2)] == [[0, 1], [4, 5]]
    assert renumber(kept, np.array([False, True, True])) is kept


def test_nearest_label_equals_brute_force() -> None:
    rng = np.random.default_rng(0)
    labels = np.zeros((24, 31), np.int32)
    at = rng.choice(labels.size, 9, replace=False)
    labels.reshape(-1)[at] = np.arange(1, 10)
    rows, columns = np.divmod(at, 31)
    y, x = np.mgrid[:24, :31]
    distance = np.hypot(y[..., None] - rows, x[..., None] - columns)
    ours = distance[y, x, nearest_label(labels) - 1]
    assert (ours - distance.min(axis=-1)).max() < 1.0  # the distance transform's chessboard steps are a little long
    assert (nearest_label(np.zeros((3, 4), np.int32)) == 0).all()


def test_filled_and_solidity() -> None:
    ring = np.ones((20, 20), bool)
    ring[5:15, 5:15] = False
    assert fill_holes(ring).all()
    assert solidity(ring) == pytest.approx(0.75)
    assert solidity(np.eye(20, dtype=bool)) > 0.9
    cross = np.zeros((30, 30), bool)
    cross[13:17], cross[:, 13:17] = True, True
    assert solidity(cross) < 0.5
    assert solidity(np.zeros((4, 4), bool)) == 0.0


def test_flat_indices_of_a_window_are_those_of_the_image() -> None:
    image = np.arange(12 * 17).reshape(12, 17)
    window = slice(3, 9), slice(5, 16)
    inside = image[window] % 3 == 0
    assert np.array_equal(flat_indices(np.flatnonzero(inside), 11, window, 17), image[window][inside])


def test_pairs_of_labels_that_meet() -> None:
    labels = np.array([[1, 1, 0, 2], [3, 1, 2, 2], [0, 3, 3, 2]], np.int32)
    low, high, where = met_pairs(labels[1:], labels[:-1])
    assert list(zip(low.tolist(), high.tolist(), where.tolist(), strict=True)) == [(1, 3, 0), (1, 3, 5), (2, 3, 6)]
    low, high, where = met_pairs(labels[:, 1:], labels[:, :-1])
    assert list(zip(low.tolist(), high.tolist(), where.tolist(), strict=True)) == [(1, 3, 3), (1, 2, 4), (2, 3, 8)]
