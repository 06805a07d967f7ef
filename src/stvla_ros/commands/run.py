"""``stvla run``: give the running stack an instruction and follow it to its end."""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path

from rich.console import Console

from stvla_ros.commands.approving import approving
from stvla_ros.commands.arguments import Parser
from stvla_ros.commands.exit_codes import of_outcome
from stvla_ros.commands.progress import (
    OUTPUT_CLOSED,
    LiveProgress,
    cancel_on_signal,
    show_outcome,
    show_task_state,
    survive_closed_output,
)
from stvla_ros.errors import CancelToken, OutcomeCode
from stvla_ros.motion.approval import Approval
from stvla_ros.record.folder import make_run_folder, point_latest

CONNECT_S = 5.0
STOP_STATE_S = 1.0
"""How long to wait for the stop state of a running stack; if it comes later, the task node refuses the goal."""


def add_arguments(parser: Parser) -> None:
    parser.add_argument(
        "instruction", metavar="INSTRUCTION", help='what to do, in quotes: "Put the red block in the plate."'
    )
    parser.add_argument(
        "--runs", type=Path, default=Path("runs"), metavar="DIR", help="folder that keeps the runs; default runs/"
    )
    consent = parser.add_mutually_exclusive_group()
    consent.add_argument(
        "--approve", nargs="?", const="keypose", choices=("plan", "keypose"), metavar="WHAT",
        help="ask before each keypose (default), or before the first one of each plan: keypose, plan",
    )  # fmt: skip
    consent.add_argument("--dry-run", action="store_true", help="do everything up to the first motion, and not that")
    parser.add_argument("--no-film", action="store_true", help="write summary.json only: no film, no storyboard")


def run(arguments: Namespace) -> int:
    from stvla_ros.ros.client import ask_stop_state, wait_for_nodes
    from stvla_ros.ros.recorded_run import lost, record_goal

    console, cancel = Console(), CancelToken()
    if wait_for_nodes(["task"], CONNECT_S):
        raise ConnectionError("No stack is running (no node 'task' is heard): start one with `stvla up`.")
    if (state := ask_stop_state(STOP_STATE_S)).stopped:
        print(f"stvla: The goal was not sent: the stack is {state.sentence()}", file=sys.stderr)
        return of_outcome(OutcomeCode.CANCELED)
    approval = _approval(arguments)
    folder = make_run_folder(arguments.runs)
    live = LiveProgress(console, arguments.instruction, lambda: cancel.cancel(sentence=OUTPUT_CLOSED))
    with live, cancel_on_signal(cancel, live), approving(approval, live.print_line, cancel):
        film = None if arguments.no_film else folder
        try:
            goal = arguments.instruction
            done = record_goal(goal, cancel, live.report, film, goal, judge_s=3.0, approval=approval)
        except ConnectionError as error:
            done = lost(error)
    done.summary(arguments.instruction, "", None, {}).write(folder)
    point_latest(folder)
    with survive_closed_output(console):
        show_outcome(console, done.result.outcome)
        show_task_state(console, done.result.state)
        console.print(f"[dim]{folder}[/]", soft_wrap=True)
    code = done.result.outcome.code
    return 0 if arguments.dry_run and code is OutcomeCode.DRY_RUN else of_outcome(code)


def _approval(arguments: Namespace) -> Approval:
    if arguments.dry_run:
        return Approval.DRY_RUN
    return Approval(f"each_{arguments.approve}") if arguments.approve else Approval.AUTOMATIC
