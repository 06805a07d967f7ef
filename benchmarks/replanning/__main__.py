"""Replanning on and off while objects are moved; and over ROS with a slow planner.

The last line is JSON. See benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.replanning.slow_planner import DELAY
from stvla_ros.evaluate.cell_environment import CellEnvironmentSetup
from stvla_ros.evaluate.episode import EpisodeRecord, EpisodeSpec
from stvla_ros.evaluate.report import TaskReport, report, table
from stvla_ros.evaluate.stack import read_settings
from stvla_ros.evaluate.workers import run_episodes
from stvla_ros.ros.graph import GraphOptions, default_parameters
from stvla_ros.ros.stack_environment import StackEnvironment, StackEnvironmentSetup, running_stack
from stvla_ros.sim.disturbance import MOVABLE

PARTS = ("disturbed", "latency")


def disturbed(console: Console, episodes: int, jobs: int) -> dict[str, Any]:
    """Success with objects moved during the task; only replanning differs."""
    result: dict[str, Any] = {}
    read = read_settings(default_parameters())
    for name, replan in (("replanning every 2 keyposes", True), ("first plan only", False)):
        settings = replace(read, loop=replace(read.loop, replan=replan))
        todo = [EpisodeSpec(task, seed) for task in MOVABLE for seed in range(episodes)]
        records = run_episodes(CellEnvironmentSetup(settings, disturb="move"), todo, jobs)
        done = list(track(records, name, len(todo), console=console, transient=True))
        reports = [report(task, [r for r in done if r.task == task]) for task in MOVABLE]
        console.print(table(reports, f"{name}, seeds 0–{episodes - 1}"))
        result["on" if replan else "off"] = {"tasks": [asdict(r) for r in reports], "moved": by_object(done)}
    return result


def by_object(records: list[EpisodeRecord]) -> dict[str, str]:
    """Successes of episodes by what happened to the scene."""
    kinds: dict[str, list[bool]] = {}
    for record in records:
        carried = record.instruction.split(" block")[0].split(" the ")[1]
        moved = "moved by" in record.disturbance
        what = "nothing" if not moved else "carried" if f"The {carried} block" in record.disturbance else "goal"
        kinds.setdefault(what, []).append(record.success)
    return {what: f"{sum(good)}/{len(good)}" for what, good in sorted(kinds.items())}


def latency(console: Console, episodes: int, delays_s: list[float], task: str) -> dict[str, Any]:
    """Idle time over the whole stack in real time, by the planner's thinking time."""
    records: dict[float, list[EpisodeRecord]] = {delay: [] for delay in delays_s}
    for delay_s in track(delays_s, "over ROS", console=console, transient=True):
        records[delay_s] = _over_ros(task, episodes, delay_s)
    reports = {delay: report(task, done) for delay, done in records.items()}
    console.print(_latency_table(reports, task))
    return {f"{delay:g}": asdict(r) for delay, r in reports.items()}


def _over_ros(task: str, episodes: int, delay_s: float) -> list[EpisodeRecord]:
    options = GraphOptions()
    programs = {"planner": "benchmarks.replanning.slow_planner"}
    with (
        tempfile.TemporaryDirectory() as folder,
        running_stack(options, None, {DELAY: str(delay_s)}, programs) as stack,
    ):
        environment = StackEnvironment(StackEnvironmentSetup(options, Path(folder)), stack)
        return [environment.run(EpisodeSpec(task, seed)) for seed in range(episodes)]


def _latency_table(reports: dict[float, TaskReport], task: str) -> Table:
    result = Table(title=f"{task} over ROS, by the planner's thinking time", title_justify="left", box=None)
    for name in ("thinks s", "success", "plan p50 s", "plan p95 s", "idle %", "episode s"):
        result.add_column(name, justify="right")
    for delay_s, r in reports.items():
        figures = (r.plan_p50_s, r.plan_p95_s, None if r.idle_share is None else 100 * r.idle_share, r.robot_s)
        shown = ["–" if v is None else f"{v:.2f}" for v in figures]
        result.add_row(f"{delay_s:g}", f"{r.successes}/{r.episodes}", *shown)
    return result


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", default=",".join(PARTS), help=f"of {', '.join(PARTS)}")
    parser.add_argument("--episodes", type=int, default=25, help="per task and setting, for 'disturbed'")
    parser.add_argument("--jobs", type=int, default=1, help="parallel processes, for 'disturbed'")
    parser.add_argument("--runs", type=int, default=5, help="episodes per thinking time, for 'latency'")
    parser.add_argument("--delays", default="0,3", help="thinking times in seconds, for 'latency'")
    parser.add_argument("--task", default="pick_place", help="for 'latency'")
    arguments = parser.parse_args()
    console, parts, result = Console(), arguments.parts.split(","), {}
    if "disturbed" in parts:
        result["disturbed"] = disturbed(console, arguments.episodes, arguments.jobs)
    if "latency" in parts:
        delays = [float(text) for text in arguments.delays.split(",")]
        result["latency"] = latency(console, arguments.runs, delays, arguments.task)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
