"""Opens what a command is given as a recording: a recording's folder, or a rosbag2."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import track

from stvla_ros.config import build
from stvla_ros.data.recording import Recording, is_bag
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
    for note in bag.notes:
        console.print(f"Note: {note}", soft_wrap=True, markup=False, highlight=False)
    return bag
