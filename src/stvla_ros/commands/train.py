"""``stvla train``: train a policy on collected episodes, with the settings of a named experiment."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from stvla_ros.commands.arguments import MAX_SEED, Parser, add_override_argument, folder, whole
from stvla_ros.commands.exit_codes import INTERRUPTED
from stvla_ros.commands.progress import count_bar, follow
from stvla_ros.config import ConfigError, lookup

if TYPE_CHECKING:
    from stvla_ros.data.episode import Episode
    from stvla_ros.evaluate.stack import StackSettings
    from stvla_ros.train.policy.experiments import Experiment
    from stvla_ros.train.policy.samples import Samples
    from stvla_ros.train.run import TrainingProgress, TrainingRun
    from stvla_ros.train.st4vla.experiments import St4VlaExperiment

VALIDATION_SHARE = 0.06


def add_arguments(parser: Parser) -> None:
    parser.add_argument("experiment", nargs="?", metavar="EXPERIMENT", help="name of an experiment; none: list them")
    parser.add_argument(
        "--data",
        type=Path,
        action="append",
        metavar="DIR",
        help="episodes (stvla collect) or published data; repeatable",
    )
    parser.add_argument(
        "--val",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="episodes to validate on, repeatable; default: 6 %% of the data's",
    )
    parser.add_argument(
        "--output", type=folder, metavar="DIR", help="an existing run is resumed; default runs/EXPERIMENT"
    )
    parser.add_argument("--steps", type=whole(1, 10**8), metavar="N", help="optimiser steps; default: the experiment's")
    parser.add_argument(
        "--batch", type=whole(1, 4096), metavar="N", help="observations per step; default: the experiment's"
    )
    parser.add_argument(
        "--seed", type=whole(0, MAX_SEED), default=0, metavar="N", help="for batches, noise, augmentation"
    )
    parser.add_argument(
        "--device", default="auto", metavar="NAME", help="auto (a GPU where there is one), cpu, cuda, cuda:N"
    )
    parser.add_argument(
        "--initial",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="initial weights: CLIP RN50, CLIP's text tower, or another policy, repeatable; for st4vla the VLM's folder",
    )
    parser.add_argument(
        "--tokenizer", default="", metavar="DIR", help="CLIP's tokenizer, for experiments with CLIP: folder or hub id"
    )
    parser.add_argument(
        "--instructions",
        type=Path,
        metavar="FILE",
        help="sentences of published data: JSON {task: {variation: [sentences]}}",
    )
    parser.add_argument(
        "--grounding",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="st4vla: conversations about images, .json(l), learned beside the actions; repeatable",
    )
    parser.add_argument("--camera", default="front", metavar="NAME", help="camera of published data; default front")
    parser.add_argument("--keep", action="store_true", help="keep the weights of every validation (`stvla train pss`)")
    parser.add_argument("--threads", type=whole(1, 256), metavar="N", help="CPU threads; default: all cores")
    parser.add_argument("--params", type=Path, metavar="FILE", help="parameter file with settings of guidance")
    add_override_argument(parser)


def run(arguments: Namespace) -> int:
    console = Console()
    if arguments.experiment is None:
        console.print(_experiments())
        return 0
    from stvla_ros.train.policy.experiments import EXPERIMENTS, Experiment
    from stvla_ros.train.st4vla.experiments import EXPERIMENTS as ST4VLA

    table: dict[str, Experiment | St4VlaExperiment] = {**EXPERIMENTS, **ST4VLA}
    chosen = lookup(table, arguments.experiment, "experiment")
    chosen = replace(chosen, steps=arguments.steps or chosen.steps, batch=arguments.batch or chosen.batch)
    if not arguments.data:
        raise ConfigError("stvla train: wanted --data with a folder of episodes: `stvla collect` makes one.")
    settings = _settings(arguments, chosen.guidance)
    output = arguments.output or Path("runs") / chosen.name
    try:
        if isinstance(chosen, Experiment):
            _train(arguments, chosen, settings, output, console)
        else:
            from stvla_ros.commands.train_st4vla import train

            train(arguments, chosen, settings, output, console)
    except KeyboardInterrupt:
        console.print(
            f"Stopped. The same command with --output {output} resumes from the last validation.", soft_wrap=True
        )
        return INTERRUPTED
    suffix = ".safetensors" if isinstance(chosen, Experiment) else ""
    console.print(f"{output}/best{suffix}, last{suffix}, curves.png, curves.csv", soft_wrap=True)
    return 0


def _settings(arguments: Namespace, mode: str) -> StackSettings:
    """Settings of guidance, in the experiment's mode."""
    from stvla_ros.evaluate.stack import read_settings

    overrides = dict(arguments.overrides)
    settings = read_settings(arguments.params, overrides=overrides, parts=("segmenter", "guide"))
    if "guidance.mode" in overrides:
        raise ConfigError(f"guidance.mode: the experiment sets it ('{mode}'): leave it out.")
    return replace(settings, guide=replace(settings.guide, mode=mode))


def _train(arguments: Namespace, chosen: Experiment, settings: StackSettings, output: Path, console: Console) -> None:
    import torch

    from stvla_ros.data.published import FRAME, is_published
    from stvla_ros.policy.learned import choose_device
    from stvla_ros.policy.text_input import for_policy
    from stvla_ros.train.policy.run import PolicyRun
    from stvla_ros.train.policy.start import untrained

    if arguments.grounding:
        raise ConfigError(f"--grounding: is for the experiments of ST4VLA, and '{chosen.name}' has no language model.")
    threads = arguments.threads or os.cpu_count() or 1
    torch.set_num_threads(threads)
    device = choose_device(arguments.device)
    train, val = _samples(arguments, chosen, settings, output, threads, console)
    start = untrained(chosen, train, arguments.initial, arguments.tokenizer, arguments.seed)
    if any(map(is_published, arguments.data)):
        start = replace(start, frame=FRAME, cameras=(arguments.camera,))
    console.print(f"{chosen.name}: {len(train)} training samples, {len(val)} for validation", soft_wrap=True)
    text = for_policy(start, arguments.tokenizer)
    run = PolicyRun(chosen, start, text, train, val, output, device, arguments.seed)
    run.keep = arguments.keep
    follow_steps(run, chosen.steps, "total", "{:.0f} samples/s", console)


def follow_steps(run: TrainingRun, steps: int, loss: str, rate: str, console: Console) -> None:
    """Train to the end, and say after each validation how large its loss of this name is and how far positions are off."""

    def sentence(progress: TrainingProgress) -> str:
        v = progress.validation
        return (
            f"step {progress.done}: validation loss {v[loss]:.3f}, position {v['median_mm']:.1f} mm (median), "
            f"{100 * v['within_1cm']:.0f} % within 1 cm"
        )

    follow(run, steps, rate, sentence, console)


def _samples(
    arguments: Namespace, chosen: Experiment, settings: StackSettings, output: Path, jobs: int, console: Console
) -> tuple[Samples, Samples]:
    """Training and validation samples; episodes that are not cached yet go through guidance."""
    from stvla_ros.data.published import is_published, load_published
    from stvla_ros.train.policy.samples import Samples, load_samples

    if any(map(is_published, arguments.data)):
        _check_published(chosen)
        how = (arguments.instructions, arguments.camera, chosen.network.image_px, round(1 / VALIDATION_SHARE))
        train_arrays, val_arrays = load_published(arguments.data, arguments.val, *how)
        return Samples(*train_arrays), Samples(*val_arrays)
    if arguments.instructions is not None:
        raise ConfigError("--instructions: is for published data; episodes of `stvla collect` carry their own.")
    train, val = split(arguments.data, arguments.val)
    with count_bar(console) as bar:
        line = bar.add_task("", total=len(train) + len(val), figures="episodes guided")
        cached = (settings, chosen.network.image_px, output / "samples", jobs, lambda n: bar.update(line, advance=n))
        return load_samples(train, *cached, chosen.path_noise), load_samples(val, *cached)


def _check_published(chosen: Experiment) -> None:
    """Raise ConfigError for an experiment that learns from guided images: published data cannot be guided."""
    from stvla_ros.train.policy.experiments import EXPERIMENTS

    if chosen.guidance != "off":
        plain = next(name for name, e in EXPERIMENTS.items() if (e.guidance, e.network) == ("off", chosen.network))
        raise ConfigError(
            f"stvla train: published data have no path drawn on their images, which '{chosen.name}' learns from: train "
            f"'{plain}'."
        )


def split(data: Sequence[Path], validation: Sequence[Path]) -> tuple[list[Episode], list[Episode]]:
    """Episodes to train and to validate on. None is in both, even if folders are given twice.

    Args:
        data: Folders with episodes.
        validation: Folders with episodes to validate on; none: a share of ``data``.

    Raises:
        ConfigError: No episode is left to train on.
    """
    from stvla_ros.data.episode import find_episodes

    found, held_out = (
        {episode.folder.resolve(): episode for place in places for episode in find_episodes(place)}
        for places in (data, validation)
    )
    if not validation:
        held_out = {place: found[place] for place in list(found)[:: round(1 / VALIDATION_SHARE)]}
    train = [episode for place, episode in found.items() if place not in held_out]
    if not train:
        raise ConfigError(
            "stvla train: no episode is left to train on: wanted some that are not in --val, or at least two without it."
        )
    return train, list(held_out.values())


def _experiments() -> Table:
    from stvla_ros.train.policy.experiments import EXPERIMENTS
    from stvla_ros.train.st4vla.experiments import EXPERIMENTS as ST4VLA

    table = Table("experiment", "denoiser", "px", "encoders", "images", "steps", "batch", box=None)
    table.columns[0].no_wrap = True
    for e in EXPERIMENTS.values():
        n = e.network
        encoders = f"{n.visual}, {n.text}"
        table.add_row(
            e.name, f"{n.denoiser} {n.steps}", str(n.image_px), encoders, e.guidance, str(e.steps), str(e.batch)
        )
    for s in ST4VLA.values():
        x = s.expert
        encoders = f"{'nano ' if s.nano else ''}Qwen-VL"
        table.add_row(s.name, f"{x.head} {x.sampling_steps}", "VLM's", encoders, s.guidance, str(s.steps), str(s.batch))
    return table
