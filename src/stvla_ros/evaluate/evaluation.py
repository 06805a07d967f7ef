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
        tasks: Task names.
        seeds: One scene per task and seed.
        settings: Everything that changes results; all episodes of a folder have the same.
        rerun: Command line that repeats episodes with these settings; tasks and seeds are appended.
    """

    folder: Path
    tasks: tuple[str, ...]
    seeds: range
    settings: Mapping[str, Any]
    rerun: str

    @property
    def episodes(self) -> list[EpisodeSpec]:
        """All of them, done or not."""
        return [EpisodeSpec(task, seed) for seed in self.seeds for task in self.tasks]

    def prepare(self) -> tuple[list[EpisodeRecord], list[EpisodeSpec]]:
        """Create or check the folder.

        Returns:
            The existing records, and the episodes still to run.

        Raises:
            ConfigError: The folder holds episodes of other settings.
        """
        self._records.mkdir(parents=True, exist_ok=True)
        keep_settings(self.folder / "settings.json", self.settings, "episodes run")
        episodes = self.episodes
        done = {e: read_record(self._records / e.file_name) for e in episodes if (self._records / e.file_name).exists()}
        return list(done.values()), [e for e in episodes if e not in done]

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


@dataclass(frozen=True)
class ChosenEvaluation(Evaluation):
    """Runs only some scenes, different ones for each task.

    Attributes:
        chosen: In the order in which they run.
    """

    chosen: tuple[EpisodeSpec, ...]

    @classmethod
    def of(
        cls, folder: Path, chosen: Sequence[EpisodeSpec], settings: Mapping[str, Any], rerun: str
    ) -> ChosenEvaluation:
        """The evaluation of these scenes."""
        seeds = [scene.seed for scene in chosen]
        tasks = tuple(dict.fromkeys(scene.task for scene in chosen))
        return cls(folder, tasks, range(min(seeds), max(seeds) + 1), settings, rerun, tuple(chosen))

    @property
    def episodes(self) -> list[EpisodeSpec]:
        """See :attr:`Evaluation.episodes`."""
        return list(self.chosen)


def _distractors(record: EpisodeRecord) -> str:
    return f" --distractors {record.distractors}" if record.distractors >= 0 else ""
