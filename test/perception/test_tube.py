"""The tube test against brute force, and the rule for its ends."""

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from stvla_ros.perception.tube import relevant
from stvla_ros.types import Segments, Trace3d


def trace(points: np.ndarray) -> Trace3d:
    return Trace3d(points.astype(np.float32), np.full(len(points), 2, np.uint8), "p", "")


def scene(clusters: list[np.ndarray]) -> tuple[Segments, np.ndarray]:
    """One image row per cluster of points, labelled 1, 2, ..."""
    width = max(len(c) for c in clusters)
    labels = np.zeros((len(clusters), width), np.int32)
    points = np.full((3, len(clusters), width), np.nan, np.float32)
    for i, cluster in enumerate(clusters):
        labels[i, : len(cluster)] = i + 1
        points[:, i, : len(cluster)] = cluster.T
    return Segments(labels, tuple(range(1, len(clusters) + 1))), points


def brute(line: np.ndarray, points: np.ndarray) -> float:
    t = np.linspace(0, 1, 300)[:, None]
    dense = np.concatenate([a + t * (b - a) for a, b in itertools.pairwise(line)])
    return float(np.linalg.norm(points[:, None] - dense[None], axis=2).min())


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000))
def test_the_tube_equals_brute_force(seed: int) -> None:
    rng = np.random.default_rng(seed)
    line = rng.uniform(-0.3, 0.3, (5, 3))
    clusters = [rng.uniform(-0.5, 0.5, 3) + rng.normal(0, 0.02, (int(rng.integers(1, 200)), 3)) for _ in range(6)]
    segments, points = scene(clusters)
    result = relevant(trace(line), segments, points, 0.05, 0.0)
    for i, cluster in enumerate(clusters, start=1):
        gap = brute(line, cluster.astype(np.float32))
        if abs(gap - 0.05) > 1e-3:
            assert (i in result.kept) == (gap < 0.05)
    assert sorted(result.kept + result.removed) == list(segments.ids)


LINE = np.array([[0.4, 0.0, 0.02], [0.4, 0.0, 0.2], [0.4, 0.3, 0.2], [0.4, 0.3, 0.02]])


def test_the_end_rule_adds_the_nearest_thing_within_reach() -> None:
    near, further, far = ([[0.4, 0.3 + gap, 0.02]] for gap in (0.07, 0.09, 0.3))
    segments, points = scene([np.array(near), np.array(further), np.array(far)])
    assert relevant(trace(LINE), segments, points, 0.05, 0.10).kept == (1,)
    assert relevant(trace(LINE), segments, points, 0.05, 0.05).kept == ()


def test_the_search_domain_may_reach_further_than_the_end_rules_radius() -> None:
    segments, points = scene([np.array([[0.4, 0.45, 0.02]]), np.array([[0.4, 0.47, 0.02]])])
    assert relevant(trace(LINE), segments, points, 0.05, 0.10).kept == ()
    assert relevant(trace(LINE), segments, points, 0.05, 0.10, end_domain_m=0.2).kept == (1,)


def test_the_end_rule_is_silent_where_a_kept_thing_is() -> None:
    segments, points = scene([np.array([[0.4, 0.32, 0.02]]), np.array([[0.4, 0.37, 0.02]])])
    assert relevant(trace(LINE), segments, points, 0.05, 0.10).kept == (1,)


def test_no_second_chance_at_the_start_while_the_robot_is_there() -> None:
    labels = np.array([[-1, -1, -1, -1, 1]], np.int32)
    points = np.array([[[0.4, 0.0, 0.05]] * 4 + [[0.4, -0.07, 0.02]]], np.float32).transpose(2, 0, 1)
    result = relevant(trace(LINE), Segments(labels, (1,)), points, 0.05, 0.10)
    assert result.kept == ()
    assert not result.empty


def test_a_decision_of_before_turns_only_beyond_the_hysteresis() -> None:
    def kept(gap_m: float, before: bool) -> bool:
        segments, points = scene([np.array([[0.4 + gap_m, 0.0, 0.1]])])
        return relevant(trace(LINE), segments, points, 0.05, 0.0, {1: before}, hysteresis_m=0.01).kept == (1,)

    assert [kept(gap, True) for gap in (0.045, 0.055, 0.061)] == [True, True, False]
    assert [kept(gap, False) for gap in (0.055, 0.045, 0.039)] == [False, False, True]


def test_the_end_rule_stays_with_what_it_chose() -> None:
    segments, points = scene([np.array([[0.4, 0.37, 0.02]]), np.array([[0.4, 0.372, 0.02]])])
    assert relevant(trace(LINE), segments, points, 0.05, 0.10).kept == (1,)
    assert relevant(trace(LINE), segments, points, 0.05, 0.10, {1: False, 2: True}).kept == (2,)


def test_invalid_points_of_the_path_do_not_count() -> None:
    broken = Trace3d(
        np.array([[0.4, 0, 0], [9, 9, 9], [0.4, 0.1, 0]], np.float32), np.array([1, 0, 2], np.uint8), "p", ""
    )
    segments, points = scene([np.array([[9.0, 9.0, 9.0]])])
    assert relevant(broken, segments, points, 0.05, 0.0).kept == ()


def test_instances_without_depth_are_removed() -> None:
    segments, points = scene([np.array([[np.nan] * 3])])
    assert relevant(trace(LINE), segments, points, 0.05, 0.1).removed == (1,)
