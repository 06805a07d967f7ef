"""Demonstrations that slip on purpose: the robot goes beside, the right keypose is recorded, the history tells the truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stvla_ros.data.collect_environment import SLIP_M, CollectEnvironmentSetup, Slips
from stvla_ros.data.episode import Episode
from stvla_ros.evaluate.episode import EpisodeSpec as Scene
from stvla_ros.evaluate.stack import StackSettings
from stvla_ros.types import Keypose


def keypose(may_collide: bool) -> Keypose:
    T = np.eye(4)
    T[:3, 3] = 0.5, 0.1, 0.2
    return Keypose(T, True, may_collide)


def test_they_are_as_far_as_a_policy_misses() -> None:
    slips = Slips(3)
    ways = np.array([slips(keypose(False)).T_base_tcp[:3, 3] - [0.5, 0.1, 0.2] for _ in range(200)])
    length = np.linalg.norm(ways, axis=1)
    assert SLIP_M[0] - 1e-9 <= length.min() < length.max() <= SLIP_M[1] + 1e-9
    assert (np.abs(ways.mean(axis=0)) < 0.002).all()


def test_where_it_touches_something_the_height_stays() -> None:
    slips = Slips(3)
    ways = np.array([slips(keypose(True)).T_base_tcp[:3, 3] - [0.5, 0.1, 0.2] for _ in range(50)])
    assert (ways[:, 2] == 0).all()
    assert np.linalg.norm(ways, axis=1).max() <= SLIP_M[1] / 2 + 1e-9


@pytest.fixture(scope="module")
def slipped(tmp_path_factory: pytest.TempPathFactory) -> Episode:
    folder = tmp_path_factory.mktemp("slips")
    with CollectEnvironmentSetup(StackSettings(), folder, recoveries=1.0).open() as environment:
        assert environment.run(Scene("pick_place", 200_001)).success
    (episode,) = folder.iterdir()
    return Episode(episode)


def test_the_right_keyposes_are_recorded_and_the_executed_ones_remembered(slipped: Episode, tmp_path: Path) -> None:
    wanted = np.array([k.T_base_tcp[:3, 3] for k in slipped.keyposes])
    for i in range(1, len(slipped)):
        past = slipped.history(i)[-1]
        gap = np.linalg.norm(past.T_base_tcp[:3, 3] - wanted[i - 1])
        assert SLIP_M[0] / 2 - 1e-9 <= gap <= SLIP_M[1] + 1e-9, i
    reached = np.array([step.robot.T_base_tcp[:3, 3] for step in slipped][1:])
    sent = np.array([slipped.history(i)[-1].T_base_tcp[:3, 3] for i in range(1, len(slipped))])
    assert np.linalg.norm(reached - sent, axis=1).max() < 0.004 < np.linalg.norm(reached - wanted[:-1], axis=1).max()


def test_the_file_keeps_both(slipped: Episode, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    slipped.content.write(copy)
    assert (copy / "episode.json").read_bytes() == (slipped.folder / "episode.json").read_bytes()
    assert '"executed"' in (copy / "episode.json").read_text()


def test_without_recoveries_nothing_slips(tmp_path: Path) -> None:
    with CollectEnvironmentSetup(StackSettings(), tmp_path).open() as environment:
        assert environment.run(Scene("pick_place", 200_001)).success
    (episode,) = tmp_path.iterdir()
    assert '"executed"' not in (episode / "episode.json").read_text()
