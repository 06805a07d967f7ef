"""``stvla import-lerobot`` (or ``stvla import lerobot``): a LeRobotDataset v3 as episodes, or as recordings."""

from __future__ import annotations

import argparse
from argparse import Namespace
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from rich.console import Console

from stvla_ros.commands.arguments import Parser, folder
from stvla_ros.commands.exit_codes import INTERRUPTED, NOT_CONFIRMED
from stvla_ros.commands.progress import count_bar
from stvla_ros.config import ConfigError
from stvla_ros.data.lerobot.features import STATE
from stvla_ros.data.lerobot.reader import LeRobotSet
from stvla_ros.data.lerobot.restore import Columns, Restorer
from stvla_ros.geometry import se3


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
    others.add_argument("--intrinsics", type=_numbers(4), metavar="FX,FY,CX,CY", help="of the camera, in pixels")
    others.add_argument(
        "--extrinsics",
        type=_numbers(7),
        metavar="X,Y,Z,QX,QY,QZ,QW",
        help="pose of the optical frame in the base frame",
    )


def _numbers(count: int) -> Callable[[str], list[float]]:
    """An argument type: numbers with commas between."""

    def parse(text: str) -> list[float]:
        try:
            values = [float(part) for part in text.split(",")]
        except ValueError:
            values = []
        if len(values) != count or not np.isfinite(values).all():
            raise argparse.ArgumentTypeError(f"wanted {count} numbers with commas between, got '{text}'")
        return values

    return parse


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
    K = T = None
    if arguments.intrinsics:
        fx, fy, cx, cy = arguments.intrinsics
        K = np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]])
    if arguments.extrinsics:
        try:
            T = se3.pose(se3.from_quaternion(arguments.extrinsics[3:]), arguments.extrinsics[:3])
        except ValueError as error:
            raise ConfigError(f"--extrinsics: {error}.") from error
    return Columns(arguments.color, arguments.depth, arguments.state, K, T)
