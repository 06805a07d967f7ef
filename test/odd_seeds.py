"""An environment without a simulator for tests of the evaluation: even seeds succeed, and some seeds misbehave on purpose."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from stvla_ros.config import ConfigError
from stvla_ros.evaluate.episode import EpisodeRecord, EpisodeSpec

RAISES, DIES = 901, 902


@dataclass(frozen=True)
class OddSeeds:
    """Notes every episode that it runs, and its closing, in ``diary``."""

    diary: Path
    refuse: str = ""

    @contextmanager
    def open(self) -> Iterator[OddSeeds]:
        if self.refuse == "die":
            os._exit(7)
        if self.refuse:
            raise ConfigError(self.refuse)
        self._note("opened")
        try:
            yield self
        finally:
            self._note("closed")

    def run(self, episode: EpisodeSpec) -> EpisodeRecord:
        self._note(f"{episode.task} {episode.seed}")
        if episode.seed == RAISES:
            raise ZeroDivisionError("a defect")
        if episode.seed == DIES:
            os._exit(11)
        good = episode.seed % 2 == 0
        times = {"planning": 0.3, "predicting": 0.4, "motion_plan": 0.2, "total": 9.0}
        outcome, sentence = ("OK", "Done.") if good else ("NO_PATH", "Blocked.")
        return EpisodeRecord(
            episode.task, episode.seed, "Do it.", outcome, sentence, good, "measured", 4, 2, 9.0, times, 0.25
        )

    def _note(self, line: str) -> None:
        with self.diary.open("a") as file:
            file.write(line + "\n")
