"""Training sees what the robot's policy sees: the same function, the same bits."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stvla_ros.config import ConfigError
from stvla_ros.data.episode import Episode
from stvla_ros.evaluate.stack import StackSettings
from stvla_ros.train.policy.samples import Samples, episode_inputs, load_samples

SIZE_PX = 64


def test_training_and_run_time_see_the_same_bits(recorded: tuple[Any, ...]) -> None:
    for one in recorded:
        rebuilt = list(episode_inputs(one.episode, StackSettings(), SIZE_PX))
        assert len(rebuilt) == len(one.seen) == len(one.episode) >= 5
        for a, b in zip(rebuilt, one.seen, strict=True):
            for name in ("rgb", "xyz_m", "history"):
                np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)
            assert a.instruction == b.instruction


def test_without_guidance_it_sees_something_else(recorded: tuple[Any, ...]) -> None:
    """The comparison above can fail."""
    settings = StackSettings()
    bare = replace(settings, guide=replace(settings.guide, mode="off"))
    rebuilt = next(episode_inputs(recorded[0].episode, bare, SIZE_PX))
    assert (rebuilt.rgb != recorded[0].seen[0].rgb).any()


def test_samples_are_cached_by_settings(recorded: tuple[Any, ...], tmp_path: Path) -> None:
    episodes, settings = [r.episode for r in recorded], StackSettings()
    counts: list[int] = []
    first = load_samples(episodes, settings, SIZE_PX, tmp_path, 1, counts.append)
    assert sum(counts) == 2
    files = sorted(tmp_path.iterdir())
    again = load_samples(episodes, settings, SIZE_PX, tmp_path, 1)
    assert sorted(tmp_path.iterdir()) == files
    for name in ("rgb", "xyz_m", "history", "target"):
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
    assert (first.instructions, first.tasks) == (again.instructions, again.tasks)
    assert len(first) == sum(len(r.episode) for r in recorded)
    files[0].write_bytes(b"not an array")
    with pytest.raises(ConfigError, match=r"text, not cached samples.*Delete the file: it is a cache"):
        load_samples(episodes, settings, SIZE_PX, tmp_path, 1)


def test_episodes_of_one_name_are_not_taken_for_each_other(recorded: tuple[Any, ...], tmp_path: Path) -> None:
    """Two data sets may hold the same scene, with noise and without."""
    places = [tmp_path / name / "pick_place-3" for name in ("a", "b")]
    for place, one in zip(places, recorded, strict=True):
        shutil.copytree(one.episode.folder, place)
    cache = tmp_path / "cache"
    both = load_samples([Episode(place) for place in places], StackSettings(), SIZE_PX, cache, 1)
    assert len(list(cache.iterdir())) == 2
    assert len(both) == sum(len(r.episode) for r in recorded)
    first, second = (both.rgb[i] for i in (0, len(recorded[0].episode)))
    np.testing.assert_array_equal(first, recorded[0].seen[0].rgb)
    np.testing.assert_array_equal(second, recorded[1].seen[0].rgb)
    shutil.rmtree(places[0])
    shutil.copytree(places[1], places[0])  # another episode in its place
    other = load_samples([Episode(places[0])], StackSettings(), SIZE_PX, cache, 1)
    np.testing.assert_array_equal(other.rgb[0], recorded[1].seen[0].rgb)


def test_fingerprints_tell_samples_apart(samples: Samples) -> None:
    changed = [replace(samples, instructions=("Something else.", *samples.instructions[1:]))]
    for name in ("rgb", "xyz_m", "history", "target"):
        values = getattr(samples, name).copy()
        values.flat[7] += 1
        changed.append(replace(samples, **{name: values}))
    assert len({one.fingerprint() for one in (samples, *changed)}) == 6
    assert replace(samples).fingerprint() == samples.fingerprint()


def test_bounds_hold_all_targets(samples: Samples) -> None:
    low, high = samples.bounds_m(0.04)
    np.testing.assert_allclose(low + 0.04, samples.target[:, :3].min(0), atol=1e-6)
    np.testing.assert_allclose(high - 0.04, samples.target[:, :3].max(0), atol=1e-6)
