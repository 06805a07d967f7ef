"""Finds and opens what a command is given as recordings: a recording's folder, a rosbag2, or a folder of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

from rich.console import Console
from rich.progress import track

from stvla_ros.config import ConfigError, build
from stvla_ros.data.demonstration import DecidedTask
from stvla_ros.data.recording import BAG_FILES, INDEX, Recording, is_bag
from stvla_ros.evaluate.stack import StackSettings

if TYPE_CHECKING:
    from stvla_ros.ros.bag_frames import BagRecording


def open_recording(path: Path, settings: StackSettings, console: Console) -> Recording | BagRecording:
    """Open a recording or a bag, and print notes about it.

    Args:
        path: A recording or a bag.
        settings: Names of the robot's joints and of the bag's topics.
        console: For notes, and a bar while a bag is read.

    Raises:
        ConfigError: It is neither, or cannot be used.
    """
    if not is_bag(path):
        return Recording(path)
    from stvla_ros.ros.bag_frames import BagRecording
    from stvla_ros.ros.frames import CameraConfig

    topics = build(CameraConfig, settings.bag_topics, "camera.topics")
    bag = BagRecording(
        path,
        topics,
        settings.robot,
        lambda messages, count: track(messages, "reading", count, console=console, transient=True),
    )
    _print_notes(bag, console)
    return bag


def open_decided_recording(
    path: Path, settings: StackSettings, console: Console
) -> tuple[Recording, DecidedTask | None, str]:
    """As :func:`open_recording`, with what our stack decided in it (None: it is not of our stack) and the damage.

    Returns:
        The frames; the decisions; why only a part could be read, or an empty string.
    """
    if not is_bag(path):
        return Recording(path), None, ""
    from stvla_ros.ros.frames import CameraConfig
    from stvla_ros.ros.recorded_demonstration import open_decided

    topics = build(CameraConfig, settings.bag_topics, "camera.topics")
    bag, decided = open_decided(path, topics, settings.robot)
    _print_notes(bag, console)
    return cast(Recording, bag), decided, bag.damage or ""


def _print_notes(bag: BagRecording, console: Console) -> None:
    for note in bag.notes:
        console.print(f"Note: {note}", soft_wrap=True, markup=False, highlight=False)


def is_single(path: Path) -> bool:
    """Whether a path is one recording or bag, rather than a folder of them."""
    if not path.is_dir():
        return True
    files = [place for place in path.iterdir() if place.is_file()]
    return any(place.name in (INDEX, "metadata.yaml") or place.suffix.lower() in BAG_FILES for place in files)


def find_recordings(path: Path) -> list[Path]:
    """A recording or bag itself, or all of them below a folder, by name.

    Raises:
        ConfigError: There is none.
    """
    if is_single(path):
        return [path]
    found = sorted(place for place in path.rglob("*") if place.is_dir() and is_single(place) and not _inside(place, path))
    if not found:
        raise ConfigError(f"{path}: wanted a recording, a bag, or a folder of them, found none in it.")
    return found


def _inside(place: Path, top: Path) -> bool:
    """Whether it is a part of another recording (``plans/`` of an episode), or half written."""
    between = [parent for parent in place.parents if top in parent.parents]
    return place.suffix == ".part" or any(is_single(parent) for parent in between)
