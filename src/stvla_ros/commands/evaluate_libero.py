"""``stvla evaluate-libero`` (or ``stvla evaluate libero``): LIBERO with a policy server of openpi's protocol."""

from __future__ import annotations

import os
import shlex
import time
from argparse import Namespace
from pathlib import Path

from rich.console import Console

from stvla_ros.commands.arguments import MAX_SEED, Parser, folder, whole
from stvla_ros.commands.evaluate import run_evaluation
from stvla_ros.commands.exit_codes import INTERRUPTED
from stvla_ros.evaluate.episode import EpisodeSpec
from stvla_ros.evaluate.evaluation import Evaluation
from stvla_ros.evaluate.report import table
from stvla_ros.tokens import read_token


def add_arguments(parser: Parser) -> None:
    from stvla_ros.evaluate.libero.run import STATES

    option = parser.add_argument
    option("--python", type=Path, required=True, metavar="FILE", help="Python that has LIBERO (docs/evaluation.md)")
    option("--url", default="ws://127.0.0.1:8000", metavar="URL", help="policy server; default ws://127.0.0.1:8000")
    option("--token-file", default="", metavar="FILE", help="its token; mode 600")
    option("--token-variable", default="", metavar="NAME", help="environment variable with its token")
    option("--tasks", default="libero_spatial", metavar="A,B", help="suites or SUITE-NUMBER; default libero_spatial")
    option(
        "--episodes",
        type=whole(1, STATES),
        default=STATES,
        metavar="N",
        help="initial states of each task; default all 50",
    )
    option("--seed0", type=whole(0, STATES - 1), default=0, metavar="N", help="first initial state; default 0")
    option(
        "--replan", type=whole(1, 64), default=5, metavar="N", help="actions of a chunk that are executed; default 5"
    )
    option("--seed", type=whole(0, MAX_SEED), default=7, metavar="N", help="of the simulation; default 7")
    option("--output", type=folder, metavar="DIR", help="default runs/libero-DATE; an existing one is resumed")


def run(arguments: Namespace) -> int:
    from stvla_ros.evaluate.libero.run import STATES, LiberoSetup, parse_tasks

    tasks = parse_tasks(arguments.tasks)
    states = range(arguments.seed0, min(arguments.seed0 + arguments.episodes, STATES))
    output = arguments.output or Path("runs") / time.strftime("libero-%Y%m%d-%H%M%S")
    settings = {"url": arguments.url, "replan": arguments.replan, "seed": arguments.seed}
    rerun = ["stvla", "evaluate", "libero", "--python", str(arguments.python), "--url", arguments.url]
    rerun += ["--replan", str(arguments.replan), "--seed", str(arguments.seed)]
    episodes = tuple(EpisodeSpec(task, state) for task in tasks for state in states)
    evaluation = Evaluation(output, episodes, settings, shlex.join(rerun))
    token = read_token(
        ("--token-file", arguments.token_file), ("--token-variable", arguments.token_variable), os.environ
    )
    setup = LiberoSetup(arguments.python, arguments.url, token, arguments.replan, arguments.seed, output / "libero.log")
    console = Console()
    try:
        reports = run_evaluation(evaluation, setup, 1, console)  # a policy server serves one robot
    except KeyboardInterrupt:
        console.print(f"Stopped. To resume, give the same command with --output {output}.", soft_wrap=True)
        return INTERRUPTED
    console.print(table(reports, f"LIBERO, initial states {states.start}–{states.stop - 1}"))
    console.print(f"{output}/results.json, results.txt (failures with the command to rerun each)", soft_wrap=True)
    return 0
