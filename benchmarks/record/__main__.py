"""The recorder beside the whole stack, in simulation.

``cost``: goals and cancels with and without a recorder in turn, on one stack. ``kill``: the recorder is killed
(SIGKILL) at random moments while goals run, and its bag compared with the moment. ``full``: it records to a file
system of 8 MB (a tmpfs; needs root). The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from rich.console import Console
from rich.progress import track
from rich.table import Table
from sensor_msgs.msg import CameraInfo

from benchmarks.stop.__main__ import StoppedStack
from stvla_ros.errors import CancelToken
from stvla_ros.ros import qos
from stvla_ros.ros.bag_files import opened
from stvla_ros.ros.client import client_node, reset_scene, wait_for_nodes
from stvla_ros.ros.frames import CameraConfig
from stvla_ros.ros.graph import GraphOptions
from stvla_ros.ros.recorded_run import record_goal
from stvla_ros.ros.stack_environment import running_stack
from stvla_ros.ros.up import Stack

TASK = "pick_place"
FULL_MB = 8
TICKS = os.sysconf("SC_CLK_TCK")


@contextmanager
def recorder(stack: Stack, root: Path, log: Path, *settings: str) -> Iterator[subprocess.Popen[str]]:
    """A recorder that runs and listens; ended at the end. ``settings``: ``name:=value``."""
    words = [word for s in (f"root:={root}", "quota_gb:=0.0", "free_gb:=0.0", *settings) for word in ("-p", s)]
    command = [sys.executable, "-u", "-m", "stvla_ros.nodes.record", "--ros-args", *words]
    with log.open("a") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, text=True, env=stack.environment)
        try:
            if wait_for_nodes(["record"], 60.0):
                raise ConnectionError("The recorder does not start.")
            yield process
        finally:
            process.terminate()
            process.wait(30.0)


def busy_s(pids: list[int]) -> float:
    """CPU time of processes so far [s]."""
    fields = (Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split() for pid in pids)
    return sum(int(f[11]) + int(f[12]) for f in fields) / TICKS


class CameraWatch:
    """Counts images at the camera."""

    def __init__(self, node: Node) -> None:
        self.count = 0
        node.create_subscription(CameraInfo, CameraConfig().info, self._receive, qos.IMAGE_BEST_EFFORT)

    def _receive(self, _: CameraInfo) -> None:
        self.count += 1


def measure(stack: Stack, node: Node, watch: CameraWatch, seed: int, rng: np.random.Generator) -> dict[str, Any]:
    """One goal and one cancel: the figures of both."""
    words = reset_scene(TASK, seed)
    pids = list(stack.pids().values())
    images, busy, start = watch.count, busy_s(pids), time.monotonic()
    run = record_goal(words, CancelToken(), lambda _: None, None, "", 0.0)
    seconds = time.monotonic() - start
    figures = {
        "outcome": run.result.outcome.code.name,
        "seconds": seconds,
        "camera_hz": (watch.count - images) / seconds,
        "idle_share": run.idle_share,
        "stack_cpu": (busy_s(pids) - busy) / seconds,
    }
    trial = None
    stopped = StoppedStack(node, "cancel", stack)
    while trial is None or not trial.moving:
        trial = stopped.trial(TASK, seed, float(rng.uniform(1.0, 8.0)))
    return {**figures, "standstill_s": trial.standstill_s, "load": os.getloadavg()[0]}


def cost(pairs: int, folder: Path, rng: np.random.Generator) -> dict[str, Any]:
    """With and without, in turn; which one is first changes from pair to pair."""
    rows: dict[bool, list[dict[str, Any]]] = {True: [], False: []}
    with running_stack(GraphOptions(), folder / "logs") as stack, client_node("record_bench") as node:
        watch = CameraWatch(node)
        for i in track(range(2 * pairs), "cost"):
            recorded = (i + i // 2) % 2 == 0
            if not recorded:
                rows[False].append(measure(stack, node, watch, i // 2, rng))
                continue
            with recorder(stack, folder / "runs", folder / "log") as process:
                busy, start = busy_s([process.pid]), time.monotonic()
                figures = measure(stack, node, watch, i // 2, rng)
                figures["recorder_cpu"] = (busy_s([process.pid]) - busy) / (time.monotonic() - start)
            rows[True].append(figures)
    return {"pairs": [{"with": a, "without": b} for a, b in zip(rows[True], rows[False], strict=True)], **ratios(rows)}


def ratios(rows: dict[bool, list[dict[str, Any]]]) -> dict[str, Any]:
    """Medians, and the median of the ratios of the pairs."""
    found: dict[str, Any] = {}
    for name in ("camera_hz", "idle_share", "stack_cpu", "standstill_s"):
        a, b = (np.array([row[name] or np.nan for row in rows[which]], float) for which in (True, False))
        found[name] = {
            "with": float(np.nanmedian(a)),
            "without": float(np.nanmedian(b)),
            "ratio": float(np.nanmedian(a / b)),
            "ratios": [round(float(r), 3) for r in np.sort(a / b)],
        }
    found["recorder_cpu"] = float(np.median([row["recorder_cpu"] for row in rows[True]]))
    return found


@contextmanager
def goals() -> Iterator[None]:
    """Goals one after another, in a thread."""
    cancel = CancelToken()

    def work() -> None:
        seed = 0
        while not cancel.is_set():
            record_goal(reset_scene(TASK, seed), cancel, lambda _: None, None, "", 0.0)
            seed += 1

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        cancel.cancel()
        thread.join(60.0)


def kill(trials: int, folder: Path, rng: np.random.Generator) -> dict[str, Any]:
    """Kill the recorder, and see what its bag has."""
    rows = []
    with running_stack(GraphOptions(), folder / "logs") as stack, goals():
        for i in track(range(trials), "kill"):
            root = folder / f"killed{i}"
            with recorder(stack, root, folder / "log", "when:=now") as process:
                time.sleep(float(rng.uniform(0.0, 4.0)))
                process.send_signal(signal.SIGKILL)
                at_ns = time.time_ns()
                process.wait(10.0)
            rows.append({**left(next(root.glob("*/bag")), at_ns), "load": os.getloadavg()[0]})
            print(json.dumps(rows[-1]), flush=True)
    missing = [row["missing_s"] for row in rows if row["missing_s"] is not None]
    return {
        "killed": trials,
        "before the first joint state": trials - len(missing),
        "opened": sum(row["messages"] > 0 for row in rows),
        "missing_s": {"median": float(np.median(missing)), "longest": max(missing)},
        "rows": rows,
    }


def left(bag: Path, at_ns: int) -> dict[str, Any]:
    """What a bag has, by our reader and another one, and how long before the kill it ends (None: no joint state is in it)."""
    from rosbags.highlevel import AnyReader

    with opened(bag) as read:
        messages = sum(sum(kinds.values()) for kinds in read.topics.values())
    try:
        with AnyReader([bag]) as other:
            others: int | str = sum(1 for _ in other.messages())
    except Exception as error:  # noqa: BLE001 - whatever the other library says of a file that was cut off
        others = f"{type(error).__name__}: {error}"
    end_ns = max(stamps(bag), default=0)
    return {"messages": messages, "rosbags": others, "missing_s": (at_ns - end_ns) / 1e9 if end_ns else None}


def stamps(bag: Path) -> Iterator[int]:
    """When the arm's states in a bag were recorded."""
    with opened(bag) as read:
        for entry in read.messages({"/joint_states": "sensor_msgs/msg/JointState"}):
            yield entry[2]


@contextmanager
def small_disk(place: Path) -> Iterator[Path]:
    """A file system of 8 MB."""
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={FULL_MB}m", "tmpfs", str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def full(folder: Path) -> dict[str, Any]:
    """Goals while the recorder's disk is full."""
    said: set[str] = set()

    def hear(message: DiagnosticArray) -> None:
        said.update(s.message for s in message.status if s.name == "stvla: record" and s.level != b"\0")

    with (
        small_disk(folder / "disk") as disk,
        running_stack(GraphOptions(), folder / "logs") as stack,
        client_node("record_bench") as node,
    ):
        node.create_subscription(DiagnosticArray, "/diagnostics", hear, qos.EVENT)
        with recorder(stack, disk / "runs", folder / "log", "before_s:=20.0") as process:
            before = stack.pids()
            outcomes = [
                record_goal(
                    reset_scene(TASK, seed), CancelToken(), lambda _: None, None, "", 0.0
                ).result.outcome.code.name
                for seed in range(2)
            ]
            time.sleep(4.0)
            alive, same = process.poll() is None, before == stack.pids()
        log = (folder / "log").read_text()
        bags = [left(bag, 0)["messages"] for bag in disk.glob("runs/*/bag")]
    return {
        "outcomes": outcomes,
        "messages": bags,
        "diagnostics": sorted(said),
        "log": log.splitlines(),
        "recorder alive": alive,
        "no node restarted": same,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("cost", "kill", "full"))
    parser.add_argument("--pairs", type=int, default=4, help="of goals, for cost")
    parser.add_argument("--trials", type=int, default=20, help="for kill")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        works: dict[str, Callable[[], dict[str, Any]]] = {
            "cost": lambda: cost(arguments.pairs, folder, rng),
            "kill": lambda: kill(arguments.trials, folder, rng),
            "full": lambda: full(folder),
        }
        found = works[arguments.what]()
    show(found)
    print(json.dumps(found))
    return 0


def show(found: dict[str, Any]) -> None:
    """The figures as a table."""
    table = Table("figure", "value")
    for name, value in found.items():
        if name not in ("rows", "pairs"):
            table.add_row(name, json.dumps(value))
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
