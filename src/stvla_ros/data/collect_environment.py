"""The environment of evaluation, recording its episodes as they happen."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from stvla_ros.data.episode import EpisodeWriter, Verdict
from stvla_ros.errors import CancelToken, OutcomeCode
from stvla_ros.evaluate.cell_environment import CellEnvironment, CellEnvironmentSetup, WatchedCell
from stvla_ros.evaluate.episode import EpisodeRecord
from stvla_ros.evaluate.episode import EpisodeSpec as Scene
from stvla_ros.evaluate.stack import StackSettings
from stvla_ros.pipeline import LocalStages, Progress
from stvla_ros.types import Keypose, Outcome, RgbdFrame, TracePlan


class LastFrameCell(WatchedCell):
    """A simulated cell that keeps the last rendered frame."""

    last: RgbdFrame | None = None

    def render(self, hidden: Collection[str] = (), ideal: bool = False) -> RgbdFrame:
        self.last = super().render(hidden, ideal)
        return self.last


class RecordingStages(LocalStages):
    """Stages that record the frames they see and the keyposes they execute."""

    def __init__(self, stages: LocalStages, cell: LastFrameCell, writer: EpisodeWriter) -> None:
        vars(self).update(vars(stages))
        self._cell, self._writer = cell, writer

    def plan(
        self,
        instruction: str,
        history: tuple[Keypose, ...],
        not_before_ns: int,
        cancel: CancelToken,
        feedback: str = "",
    ) -> TracePlan:
        plan = super().plan(instruction, history, not_before_ns, cancel, feedback)
        assert self._cell.last is not None
        self._writer.add_plan(plan, self._cell.last)
        return plan

    def predict(
        self, plan: TracePlan, history: tuple[Keypose, ...], not_before_ns: int, cancel: CancelToken
    ) -> Keypose | None:
        self._cell.last, robot = None, self._cell.state()
        try:
            return super().predict(plan, history, not_before_ns, cancel)
        finally:
            if self._cell.last is not None:
                self._writer.add_frame(plan, self._cell.last, robot)

    def execute(self, plan: TracePlan, keypose: Keypose, cancel: CancelToken) -> Outcome:
        outcome = super().execute(plan, keypose, cancel)
        self._writer.add_keypose(keypose, self.now_ns())
        return outcome


@dataclass(frozen=True)
class CollectEnvironmentSetup:
    """Makes a :class:`CollectEnvironment` in a worker process.

    Attributes:
        settings: Settings of all stages and of the cell.
        folder: Where each successful episode gets its folder.
    """

    settings: StackSettings
    folder: Path

    @contextmanager
    def open(self) -> Iterator[CollectEnvironment]:
        """Raises ConfigError when the cell or a backend cannot be created."""
        cell = LastFrameCell(self.settings.cell)
        try:
            yield CollectEnvironment(self, cell)
        finally:
            cell.close()


class CollectEnvironment(CellEnvironment):
    """Keeps the folder of every episode that the simulator judges successful, and nothing of the others."""

    def __init__(self, setup: CollectEnvironmentSetup, cell: LastFrameCell) -> None:
        super().__init__(CellEnvironmentSetup(setup.settings), cell)
        self._folder, self._seen = setup.folder, cell

    def _carry_out(
        self, episode: Scene, instruction: str, stages: LocalStages, report: Callable[[Progress], None]
    ) -> EpisodeRecord:
        final = self._folder / Path(episode.file_name).stem
        part = final.with_name(f"{final.name}.part")
        for left in (part, final):
            shutil.rmtree(left, ignore_errors=True)
        writer = EpisodeWriter(part)
        try:
            written = RecordingStages(stages, self._seen, writer)
            record = super()._carry_out(episode, instruction, written, report)
            if record.success and record.keyposes:
                verdict = Verdict(OutcomeCode[record.outcome], record.sentence, record.judged, record.detail)
                writer.close(episode.task, episode.seed, instruction, verdict)
                part.rename(final)
            return record
        finally:
            shutil.rmtree(part, ignore_errors=True)
