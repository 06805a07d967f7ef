"""Moves a thing in the middle of an episode, at a moment and to a place that the seed decides."""

from __future__ import annotations

import numpy as np

from stvla_ros.pipeline import Progress
from stvla_ros.sim.cell import Cell
from stvla_ros.sim.disturbance import carry_off, draw_shift

DISTURBANCES = ("none", "move")
STREAM = 0xD15


class Mover:
    """Waits for its moment in one episode.

    Attributes:
        said: What was done, one sentence.
    """

    def __init__(self, cell: Cell, seed: int) -> None:
        self._cell = cell
        self._rng = np.random.default_rng([seed, STREAM])
        self._shift = draw_shift(self._rng)
        self._due_ns: int | None = None
        self.said = "Nothing was moved: the task ended before."
        self._done = False

    def report(self, progress: Progress) -> None:
        """For :func:`stvla_ros.pipeline.run_task`: the keyposes so far."""
        if self._due_ns is None and progress.step >= self._shift.after_keyposes:
            self._due_ns = self._cell.time_ns + round(1e9 * self._shift.delay_s)

    def look(self) -> None:
        """Time has gone on: move the thing when its moment has come."""
        if self._done or self._due_ns is None or self._cell.time_ns < self._due_ns:
            return
        self._done = True
        task = self._cell.task
        assert task is not None
        self.said = carry_off(self._cell, task, self._shift.which, self._rng)
