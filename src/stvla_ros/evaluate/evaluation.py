"""An evaluation: a folder with its settings, one record per episode, and the report. It can be resumed."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from stvla_ros.evaluate.episode import EpisodeRecord, EpisodeSpec, read_record
from stvla_ros.evaluate.oracle import mark
from stvla_ros.evaluate.report import TaskReport, report, table, to_json
from stvla_ros.evaluate.workers import Engine, EnvironmentSetup, run_episodes
from stvla_ros.files import keep_settings, written
from stvla_ros.versions import versions


@dataclass(frozen=True)
class Evaluation:
    """What to run, and where its results go.

    Attributes:
        folder: Output; made if missing.
        episodes: All scenes, done or not, each once, in the order in which they run; at least one.
        settings: Everything that changes results; all episodes of a folder have the same.
        rerun: Command line that repeats episodes with these settings; tasks and seeds are appended.
    """

    folder: Path
    episodes: tuple[EpisodeSpec, ...]
    settings: Mapping[str, Any]
    rerun: str

    @property
    def tasks(self) -> tuple[str, ...]:
        """Task names, in the order of their first episodes."""
        return tuple(dict.fromkeys(episode.task for episode in self.episodes))

    @property
    def seeds(self) -> range:
        """From the smallest seed to the largest; not every task has all of them."""
        seeds = [episode.seed for episode in self.episodes]
        return range(min(seeds), max(seeds) + 1)

    def prepare(self) -> tuple[list[EpisodeRecord], list[EpisodeSpec]]:
        """Create or check the folder.

        Returns:
            The existing records, and the episodes still to run.

        Raises:
            ConfigError: The folder holds episodes of other settings.
        """
        self._records.mkdir(parents=True, exist_ok=True)
        keep_settings(self.folder / "settings.json", self.settings, "episodes run")
        places = {episode: self._records / episode.file_name for episode in self.episodes}
        done = {episode: read_record(place) for episode, place in places.items() if place.exists()}
        return list(done.values()), [episode for episode in self.episodes if episode not in done]

    def run(
        self,
        setup: EnvironmentSetup,
        jobs: int,
        tell: Callable[[EpisodeRecord], None],
        engine: Engine = run_episodes,
    ) -> list[TaskReport]:
        """Run the remaining episodes; every record is on disk before ``tell`` sees it.

        Raises:
            ConfigError: See :meth:`prepare` and the engine.
        """
        records, left = self.prepare()
        for record in engine(setup, left, jobs):
            record.write(self._records)
            records.append(record)
            tell(record)
        return self._conclude(records)

    def failures(self, records: Sequence[EpisodeRecord]) -> list[dict[str, Any]]:
        """The episodes without success, each with the command that runs it again."""
        return [
            {
                "task": r.task,
                "seed": r.seed,
                "outcome": r.outcome,
                "sentence": r.sentence,
                "detail": r.detail,
                "rerun": f"{self.rerun} --tasks {r.task} --seed0 {r.seed} --episodes 1{_distractors(r)}",
            }
            for r in sorted(records, key=lambda r: (r.task, r.seed))
            if not r.success
        ]

    @property
    def _records(self) -> Path:
        return self.folder / "episodes"

    def _conclude(self, records: Sequence[EpisodeRecord]) -> list[TaskReport]:
        reports = [report(task, [r for r in records if r.task == task]) for task in self.tasks]
        failures = self.failures(records)
        content = {
            "settings": dict(self.settings),
            "seeds": [self.seeds.start, self.seeds.stop],
            "versions": versions(),
            "tasks": to_json(reports),
            "failures": failures,
        }
        with written(self.folder / "results.json") as part:
            part.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        with (self.folder / "results.txt").open("w") as file:
            console = Console(file=file, width=110)
            console.print(table(reports, f"seeds {self.seeds.start}–{self.seeds.stop - 1}{mark(self.settings)}"))
            for f in failures:
                file.write(
                    f"{f['task']} {f['seed']}: {f['outcome']}: {f['sentence']} ({f['detail']})\n    {f['rerun']}\n"
                )
        return reports


def _distractors(record: EpisodeRecord) -> str:
    return f" --distractors {record.distractors}" if record.distractors >= 0 else ""
