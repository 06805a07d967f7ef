"""``stvla collect``: successful episodes in simulation, or a demonstration recorded on a robot, for training."""

from __future__ import annotations

import os
from argparse import Namespace
from collections import Counter
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from stvla_ros import registry
from stvla_ros.commands.arguments import MAX_SEED, Parser, add_override_argument, check_tasks, folder, whole
from stvla_ros.commands.exit_codes import INTERRUPTED, NOT_CONFIRMED
from stvla_ros.commands.progress import count_bar
from stvla_ros.commands.recordings import add_bag_arguments, hints_of, open_recording
from stvla_ros.config import ConfigError
from stvla_ros.data.collect import Collection
from stvla_ros.data.collect_environment import CollectEnvironmentSetup
from stvla_ros.data.demonstration import write_demonstration
from stvla_ros.data.splits import SPLITS
from stvla_ros.errors import StageError
from stvla_ros.evaluate.episode import EpisodeRecord
from stvla_ros.evaluate.stack import BAG, PARTS, StackSettings, plain, read_settings
from stvla_ros.pipeline import check_instruction


def add_arguments(parser: Parser) -> None:
    parser.add_argument("--tasks", type=str, metavar="A,B", help="tasks to collect; default: all")
    parser.add_argument("--episodes", type=whole(1, 100_000), default=100, metavar="N", help="per task; default 100")
    parser.add_argument("--split", choices=tuple(SPLITS), default="train", help="scenes by colours and seeds")
    parser.add_argument(
        "--seed0", type=whole(0, MAX_SEED), default=0, metavar="N", help="offset into the split's seeds"
    )
    parser.add_argument("--noise", action="store_true", help="imperfect camera: depth noise, holes, latency, exposure")
    parser.add_argument("--jobs", type=whole(1, 64), metavar="N", help="parallel processes; default: cores")
    parser.add_argument(
        "--output", type=folder, metavar="DIR", required=True, help="folder of the dataset; an existing one is resumed"
    )
    demonstration = parser.add_argument_group("a demonstration recorded on a robot, instead of simulation")
    demonstration.add_argument(
        "--from", dest="source", type=Path, metavar="RECORDING", help="a recording, or a rosbag2"
    )
    demonstration.add_argument("--instruction", metavar="WORDS", help="what was demonstrated")
    for kind in registry.BACKENDS:
        names = registry.names(kind)
        parser.add_argument(f"--{kind}", choices=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--params", type=Path, metavar="FILE", help="ROS 2 parameter file; default: the defaults")
    add_bag_arguments(parser)
    add_override_argument(parser)


def _settings(arguments: Namespace) -> StackSettings:
    backends = {kind: getattr(arguments, kind) for kind in registry.BACKENDS}
    parts = PARTS if arguments.source is None else ("planner", "segmenter", "guide", "loop", BAG)
    return read_settings(arguments.params, backends, dict(arguments.overrides), parts)


def run(arguments: Namespace) -> int:
    settings = _settings(arguments)
    if arguments.source is not None or arguments.instruction is not None:
        return _demonstration(arguments, settings)
    settings = settings.with_noise() if arguments.noise else settings
    tasks = check_tasks(arguments.tasks)
    collection = Collection(
        arguments.output, tasks, arguments.episodes, arguments.split, arguments.seed0, plain(settings)
    )
    setup = CollectEnvironmentSetup(settings, collection.episodes_folder)
    console = Console()
    try:
        content = _run(collection, setup, arguments.jobs or os.cpu_count() or 1, console)
    except KeyboardInterrupt:
        console.print("Stopped. The same command resumes here.")
        return INTERRUPTED
    console.print(_table(content, f"{arguments.output}: split {arguments.split}"))
    enough = all(content["tasks"][task]["episodes"] >= arguments.episodes for task in tasks)
    return 0 if enough else NOT_CONFIRMED


def _demonstration(arguments: Namespace, settings: StackSettings) -> int:
    if arguments.source is None or arguments.instruction is None:
        raise ConfigError("stvla collect: a demonstration needs both --from RECORDING and --instruction WORDS.")
    words, console = _words(arguments.instruction), Console()
    folder = arguments.output / "episodes" / _name(arguments.source.resolve())
    recording: Any = open_recording(arguments.source, settings, console, hints_of(arguments))
    if damage := getattr(recording, "damage", None):
        raise ConfigError(f"{damage} A demonstration must be complete: its end shows where the task was done.")
    episode = write_demonstration(arguments.source, words, settings, folder, recording)
    console.print(f"{folder}: {len(episode)} keyposes, {len(episode.plans)} plans.", soft_wrap=True, markup=False)
    return 0


def _name(source: Path) -> str:
    """Name of the episode: that of the recording's folder, or of the bag's file."""
    return source.parent.name if source.name == "metadata.yaml" else source.name if source.is_dir() else source.stem


def _words(instruction: str) -> str:
    try:
        return check_instruction(instruction)
    except StageError as error:
        raise ConfigError(error.sentence) from error


def _run(collection: Collection, setup: CollectEnvironmentSetup, jobs: int, console: Console) -> dict[str, Any]:
    """Collect the missing episodes under a progress bar, and print rejected ones."""
    counts = Counter(record.success for record in collection.prepare())
    with count_bar(console, "collected, [red]{task.fields[bad]} rejected[/]") as bar:
        total = collection.episodes * len(collection.tasks)
        line = bar.add_task("", total=total, completed=counts[True], bad=counts[False])

        def report(record: EpisodeRecord) -> None:
            counts[record.success] += 1
            bar.update(line, completed=counts[True], bad=counts[False])
            if not record.success:
                what = f"{record.task} {record.seed}: {record.outcome}: {record.sentence} ({record.detail})"
                bar.console.print(what, soft_wrap=True, markup=False)

        return collection.run(setup, jobs, report)


def _table(content: dict[str, Any], title: str) -> Table:
    table = Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0))
    for name in ("task", "episodes", "rejected", "steps", "colours", "seeds"):
        table.add_column(name, justify="left" if name == "task" else "right")
    for task, of in content["tasks"].items():
        seeds = f"{of['seeds'][0]}–{of['seeds'][-1]}" if of["seeds"] else "–"
        counts = (of["episodes"], len(of["rejected"]), of["steps"], len(of["colours"]))
        table.add_row(task, *map(str, counts), seeds)
    return table
