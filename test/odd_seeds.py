"""An environment without a simulator for tests of the evaluation: even seeds succeed, and some seeds misbehave on purpose."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from stvla_ros.config import ConfigError
from stvla_ros.evaluate.episode import EpisodeRecord, EpisodeSpec

RAISES, DIES, IS_KILLED = 901, 902, 904
"""``IS_KILLED`` is killed from outside once, in the middle, and succeeds when it runs again."""


@dataclass(frozen=True)
class OddSeeds:
    """Notes every episode that it runs, and its closing, in ``diary``; with a duration, the process of each in ``pids``."""

    diary: Path
    refuse: str = ""
    duration_s: float = 0.0

    @property
    def pids(self) -> Path:
        return self.diary.with_name("pids")

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
        first = f"{episode.task} {episode.seed}" not in self.diary.read_text().splitlines()
        self._note(f"{episode.task} {episode.seed}")
        if self.duration_s:
            with self.pids.open("a") as file:
                file.write(f"{os.getpid()} {episode.seed}\n")
            time.sleep(self.duration_s)
        if episode.seed == RAISES:
            raise ZeroDivisionError("a defect")
        if episode.seed == DIES:
            os._exit(11)
        if episode.seed == IS_KILLED and first:
            os.kill(os.getpid(), signal.SIGKILL)
        good = episode.seed % 2 == 0
        times = {"planning": 0.3, "predicting": 0.4, "motion_plan": 0.2, "total": 9.0}
        outcome, sentence = ("OK", "Done.") if good else ("NO_PATH", "Blocked.")
        return EpisodeRecord(
            episode.task, episode.seed, "Do it.", outcome, sentence, good, "measured", 4, 2, 9.0, times, 0.25
        )

    def _note(self, line: str) -> None:
        with self.diary.open("a") as file:
            file.write(line + "\n")
