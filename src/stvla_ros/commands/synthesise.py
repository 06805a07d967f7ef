"""``stvla synthesise``: relations between things as tasks, an expert's episodes, other views of them, questions, LeRobot."""

from __future__ import annotations

from argparse import Namespace
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from stvla_ros import registry
from stvla_ros.commands.arguments import (
    MAX_SEED,
    Parser,
    add_engine_arguments,
    add_override_argument,
    engine_of,
    folder,
    whole,
)
from stvla_ros.commands.collect import collect
from stvla_ros.commands.exit_codes import INTERRUPTED, NOT_CONFIRMED
from stvla_ros.commands.export_lerobot import export_episodes
from stvla_ros.commands.progress import count_bar
from stvla_ros.data.arrange.environment import TASK, ArrangeEnvironmentSetup
from stvla_ros.data.arrange.questions import gather
from stvla_ros.data.arrange.views import ViewsSetup
from stvla_ros.data.collect import Collection
from stvla_ros.data.collect_environment import CollectEnvironmentSetup
from stvla_ros.data.splits import SPLITS
from stvla_ros.evaluate import oracle
from stvla_ros.evaluate.episode import EpisodeRecord, EpisodeSpec, read_record
from stvla_ros.evaluate.stack import PARTS, plain, read_settings
from stvla_ros.evaluate.workers import Engine
from stvla_ros.sim.tasks import make_task
from stvla_ros.sim.tasks.arrange import PHRASES, Arrange


def add_arguments(parser: Parser) -> None:
    parser.add_argument("--episodes", type=whole(1, 100_000), default=100, metavar="N", help="default 100")
    parser.add_argument(
        "--views",
        type=whole(0, 100),
        default=1,
        metavar="N",
        help="of each episode besides the cell's own, in other light, with other surfaces, from another camera; more can"
        " be made later; default 1",
    )
    parser.add_argument(
        "--split", choices=[name for name, split in SPLITS.items() if not split.paper], default="train",
        help="scenes by colours and seeds; all but train (the default) have held-out words",
    )  # fmt: skip
    parser.add_argument(
        "--seed0", type=whole(0, MAX_SEED), default=0, metavar="N", help="offset into the split's seeds"
    )
    parser.add_argument("--noise", action="store_true", help="imperfect camera: depth noise, holes, latency, exposure")
    add_engine_arguments(parser, "one per core")
    parser.add_argument(
        "--output", type=folder, metavar="DIR", required=True, help="folder of the dataset; an existing one is resumed"
    )
    for kind in ("segmenter", "policy", "motion"):
        names = registry.names(kind)
        parser.add_argument(f"--{kind}", choices=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--params", type=Path, metavar="FILE", help="ROS 2 parameter file; default: the defaults")
    add_override_argument(parser)


def run(arguments: Namespace) -> int:
    chosen = {kind: getattr(arguments, kind) for kind in ("segmenter", "policy", "motion")}
    settings = read_settings(arguments.params, chosen, dict(arguments.overrides), PARTS)
    settings = replace(  # the file's own planner is checked, and not used
        settings,
        backends={**settings.backends, "planner": oracle.NAME},
        sections={**settings.sections, "planner": {}},
    )
    settings = settings.with_noise() if arguments.noise else settings
    kept, output = plain(settings), arguments.output
    collection = Collection(output, (TASK,), arguments.episodes, arguments.split, arguments.seed0, kept)
    inner = CollectEnvironmentSetup(settings, collection.episodes_folder)
    setup = ArrangeEnvironmentSetup(inner, output / "states", arguments.split != "train")
    engine, jobs = engine_of(arguments, kept, output)
    console = Console()
    try:
        content = collect(collection, setup, engine, jobs, console)
        episodes = [EpisodeSpec(TASK, seed) for seed in content["tasks"][TASK]["seeds"]]
        views = _views(ViewsSetup(settings, output, arguments.views), episodes, engine, jobs, console)
        questions = gather(output / "questions") if episodes else 0
        exported = export_episodes(output, output / "lerobot", settings.guide.lift, console) if episodes else 0
    except KeyboardInterrupt:
        console.print("Stopped. The same command resumes here.")
        return INTERRUPTED
    rejected = [(entry["seed"], entry["outcome"]) for entry in content["tasks"][TASK]["rejected"]]
    console.print(_table([spec.seed for spec in episodes], rejected, f"{output}: split {arguments.split}"))
    made, refused = (int(sum(record.facts[name] for record in views)) for name in ("views", "refused"))
    console.print(
        f"{made} further views ({refused} refused), {questions} questions, {exported} episodes for LeRobot.",
        soft_wrap=True,
    )
    return 0 if len(episodes) >= arguments.episodes else NOT_CONFIRMED


def _views(
    setup: ViewsSetup, episodes: Sequence[EpisodeSpec], engine: Engine, jobs: int, console: Console
) -> list[EpisodeRecord]:
    """Render what is missing under a progress bar; the records of all."""
    records = setup.folder / "views"
    records.mkdir(exist_ok=True)
    done = [
        record
        for spec in episodes
        if (path := records / spec.file_name).exists()
        and (record := read_record(path)).facts.get("views", 0.0) + record.facts.get("refused", 0.0) >= setup.count
    ]
    known = {record.scene for record in done}
    with count_bar(console, "rendered again, [red]{task.fields[bad]} views refused[/]") as bar:
        bad = int(sum(record.facts["refused"] for record in done))
        line = bar.add_task("", total=len(episodes), completed=len(done), bad=bad)
        for record in engine(setup, [spec for spec in episodes if spec not in known], jobs):
            if record.facts:
                record.write(records)
                done.append(record)
                bad += int(record.facts["refused"])
            else:
                bar.console.print(f"{record.seed}: {record.sentence}", soft_wrap=True, markup=False)
            bar.update(line, advance=1, bad=bad)
    return done


def _table(good: Sequence[int], rejected: Sequence[tuple[int, str]], title: str) -> Table:
    """Episodes and failures of each relation."""

    def relation(seed: int) -> str:
        task = make_task(TASK, seed)
        assert isinstance(task, Arrange)
        return task.relation

    done, failed = Counter(map(relation, good)), Counter((relation(seed), code) for seed, code in rejected)
    table = Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0))
    for name in ("relation", "episodes", "rejected"):
        table.add_column(name, justify="right" if name == "episodes" else "left")
    for name in PHRASES:
        why = ", ".join(f"{code} {count}" for (of, code), count in sorted(failed.items()) if of == name)
        table.add_row(name, str(done[name]), why or "0")
    return table
