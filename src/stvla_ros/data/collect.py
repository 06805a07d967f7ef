"""Collects a dataset: successful episodes of a split's scenes. An interrupted collection resumes.

::

    settings.json            everything that changes an episode; one folder holds episodes of one setting only
    episodes/<task>-<seed>/  see episode.py
    records/<task>-<seed>.json   how each episode went, rejected ones included
    dataset.json             counts, seeds, colours, reasons of rejection, versions
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

from stvla_ros.data.splits import SPLITS, named, seeds_of
from stvla_ros.evaluate.episode import EpisodeRecord, read_record
from stvla_ros.evaluate.episode import EpisodeSpec as Scene
from stvla_ros.evaluate.workers import Engine, EnvironmentSetup, run_episodes
from stvla_ros.files import keep_settings, written
from stvla_ros.sim.tasks import TASKS
from stvla_ros.versions import versions

FORMAT = "stvla-dataset-1"

TRIES = 4
"""Collection gives up after this many scenes per wanted episode."""


@dataclass(frozen=True)
class Collection:
    """What to collect, and where.

    Attributes:
        folder: Output; created if missing.
        tasks: Task names.
        episodes: Successful episodes wanted per task.
        split: One of :data:`stvla_ros.data.splits.SPLITS`.
        first: Offset into the split's range of seeds.
        settings: Everything that changes an episode.
        named: Only scenes whose instruction names so many things, e.g. single presses of push_buttons; 0: all.
    """

    folder: Path
    tasks: tuple[str, ...]
    episodes: int
    split: str
    first: int
    settings: Mapping[str, Any]
    named: int = 0

    @property
    def episodes_folder(self) -> Path:
        return self.folder / "episodes"

    @property
    def records_folder(self) -> Path:
        return self.folder / "records"

    def prepare(self) -> list[EpisodeRecord]:
        """Create or check the folder.

        Returns:
            Records of the scenes that were tried before and belong to this collection.

        Raises:
            ConfigError: The folder holds episodes of other settings, or a damaged record.
        """
        for folder in (self.episodes_folder, self.records_folder):
            folder.mkdir(parents=True, exist_ok=True)
        keep_settings(self.folder / "settings.json", {**self.settings, "split": self.split}, "episodes collected")
        return list(chain.from_iterable(self._tried(task) for task in self.tasks))

    def run(
        self,
        setup: EnvironmentSetup,
        jobs: int,
        report: Callable[[EpisodeRecord], None],
        engine: Engine = run_episodes,
    ) -> dict[str, Any]:
        """Collect what is missing. Every episode and record is on disk before ``report`` gets it.

        Returns:
            The content of ``dataset.json``.

        Raises:
            ConfigError: See :meth:`prepare` and the engine.
        """
        records = self.prepare()
        while scenes := [scene for task in self.tasks for scene in self._missing(task, records)]:
            for record in engine(setup, scenes, jobs):
                record.write(self.records_folder)
                records.append(record)
                report(record)
        content = self._summary()
        with written(self.folder / "dataset.json") as part:
            part.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        return content

    def _scenes(self, task: str) -> Iterator[Scene]:
        seeds = seeds_of(task, self.split, self.first, self.named)
        return (Scene(task, seed) for seed in islice(seeds, TRIES * self.episodes))

    def _tried(self, task: str) -> Iterator[EpisodeRecord]:
        """Records in the order of the scenes, until enough of them are successes."""
        good = 0
        for scene in self._scenes(task):
            path = self.records_folder / scene.file_name
            record = read_record(path) if path.exists() else None
            if record is None or (record.success and not (self.episodes_folder / path.stem).is_dir()):
                continue
            yield record
            good += record.success
            if good == self.episodes:
                return

    def _missing(self, task: str, records: list[EpisodeRecord]) -> list[Scene]:
        """The next scenes: as many as there are successes missing."""
        tried = {Scene(r.task, r.seed) for r in records}
        good = sum(record.success for record in records if record.task == task)
        return list(islice((s for s in self._scenes(task) if s not in tried), self.episodes - good))

    def _summary(self) -> dict[str, Any]:
        """Content of ``dataset.json``: everything in the folder, earlier calls included, as training takes it all."""
        records = [
            record
            for path in sorted(self.records_folder.glob("*.json"))
            if not (record := read_record(path)).success or (self.episodes_folder / path.stem).is_dir()
        ]
        return {
            "format": FORMAT,
            "split": self.split,
            "seed_range": [SPLITS[self.split].seeds.start, SPLITS[self.split].seeds.stop],
            "tasks": {
                task: _task_summary(task, [r for r in records if r.task == task])
                for task in dict.fromkeys((*self.tasks, *(r.task for r in records)))
            },
            "settings": dict(self.settings),
            "versions": versions(),
        }


def _task_summary(task: str, records: list[EpisodeRecord]) -> dict[str, Any]:
    good = sorted((r for r in records if r.success), key=lambda r: r.seed)
    bad = sorted((r for r in records if not r.success), key=lambda r: r.seed)
    return {
        "episodes": len(good),
        "steps": sum(r.keyposes for r in good),
        "seeds": [r.seed for r in good],
        "colours": dict(Counter(c for r in good for c in named(r.instruction, TASKS[task].names)).most_common()),
        "rejected": [{"seed": r.seed, "outcome": r.outcome, "sentence": r.sentence, "detail": r.detail} for r in bad],
    }
