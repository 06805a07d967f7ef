"""``stvla doctor BAG``: reads a bag once, and says what it will do for."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from rich.console import Console
from rich.progress import track

from stvla_ros.commands import doctor_report
from stvla_ros.commands.recordings import hints_of
from stvla_ros.config import ConfigError, build
from stvla_ros.data.recording import INDEX, is_bag
from stvla_ros.doctor.bag import check_bag
from stvla_ros.evaluate.stack import BAG, read_settings


def run(arguments: Namespace, path: Path) -> int:
    """0: nothing is wrong; 1: something is. Raises ConfigError: it is no bag, or a setting is wrong."""
    from stvla_ros.ros.bag_view import look_at_bag
    from stvla_ros.ros.frames import CameraConfig

    settings = read_settings(arguments.params, {}, dict(arguments.overrides), ("robot", BAG))
    if not is_bag(path):
        own = path.is_dir() and (path / INDEX).exists()
        what = "a recording of the `record` node, which is read frame by frame" if own else "no bag"
        raise ConfigError(f"{path}: wanted a rosbag2 (its folder, or an .mcap or .db3 file), found {what}.")
    console = Console(highlight=False, quiet=arguments.json)
    topics = build(CameraConfig, settings.bag_topics, "camera.topics")
    view = look_at_bag(
        path,
        topics,
        settings.robot,
        lambda messages, count: track(messages, "reading", count, console=console, transient=True),
        hints_of(arguments),
    )
    return doctor_report.code(doctor_report.show("bag", check_bag(view), arguments.json, console))
