"""``stvla train-pss`` (also ``stvla train pss``): compare the gradients of two losses over a run's checkpoints."""

from __future__ import annotations

import argparse
from argparse import Namespace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from stvla_ros.commands.arguments import MAX_SEED, Parser, add_override_argument, whole
from stvla_ros.config import ConfigError, lookup


def add_arguments(parser: Parser) -> None:
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of a run, or of a Qwen3-VL checkpoint")
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        metavar="PATH",
        help="episodes, scenes or samples, as the run was trained on",
    )
    parser.add_argument("--losses", type=_two, metavar="A,B", help="names of two losses; default: the run's first two")
    parser.add_argument(
        "--weight", metavar="NAME", help="weight to compare gradients of, NAME or NAME[BEGIN:END]; default: the model's"
    )
    parser.add_argument(
        "--energy", type=_energies, metavar="E,...", help="shares of energy that decide the ranks; default 0.5,0.9,0.99"
    )
    parser.add_argument(
        "--samples", type=whole(2, 10**5), default=64, metavar="N", help="samples per batch, two batches; default 64"
    )
    parser.add_argument("--output", type=Path, metavar="DIR", help="where results go; default: RUN")
    parser.add_argument("--seed", type=whole(0, MAX_SEED), default=0, metavar="N", help="for samples, noise, shuffling")
    parser.add_argument("--threads", type=whole(1, 256), default=1, metavar="N", help="CPU threads; default 1")
    parser.add_argument(
        "--params", type=Path, metavar="FILE", help="policies: parameter file with settings of guidance"
    )
    add_override_argument(parser)


def run(arguments: Namespace) -> int:
    import torch

    from stvla_ros.evaluate.stack import read_settings
    from stvla_ros.train.pss.probe import ENERGIES, ProbedWeight, measure
    from stvla_ros.train.pss.report import HEADINGS, PssCurve
    from stvla_ros.train.pss.runs import open_run

    torch.set_num_threads(arguments.threads)
    settings = read_settings(arguments.params, overrides=dict(arguments.overrides), parts=("segmenter", "guide"))
    probed = open_run(arguments.run, arguments.data, arguments.samples, settings, arguments.seed)
    first, second = arguments.losses or _first_two(probed.losses)
    measured, weight = {}, None
    console = Console()
    for checkpoint in probed.checkpoints:
        network, losses = checkpoint.load()
        one, other = (lookup(losses, name, "loss") for name in (first, second))
        if weight is None:
            name = arguments.weight or probed.weight(network, first, second)
            if name is None:
                raise ConfigError(f"pss: '{first}' and '{second}' have no default weight: choose one with --weight.")
            weight = ProbedWeight.parse(name)
            console.print(f"gradients of {weight}", soft_wrap=True, markup=False)
        measured[checkpoint.done] = measure(network, weight, one, other, arguments.energy or ENERGIES)
    curve = PssCurve((first, second), str(weight), arguments.samples, arguments.seed, measured)
    stem = (arguments.output or arguments.run) / f"pss-{first}-{second}"
    curve.write(stem.with_suffix(".json"))
    curve.draw(stem.with_suffix(".png"))
    title = f"PSS of {first} and {second}, {curve.size} dimensions"
    table = Table(*HEADINGS, title=title, title_justify="left", box=None, padding=(0, 1, 0, 0))
    for row in curve.table():
        table.add_row(*row)
    console.print(table)
    console.print(f"{stem}.json, {stem.name}.png", soft_wrap=True, markup=False)
    return 0


def _first_two(names: tuple[str, ...]) -> tuple[str, str]:
    if len(names) < 2:
        raise ConfigError(f"pss: wanted data for two losses, found '{names[0]}' only; --losses A,A gives its ceiling.")
    return names[0], names[1]


def _two(text: str) -> tuple[str, str]:
    names = tuple(name.strip() for name in text.split(","))
    if len(names) != 2 or not all(names):
        raise argparse.ArgumentTypeError(f"wanted two names, as in position,rotation, got '{text}'")
    return names[0], names[1]


def _energies(text: str) -> tuple[float, ...]:
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if not values or not all(0 < value <= 1 for value in values):
        raise argparse.ArgumentTypeError(f"wanted shares above 0, at most 1, as in 0.5,0.9, got '{text}'")
    return values
