"""``stvla view``: a recording in Rerun."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentTypeError, Namespace
from pathlib import Path

from rich.console import Console
from rich.progress import track

from stvla_ros.commands.arguments import Parser, add_override_argument
from stvla_ros.commands.recordings import open_recording
from stvla_ros.config import ConfigError
from stvla_ros.data.recording import INDEX, is_bag
from stvla_ros.evaluate.stack import BAG, read_settings
from stvla_ros.view import rerun_log


def add_arguments(parser: Parser) -> None:
    parser.add_argument("recording", type=Path, metavar="BAG|RUN", help="a rosbag2, a recording, or a folder with one")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="write FILE.rrd instead of opening the viewer; default without a screen",
    )
    parser.add_argument(
        "--rate", type=rate, default=5.0, metavar="HZ", help="at most so many images per second; default 5"
    )
    parser.add_argument("--params", type=Path, metavar="FILE", help="ROS 2 parameter file; default: the defaults")
    add_override_argument(parser)


def run(arguments: Namespace) -> int:
    rerun_log.rerun()  # before a long bag is read
    settings = read_settings(arguments.params, None, dict(arguments.overrides), (BAG,))
    path, console = recording_in(arguments.recording), Console()
    output = arguments.output or (None if has_screen() else Path(f"{arguments.recording.resolve().name}.rrd"))
    if output is not None and output.suffix != ".rrd":
        raise ConfigError(f"--output: wanted a name that ends in .rrd, got '{output}'.")
    recording = open_recording(path, settings, console)
    place = rerun_log.viewer(path.name) if output is None else rerun_log.file(output, path.name)
    with place as log:
        frames = track(recording, "logging", len(recording), console=console, transient=True)
        count = rerun_log.log_frames(log, frames, arguments.rate)
    console.print(f"{count} of {len(recording)} frames logged.")
    if output is not None:
        console.print(f"{output}: open it with `rerun {output}`.", soft_wrap=True, markup=False, highlight=False)
    return 0


def rate(text: str) -> float:
    """An argument type: images per second."""
    try:
        value = float(text)
    except ValueError:
        raise ArgumentTypeError(f"wanted a number, got '{text}'") from None
    if not 0.01 <= value <= 1000:
        raise ArgumentTypeError(f"wanted 0.01 to 1000, got {text}")
    return value


def recording_in(path: Path) -> Path:
    """The bag or recording at a path, or the only one in a folder of a run. Raises ConfigError."""
    if not path.is_dir() or is_bag(path) or (path / INDEX).exists():
        return path
    found = [
        place for place in sorted(path.iterdir()) if place.is_dir() and (is_bag(place) or (place / INDEX).exists())
    ]
    if len(found) == 1:
        return found[0]
    names = ", ".join(place.name for place in found) or "none"
    raise ConfigError(f"{path}: wanted a rosbag2, a recording, or a folder with one, found {names}: name one.")


def has_screen() -> bool:
    """Whether a window can be opened."""
    return sys.platform != "linux" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
