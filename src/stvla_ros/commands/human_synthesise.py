"""``stvla human synthesise``: RGB-D videos of a simulated hand, with the truth about every frame."""

from __future__ import annotations

from argparse import Namespace
from collections import Counter
from dataclasses import asdict
from time import monotonic
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from stvla_ros.commands.arguments import (
    MAX_SEED,
    Parser,
    add_engine_arguments,
    add_look_argument,
    engine_of,
    folder,
    whole,
)
from stvla_ros.commands.exit_codes import INTERRUPTED, NOT_CONFIRMED
from stvla_ros.commands.progress import shown

if TYPE_CHECKING:
    from stvla_ros.evaluate.episode import EpisodeRecord


def add_arguments(parser: Parser) -> None:
    option = parser.add_argument
    option("--tasks", metavar="A,B", help="kinds of actions, by their templates; default: all that can be shown")
    option("--episodes", type=whole(1, 100_000), default=10, metavar="N", help="videos of each; default 10")
    option(
        "--output", type=folder, metavar="DIR", required=True, help="folder of the videos; an existing one is resumed"
    )
    option(
        "--seed0", type=whole(0, MAX_SEED), default=0, metavar="N", help="seed of the first video of each; default 0"
    )
    option("--noise", action="store_true", help="imperfect camera: depth noise, holes, exposure")
    add_look_argument(parser)
    option("--fps", type=whole(15, 30), default=20, metavar="N", help="frames per second; default 20")
    add_engine_arguments(parser, "one per core")


def run(arguments: Namespace) -> int:
    from stvla_ros.data.st_human.synthetic.batch import VideoMaker, check_kinds, videos_to_make
    from stvla_ros.data.st_human.synthetic.video import VideoSettings

    kinds = check_kinds(arguments.tasks)
    settings = VideoSettings(fps=arguments.fps, noise=arguments.noise, look=arguments.look)
    missing = videos_to_make(arguments.output, kinds, arguments.episodes, arguments.seed0, settings)
    total = len(kinds) * arguments.episodes
    engine, jobs = engine_of(arguments, asdict(settings), arguments.output)
    records: list[EpisodeRecord] = []
    begun = monotonic()
    try:
        records.extend(
            shown(engine(VideoMaker(arguments.output, settings), missing, jobs), total, "failed", total - len(missing))
        )
    except KeyboardInterrupt:
        Console().print("Stopped. The same command resumes here.")
        return INTERRUPTED
    bad = [record for record in records if not record.success]
    console = Console(soft_wrap=True, markup=False, highlight=False)
    for record in bad:
        console.print(record.sentence)
    hours = max(monotonic() - begun, 1e-9) / 3600
    made = Counter(record.task for record in records if record.success)
    table = Table("kind", "made now", "seconds of video")
    for kind in kinds:
        table.add_row(kind, f"{made[kind]}", f"{sum(r.robot_s for r in records if r.task == kind):.0f}")
    Console().print(table)
    console.print(
        f"{arguments.output}: {total - len(bad)} of {total} videos"
        + (f"; {sum(made.values()) / hours:.0f} an hour with {jobs} at a time." if made else ".")
    )
    return NOT_CONFIRMED if bad else 0
