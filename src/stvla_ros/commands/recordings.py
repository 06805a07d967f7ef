"""Opens what a command is given as a recording: a recording's folder, or a rosbag2."""

from __future__ import annotations

from argparse import Namespace, _ArgumentGroup
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import track

from stvla_ros.commands.arguments import Parser
from stvla_ros.config import ConfigError, build
from stvla_ros.data.bag_hints import BagHints, bag_hints, place_of
from stvla_ros.data.recording import Recording, is_bag
from stvla_ros.evaluate.stack import StackSettings

if TYPE_CHECKING:
    from stvla_ros.ros.bag_frames import BagRecording


def add_bag_arguments(parser: Parser) -> None:
    """What the operator can say about a bag: names of its topics, where its camera was, its lens."""
    group: _ArgumentGroup = parser.add_argument_group("a bag of another setup")
    group.add_argument(
        "--remap",
        action="append",
        default=[],
        metavar="OLD:=NEW",
        help="read the bag's topic OLD as NEW, one of camera.topics or robot; repeatable",
    )
    group.add_argument(
        "--extrinsics",
        metavar="POSE",
        help="where the camera was, in place of the bag's transforms: calibration.yaml, or x,y,z,qx,qy,qz,qw of the "
        "optical frame in the base frame [m]",
    )
    group.add_argument(
        "--intrinsics",
        default="",
        metavar="FILE",
        help="calibration of its lens, in place of the bag's: a camera_info file (YAML)",
    )


def hints_of(arguments: Namespace) -> BagHints:
    """The hints in the options of :func:`add_bag_arguments`. Raises ConfigError when one cannot be used."""
    place = place_of(arguments.extrinsics) if arguments.extrinsics else None
    return bag_hints(arguments.remap, place, arguments.intrinsics)


def open_recording(
    path: Path, settings: StackSettings, console: Console, hints: BagHints | None = None
) -> Recording | BagRecording:
    """Open a recording or a bag, and print notes about it.

    Args:
        path: A recording or a bag.
        settings: Names of the robot's joints and of the bag's topics.
        console: For notes, and a bar while a bag is read.
        hints: What the operator says about a bag.

    Raises:
        ConfigError: It is neither, or cannot be used; hints are given for a recording.
    """
    if not is_bag(path):
        if hints is not None and hints.any:
            raise ConfigError(f"{path}: --remap, --extrinsics and --intrinsics are for a rosbag2; this is none.")
        return Recording(path)
    from stvla_ros.ros.bag_frames import BagRecording
    from stvla_ros.ros.frames import CameraConfig

    topics = build(CameraConfig, settings.bag_topics, "camera.topics")
    bag = BagRecording(
        path,
        topics,
        settings.robot,
        lambda messages, count: track(messages, "reading", count, console=console, transient=True),
        hints,
    )
    for note in bag.notes:
        console.print(f"Note: {note}", soft_wrap=True, markup=False, highlight=False)
    return bag
