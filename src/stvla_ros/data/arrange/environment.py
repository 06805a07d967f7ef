"""Episodes of the task ``arrange`` by an expert, in words of a grammar, with the physics' state at every frame."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stvla_ros.data.arrange.words import wording
from stvla_ros.data.collect_environment import CollectEnvironment, CollectEnvironmentSetup, LastFrameCell
from stvla_ros.errors import OutcomeCode
from stvla_ros.evaluate.episode import EpisodeRecord, EpisodeSpec
from stvla_ros.files import written
from stvla_ros.pipeline import LocalStages, Progress
from stvla_ros.sim.cell import Cell
from stvla_ros.sim.tasks.arrange import Arrange, laid
from stvla_ros.types import F64, RgbdFrame

TASK = "arrange"

SETTLE_S = 0.5
MOVED_M = 0.01
"""What is further than this from its place after :data:`SETTLE_S` was not laid out as it can stand."""

STREAM = 0xA33
"""Of random numbers, besides the scene's seed: words do not change the scene."""


class StateCell(LastFrameCell):
    """A cell that keeps the physics' state of each rendered frame, by its stamp."""

    states: dict[int, F64]

    def render(self, hidden: Collection[str] = (), ideal: bool = False) -> RgbdFrame:
        frame = super().render(hidden, ideal)
        self.states[frame.stamp_ns] = self.scene_state().physics
        return frame


@dataclass(frozen=True)
class ArrangeEnvironmentSetup:
    """Makes an :class:`ArrangeEnvironment` in a worker process.

    Attributes:
        collect: Settings, and the folder of episodes.
        states: Folder of the physics' states.
        held_out: Say the task in held-out words.
    """

    collect: CollectEnvironmentSetup
    states: Path
    held_out: bool

    @contextmanager
    def open(self) -> Iterator[ArrangeEnvironment]:
        """Raises ConfigError when the cell or a backend cannot be created."""
        cell = StateCell(self.collect.settings.cell)
        try:
            yield ArrangeEnvironment(self, cell)
        finally:
            cell.close()


class ArrangeEnvironment(CollectEnvironment):
    """Refuses scenes that are no task, has the expert carry out the others, and keeps what was judged successful."""

    def __init__(self, setup: ArrangeEnvironmentSetup, cell: StateCell) -> None:
        super().__init__(setup.collect, cell)
        self._states, self._held_out, self._watched = setup.states, setup.held_out, cell

    def _carry_out(
        self, episode: EpisodeSpec, instruction: str, stages: LocalStages, report: Callable[[Progress], None]
    ) -> EpisodeRecord:
        cell, task = self._watched, self._watched.task
        assert isinstance(task, Arrange)
        words = wording(task, np.random.default_rng([episode.seed, STREAM]), self._held_out)
        if sentence := unfit(cell, task):
            code = OutcomeCode.INVALID_GOAL.name
            return EpisodeRecord(episode.task, episode.seed, words, code, sentence, False, "The expert did not begin.")
        cell.states = {}
        record = super()._carry_out(episode, words, stages, report)
        if record.success:
            self._states.mkdir(parents=True, exist_ok=True)
            with written((self._states / episode.file_name).with_suffix(".npz")) as part, part.open("wb") as file:
                stamps = np.array(list(cell.states), np.int64)
                np.savez_compressed(file, stamp_ns=stamps, physics=np.stack(list(cell.states.values())))
        return record


def unfit(cell: Cell, task: Arrange) -> str:
    """Why a scene that was just laid out is no task; empty if it is one. The cell's time goes on."""
    cell.advance(SETTLE_S)
    poses = cell.truth().T_base_object
    for item in (task.moved, *task.references):
        moved_m = float(np.linalg.norm(poses[item.name][:3, 3] - laid(item)[:3, 3]))
        if moved_m > MOVED_M:
            return f"The {item.name.replace('_', ' ')} does not stand where it was laid out: it moved {1000 * moved_m:.0f} mm."
    return "The goal is reached before the expert begins." if task.holds(poses) else ""
