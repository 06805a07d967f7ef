"""``stvla import-lerobot`` (or ``stvla import lerobot``): a LeRobotDataset v3 as episodes, or as recordings."""

from __future__ import annotations

from argparse import Namespace
from collections import Counter
from pathlib import Path

from rich.console import Console

from stvla_ros.camera.lens import lens_of
from stvla_ros.commands.arguments import Parser, folder
from stvla_ros.commands.exit_codes import INTERRUPTED, NOT_CONFIRMED
from stvla_ros.commands.progress import count_bar
from stvla_ros.commands.recordings import add_camera_arguments, place_given
from stvla_ros.config import ConfigError
from stvla_ros.data.lerobot.features import STATE
from stvla_ros.data.lerobot.reader import LeRobotSet
from stvla_ros.data.lerobot.restore import Columns, Restorer


def add_arguments(parser: Parser) -> None:
    parser.add_argument("source", type=Path, metavar="DIR", help="the set (the folder with meta/info.json)")
    parser.add_argument(
        "--output", type=folder, metavar="FOLDER", required=True, help="gets episodes/ and recordings/; resumed"
    )
    others = parser.add_argument_group("a set of others")
    others.add_argument(
        "--color", default="", metavar="NAME", help="feature with the camera's images; default: the only one"
    )
    others.add_argument(
        "--depth", default="", metavar="NAME", help="feature with depth aligned to it; default: the only one"
    )
    others.add_argument(
        "--state", default=STATE, metavar="NAME", help=f"feature with 7 joints [rad] and fingers [m]; default {STATE}"
    )
    add_camera_arguments(others, "where the set has none")


def run(arguments: Namespace) -> int:
    console, source = Console(), LeRobotSet(arguments.source)
    restorer = Restorer(source, _columns(arguments), arguments.output)
    counts: Counter[str] = Counter()
    refused = 0
    try:
        with count_bar(console, "frames imported") as bar:
            line = bar.add_task("", total=sum(episode.length for episode in source.episodes))
            for episode in source.episodes:
                try:
                    counts[restorer.restore(episode).parent.name] += 1
                except ConfigError as error:
                    refused += 1
                    bar.console.print(f"Left out: {error}", soft_wrap=True, markup=False, highlight=False)
                bar.advance(line, episode.length)
    except KeyboardInterrupt:
        console.print("Stopped. The same command resumes here.")
        return INTERRUPTED
    made = ", ".join(f"{count} in {kind}/" for kind, count in sorted(counts.items())) or "nothing"
    console.print(f"{arguments.output}: {made}.", soft_wrap=True, markup=False)
    if counts["recordings"]:
        console.print(
            f"They have no plans yet: stvla collect --from {arguments.output}/recordings --output DIR.",
            soft_wrap=True,
            markup=False,
        )
    return NOT_CONFIRMED if refused else 0


def _columns(arguments: Namespace) -> Columns:
    place = place_given(arguments)
    return Columns(
        arguments.color,
        arguments.depth,
        arguments.state,
        lens_of(arguments.intrinsics) if arguments.intrinsics else None,
        place.T_base_camera() if place else None,
    )
