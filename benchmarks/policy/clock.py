"""Timing of several implementations in turn, so that other work on the machine meets all of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

import torch

Work = Callable[[], object]
Rows = Mapping[str, Work]


class Clock:
    """Milliseconds of a call: CPU time of this thread if it works alone, otherwise wall time."""

    def __init__(self, device: torch.device, threads: int) -> None:
        self.device, self.alone = device, device.type == "cpu" and threads == 1

    @property
    def name(self) -> str:
        return "CPU ms" if self.alone else "wall ms"

    def __call__(self, work: Work) -> float:
        read = time.thread_time if self.alone else time.perf_counter
        self._finish()
        start = read()
        work()
        self._finish()
        return 1e3 * (read() - start)

    def _finish(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def interleaved(sides: Mapping[str, Rows], clock: Clock, runs: int) -> dict[str, dict[str, float]]:
    """Median milliseconds per side and row, after one uncounted call of each."""
    took: dict[str, dict[str, list[float]]] = {side: {row: [] for row in rows} for side, rows in sides.items()}
    for _ in range(runs + 1):
        for row in dict.fromkeys(row for rows in sides.values() for row in rows):
            for side, rows in sides.items():
                if row in rows:
                    took[side][row].append(clock(rows[row]))
    return {side: {row: round(statistics.median(ms[1:]), 2) for row, ms in rows.items()} for side, rows in took.items()}
