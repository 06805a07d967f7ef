"""``stvla sft``: fine-tune a Qwen3-VL planner with LoRA, with the settings of a named experiment."""

from __future__ import annotations

import os
from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from stvla_ros.commands.arguments import MAX_SEED, Parser, whole
from stvla_ros.commands.evaluate_planner import positive
from stvla_ros.commands.exit_codes import INTERRUPTED
from stvla_ros.commands.progress import count_bar, figures_text, follow
from stvla_ros.config import ConfigError

if TYPE_CHECKING:
    from stvla_ros.train.run import TrainingProgress
    from stvla_ros.train.sft.experiments import SftExperiment
    from stvla_ros.train.sft.run import SftRun
    from stvla_ros.train.sft.start import SftFiles


def add_arguments(parser: Parser) -> None:
    parser.add_argument("experiment", nargs="?", metavar="EXPERIMENT", help="name of an experiment; none: list them")
    parser.add_argument("--model", metavar="DIR", help="the base model: folder of a Qwen3-VL checkpoint, or hub id")
    parser.add_argument("--data", type=Path, action="append", metavar="FILE", help="samples, .json(l); repeatable")
    parser.add_argument("--val", type=Path, metavar="FILE", help="samples to validate on; default: 2 %% of the data's")
    parser.add_argument("--adapter", type=Path, metavar="DIR", help="adapter of the previous stage, to continue with")
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="an existing run is resumed; default runs/sft-EXPERIMENT"
    )
    parser.add_argument("--steps", type=whole(1, 10**8), metavar="N", help="optimiser steps; default: the epochs'")
    parser.add_argument("--batch", type=whole(1, 4096), metavar="N", help="packed sequences per device and pass")
    parser.add_argument("--accumulate", type=whole(1, 4096), metavar="N", help="passes per step")
    parser.add_argument("--lr", type=positive, metavar="RATE", help="peak learning rate")
    parser.add_argument("--validate-every", type=whole(1, 10**8), metavar="N", help="steps between checkpoints")
    parser.add_argument("--keep", type=whole(1, 10**6), metavar="N", help="number of newest checkpoints to keep")
    parser.add_argument("--seed", type=whole(0, MAX_SEED), default=0, metavar="N", help="for order, LoRA, dropout")
    parser.add_argument("--workers", type=whole(0, 64), default=0, metavar="N", help="processes that prepare batches")
    parser.add_argument("--threads", type=whole(1, 256), metavar="N", help="CPU threads; default: all cores")


def run(arguments: Namespace) -> int:
    from stvla_ros.train.sft.experiments import experiment

    console = Console()
    if arguments.experiment is None:
        console.print(_experiments())
        return 0
    chosen = experiment(arguments.experiment)
    given = {name: getattr(arguments, name) for name in ("batch", "accumulate", "lr", "validate_every", "keep")}
    chosen = replace(chosen, **{name: value for name, value in given.items() if value is not None})
    if not arguments.data or not arguments.model:
        raise ConfigError("stvla sft: wanted --model DIR and --data FILE: docs/planner_training.md has both.")
    output = arguments.output or Path("runs") / f"sft-{chosen.name}"
    try:
        main = _train(arguments, chosen, output, console)
    except KeyboardInterrupt:
        console.print(
            f"Stopped. The same command with --output {output} resumes from the last checkpoint.", soft_wrap=True
        )
        return INTERRUPTED
    if main:
        console.print(f"{output}/adapter, best, curves.png, curves.csv", soft_wrap=True)
    return 0


def _train(arguments: Namespace, chosen: SftExperiment, output: Path, console: Console) -> bool:
    """True in the main process."""
    import torch

    from stvla_ros.train.sft.lora import parameter_counts
    from stvla_ros.train.sft.start import SftFiles, accelerator, end

    torch.set_num_threads(arguments.threads or os.cpu_count() or 1)
    processes = accelerator(chosen)
    console.quiet = not processes.is_main_process
    files = SftFiles(arguments.model, tuple(arguments.data), arguments.val, arguments.adapter, output)
    ready = _prepared(arguments, chosen, files, processes, console)
    trained, all_ = parameter_counts(ready.adapted)
    console.print(
        f"{chosen.name}: {trained / 1e6:.1f} of {all_ / 1e6:.1f} million parameters are trained, {ready.samples}",
        soft_wrap=True,
    )

    def sentence(progress: TrainingProgress) -> str:
        return f"step {progress.done}: validation {figures_text(progress)}"

    follow(ready, ready.steps, "{:.0f} tokens/s", sentence, console)
    del ready
    end(processes)
    return bool(processes.is_main_process)


def _prepared(
    arguments: Namespace, chosen: SftExperiment, files: SftFiles, processes: object, console: Console
) -> SftRun:
    from stvla_ros.train.sft.start import prepare

    with count_bar(console) as bar:
        line = bar.add_task("", total=None, figures="samples measured")

        def on_progress(done: int, total: int) -> None:
            bar.update(line, completed=done, total=total)

        return prepare(processes, chosen, files, arguments.steps, arguments.seed, arguments.workers, on_progress)


def _experiments() -> Table:
    from stvla_ros.train.sft.experiments import EXPERIMENTS

    columns = ("experiment", "rank", "alpha", "lr", "batch", "epochs", "tokens", "per image", "bf16")
    table = Table(*columns, box=None, padding=(0, 2, 0, 0))
    for e in EXPERIMENTS.values():
        cells = (
            e.rank,
            e.alpha,
            f"{e.lr:g}",
            f"{e.batch}x{e.accumulate}",
            e.epochs,
            e.max_tokens,
            e.image_tokens,
            e.bf16,
        )
        table.add_row(e.name, *map(str, cells))
    return table
