"""Two real episodes of the simulated cell, with what the policy saw while they happened."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from stvla_ros.data.collect_environment import LastFrameCell, RecordingStages
from stvla_ros.data.episode import Episode, EpisodeWriter, Verdict
from stvla_ros.errors import CancelToken, OutcomeCode
from stvla_ros.evaluate.stack import StackSettings, build_stages
from stvla_ros.interfaces import Policy
from stvla_ros.pipeline import run_task
from stvla_ros.policy.observation import PolicyInput, policy_input
from stvla_ros.train.policy.samples import Samples, load_samples
from stvla_ros.types import Keypose, Observation

SIZE_PX = 64


@dataclass
class Watched:
    """A policy whose observations are kept as a learned policy would see them at run time."""

    policy: Policy
    seen: list[PolicyInput] = field(default_factory=list)
    _start: Any = None

    def predict(self, observation: Observation) -> Keypose | None:
        if not observation.history:
            self._start = observation.robot.T_base_tcp
        keypose = self.policy.predict(observation)
        if keypose is not None:
            self.seen.append(policy_input(observation, self._start, SIZE_PX))
        return keypose


@dataclass(frozen=True)
class Recorded:
    """An episode on disk and what was seen during it."""

    episode: Episode
    seen: tuple[PolicyInput, ...]


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Recorded, ...]]:
    settings = StackSettings().with_noise()
    cell = LastFrameCell(settings.cell)
    folder = tmp_path_factory.mktemp("episodes")
    yield tuple(record(cell, settings, folder, seed) for seed in (3, 4))
    cell.close()


def record(cell: LastFrameCell, settings: StackSettings, folder: Path, seed: int) -> Recorded:
    words = cell.reset("pick_place", seed)
    stages = build_stages(settings, cell)
    watched = Watched(stages._policy)
    stages._policy = watched
    writer = EpisodeWriter(folder / str(seed))
    result = run_task(RecordingStages(stages, cell, writer), words, settings.loop, CancelToken(), background=False)
    assert result.outcome.ok
    writer.close("pick_place", seed, words, Verdict(OutcomeCode.OK, "", True, ""))
    return Recorded(Episode(folder / str(seed)), tuple(watched.seen))


@pytest.fixture(scope="session")
def samples(recorded: tuple[Recorded, ...], tmp_path_factory: pytest.TempPathFactory) -> Samples:
    """What training makes of both episodes."""
    return load_samples([r.episode for r in recorded], StackSettings(), SIZE_PX, tmp_path_factory.mktemp("cache"), 1)
