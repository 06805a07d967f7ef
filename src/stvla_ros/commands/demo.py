"""``stvla demo``: start everything in simulation, carry out one task over ROS, judge it, leave a film."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

from stvla_ros.commands.arguments import MAX_SEED, Parser, add_stack_arguments, check_tasks, stack_options, whole
from stvla_ros.commands.exit_codes import NOT_CONFIRMED, of_outcome
from stvla_ros.commands.progress import (
    OUTPUT_CLOSED,
    LiveProgress,
    cancel_on_signal,
    show_outcome,
    show_task_state,
    survive_closed_output,
)
from stvla_ros.errors import CancelToken
from stvla_ros.record.folder import make_run_folder, point_latest
from stvla_ros.registry import BACKEND_PARAMETER
from stvla_ros.sim.tasks import BASIC_TASKS, TASKS

if TYPE_CHECKING:
    from stvla_ros.ros.graph import GraphOptions

LEARNED = {"planner": "heatmap", "policy": "3dfa"}
"""Kind -> backend whose weights come with the package. They know :data:`BASIC_TASKS` on the plain table."""


def add_arguments(parser: Parser) -> None:
    parser.add_argument("--task", default="pick_place", metavar="NAME", help=f"{', '.join(TASKS)}; default pick_place")
    parser.add_argument(
        "--all", action="store_true", help="carry out pick_place, stack_cube and push_buttons, one after another"
    )
    parser.add_argument(
        "--seed", type=whole(0, MAX_SEED), metavar="N", help="seed of the scene; default: one that is good to show"
    )
    parser.add_argument(
        "--runs", type=Path, default=Path("runs"), metavar="DIR", help="folder that keeps the runs; default runs/"
    )
    parser.add_argument("--no-film", action="store_true", help="write summary.json only: no film, no storyboard")
    usual = f"for {', '.join(BASIC_TASKS)} on the plain table without --params, else the parameter file's"
    add_stack_arguments(parser, {kind: f"{name} {usual}" for kind, name in LEARNED.items()})


def run(arguments: Namespace) -> int:
    """The exit code of the first task that failed."""
    tasks = check_tasks(None if arguments.all else arguments.task)
    codes = [_demo(arguments, task) for task in tasks]
    return next((code for code in codes if code), 0)


def _demo(arguments: Namespace, task: str) -> int:
    from stvla_ros.evaluate.stack import plain, read_settings
    from stvla_ros.ros.client import reset_scene
    from stvla_ros.ros.graph import check_settings, processes
    from stvla_ros.ros.recorded_run import lost, record_goal
    from stvla_ros.ros.stack_environment import running_stack

    console, cancel, options = Console(), CancelToken(), _learned(stack_options(arguments), arguments, task)
    check_settings(options)  # before a folder is made or a process started
    settings = read_settings(options.params, options.backends, options.overrides)
    seed = TASKS[task].demo_seed if arguments.seed is None else arguments.seed
    folder = make_run_folder(arguments.runs)
    with (
        console.status(f"starting {len(processes(options))} processes") as status,
        running_stack(options, folder / "logs"),
    ):
        status.update("laying the table")
        instruction = reset_scene(task, seed)
        status.stop()
        live = LiveProgress(console, instruction, lambda: cancel.cancel(sentence=OUTPUT_CLOSED))
        with live, cancel_on_signal(cancel, live):
            film, title = (None if arguments.no_film else folder), f"{instruction}   {task} seed {seed}"
            try:
                done = record_goal(instruction, cancel, live.report, film, title, judge_s=30.0)
            except ConnectionError as error:
                done = lost(error)
    parameters = {"mode": options.mode, "params": str(options.params), **plain(settings)}
    done.summary(instruction, task, seed, parameters).write(folder)
    point_latest(folder)
    with survive_closed_output(console):
        show_outcome(console, done.result.outcome)
        show_task_state(console, done.result.state)
        console.print(", ".join(f"{kind} {name}" for kind, name in settings.backends.items()), style="dim")
        verdict = "[green]success[/]" if done.success else "[red]no success[/]"
        console.print(f"{verdict} by the simulator: {escape(done.detail)} [dim]{folder}[/]", soft_wrap=True)
    return of_outcome(done.result.outcome.code) or (0 if done.success else NOT_CONFIRMED)


def _learned(options: GraphOptions, arguments: Namespace, task: str) -> GraphOptions:
    """The learned planner and policy where nobody chose others, and their weights know the task and the table."""
    if arguments.params is not None or arguments.look != "plain" or task not in BASIC_TASKS:
        return options
    overridden = {kind for kind in LEARNED if ".".join(BACKEND_PARAMETER[kind]) in options.overrides}
    learned = {k: name for k, name in LEARNED.items() if options.backends[k] is None and k not in overridden}
    return replace(options, backends={**options.backends, **learned})
