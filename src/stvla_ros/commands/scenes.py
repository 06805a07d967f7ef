"""``stvla scenes``: render simulated scenes with true answers, to train and test small planners."""

from __future__ import annotations

import os
from argparse import Namespace
from pathlib import Path

from rich.console import Console

from stvla_ros.commands.arguments import Parser, whole
from stvla_ros.commands.exit_codes import INTERRUPTED
from stvla_ros.commands.progress import count_bar

SPLIT_NAMES = ("train", "val", "seen", "unseen")


def add_arguments(parser: Parser) -> None:
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="existing shards are kept")
    parser.add_argument(
        "--split", choices=SPLIT_NAMES, default="train", metavar="NAME", help="train, val, seen, unseen (docs/data.md)"
    )
    parser.add_argument("--count", type=whole(1, 10**6), default=4000, metavar="N", help="scenes; default 4000")
    parser.add_argument(
        "--st-human",
        type=Path,
        metavar="FILE",
        help="also write conversations in the format of ST-Human (.json, images next to it)",
    )
    parser.add_argument(
        "--seed", type=whole(0, 2**31), default=0, metavar="N", help="for the words of the conversations"
    )


def run(arguments: Namespace) -> int:
    os.environ.setdefault("LP_NUM_THREADS", "1")  # software rendering: small images gain nothing from more threads
    from stvla_ros.train.scenes.shards import render

    console = Console()
    try:
        with count_bar(console, "scenes") as bar:
            line = bar.add_task("", total=arguments.count)
            for done in render(arguments.output, arguments.split, arguments.count):
                bar.update(line, completed=min(done, arguments.count))
    except KeyboardInterrupt:
        console.print("Stopped. The same command resumes after the last complete shard.")
        return INTERRUPTED
    console.print(f"{arguments.output}: {arguments.count} scenes of '{arguments.split}'", soft_wrap=True, markup=False)
    if arguments.st_human is not None:
        _export(arguments, console)
    return 0


def _export(arguments: Namespace, console: Console) -> None:
    from stvla_ros.train.scenes.export import export
    from stvla_ros.train.scenes.shards import load

    scenes = load(arguments.output, arguments.split, arguments.count)
    with count_bar(console, "scenes") as bar:
        line = bar.add_task("", total=len(scenes))
        written = export(scenes, arguments.st_human, arguments.seed, lambda n: bar.update(line, completed=n))
    console.print(f"{arguments.st_human}: {written} conversations", soft_wrap=True, markup=False)
