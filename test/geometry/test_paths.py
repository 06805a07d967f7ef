"""Polylines."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from stvla_ros.geometry.paths import arc_length, distance, resample, round_corners, runs, simplify, subdivide

LINES = arrays(np.float64, st.tuples(st.integers(2, 8), st.just(3)), elements=st.floats(-1, 1, width=32))
POINTS = arrays(np.float64, st.tuples(st.integers(1, 12), st.just(3)), elements=st.floats(-2, 2, width=32))


@settings(deadline=None)
@given(LINES, st.floats(0.01, 0.5))
def test_subdivide_keeps_the_points_and_bounds_the_steps(line: np.ndarray, step: float) -> None:
    fine, where = subdivide(line, step)
    np.testing.assert_array_equal(fine[where], line)
    assert np.linalg.norm(np.diff(fine, axis=0), axis=1).max() <= step * (1 + 1e-6)
    np.testing.assert_allclose(arc_length(fine)[-1], arc_length(line)[-1], rtol=1e-9)


@settings(deadline=None)
@given(LINES, st.integers(2, 40))
def test_resample_keeps_ends(line: np.ndarray, count: int) -> None:
    out = resample(line, count)
    assert len(out) == count
    np.testing.assert_allclose(out[[0, -1]], line[[0, -1]], atol=1e-9)


@settings(deadline=None)
@given(POINTS, LINES)
def test_distance_equals_brute_force(points: np.ndarray, line: np.ndarray) -> None:
    t = np.linspace(0, 1, 400)[:, None]
    dense = np.concatenate([a + t * (b - a) for a, b in itertools.pairwise(line)])
    brute = np.linalg.norm(points[:, None] - dense[None], axis=2).min(axis=1)
    ours = distance(points, line)
    assert (ours <= brute + 1e-6).all()
    assert (ours >= brute - 0.01).all()  # the brute force looks at 400 places of each segment


def test_distance_to_a_single_point() -> None:
    np.testing.assert_allclose(distance([[0, 0, 3], [4, 0, 0]], [[0, 0, 0]]), [3, 4])


@settings(deadline=None)
@given(LINES)
def test_simplify_undoes_subdivide(line: np.ndarray) -> None:
    fine, _ = subdivide(line, 0.05)
    coarse = simplify(fine)
    assert len(coarse) <= len(line)
    assert distance(fine, coarse).max() < 1e-3


@settings(deadline=None)
@given(LINES, st.floats(0.0, 0.05))
def test_rounding_keeps_the_ends_and_moves_little(line: np.ndarray, deviation: float) -> None:
    smooth, where = round_corners(line, deviation)
    np.testing.assert_array_equal(smooth[[0, -1]], line[[0, -1]])
    assert (np.diff(where) > 0).all()
    assert (where[0], where[-1], len(where)) == (0, len(smooth) - 1, len(line))
    assert np.linalg.norm(smooth[where] - line, axis=1).max() <= deviation + 1e-6
    assert distance(smooth, line).max() <= deviation + 1e-6


def test_rounding_eases_the_turns() -> None:
    corner = np.array([[0.0, 0.0, 0.0], [0.2, 0.0, 0.0], [0.2, 0.2, 0.0]])
    smooth, where = round_corners(corner, 0.003)
    legs = np.diff(smooth, axis=0)
    legs /= np.linalg.norm(legs, axis=1, keepdims=True)
    turns = np.degrees(np.arccos(np.einsum("ij,ij->i", legs[:-1], legs[1:])))
    assert turns.max() < 60
    assert np.linalg.norm(smooth[where[1]] - corner[1]) == pytest.approx(0.003)


def test_nothing_to_round() -> None:
    straight = np.array([[0.0, 0.0], [1.0, 0.0], [2.0, 0.01]])
    for line, deviation in (
        (straight, 0.003),
        (straight * [1, 100], 0.0),
        (straight[:1], 0.003),
        (straight[:2], 0.003),
    ):
        np.testing.assert_array_equal(round_corners(line, deviation)[0], line)


def test_runs_of_true() -> None:
    assert runs(np.array([True, False, True, True, False, True])) == [(0, 1), (2, 4), (5, 6)]
    assert runs(np.zeros(3, bool)) == []
    assert runs(np.zeros(0, bool)) == []


def test_a_whole_number_of_steps_is_not_exceeded_by_rounding() -> None:
    for shift in np.linspace(0, 7, 20):
        line = np.array([[0.0, 0.0, 0.1], [0.0, 0.0, 0.1 + 0.06], [0.0, 0.1, 0.16]]) + shift
        assert len(subdivide(line, 0.02)[0]) == 3 + 5 + 1
