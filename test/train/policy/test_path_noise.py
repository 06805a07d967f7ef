"""Noise on training paths: as large as asked for, repeatable, and the same in mask, paint and channels."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from stvla_ros.evaluate.stack import StackSettings
from stvla_ros.geometry.paths import arc_length
from stvla_ros.train.policy.path_noise import PathNoise, disturbed
from stvla_ros.train.policy.samples import episode_inputs, episode_samples
from stvla_ros.types import Trace3d

STRAIGHT = np.column_stack([np.linspace(0.0, 0.4, 41), np.zeros(41), np.full(41, 0.1)]).astype(np.float32)
TRACE = Trace3d(STRAIGHT, np.ones(41, np.uint8), "plan", "Put it there.")


def shifts(noise: PathNoise, count: int = 400) -> np.ndarray:
    """(count, 41, 3) of paths that keep their length."""
    random = np.random.default_rng(0)
    return np.array([disturbed(TRACE, noise, random).xyz_m - STRAIGHT for _ in range(count)])


def test_a_bias_moves_the_whole_path() -> None:
    found = shifts(PathNoise(bias_m=0.01))
    assert np.ptp(found, axis=1).max() < 1e-6
    assert found[:, 0].std() == pytest.approx(0.01, rel=0.1)


def test_waypoints_move_on_their_own() -> None:
    found = shifts(PathNoise(waypoint_m=0.01))
    assert found[:, [0, -1]].std() == pytest.approx(0.01, rel=0.1)
    assert abs(np.corrcoef(found[:, 0, 1], found[:, -1, 1])[0, 1]) < 0.15
    assert np.abs(np.diff(found, axis=1)).max() < 0.01, "neighbours move together"


def test_some_paths_end_early() -> None:
    random = np.random.default_rng(0)
    lengths = [arc_length(disturbed(TRACE, PathNoise(cut=0.3), random).xyz_m)[-1] for _ in range(400)]
    cut = np.array(lengths) < 0.399
    assert cut.mean() == pytest.approx(0.3, abs=0.1)
    assert min(lengths) >= 0.4 * 0.85 - 0.011


def test_invalid_points_stay_out() -> None:
    source = np.ones(41, np.uint8)
    source[7] = 0
    found = disturbed(replace(TRACE, source=source), PathNoise(bias_m=0.01), np.random.default_rng(0))
    assert len(found.xyz_m) == len(found.source) == 40
    assert (found.source != 0).all()


def test_the_policy_sees_one_path_only(recorded: tuple[Any, ...]) -> None:
    """Paint and points move together, the same every time; without noise nothing changes."""
    episode, settings, noise = recorded[0].episode, StackSettings(), PathNoise(bias_m=0.01, waypoint_m=0.005)
    plain, first, again = (next(episode_inputs(episode, settings, 64, n)) for n in (PathNoise(), noise, noise))
    np.testing.assert_array_equal(first.rgb, again.rgb)
    np.testing.assert_array_equal(first.path_m, again.path_m)
    assert (first.rgb != plain.rgb).any()
    assert 0.001 < np.abs(first.path_m - plain.path_m).max() < 0.06


def test_an_episode_that_noise_spoils_is_taken_without(recorded: tuple[Any, ...]) -> None:
    episode = recorded[0].episode
    plain = episode_samples(episode.folder, StackSettings(), 64)
    found = episode_samples(episode.folder, StackSettings(), 64, PathNoise(bias_m=5.0))
    np.testing.assert_array_equal(found.rgb, plain.rgb)
