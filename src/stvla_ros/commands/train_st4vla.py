"""``stvla train`` for the experiments of ST4VLA."""

from __future__ import annotations

import os
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from stvla_ros.commands.progress import count_bar
from stvla_ros.commands.train import follow_steps, split
from stvla_ros.config import ConfigError

if TYPE_CHECKING:
    from stvla_ros.evaluate.stack import StackSettings
    from stvla_ros.train.st4vla.experiments import St4VlaExperiment


def train(
    arguments: Namespace, chosen: St4VlaExperiment, settings: StackSettings, output: Path, console: Console
) -> None:
    """Train a model of ST4VLA.

    Args:
        arguments: Of ``stvla train``.
        chosen: The experiment.
        settings: Of guidance.
        output: Folder of the run.
        console: Where to print.

    Raises:
        ConfigError: An option is for other experiments, or a file is wrong.
    """
    import torch

    from stvla_ros.policy.learned import choose_device
    from stvla_ros.train.st4vla.run import St4VlaRun
    from stvla_ros.train.st4vla.samples import load_chunks
    from stvla_ros.train.st4vla.start import base_vlm, grounding, untrained

    _check(arguments, chosen)
    threads = arguments.threads or os.cpu_count() or 1
    torch.set_num_threads(threads)
    device = choose_device(arguments.device)
    vlm, processor = base_vlm(chosen, arguments.initial[0] if arguments.initial else None, arguments.seed)
    parts = split(arguments.data, arguments.val)
    with count_bar(console) as bar:
        line = bar.add_task("", total=sum(map(len, parts)), figures="episodes guided")
        cached = (settings, processor.images, chosen.expert.chunk, output / "samples", threads)
        samples, val = (load_chunks(part, *cached, lambda n: bar.update(line, advance=n)) for part in parts)
    asked = None
    if arguments.grounding:
        asked = grounding(chosen, vlm, processor, arguments.grounding, output, arguments.seed)
    said = f"{len(samples)} training samples, {len(val)} for validation, "
    said += f"conversations: {asked.samples}" if asked else "no conversations (--grounding): the VLM may forget them"
    console.print(f"{chosen.name}: {said}", soft_wrap=True, markup=False)
    start = untrained(chosen, vlm, processor, samples, arguments.seed)
    run = St4VlaRun(chosen, start, samples, val, asked, output, device, arguments.seed)
    run.keep = arguments.keep
    follow_steps(run, chosen.steps, "action", "{:.1f} samples/s", console)


def _check(arguments: Namespace, chosen: St4VlaExperiment) -> None:
    """Raise ConfigError for options of other experiments."""
    from stvla_ros.data.published import is_published

    for name in ("tokenizer", "instructions"):
        if getattr(arguments, name):
            raise ConfigError(f"--{name}: is not for '{chosen.name}', whose VLM has its own: leave it out.")
    if len(arguments.initial) > 1:
        raise ConfigError(f"--initial: '{chosen.name}' begins with one VLM, got {len(arguments.initial)} folders.")
    if any(map(is_published, arguments.data)):
        raise ConfigError(
            f"stvla train: '{chosen.name}' is trained on episodes of `stvla collect`, not on published data."
        )
