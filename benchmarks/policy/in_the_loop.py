"""CPU time of each stage of the learned stack in the loop, one thread, while it carries out tasks in the cell.

    .venv/bin/python -m benchmarks.policy.in_the_loop

Planner ``heatmap`` and policy ``3dfa`` with the package's weights. Rendering is not counted: a robot has a camera.
"""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from typing import Any

import torch

from stvla_ros.errors import CancelToken
from stvla_ros.evaluate.stack import PARTS, make_executor, make_guide, make_planner, make_policy, read_settings
from stvla_ros.pipeline import LocalStages, run_task
from stvla_ros.robot.sim import SimCamera, SimRobot
from stvla_ros.sim.cell import Cell

TASKS = ("pick_place", "stack_cube", "push_buttons")
SEEDS = (20_000, 20_001)


class Timed:
    """A stage whose calls are timed.

    Args:
        stage: Does the work.
        times_s: Gets the seconds of each call by the method's name.
    """

    def __init__(self, stage: Any, times_s: dict[str, list[float]]) -> None:
        self._stage, self._times_s = stage, times_s

    def __getattr__(self, verb: str) -> Any:
        def call(*arguments: Any) -> Any:
            begun = time.thread_time()
            try:
                return getattr(self._stage, verb)(*arguments)
            finally:
                self._times_s[verb].append(time.thread_time() - begun)

        return call


def main() -> None:
    torch.set_num_threads(1)
    settings = read_settings(None, {"planner": "heatmap", "policy": "3dfa"}, (), PARTS)
    cell, times_s = Cell(settings.cell), defaultdict[str, list[float]](list)
    for seed in SEEDS:
        for task in TASKS:
            words, robot = cell.reset(task, seed), SimRobot(cell)
            planner, guide, policy = (
                Timed(make(settings), times_s) for make in (make_planner, make_guide, make_policy)
            )
            stages = LocalStages(SimCamera(cell), robot, planner, guide, policy, make_executor(settings, robot))
            run_task(stages, words, settings.loop, CancelToken(), background=False)
    for verb, seconds in times_s.items():
        p50, p95 = statistics.median(seconds), sorted(seconds)[int(0.95 * len(seconds))]
        print(f"{verb:8} {len(seconds):3} calls, CPU ms p50 {1000 * p50:.0f}, p95 {1000 * p95:.0f}")


if __name__ == "__main__":
    main()
