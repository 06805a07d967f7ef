"""Films of episodes in a simulated cell, in its own time."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from stvla_ros.evaluate.episode import EpisodeRecord, EpisodeSpec
from stvla_ros.perception.overlay import overlay
from stvla_ros.pipeline import LocalStages, Progress
from stvla_ros.record.recorder import Recorder, Reporter
from stvla_ros.sim.cell import Cell

PERIOD_NS = 125_000_000


@dataclass(frozen=True)
class Films:
    """Makes a film of each episode, in a worker process; for ``CellEnvironmentSetup.monitor``.

    Attributes:
        folder: Gets a folder per episode.
        keep_successes: Keep films of successful episodes too.
    """

    folder: Path
    keep_successes: bool = False

    def __call__(self, episode: EpisodeSpec, instruction: str, cell: Cell, stages: LocalStages) -> Film:
        title = f"{instruction}   {episode.task} seed {episode.seed}"
        return Film(self.folder / Path(episode.file_name).stem, title, cell, stages, self.keep_successes)


class Film:
    """Watches one episode."""

    def __init__(self, folder: Path, title: str, cell: Cell, stages: LocalStages, keep_success: bool = False) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._cell, self._stages, self._keep_success = folder, cell, stages, keep_success
        self._recorder = Recorder(folder, title)
        self._reporter = Reporter(self._recorder)
        self._due_ns = 0

    def report(self, progress: Progress) -> None:
        """For :func:`stvla_ros.pipeline.run_task`."""
        self._reporter.report(progress.phase, progress.sub_instruction, progress.step)
        self._write()

    def look(self) -> None:
        """Write a frame if one is due."""
        if self._cell.time_ns >= self._due_ns:
            self._write()

    def conclude(self, record: EpisodeRecord) -> None:
        """Finish the files, or delete those of a success."""
        self._show()
        self._recorder.finish(f"{record.outcome}: {record.sentence} Judged: {record.detail}", self._cell.time_ns / 1e9)
        if record.success and not self._keep_success:
            shutil.rmtree(self._folder)

    def _write(self) -> None:
        self._due_ns = self._cell.time_ns + PERIOD_NS
        self._show()
        self._recorder.tick(self._cell.time_ns / 1e9)

    def _show(self) -> None:
        guidance = self._stages.guidance
        if not self._cell.config.sensor.enabled:  # every image draws noise: one more would change the episode
            self._recorder.show("camera", self._cell.render().rgb)
        if guidance is not None:
            self._recorder.show("guidance", overlay(guidance))
        self._recorder.show("third view", self._cell.render_third())
