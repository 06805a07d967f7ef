"""``stvla evaluate-protocol`` (or ``stvla evaluate table2``): a table of the paper by its protocol, resumable."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from rich.console import Console

from stvla_ros.commands.arguments import Parser, add_engine_arguments, engine_of, whole
from stvla_ros.commands.evaluate import run_evaluation
from stvla_ros.commands.exit_codes import INTERRUPTED
from stvla_ros.evaluate.cell_environment import CellEnvironmentSetup
from stvla_ros.evaluate.evaluation import Evaluation
from stvla_ros.evaluate.stack import plain
from stvla_ros.tables import PROTOCOLS
from stvla_ros.tables.protocol import Row, read_protocol
from stvla_ros.tables.run import WEIGHTS, Table


def add_arguments(parser: Parser) -> None:
    parser.add_argument("protocol", metavar="PROTOCOL", help=f"{', '.join(PROTOCOLS)}, or a .yaml file of your own")
    parser.add_argument(
        "--rows",
        metavar="A,B",
        help="rows to run, * stands for anything, e.g. scripted-*; default: all that can be run",
    )
    parser.add_argument(
        "--limit",
        type=whole(1, 100_000),
        metavar="N",
        help="run only the first N scenes of each cell; every output then says that it is a trial",
    )
    parser.add_argument(
        "--weights",
        type=Path,
        metavar="DIR",
        help="folder with the weights that the protocol names; default: those of the package",
    )
    add_engine_arguments(parser, "one per core")
    parser.add_argument("--output", type=Path, metavar="DIR", help="an existing one is resumed; default runs/PROTOCOL")


def run(arguments: Namespace) -> int:
    from stvla_ros.tables.report import limited, write

    protocol = read_protocol(arguments.protocol)
    folder = arguments.output or Path("runs") / protocol.name
    rows = tuple(dict.fromkeys(name.strip() for name in arguments.rows.split(","))) if arguments.rows else ()
    table = Table(folder, protocol, arguments.weights or WEIGHTS, arguments.limit or protocol.scenes, rows)
    console = Console()

    def do(row: Row, evaluation: Evaluation, setup: CellEnvironmentSetup) -> None:
        console.print(f"{row.name}: {len(evaluation.episodes)} scenes", highlight=False)
        engine, jobs = engine_of(arguments, plain(setup.settings), None)
        run_evaluation(evaluation, setup, jobs, console, engine)

    def report() -> None:
        write(table)

    try:
        table.run(do, report)
    except KeyboardInterrupt:
        write(table)
        console.print(f"Stopped. To resume, give the same command with --output {folder}.", soft_wrap=True)
        return INTERRUPTED
    figures = write(table)
    said = f"{limited(table)}. " if not table.complete else ""
    console.print(
        f"{said}Rows: {len(figures.cells)} complete, {len(figures.reasons)} not run (table.md says why): "
        f"{folder}/table.md, table.json, table.png",
        soft_wrap=True,
        highlight=False,
    )
    return 0
