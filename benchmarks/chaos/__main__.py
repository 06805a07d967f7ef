"""Random faults during real tasks, over the whole stack in real time.

In each trial a task is begun on a simulated robot, something is done to the stack at a random moment (kill -9 of a node
or of the robot, SIGSTOP for 2 s, a camera that falls silent, joint states that jump, a clock set back), the end is
watched, and the next goal is given at once. One stack lives through all of them. Method: docs/reliability.md. The last
line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

from rich.console import Console

from benchmarks.chaos import records
from benchmarks.chaos.faults import KINDS, NODES, VICTIMS, draw
from benchmarks.chaos.programs import busy_loops
from benchmarks.chaos.report import markdown, summary, table
from benchmarks.chaos.session import Session
from stvla_ros.commands.arguments import add_override_argument
from stvla_ros.commands.progress import count_bar
from stvla_ros.ros.graph import GraphOptions


def run(console: Console, options: argparse.Namespace) -> None:
    """Run all remaining trials within the time."""
    kinds = [kind for kind in KINDS if kind in options.kinds.split(",")]
    victims = [node for node in NODES if node in options.victims.split(",")]
    settings = {"seed": options.seed, "kinds": kinds, "task": options.task, "burners": options.burners}
    if victims != list(NODES):
        settings["victims"] = victims
    if options.overrides:
        settings["set"] = dict(options.overrides)
    done = records.begin(options.output, settings, options.resume)
    until = time.monotonic() + 60.0 * options.minutes
    with count_bar(console, "[green]{task.fields[good]} good[/] [red]{task.fields[bad]} wrong[/]") as bar:
        shown = bar.add_task("", total=options.kills, completed=len(done), good=0, bad=0)
        with busy_loops(options.burners), _session(options) as session:
            for index in range(len(done), options.kills):
                if time.monotonic() > until:
                    break
                trial = session.trial(index, draw(options.seed, index, kinds, victims))
                records.append(options.output, trial)
                done.append(trial)
                if trial.wrong():
                    bar.console.print(f"{index}: {trial.fault.kind} {trial.fault.victim}: {', '.join(trial.wrong())}")
                bad = sum(bool(t.wrong()) for t in done)
                bar.update(shown, completed=len(done), good=len(done) - bad, bad=bad)


def _session(options: argparse.Namespace) -> Session:
    return Session(options.output, options.task, GraphOptions(overrides=dict(options.overrides)))


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chaos", description=__doc__)
    parser.add_argument(
        "--kills", type=int, default=100, metavar="N", help="number of trials, one fault each; default 100"
    )
    parser.add_argument(
        "--kinds", default="kill,robot", metavar="A,B", help=f"of {','.join(KINDS)}; default kill,robot"
    )
    parser.add_argument("--victims", default=",".join(NODES), metavar="A,B", help=f"of {','.join(NODES)}; default all")
    add_override_argument(parser)
    parser.add_argument("--seed", type=int, default=1, help="seed of victims, times and scenes; default 1")
    parser.add_argument("--task", default="pick_place", help="default pick_place")
    parser.add_argument("--burners", type=int, default=0, metavar="N", help="number of busy loops meanwhile; default 0")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="start no trial after this time")
    parser.add_argument("--output", type=Path, default=Path("runs/chaos"), metavar="FOLDER", help="default runs/chaos")
    parser.add_argument("--resume", action="store_true", help="resume the run in the folder")
    parser.add_argument(
        "--report", nargs="+", type=Path, metavar="FOLDER", help="only print the Markdown tables of these runs"
    )
    options = parser.parse_args()
    if options.report:
        print("\n\n".join(markdown(f.name, records.settings(f), records.load(f)) for f in options.report))
        return
    for option, given, known in (("--kinds", options.kinds, KINDS), ("--victims", options.victims, NODES)):
        if unknown := set(given.split(",")) - set(known):
            parser.error(f"{option}: wanted some of {', '.join(known)}, got {', '.join(sorted(unknown))}")
    if not any(set(VICTIMS[kind]) & set(options.victims.split(",")) for kind in options.kinds.split(",")):
        parser.error(f"no fault of {options.kinds} befalls {options.victims}")
    console = Console()
    try:
        run(console, options)
    except ValueError as error:
        parser.error(str(error))
    found = summary(records.load(options.output))
    Console(width=160).print(table(found))
    result = {"benchmark": "chaos", "cores": os.cpu_count(), **found}
    (options.output / "results.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
