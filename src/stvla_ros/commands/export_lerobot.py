"""``stvla export-lerobot`` (or ``stvla export lerobot``): episodes, recordings and bags as a LeRobotDataset v3."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from stvla_ros.commands.arguments import Parser, add_override_argument, folder, whole
from stvla_ros.commands.exit_codes import INTERRUPTED, NOT_CONFIRMED
from stvla_ros.commands.progress import count_bar
from stvla_ros.commands.recordings import find_recordings, open_decided_recording
from stvla_ros.config import ConfigError
from stvla_ros.data.episode import find_episodes, has_episodes
from stvla_ros.data.lerobot.pixels import CODECS
from stvla_ros.data.lerobot.source import EpisodeSource, RecordingSource, Source, rate_hz
from stvla_ros.data.lerobot.writer import LeRobotWriter, Options
from stvla_ros.evaluate.stack import BAG, StackSettings, read_settings
from stvla_ros.perception.lift import LiftConfig

Opener = Callable[[], Source]
"""Opens one source; raises ConfigError if it cannot be used."""


def add_arguments(parser: Parser) -> None:
    parser.add_argument(
        "source", type=Path, metavar="FOLDER", help="episodes, a recording, a bag, or a folder of recordings or bags"
    )
    parser.add_argument(
        "--output", type=folder, metavar="DIR", required=True, help="the set; an existing one gets what it lacks"
    )
    parser.add_argument(
        "--color",
        choices=CODECS,
        default=CODECS[0],
        help="lossless (default): H.264 of RGB, exact; lossy: a tenth of the size; png: exact, in the table",
    )
    parser.add_argument(
        "--fps", type=whole(1, 1000), metavar="N", help="default: 1 for episodes; the camera's rate for recordings"
    )
    parser.add_argument("--instruction", metavar="WORDS", help="for recordings that do not have the words themselves")
    parser.add_argument("--params", type=Path, metavar="FILE", help="ROS 2 parameter file; default: the defaults")
    add_override_argument(parser)


def run(arguments: Namespace) -> int:
    settings = read_settings(arguments.params, {}, dict(arguments.overrides), ("guide", BAG))
    console = Console()
    if has_episodes(arguments.source):
        openers, fps = _episodes(arguments.source, settings.guide.lift), arguments.fps or 1
    else:
        openers = _recordings(arguments.source, arguments.instruction, settings, console)
        fps = arguments.fps or _rate(openers)
    writer = LeRobotWriter(arguments.output, Options(arguments.color, fps))
    refused = 0
    try:
        refused = _export(writer, openers, console)
    except KeyboardInterrupt:
        console.print("Stopped. The same command resumes here.")
        return INTERRUPTED
    finally:
        if len(writer):
            writer.close()
    if not len(writer):
        writer.close()
    console.print(f"{arguments.output}: {len(writer)} episodes, {fps} frames per second.", soft_wrap=True)
    return NOT_CONFIRMED if refused else 0


def export_episodes(source: Path, output: Path, lifting: LiftConfig, console: Console) -> int:
    """Write what a set lacks of the episodes in a folder; returns how many it has.

    Raises:
        ConfigError: There is no episode that can be exported, or the set is none of ours.
    """
    writer = LeRobotWriter(output, Options(CODECS[0], 1))
    try:
        _export(writer, _episodes(source, lifting), console)
    finally:
        if len(writer):
            writer.close()
    return len(writer)


def _episodes(source: Path, lifting: LiftConfig) -> dict[str, Opener]:
    episodes = find_episodes(source)
    return {episode.folder.name: lambda e=episode: EpisodeSource(e, lifting) for episode in episodes}  # type: ignore[misc]


def _recordings(source: Path, words: str | None, settings: StackSettings, console: Console) -> dict[str, Opener]:
    def opener(name: str, path: Path) -> Opener:
        def opened() -> Source:
            recording, decided, damage = open_decided_recording(path, settings, console, bar=False)
            if damage:
                raise ConfigError(damage)
            instruction = words or (decided.instruction if decided else "") or getattr(recording, "instruction", "")
            if not instruction:
                raise ConfigError(f"{path}: does not say what was done: give --instruction WORDS.")
            return RecordingSource(name, recording, instruction, decided, settings.guide.lift)

        return opened

    return {name: opener(name, path) for name, path in find_recordings(source).items()}


def _rate(openers: dict[str, Opener]) -> int:
    """The rate of the first recording that can be used."""
    for opened in openers.values():
        try:
            source = opened()
        except ConfigError:
            continue  # reported when it is exported
        assert isinstance(source, RecordingSource)
        return rate_hz(source.recording)
    return 1


def _export(writer: LeRobotWriter, openers: dict[str, Opener], console: Console) -> int:
    """Write what is missing; the number of sources that cannot be used."""
    missing, refused = {name: opened for name, opened in openers.items() if name not in writer.names}, 0
    with count_bar(console, "exported  {task.fields[figures]}") as bar:
        line = bar.add_task("", total=len(openers), completed=len(openers) - len(missing), figures="")
        for name, opened in missing.items():
            frames = 0

            def report(count: int, name: str = name) -> None:
                nonlocal frames
                frames += count
                bar.update(line, figures=f"{name}: {frames} frames")

            try:
                writer.add(opened(), report)
            except ConfigError as error:
                refused += 1
                bar.console.print(f"Left out: {error}", soft_wrap=True, markup=False, highlight=False)
            bar.advance(line)
    return refused
