"""``stvla evaluate``: seeded episodes in simulation, success rates."""

from __future__ import annotations

import shlex
import time
from argparse import Namespace
from collections import Counter
from pathlib import Path

from rich.console import Console

from stvla_ros.commands.arguments import (
    ENGINES,
    MAX_SEED,
    MODES,
    Parser,
    add_engine_arguments,
    add_stack_arguments,
    check_tasks,
    engine_of,
    share,
    stack_options,
    whole,
)
from stvla_ros.commands.exit_codes import INTERRUPTED, NOT_CONFIRMED
from stvla_ros.commands.progress import count_bar
from stvla_ros.config import ConfigError
from stvla_ros.data.splits import SPLITS, first_seeds
from stvla_ros.description.robot import SIMULATED
from stvla_ros.evaluate.cell_environment import DISTURBANCES, CellEnvironmentSetup
from stvla_ros.evaluate.episode import EpisodeRecord, EpisodeSpec
from stvla_ros.evaluate.evaluation import Evaluation
from stvla_ros.evaluate.oracle import mark
from stvla_ros.evaluate.report import TaskReport, table
from stvla_ros.evaluate.stack import PARTS, plain, read_settings
from stvla_ros.evaluate.workers import Engine, EnvironmentSetup, run_episodes
from stvla_ros.record.film import Films
from stvla_ros.sim import LOOKS
from stvla_ros.sim.disturbance import MOVABLE
from stvla_ros.sim.tasks import MAX_DISTRACTORS


def add_arguments(parser: Parser) -> None:
    parser.add_argument(
        "--tasks", type=str, metavar="A,B", help="tasks to run; default: pick_place, stack_cube, push_buttons"
    )
    parser.add_argument("--episodes", type=whole(1, 10_000), default=50, metavar="N", help="per task; default 50")
    parser.add_argument("--seed0", type=whole(0, MAX_SEED), default=0, metavar="N", help="seed of the first episode")
    parser.add_argument(
        "--split",
        metavar="NAME",
        choices=tuple(SPLITS),
        help=f"only scenes of a split: {', '.join(SPLITS)}; --seed0 then counts from its first seed",
    )
    parser.add_argument("--noise", action="store_true", help="imperfect camera: depth noise, holes, latency, exposure")
    parser.add_argument(
        "--distractors",
        type=whole(0, MAX_DISTRACTORS),
        default=-1,
        metavar="N",
        help="objects that the task does not need; default: the task's own number, by the seed",
    )
    parser.add_argument(
        "--disturb",
        choices=DISTURBANCES,
        default=DISTURBANCES[0],
        help="move: in the middle of each episode, the carried object or its goal is moved",
    )
    parser.add_argument("--over-ros", action="store_true", help="through the real nodes, in real time")
    parser.add_argument(
        "--robot",
        choices=SIMULATED,
        default=SIMULATED[0],
        help="with --over-ros: sim (default), or franka_sim: through libfranka and the simulated robot's network interface",
    )
    add_engine_arguments(parser, "one per core (over ROS: 1)")
    parser.add_argument("--film", choices=("none", "failures", "all"), default="none", help="keep film and storyboard")
    parser.add_argument(
        "--at-least", type=share, default=0.0, metavar="RATE", help="exit 4 if a task succeeds less often"
    )
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="an existing one is resumed; default runs/evaluate-<time>"
    )
    add_stack_arguments(parser)


def run(arguments: Namespace) -> int:
    tasks = _tasks(arguments)
    folder = arguments.output or Path("runs") / time.strftime("evaluate-%Y%m%d-%H%M%S")
    setup, settings = _setup(arguments, folder)
    evaluation = _evaluation(arguments, folder, tasks, settings)
    seeds = evaluation.seeds
    engine, jobs = engine_of(arguments, settings, None if arguments.film == "none" else folder)
    jobs = 1 if arguments.over_ros and arguments.jobs is None else jobs
    console = Console()
    try:
        reports = run_evaluation(evaluation, setup, jobs, console, engine)
    except KeyboardInterrupt:
        console.print(f"Stopped. To resume, give the same command with --output {folder}.", soft_wrap=True)
        return INTERRUPTED
    console.print(table(reports, f"seeds {seeds.start}–{seeds.stop - 1}{_remarks(arguments)}{mark(settings)}"))
    console.print(f"{folder}/results.json, results.txt (failures with the command to rerun each)", soft_wrap=True)
    return 0 if all(r.rate >= arguments.at_least for r in reports) else NOT_CONFIRMED


def _tasks(arguments: Namespace) -> tuple[str, ...]:
    """The tasks to run. Raises ConfigError for a task that cannot be disturbed."""
    if arguments.disturb == "none":
        return check_tasks(arguments.tasks)
    tasks = MOVABLE if arguments.tasks is None else check_tasks(arguments.tasks)
    fixed = [task for task in tasks if task not in MOVABLE]
    if fixed:
        raise ConfigError(f"--disturb move: nothing in {fixed[0]} can be moved. Valid: {', '.join(MOVABLE)}.")
    if arguments.over_ros:
        raise ConfigError("--disturb move works in one process only: leave --over-ros out.")
    return tasks


def _evaluation(arguments: Namespace, folder: Path, tasks: tuple[str, ...], settings: dict[str, object]) -> Evaluation:
    """All seeds from the first on, or those of a split."""
    first, count = arguments.seed0, arguments.episodes
    seeds = {
        task: range(first, first + count)
        if arguments.split is None
        else first_seeds(task, arguments.split, count, first)
        for task in tasks
    }
    episodes = (EpisodeSpec(task, seeds[task][i], arguments.distractors) for i in range(count) for task in tasks)
    return Evaluation(folder, tuple(episodes), settings, _command(arguments))


def _remarks(arguments: Namespace) -> str:
    split = f", split {arguments.split}" if arguments.split else ""
    disturbed = f", disturb {arguments.disturb}" if arguments.disturb != "none" else ""
    look = f", {arguments.look} look" if arguments.look != LOOKS[0] else ""
    distractors = f", {arguments.distractors} distractors" if arguments.distractors >= 0 else ""
    return split + distractors + look + (", noise" if arguments.noise else "") + disturbed


def run_evaluation(
    evaluation: Evaluation, setup: EnvironmentSetup, jobs: int, console: Console, engine: Engine = run_episodes
) -> list[TaskReport]:
    """Run all remaining episodes under a progress bar; failures are printed when they happen.

    Raises:
        ConfigError: See :meth:`stvla_ros.evaluate.evaluation.Evaluation.run`.
    """
    done, left = evaluation.prepare()
    counts = Counter(record.success for record in done)
    with count_bar(console, "[green]{task.fields[good]} good[/] [red]{task.fields[bad]} failed[/]") as bar:
        line = bar.add_task("", total=len(done) + len(left), completed=len(done), good=counts[True], bad=counts[False])

        def tell(record: EpisodeRecord) -> None:
            counts[record.success] += 1
            bar.update(line, advance=1, good=counts[True], bad=counts[False])
            if not record.success:
                what = f"{record.task} {record.seed}: {record.outcome}: {record.sentence} ({record.detail})"
                bar.console.print(what, soft_wrap=True, markup=False)

        return evaluation.run(setup, jobs, tell, engine)


def _setup(arguments: Namespace, folder: Path) -> tuple[EnvironmentSetup, dict[str, object]]:
    """The environment, and those of its settings that change results."""
    if arguments.robot != SIMULATED[0] and not arguments.over_ros:
        raise ConfigError(f"--robot {arguments.robot} is for the real nodes: add --over-ros.")
    if arguments.engine != ENGINES[0] and arguments.over_ros:
        raise ConfigError(f"--over-ros runs on this machine only, in real time: leave --engine {arguments.engine} out.")
    options = stack_options(arguments, arguments.robot)
    parts = None if arguments.over_ros else PARTS
    settings = read_settings(options.params, options.backends, options.overrides, parts)
    settings = settings.with_noise() if arguments.noise else settings
    if arguments.over_ros:
        from stvla_ros.ros.graph import check_settings
        from stvla_ros.ros.stack_environment import StackEnvironmentSetup, with_noise

        options = with_noise(options) if arguments.noise else options
        check_settings(options)
        return StackEnvironmentSetup(options, folder, arguments.film == "all"), {
            "over_ros": options.mode,
            **({"robot_kind": options.robot} if options.robot != SIMULATED[0] else {}),
            **plain(settings),
        }
    films = None if arguments.film == "none" else Films(folder / "films", arguments.film == "all")
    disturb = {} if arguments.disturb == "none" else {"disturb": arguments.disturb}
    setup = CellEnvironmentSetup(settings, films, arguments.disturb)
    return setup, {"over_ros": "no", **disturb, **plain(settings)}


def _command(arguments: Namespace) -> str:
    """The command line that repeats episodes of this evaluation, with films."""
    words = ["stvla", "evaluate", "--film", "all"]
    words += [f"--{name.replace('_', '-')}" for name in ("noise", "over_ros") if getattr(arguments, name)]
    for name in ("planner", "segmenter", "policy", "motion", "params"):
        if getattr(arguments, name):
            words += [f"--{name}", str(getattr(arguments, name))]
    words += ["--look", arguments.look] if arguments.look != LOOKS[0] else []
    words += ["--disturb", arguments.disturb] if arguments.disturb != "none" else []
    words += [word for name, value in arguments.overrides for word in ("--set", f"{name}={value}")]
    if arguments.robot != SIMULATED[0]:
        words += ["--robot", arguments.robot]
    if arguments.mode != MODES[0]:
        words += ["--mode", arguments.mode]
    return shlex.join(words)
