"""Finds and opens what a command is given as recordings: a recording's folder, a rosbag2, or a folder of them."""

from __future__ import annotations

from argparse import Namespace, _ArgumentGroup
from pathlib import Path
from typing import TYPE_CHECKING, cast

from rich.console import Console
from rich.progress import track

from stvla_ros.camera.place import PlaceConfig, place_of
from stvla_ros.commands.arguments import Parser
from stvla_ros.config import ConfigError, build
from stvla_ros.data.bag_hints import BagHints, bag_hints
from stvla_ros.data.recording import BAG_FILES, INDEX, Recording, is_bag

if TYPE_CHECKING:
    from stvla_ros.data.demonstration import DecidedTask
    from stvla_ros.evaluate.stack import StackSettings
    from stvla_ros.ros.bag_frames import BagRecording, Follow


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
    add_camera_arguments(group, "in place of the bag's")


def add_camera_arguments(group: _ArgumentGroup, when: str) -> None:
    """The camera's pose and lens; ``when``: what they are used instead of."""
    group.add_argument(
        "--extrinsics",
        metavar="POSE",
        help=f"pose of the optical frame in the base frame, {when}: calibration.yaml, or x,y,z,qx,qy,qz,qw [m]",
    )
    group.add_argument(
        "--intrinsics",
        default="",
        metavar="LENS",
        help=f"the camera's lens, {when}: a camera_info file (YAML), or fx,fy,cx,cy [px]",
    )


def place_given(arguments: Namespace) -> PlaceConfig | None:
    """The pose in ``--extrinsics``; None: not given. Raises ConfigError when it cannot be used."""
    return place_of(arguments.extrinsics) if arguments.extrinsics else None


def hints_of(arguments: Namespace) -> BagHints:
    """The hints in the options of :func:`add_bag_arguments`. Raises ConfigError when one cannot be used."""
    return bag_hints(arguments.remap, place_given(arguments), arguments.intrinsics)


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
        return _own(path, hints)
    from stvla_ros.ros.bag_frames import BagRecording
    from stvla_ros.ros.frames import CameraConfig

    topics = build(CameraConfig, settings.bag_topics, "camera.topics")
    bag = BagRecording(path, topics, settings.robot, _bar(console), hints)
    _print_notes(bag, console)
    return bag


def open_decided_recording(
    path: Path, settings: StackSettings, console: Console, hints: BagHints | None = None, bar: bool = True
) -> tuple[Recording, DecidedTask | None, str]:
    """As :func:`open_recording`, with what our stack decided in it (None: it is not of our stack) and the damage.

    ``bar``: show one while a bag is read; a terminal shows only one at a time.

    Returns:
        The frames; the decisions; why only a part could be read, or an empty string.
    """
    if not is_bag(path):
        return _own(path, hints), None, ""
    from stvla_ros.ros.frames import CameraConfig
    from stvla_ros.ros.recorded_demonstration import open_decided

    topics = build(CameraConfig, settings.bag_topics, "camera.topics")
    follow = _bar(console) if bar else lambda messages, count: messages
    bag, decided = open_decided(path, topics, settings.robot, follow, hints)
    _print_notes(bag, console)
    return cast(Recording, bag), decided, bag.damage or ""


def _own(path: Path, hints: BagHints | None) -> Recording:
    """Raises ConfigError: it is no recording, or hints are given, which only a bag needs."""
    if hints is not None and hints.any:
        raise ConfigError(f"{path}: --remap, --extrinsics and --intrinsics are for a rosbag2; this is none.")
    return Recording(path)


def _bar(console: Console) -> Follow:
    return lambda messages, count: track(messages, "reading", count, console=console, transient=True)


def _print_notes(bag: BagRecording, console: Console) -> None:
    for note in bag.notes:
        console.print(f"Note: {note}", soft_wrap=True, markup=False, highlight=False)


def is_single(path: Path) -> bool:
    """Whether a path is one recording or bag, rather than a folder of them."""
    if not path.is_dir():
        return True
    files = [place for place in path.iterdir() if place.is_file()]
    return any(place.name in (INDEX, "metadata.yaml") or place.suffix.lower() in BAG_FILES for place in files)


def find_recordings(path: Path) -> dict[str, Path]:
    """Name -> a recording or bag: the given one, or all below a folder; the names of all are different.

    Raises:
        ConfigError: There is none.
    """
    if is_single(path):
        place = path.resolve()
        folder = place.parent if place.name == "metadata.yaml" else place
        return {folder.name if folder.is_dir() else folder.stem: path}
    places = (place for place in sorted(path.rglob("*")) if place.is_dir() and is_single(place))
    found = {"-".join(place.relative_to(path).parts): place for place in places if not _inside(place, path)}
    if not found:
        raise ConfigError(f"{path}: wanted a recording, a bag, or a folder of them, found none in it.")
    return found


def _inside(place: Path, top: Path) -> bool:
    """Whether it is a part of another recording (``plans/`` of an episode), or half written."""
    between = [parent for parent in place.parents if top in parent.parents]
    return place.suffix == ".part" or any(is_single(parent) for parent in between)
