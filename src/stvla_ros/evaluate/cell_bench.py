"""Episodes in a simulated cell in this process: the loop with direct calls, no ROS."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from stvla_ros.config import ConfigError
from stvla_ros.errors import CancelToken, StageError
from stvla_ros.evaluate.episode import Episode, EpisodeRecord
from stvla_ros.evaluate.film import Film, FilmedCell
from stvla_ros.evaluate.mover import DISTURBANCES, Mover
from stvla_ros.evaluate.stack import StackSettings, build_stages
from stvla_ros.pipeline import LocalStages, Progress, run_task


@dataclass(frozen=True)
class CellBenchSetup:
    """Makes a :class:`CellBench` in a worker process.

    Attributes:
        settings: Of all stages and the cell.
        films: Folder for a film of each episode; None: no films.
        keep_successes: Keep films of successful episodes too.
        disturb: One of :data:`stvla_ros.evaluate.mover.DISTURBANCES`.
    """

    settings: StackSettings
    films: Path | None = None
    keep_successes: bool = False
    disturb: str = DISTURBANCES[0]

    @contextmanager
    def open(self) -> Iterator[CellBench]:
        """Raises ConfigError when the cell or a backend cannot be made."""
        cell = FilmedCell(self.settings.cell)
        try:
            yield CellBench(self, cell)
        finally:
            cell.close()


class CellBench:
    """Runs episodes one after another in one cell."""

    def __init__(self, setup: CellBenchSetup, cell: FilmedCell) -> None:
        self._setup, self._cell = setup, cell

    def run(self, episode: Episode) -> EpisodeRecord:
        """Lay out the scene, carry out its instruction, judge. Repeats exactly."""
        try:
            instruction = self._cell.reset(episode.task, episode.seed)
        except StageError as error:
            raise ConfigError(f"{episode.task} seed {episode.seed}: {error.sentence}") from error
        stages = build_stages(self._setup.settings, self._cell)
        self._cell.mover = Mover(self._cell, episode.seed) if self._setup.disturb == "move" else None
        if self._setup.films is None:
            return self._carry_out(episode, instruction, stages, lambda _: None)
        title = f"{instruction}   {episode.task} seed {episode.seed}"
        film = Film(self._setup.films / Path(episode.file_name).stem, title, self._cell, stages)
        self._cell.film = film
        try:
            record = self._carry_out(episode, instruction, stages, film.report)
        finally:
            self._cell.film = None
        film.conclude(record, self._setup.keep_successes)
        return record

    def _carry_out(
        self, episode: Episode, instruction: str, stages: LocalStages, report: Callable[[Progress], None]
    ) -> EpisodeRecord:
        start_ns, mover = self._cell.time_ns, self._cell.mover

        def tell(progress: Progress) -> None:
            if mover is not None:
                mover.report(progress)
            report(progress)

        result = run_task(stages, instruction, self._setup.settings.loop, CancelToken(), tell, background=False)
        self._cell.mover = None
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
            disturbance=mover.said if mover is not None else "",
        )
