"""The age of joint states at their receivers while tasks run.

Starts a stack in a ROS domain of its own, lays pick-and-place scenes and has them done one after another. Meanwhile two
processes listen: one as small as can be (from a joint state's stamp to its arrival, and the gaps between stamps), and
one with the executor's own receivers (age of the newest joint state whenever the executor's guard would look at it).
All times are the wall's, on one machine. Scenes are laid inside the measured time. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from stvla_ros.ros.client import reset_scene, run_goal
from stvla_ros.ros.graph import GraphOptions
from stvla_ros.ros.middleware import private_domain
from stvla_ros.ros.up import Stack

TARGET_S = 0.02
"""Target of the 99th percentile from stamp to listener."""

DISCOVERY_S = 4.0
"""A lost DDS announcement is repeated after 3 s."""


@contextmanager
def burner() -> Iterator[None]:
    """A busy loop at normal priority, in its own process."""
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as process:
        try:
            yield
        finally:
            process.kill()


@contextmanager
def listener(kind: str, folder: Path) -> Iterator[Path]:
    """One of :mod:`benchmarks.joint_states.listeners`; its file is complete at the end."""
    file = folder / f"{kind}.json"
    with subprocess.Popen([sys.executable, "-m", "benchmarks.joint_states.listeners", kind, str(file)]) as process:
        try:
            yield file
        finally:
            process.terminate()
            process.wait(30.0)


def measure(task: str, tasks: int, burners: int, seed: int) -> dict[str, Any]:
    """Run the tasks; all figures."""
    codes: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder, private_domain():
        files: list[Path] = []
        with ExitStack() as ends:
            stack = ends.enter_context(Stack(GraphOptions(), say=lambda name, line: None))
            stack.wait_ready(60.0)
            files = [ends.enter_context(listener(kind, Path(folder))) for kind in ("stamps", "guard")]
            time.sleep(DISCOVERY_S)
            for _ in range(burners):
                ends.enter_context(burner())
            begin = time.time()
            for number in range(seed, seed + tasks):
                result = run_goal(reset_scene(task, number))
                codes[result.outcome.code.name] += 1
            end = time.time()
        seen = {kind: np.array(rows) for file in files for kind, rows in json.loads(file.read_text()).items()}
    return {"outcomes": dict(codes), **figures(seen, begin, end)}


def figures(seen: dict[str, np.ndarray], begin_s: float, end_s: float) -> dict[str, Any]:
    """Percentiles in milliseconds of what arrived or was checked between two times."""
    row = {kind: values[(values[:, 0] >= begin_s) & (values[:, 0] <= end_s)] for kind, values in seen.items()}
    joints, images = row["joints"], row["images"]
    return {
        "seconds": round(end_s - begin_s, 1),
        "joint_states": len(joints),
        "joint_rate_hz": round(len(joints) / (end_s - begin_s), 1),
        "images_hz": round(len(images) / (end_s - begin_s), 1),
        "stamp_to_listener_ms": _percentiles(joints[:, 0] - joints[:, 1]),
        "gap_between_stamps_ms": _percentiles(np.diff(joints[:, 1])),
        "gap_between_arrivals_ms": _percentiles(np.diff(joints[:, 0])),
        "age_at_guards_check_ms": _percentiles(row["checks"][:, 1]),
        "image_to_receiver_ms": _percentiles(images[:, 0] - images[:, 1]),
    }


def _percentiles(seconds: np.ndarray) -> dict[str, float]:
    p50, p99 = np.percentile(seconds, [50, 99])
    return {name: round(1e3 * float(v), 1) for name, v in (("p50", p50), ("p99", p99), ("longest", seconds.max()))}


def table(result: dict[str, Any]) -> Table:
    """For people."""
    counts = ", ".join(f"{n} {code}" for code, n in result["outcomes"].items())
    shown = Table(title=f"/joint_states at {result['joint_rate_hz']} Hz, images at {result['images_hz']} Hz; {counts}")
    for heading in ("milliseconds", "p50", "p99", "longest"):
        shown.add_column(heading, justify="left" if heading == "milliseconds" else "right")
    for name, row in result.items():
        if name.endswith("_ms"):
            shown.add_row(name.removesuffix("_ms").replace("_", " "), *(str(row[q]) for q in ("p50", "p99", "longest")))
    return shown


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.joint_states",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--tasks", type=int, default=4, help="tasks, one after another (default 4)")
    parser.add_argument("--task", default="pick_place", help="task of the simulated cell (default pick_place)")
    parser.add_argument("--burners", type=int, default=0, help="number of busy loops besides the stack (default 0)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first scene (default 0)")
    options = parser.parse_args()
    result = measure(options.task, options.tasks, options.burners, options.seed)
    Console(width=120).print(table(result))
    met = result["stamp_to_listener_ms"]["p99"] <= 1e3 * TARGET_S
    print(json.dumps({"benchmark": "joint_states", "burners": options.burners, "met": met, **result}))


if __name__ == "__main__":
    main()
