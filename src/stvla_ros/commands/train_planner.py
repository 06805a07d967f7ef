"""``stvla train-planner``: train one of the project's small planners on rendered scenes."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from stvla_ros.commands.arguments import MAX_SEED, Parser, whole
from stvla_ros.commands.exit_codes import INTERRUPTED
from stvla_ros.commands.progress import figures_text, follow
from stvla_ros.config import ConfigError

if TYPE_CHECKING:
    from stvla_ros.train.heatmap.run import HeatmapRun
    from stvla_ros.train.nano.run import NanoRun
    from stvla_ros.train.run import TrainingProgress
    from stvla_ros.train.scenes.shards import Scenes

MODELS = ("heatmap", "nano")
VALIDATION_SPLITS = ("val", "seen", "unseen")
"""Splits to validate on, if the folder has them."""


def add_arguments(parser: Parser) -> None:
    parser.add_argument("model", choices=MODELS, metavar="heatmap|nano", help="which small planner (docs/planners.md)")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="scenes (stvla scenes): train and val")
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="an existing run is resumed; default runs/planner-MODEL"
    )
    parser.add_argument(
        "--scenes", type=whole(16, 10**8), metavar="N", help="scenes to train on, in all; default: the model's"
    )
    parser.add_argument(
        "--pointing", type=whole(0, 10**8), metavar="N", help="nano: the first N scenes have pointing questions only"
    )
    parser.add_argument(
        "--all-colours",
        action="store_true",
        help="heatmap: tasks name all 20 colours and 9 items; then the split unseen measures nothing",
    )
    parser.add_argument("--keep", action="store_true", help="keep the weights of every validation (`stvla train pss`)")
    parser.add_argument("--threads", type=whole(1, 256), default=1, metavar="N", help="CPU threads; default 1")
    parser.add_argument("--seed", type=whole(0, MAX_SEED), default=0, metavar="N", help="for weights and batches")


def run(arguments: Namespace) -> int:
    import torch

    torch.set_num_threads(arguments.threads)
    console = Console(quiet=os.environ.get("RANK", "0") != "0")  # set by torchrun
    folder: Path = arguments.output or Path("runs") / f"planner-{arguments.model}"
    training = _run(arguments, folder)
    training.keep = arguments.keep
    try:
        follow(training, training.experiment.scenes, "{:.1f} scenes/s", _sentence, console)
    except KeyboardInterrupt:
        console.print(f"Stopped. The same command with --output {folder} resumes from the last validation.")
        return INTERRUPTED
    console.print(f"{folder}: weights, curves.png, curves.csv", soft_wrap=True, markup=False)
    return 0


def _run(arguments: Namespace, folder: Path) -> HeatmapRun | NanoRun:
    from dataclasses import replace

    from stvla_ros.train.scenes.shards import load

    def train() -> Scenes:
        return load(arguments.data, "train")

    val = _validation_scenes(arguments.data)
    if arguments.model == "heatmap":
        from stvla_ros.train.heatmap.run import HeatmapExperiment, HeatmapRun

        if os.environ.get("WORLD_SIZE", "1") != "1":
            raise ConfigError(
                "heatmap: trains in one process, but torchrun started several: only nano can share a run."
            )
        plain = HeatmapExperiment(all_colours=arguments.all_colours)
        plain = replace(plain, scenes=arguments.scenes or plain.scenes)
        return HeatmapRun(plain, train, val, folder, arguments.seed)
    from stvla_ros.train.nano.run import NanoExperiment, NanoRun

    recipe = NanoExperiment()
    pointing = recipe.pointing if arguments.pointing is None else arguments.pointing
    return NanoRun(
        replace(recipe, scenes=arguments.scenes or recipe.scenes, pointing=pointing), train, val, folder, arguments.seed
    )


def _validation_scenes(data: Path) -> Mapping[str, Scenes]:
    """Validation scenes by split; ``val`` must exist: its figures are saved with the weights."""
    from stvla_ros.train.scenes.shards import load

    there = [split for split in reversed(VALIDATION_SPLITS) if split == "val" or any(data.glob(f"{split}-*.npz"))]
    return {split: load(data, split, 100) for split in there}


def _sentence(progress: TrainingProgress) -> str:
    return f"{progress.done} scenes: {figures_text(progress)}"
