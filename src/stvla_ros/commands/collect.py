"""``stvla collect``: successful episodes in simulation, or recordings of a robot, for training."""

from __future__ import annotations

import json
from argparse import Namespace
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from stvla_ros import registry
from stvla_ros.commands.arguments import (
    MAX_SEED,
    Parser,
    add_engine_arguments,
    add_override_argument,
    check_tasks,
    engine_of,
    folder,
    share,
    whole,
)
from stvla_ros.commands.exit_codes import INTERRUPTED, NOT_CONFIRMED
from stvla_ros.commands.progress import count_bar
from stvla_ros.commands.recordings import (
    add_bag_arguments,
    find_recordings,
    hints_of,
    is_single,
    open_decided_recording,
)
from stvla_ros.config import ConfigError
from stvla_ros.data.bag_hints import BagHints
from stvla_ros.data.collect import Collection
from stvla_ros.data.collect_environment import CollectEnvironmentSetup
from stvla_ros.data.demonstration import write_decided, write_demonstration
from stvla_ros.data.splits import SPLITS
from stvla_ros.errors import StageError
from stvla_ros.evaluate.episode import EpisodeRecord
from stvla_ros.evaluate.stack import BAG, PARTS, StackSettings, plain, read_settings
from stvla_ros.evaluate.workers import Engine, EnvironmentSetup
from stvla_ros.files import written
from stvla_ros.pipeline import check_instruction


def add_arguments(parser: Parser) -> None:
    parser.add_argument(
        "--tasks", type=str, metavar="A,B", help="tasks to collect; default: pick_place, stack_cube, push_buttons"
    )
    parser.add_argument("--episodes", type=whole(1, 100_000), default=100, metavar="N", help="per task; default 100")
    parser.add_argument("--split", choices=tuple(SPLITS), default="train", help="scenes by colours and seeds")
    parser.add_argument(
        "--seed0", type=whole(0, MAX_SEED), default=0, metavar="N", help="offset into the split's seeds"
    )
    parser.add_argument(
        "--named",
        type=whole(0, 9),
        default=0,
        metavar="N",
        help="only scenes whose instruction names N things, e.g. 1: single presses of push_buttons; default: all",
    )
    parser.add_argument("--noise", action="store_true", help="imperfect camera: depth noise, holes, latency, exposure")
    parser.add_argument(
        "--recoveries",
        type=share,
        default=0.0,
        metavar="SHARE",
        help="of the episodes, in which keyposes slip by 5 to 10 mm and the policy corrects; default 0",
    )
    parser.add_argument(
        "--starts",
        type=share,
        default=0.0,
        metavar="SHARE",
        help="of the episodes, in which the arm starts anywhere over the table, the gripper open or closed; default 0",
    )
    add_engine_arguments(parser, "one per core")
    parser.add_argument(
        "--output", type=folder, metavar="DIR", required=True, help="folder of the dataset; an existing one is resumed"
    )
    demonstration = parser.add_argument_group("recordings of a robot, instead of simulation")
    demonstration.add_argument(
        "--from", dest="source", type=Path, metavar="RECORDING", help="a recording, a rosbag2, or a folder of them"
    )
    demonstration.add_argument(
        "--instruction", metavar="WORDS", help="what was demonstrated; default: what the recording of our stack says"
    )
    demonstration.add_argument(
        "--failures", action="store_true", help="take tasks of our stack too that did not succeed"
    )
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
        return _demonstrations(arguments, settings)
    settings = settings.with_noise() if arguments.noise else settings
    tasks = check_tasks(arguments.tasks)
    chosen = {"recoveries": arguments.recoveries, "starts": arguments.starts, "named": arguments.named}
    kept = plain(settings) | {name: value for name, value in chosen.items() if value}
    collection = Collection(
        arguments.output, tasks, arguments.episodes, arguments.split, arguments.seed0, kept, arguments.named
    )
    setup = CollectEnvironmentSetup(settings, collection.episodes_folder, arguments.recoveries, arguments.starts)
    engine, jobs = engine_of(arguments, kept, collection.folder)
    console = Console()
    try:
        content = collect(collection, setup, engine, jobs, console)
    except KeyboardInterrupt:
        console.print("Stopped. The same command resumes here.")
        return INTERRUPTED
    console.print(_table(content, f"{arguments.output}: split {arguments.split}"))
    enough = all(content["tasks"][task]["episodes"] >= arguments.episodes for task in tasks)
    return 0 if enough else NOT_CONFIRMED


def _demonstrations(arguments: Namespace, settings: StackSettings) -> int:
    """One recording, whose failure ends the command; or a folder of them, resumable, whose failures are reported."""
    if arguments.source is None:
        raise ConfigError("stvla collect: --instruction needs --from RECORDING, the recording of what was done.")
    words, console = _words(arguments.instruction), Console()
    recordings = Recordings(arguments.output, words, settings, hints_of(arguments), arguments.failures, console)
    sources = find_recordings(arguments.source)
    if is_single(arguments.source):
        ((name, source),) = sources.items()
        console.print(recordings.take(name, source), soft_wrap=True, markup=False)
        return 0
    try:
        return _folder(recordings, sources, console)
    except KeyboardInterrupt:
        console.print("Stopped. The same command resumes here.")
        return INTERRUPTED


def _folder(recordings: Recordings, sources: dict[str, Path], console: Console) -> int:
    missing = {name: source for name, source in sources.items() if not recordings.known(name)}
    with count_bar(console, "read, [red]{task.fields[bad]} rejected[/]") as bar:
        line = bar.add_task("", total=len(sources), completed=len(sources) - len(missing), bad=0)
        bad = 0
        for name, source in missing.items():
            try:
                recordings.take(name, source, bar=False)
            except ConfigError as error:
                bad += 1
                recordings.reject(name, source, f"{error}")
                bar.console.print(f"Rejected: {error}", soft_wrap=True, markup=False, highlight=False)
            bar.update(line, advance=1, bad=bad)
    kept = sum(recordings.folder(name).is_dir() for name in sources)
    console.print(f"{recordings.output}: {kept} episodes of {len(sources)} recordings.", soft_wrap=True, markup=False)
    return 0 if kept else NOT_CONFIRMED


@dataclass(frozen=True)
class Recordings:
    """Makes episodes of recordings.

    Attributes:
        output: The dataset.
        words: What was done; None: the recordings say it.
        settings: Planner, segmenter and guide, for recordings without plans.
        hints: What the operator says about bags.
        failures: Take tasks too that did not succeed.
        console: For notes.
    """

    output: Path
    words: str | None
    settings: StackSettings
    hints: BagHints
    failures: bool
    console: Console

    def folder(self, name: str) -> Path:
        return self.output / "episodes" / name

    def _record(self, name: str) -> Path:
        return self.output / "records" / f"{name}.json"

    def known(self, name: str) -> bool:
        """Whether it was taken or rejected before."""
        return self.folder(name).is_dir() or self._record(name).exists()

    def reject(self, name: str, source: Path, sentence: str) -> None:
        """Remember a recording that cannot be used; who deletes the file has it tried again."""
        with written(self._record(name)) as part:
            part.write_text(json.dumps({"source": str(source), "sentence": sentence}, indent=2) + "\n")

    def take(self, name: str, source: Path, bar: bool = True) -> str:
        """Make an episode; a sentence about it.

        Raises:
            ConfigError: It cannot be used; the message says why.
        """
        folder = self.folder(name)
        recording, decided, damage = open_decided_recording(source, self.settings, self.console, self.hints, bar)
        if damage:
            raise ConfigError(f"{damage} A demonstration must be complete: its end shows where the task was done.")
        if decided is not None and decided.steps and self.words is None:
            episode = write_decided(source, decided, recording, folder, self.failures)
            how = "as the stack decided"
        else:
            words = self.words or getattr(recording, "instruction", "") or (decided.instruction if decided else "")
            if not words:
                raise ConfigError(f"stvla collect: {source} does not say what was done: give --instruction WORDS.")
            episode = write_demonstration(source, words, self.settings, folder, recording)
            how = "found in the motion"
        return f"{folder}: {len(episode)} keyposes {how}, {len(episode.plans)} plans."


def _words(instruction: str | None) -> str | None:
    try:
        return None if instruction is None else check_instruction(instruction)
    except StageError as error:
        raise ConfigError(error.sentence) from error


def collect(
    collection: Collection, setup: EnvironmentSetup, engine: Engine, jobs: int, console: Console
) -> dict[str, Any]:
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

        return collection.run(setup, jobs, report, engine)


def _table(content: dict[str, Any], title: str) -> Table:
    table = Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0))
    for name in ("task", "episodes", "rejected", "steps", "colours", "seeds"):
        table.add_column(name, justify="left" if name == "task" else "right")
    for task, of in content["tasks"].items():
        seeds = f"{of['seeds'][0]}–{of['seeds'][-1]}" if of["seeds"] else "–"
        counts = (of["episodes"], len(of["rejected"]), of["steps"], len(of["colours"]))
        table.add_row(task, *map(str, counts), seeds)
    return table
