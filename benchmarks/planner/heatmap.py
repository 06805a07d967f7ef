"""Figures of weights of the heatmap planner on rendered scenes (`stvla scenes`), by split and task. The last line is
JSON.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from stvla_ros.planning.heatmap.weights_file import load as load_weights
from stvla_ros.train.heatmap.validation import answers, summary
from stvla_ros.train.scenes.shards import Scenes, load

COLUMNS = {
    "pointing, median": ("point_median", "{:.1f}"), "< 15 [%]": ("point_15", "{:.0%}"),
    "path RMSE, median": ("path_rmse_median", "{:.1f}"), "mean": ("path_rmse_mean", "{:.0f}"),
    "paths [%]": ("paths", "{:.0%}"), "refused [%]": ("refused", "{:.0%}"), "depth MAD [cm]": ("depth_mad_cm", "{:.1f}"),
    "steps [%]": ("step_accuracy", "{:.0%}"), "meaning [%]": ("meaning", "{:.0%}"),
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.planner.heatmap", description=__doc__)
    parser.add_argument("weights", type=Path, help="a file of `stvla train-planner heatmap`")
    parser.add_argument("--data", type=Path, required=True, help="folder of `stvla scenes`")
    parser.add_argument("--splits", type=lambda text: text.split(","), default=["val", "seen", "unseen"])
    parser.add_argument("--count", type=int, default=300, help="scenes of each split; default 300")
    options = parser.parse_args()
    torch.set_num_threads(1)
    grounder, found = load_weights(options.weights), {}
    for split in options.splits:
        scenes = load(options.data, split, options.count)
        of = answers(grounder, scenes, range(len(scenes)))
        found[split] = {
            task: {"scenes": len(chosen), **summary([of[i] for i in chosen])}
            for task, chosen in by_task(scenes).items()
        }
    Console(width=120).print(table(options.weights, found))
    print(json.dumps({"benchmark": "heatmap", "weights": str(options.weights), "found": found}))


def by_task(scenes: Scenes) -> dict[str, list[int]]:
    """Indices of the scenes: all, and those of each task."""
    of: dict[str, list[int]] = {"all": list(range(len(scenes)))}
    tasks: dict[str, list[int]] = defaultdict(list)
    for index in range(len(scenes)):
        goal = scenes.goal(index)
        tasks[goal.names[0].kind if goal.action == "screw" else goal.action].append(index)
    return of | dict(sorted(tasks.items()))


def table(weights: Path, found: dict[str, dict[str, dict[str, float]]]) -> Table:
    """For people."""
    shown = Table(title=f"{weights}: errors in 1/1000 of the image", title_justify="left")
    for heading in ("split", "task", "scenes", *COLUMNS):
        shown.add_column(heading, justify="left" if heading in ("split", "task") else "right")
    for split, tasks in found.items():
        for task, row in tasks.items():
            shown.add_row(split, task, str(row["scenes"]), *(form.format(row[name]) for name, form in COLUMNS.values()))
    return shown


if __name__ == "__main__":
    main()
