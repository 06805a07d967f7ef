"""Episodes in a simulated cell in this process: the loop with direct calls, no ROS."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from stvla_ros.config import ConfigError
from stvla_ros.errors import CancelToken, StageError
from stvla_ros.evaluate.episode import EpisodeRecord, EpisodeSpec
from stvla_ros.evaluate.stack import StackSettings, build_stages
from stvla_ros.pipeline import LocalStages, Progress, run_task
from stvla_ros.sim.cell import Cell
from stvla_ros.sim.disturbance import draw_disturbance, move_away

DISTURBANCES = ("none", "move")
STREAM = 0xD15
"""Of random numbers, besides the seed: the disturbance does not change the scene."""


class Monitor(Protocol):
    """Watches one episode, e.g. :class:`stvla_ros.record.film.Film`."""

    def report(self, progress: Progress) -> None:
        """The phase has changed; for :func:`stvla_ros.pipeline.run_task`."""
        ...

    def look(self) -> None:
        """The cell's time has gone on."""
        ...

    def conclude(self, record: EpisodeRecord) -> None:
        """The episode has ended."""
        ...


class WatchedCell(Cell):
    """A cell that calls its watchers whenever its time has gone on."""

    watchers: tuple[Callable[[], None], ...] = ()

    def advance(self, duration_s: float) -> None:
        super().advance(duration_s)
        for look in self.watchers:
            look()


class Mover:
    """Moves an object in the middle of an episode; the seed decides when and where to.

    Attributes:
        said: What was done, one sentence.
    """

    def __init__(self, cell: Cell, seed: int) -> None:
        self._cell = cell
        self._rng = np.random.default_rng([seed, STREAM])
        self._disturbance = draw_disturbance(self._rng)
        self._due_ns: int | None = None
        self.said = "Nothing was moved: the task ended before."
        self._done = False

    def report(self, progress: Progress) -> None:
        """For :func:`stvla_ros.pipeline.run_task`: counts the keyposes."""
        if self._due_ns is None and progress.step >= self._disturbance.after_keyposes:
            self._due_ns = self._cell.time_ns + round(1e9 * self._disturbance.delay_s)

    def look(self) -> None:
        """Time has gone on: move the object if it is due."""
        if self._done or self._due_ns is None or self._cell.time_ns < self._due_ns:
            return
        self._done = True
        task = self._cell.task
        assert task is not None
        self.said = move_away(self._cell, task, self._disturbance.which, self._rng)


@dataclass(frozen=True)
class CellEnvironmentSetup:
    """Makes a :class:`CellEnvironment` in a worker process.

    Attributes:
        settings: Of all stages and the cell.
        monitor: Makes what watches an episode, from the episode, its instruction, the cell and the stages; can be
            pickled.
        disturb: One of :data:`DISTURBANCES`.
    """

    settings: StackSettings
    monitor: Callable[[EpisodeSpec, str, Cell, LocalStages], Monitor] | None = None
    disturb: str = DISTURBANCES[0]

    @contextmanager
    def open(self) -> Iterator[CellEnvironment]:
        """Raises ConfigError when the cell or a backend cannot be made."""
        cell = WatchedCell(self.settings.cell)
        try:
            yield CellEnvironment(self, cell)
        finally:
            cell.close()


class CellEnvironment:
    """Runs episodes one after another in one cell."""

    def __init__(self, setup: CellEnvironmentSetup, cell: WatchedCell) -> None:
        self._setup, self._cell = setup, cell

    def run(self, episode: EpisodeSpec) -> EpisodeRecord:
        """Lay out the scene, carry out its instruction, judge. Repeats exactly."""
        self._cell.restart_clock()  # learned policies draw their noise by the images' stamps
        try:
            instruction = self._cell.reset(episode.task, episode.seed, episode.distractors)
        except StageError as error:
            raise ConfigError(f"{episode.task} seed {episode.seed}: {error.sentence}") from error
        stages = build_stages(self._setup.settings, self._cell)
        mover = Mover(self._cell, episode.seed) if self._setup.disturb == "move" else None
        monitor = self._setup.monitor and self._setup.monitor(episode, instruction, self._cell, stages)
        watching = [watcher for watcher in (mover, monitor) if watcher is not None]
        self._cell.watchers = tuple(watcher.look for watcher in watching)

        def report(progress: Progress) -> None:
            for watcher in watching:
                watcher.report(progress)

        try:
            record = self._carry_out(episode, instruction, stages, report)
        finally:
            self._cell.watchers = ()
        if mover is not None:
            record = replace(record, disturbance=mover.said)
        if monitor is not None:
            monitor.conclude(record)
        return record

    def _carry_out(
        self, episode: EpisodeSpec, instruction: str, stages: LocalStages, report: Callable[[Progress], None]
    ) -> EpisodeRecord:
        start_ns = self._cell.time_ns
        result = run_task(stages, instruction, self._setup.settings.loop, CancelToken(), report, background=False)
        robot_s = (self._cell.time_ns - start_ns) / 1e9
        score = self._cell.score()
        return EpisodeRecord(
            task=episode.task,
            seed=episode.seed,
            instruction=instruction,
            outcome=result.outcome.code.name,
            sentence=result.outcome.sentence,
            judged=score.success,
            detail=score.detail,
            keyposes=len(result.keyposes),
            replans=result.replans,
            robot_s=robot_s,
            times_s={phase: round(s, 4) for phase, s in result.outcome.times_s.items()},
            plan_times_s=[round(s, 4) for s in result.state.plan_times_s],
            rlbench=score.rlbench,
            facts=dict(score.facts),
            distractors=episode.distractors,
        )
