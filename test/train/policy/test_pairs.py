"""The benchmark that compares recipes: one change per arm, equal time, the same held-out answers."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.policy import pairs
from stvla_ros.train.policy.experiments import NANO
from stvla_ros.train.policy.samples import Samples

TINY = replace(NANO, image_px=64, width=24, heads=2, shared_layers=1, branch_layers=1, history_layers=1)


def test_each_arm_differs_from_shared_in_one_thing() -> None:
    arms = pairs.arms()
    shared = arms["shared"]
    assert arms["before"] == replace(shared, network=replace(shared.network, shared_scene=False), draws=4)
    assert arms["path"].network == replace(shared.network, path_channels=True)
    assert replace(arms["path-noise"], path_noise=shared.path_noise) == arms["path"]
    assert replace(arms["base-yaw"], augment=shared.augment) == shared


def test_halved_images_keep_colour_and_place(samples: Samples) -> None:
    small = pairs.halved(samples)
    assert small.rgb.shape == small.xyz_m.shape == (len(samples), 3, 32, 32)
    assert abs(small.rgb.mean() - samples.rgb.mean()) < 0.2
    assert np.isin(small.xyz_m, samples.xyz_m).all()
    np.testing.assert_array_equal(small.target, samples.target)


def test_an_arm_trains_for_its_time_and_answers_both_kinds_of_paths(recorded: tuple[Any, ...], tmp_path: Path) -> None:
    e = replace(pairs.arms()["path-noise"], network=TINY, batch=2, draws=2)
    data = pairs.Data([recorded[0].episode], [recorded[1].episode], tmp_path, 1)
    start = time.process_time()
    found = pairs.train(e, data, 0.02, 0)
    assert time.process_time() - start < 60
    assert found["steps"] >= 1
    assert found["curve"][-1]["step"] == found["steps"]
    for paths in ("true", "noisy"):
        assert len(found[paths]["mm"]) == len(recorded[1].episode)
        assert found[paths]["median_mm"] == pytest.approx(np.median(found[paths]["mm"]), abs=0.1)
    assert pairs.table({"a": found, "b": found}).row_count == 4
