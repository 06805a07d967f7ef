"""Motion planning per keypose, inverse kinematics and timing included: ours, OMPL's RRTConnect, MoveIt, and mplib.

Every planner gets the same queries: joints to start from, a tool pose, and the voxels of random boxes. Every timed
path is re-checked with the simulator's hulls against the boxes themselves. Limits are the largest ratios of all queries,
from differences of the samples (8 ms). A second table has the time of the executor's last look at the same paths
(``motion/safety.py``). The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.motion.queries import VOXEL_M, Judge, Query, make_queries, voxels
from stvla_ros.description.hulls import cache_dir
from stvla_ros.description.panda import A_MAX_RAD_S2, J_MAX_RAD_S3, V_MAX_RAD_S
from stvla_ros.description.urdf import srdf, urdf
from stvla_ros.errors import StageError
from stvla_ros.interfaces import MotionPlanner
from stvla_ros.motion.safety import PathSafety, PathSafetyConfig
from stvla_ros.registry import create, names
from stvla_ros.types import F64, CollisionWorld, JointPath, MotionRequest

MPLIB = "mplib 0.2.1"
FULL_SPEED = {"velocity_scale": 1.0, "acceleration_scale": 1.0, "jerk_scale": 1.0}


@dataclass(frozen=True)
class Answer:
    """A planner's answer to one query."""

    wall_s: float
    cpu_s: float
    path: JointPath | None
    reason: str = ""


def ask(
    planner: MotionPlanner,
    queries: list[Query],
    worlds: list[CollisionWorld],
    cpu_s: Callable[[], float] = time.process_time,
) -> list[Answer]:
    """One instance for all queries, as in the executor; the world changes with every query."""
    answers = []
    for query, world in zip(queries, worlds, strict=True):
        request = MotionRequest(query.start_rad, query.T_base_tcp, world)
        begin, used = time.perf_counter(), cpu_s()
        try:
            path, reason = planner.plan(request), ""
        except StageError as error:
            path, reason = None, error.code.name
        answers.append(Answer(time.perf_counter() - begin, cpu_s() - used, path, reason))
    return answers


def ask_moveit(pid: int, queries: list[Query], worlds: list[CollisionWorld]) -> list[Answer]:
    """The same queries to a running move_group; its CPU time counts."""
    from benchmarks.motion.moveit import moveit_planner, process_cpu_s

    with moveit_planner(FULL_SPEED) as planner:
        return ask(planner, queries, worlds, lambda: time.process_time() + process_cpu_s(pid))


def ask_mplib(python: Path, queries: list[Query], worlds: list[CollisionWorld]) -> list[Answer]:
    """The same queries in mplib's own environment."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        meshes = str(cache_dir())  # mplib takes paths of meshes as relative to the URDF
        (folder / "panda.urdf").write_text(urdf().replace(meshes, os.path.relpath(meshes, folder)))
        (folder / "panda.srdf").write_text(srdf())
        limits = {"velocity": V_MAX_RAD_S.tolist(), "acceleration": A_MAX_RAD_S2.tolist()}
        (folder / "limits.json").write_text(json.dumps(limits))
        arrays = {f"start{i}": q.start_rad for i, q in enumerate(queries)}
        arrays |= {f"goal{i}": q.T_base_tcp for i, q in enumerate(queries)}
        arrays |= {f"points{i}": w.voxels_m.astype(np.float64) for i, w in enumerate(worlds)}
        np.savez(folder / "queries.npz", count=len(queries), voxel_m=VOXEL_M, **arrays)
        worker = Path(__file__).with_name("mplib_worker.py")
        subprocess.run([str(python), str(worker), name], check=True, timeout=900, stdout=subprocess.DEVNULL)
        data = dict(np.load(folder / "answers.npz"))
    return [Answer(*data[f"seconds{i}"].tolist(), _mplib_path(data, i)) for i in range(len(queries))]


def ask_safety(answers: list[Answer]) -> dict[str, Any]:
    """CPU time of the executor's check per path, and how many paths it refused or slowed, with its defaults."""
    safety, ms, counts = PathSafety(PathSafetyConfig()), [], Counter[str]()
    for path in (answer.path for answer in answers if answer.path is not None):
        used = time.process_time()
        try:
            counts["as planned" if safety.checked(path) is path else "slowed"] += 1
        except StageError as error:
            counts[error.code.name] += 1
        ms.append(1e3 * (time.process_time() - used))
    return {"median_ms": float(np.median(ms)), "p95_ms": float(np.percentile(ms, 95)), "paths": dict(counts)}


def _mplib_path(data: dict[str, F64], i: int) -> JointPath | None:
    return JointPath(data[f"q{i}"], data[f"dq{i}"], data[f"t{i}"]) if f"q{i}" in data else None


def worst_ratios(path: JointPath) -> tuple[float, float, float]:
    """Largest velocity, acceleration and jerk over the Panda's limits, by differences of the samples."""
    if len(path.t_s) < 3:
        return 0.0, 0.0, 0.0
    step = np.diff(path.t_s)[:, None]
    a = np.diff(path.dq_rad_s, axis=0) / step
    jerk = np.diff(a, axis=0) / ((step[1:] + step[:-1]) / 2)
    every = ((path.dq_rad_s, V_MAX_RAD_S), (a, A_MAX_RAD_S2), (jerk, J_MAX_RAD_S3))
    v, a_ratio, j = (float((np.abs(x) / limit).max()) for x, limit in every)
    return v, a_ratio, j


def figures(answers: list[Answer], judges: list[Judge]) -> dict[str, Any]:
    """The row of one planner."""
    paths = [(a.path, j) for a, j in zip(answers, judges, strict=True) if a.path is not None]
    ms = 1e3 * np.array([a.wall_s for a in answers])
    ratios = np.array([worst_ratios(path) for path, _ in paths])
    return {
        "queries": len(answers),
        "solved": len(paths),
        "free": sum(judge.path_free(path.q_rad) for path, judge in paths),
        "unsolved": dict(Counter(a.reason for a in answers if a.reason)),
        "median_ms": float(np.median(ms)),
        "p95_ms": float(np.percentile(ms, 95)),
        "cpu_median_ms": float(np.median([1e3 * a.cpu_s for a in answers])),
        "cpu_p95_ms": float(np.percentile([1e3 * a.cpu_s for a in answers], 95)),
        "duration_s": float(np.median([path.t_s[-1] for path, _ in paths])),
        **{f"{name}_max": float(value) for name, value in zip("vaj", ratios.max(axis=0), strict=True)},
    }


COLUMNS = (
    "solved", "truly free", "median ms", "p95 ms", "CPU ms", "CPU p95", "mplib / this", "motion s", "v", "a", "j",
)  # fmt: skip


def show(rows: dict[str, dict[str, Any]], checks: dict[str, dict[str, Any]]) -> None:
    table = Table(title="motion planning per keypose, inverse kinematics and timing included")
    table.add_column("planner")
    for title in COLUMNS:
        table.add_column(title, justify="right")
    mplib = rows.get(MPLIB)
    for name, r in rows.items():
        counts = f"{r['solved']}/{r['queries']}", f"{r['free']}/{r['solved']}"
        times = (f"{r[key]:.1f}" for key in ("median_ms", "p95_ms", "cpu_median_ms", "cpu_p95_ms"))
        faster = _ratios(mplib, r) if mplib else ""
        numbers = (f"{r[key]:.2f}" for key in ("duration_s", "v_max", "a_max", "j_max"))
        table.add_row(name, *counts, *times, faster, *numbers)
    print_table(table)
    table = Table(title="the executor's check of these paths: CPU ms per path")
    for title in ("planner", "median", "p95", "paths"):
        table.add_column(title, justify="right" if title in ("median", "p95") else "left")
    for name, check in checks.items():
        outcomes = ", ".join(f"{count} {what}" for what, count in check["paths"].items())
        table.add_row(name, f"{check['median_ms']:.2f}", f"{check['p95_ms']:.2f}", outcomes)
    print_table(table)


def _ratios(mplib: dict[str, Any], row: dict[str, Any]) -> str:
    wall, cpu = (mplib[key] / row[key] for key in ("median_ms", "cpu_median_ms"))
    return f"{wall:.1f}, CPU {cpu:.1f}"


def print_table(table: Table) -> None:
    Console(width=140).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.motion", description=__doc__)
    parser.add_argument("--queries", type=int, default=120, help="number of queries (default 120)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--planners", nargs="+", default=["roboplan", "ompl"], choices=names("motion"))
    parser.add_argument("--moveit", type=int, metavar="PID", help="process of a running move_group")
    parser.add_argument("--mplib", type=Path, help="python of an environment with mplib 0.2.1 and numpy<2")
    arguments = parser.parse_args()
    queries = make_queries(arguments.queries, arguments.seed)
    judges, worlds = [Judge(q.boxes) for q in queries], [voxels(q.boxes) for q in queries]
    answers = {name: ask(create("motion", name, FULL_SPEED), queries, worlds) for name in arguments.planners}
    if arguments.moveit:
        answers["moveit"] = ask_moveit(arguments.moveit, queries, worlds)
    if arguments.mplib:
        answers[MPLIB] = ask_mplib(arguments.mplib, queries, worlds)
    else:
        print("mplib is left out: give --mplib VENV/bin/python of an environment with mplib==0.2.1 and 'numpy<2'.")
    rows = {name: figures(given, judges) for name, given in answers.items()}
    checks = {name: ask_safety(given) for name, given in answers.items()}
    show(rows, checks)
    print(json.dumps({"benchmark": "motion", "seed": arguments.seed, "rows": rows, "checks": checks}))


if __name__ == "__main__":
    main()
