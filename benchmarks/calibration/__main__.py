"""Errors of the calibration with a board over many rendered runs, and what the check without a board finds."""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.calibration.arms import ArmRun, make_noisy_cell, run_arm, take_views
from benchmarks.calibration.boards import BoardRun, Noise, make_cell, run_board
from stvla_ros.calibration.board import BoardConfig
from stvla_ros.calibration.poses import PoseConfig
from stvla_ros.commands.calibrate_check import LIMIT_DEG, LIMIT_M

GOOD_M, GOOD_RAD = 0.002, np.radians(0.2)
DRIFTS = ((0.0, 0.0), (0.001, 0.0), (0.005, 0.0), (0.0, 0.5), (0.005, 0.5))
"""Of the camera: distance [m], angle (deg)."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=50, help="calibrations with a board")
    parser.add_argument("--checks", type=int, default=20, help="checks without a board per drift")
    parser.add_argument("--poses", type=int, default=18)
    parser.add_argument("--size", default="1280x720", help="of the images with a board")
    parser.add_argument("--board", default="charuco", choices=("charuco", "apriltag"))
    parser.add_argument("--noise", type=float, default=1.0, help="multiplies blur, pixel and joint noise")
    arguments = parser.parse_args()
    console = Console()
    figures = {"board": boards(arguments, console), "check": checks(arguments.checks, console)}
    print(json.dumps(figures))


def boards(arguments: argparse.Namespace, console: Console) -> dict[str, Any]:
    """All runs with a board."""
    k, plain = arguments.noise, Noise()
    noise = Noise(k * plain.blur_px, k * plain.pixel, plain.exposure, k * plain.joint_offset_rad, k * plain.joint_rad)
    cell = make_cell(*map(int, arguments.size.split("x")))
    runs: list[BoardRun] = []
    for seed in range(arguments.runs):
        began = time.perf_counter()
        board = BoardConfig(kind=arguments.board)
        run = run_board(cell, seed, board, PoseConfig(count=arguments.poses), noise)
        runs.append(run)
        console.print(
            f"run {seed}: {1000 * run.error_m:.2f} mm, {np.degrees(run.error_rad):.3f} deg; says "
            f"+-{1000 * run.calibration.std_m:.2f} mm, +-{np.degrees(run.calibration.std_rad):.3f} deg; "
            f"{run.poses} poses, {run.calibration.rms_px:.2f} px ({time.perf_counter() - began:.0f} s)"
        )
    if not runs:
        return {}
    figures = {
        "camera off by (mm)": [1000 * r.error_m for r in runs],
        "camera off by (deg)": [np.degrees(r.error_rad) for r in runs],
        "distance over its std": [r.error_m / r.calibration.std_m for r in runs],
        "angle over its std": [r.error_rad / r.calibration.std_rad for r in runs],
        "residual (px)": [r.calibration.rms_px for r in runs],
        "left out (px)": [float(np.median(r.calibration.left_out_px)) for r in runs],
        "left out (mm)": [1000 * float(np.median(r.calibration.left_out_m)) for r in runs],
        "poses used": [len(r.calibration.used) for r in runs],
    }
    good = sum(bool(r.error_m <= GOOD_M and r.error_rad <= GOOD_RAD) for r in runs)
    doubts = sum(r.calibration.doubt is not None for r in runs)
    return {"good": good, "runs": len(runs), "doubts": doubts} | _spread_table(
        "calibration with a board", figures, console
    )


def checks(count: int, console: Console) -> dict[str, Any]:
    """All checks without a board, from one posture and from four."""
    cell, runs = make_noisy_cell(), dict[tuple[int, float, float], list[ArmRun]]()
    for seed in range(count):
        views = take_views(cell, seed, 4, Noise())
        for n in (1, 4):
            for distance_m, deg in DRIFTS:
                run = run_arm(views[:n], seed, distance_m, np.radians(deg))
                runs.setdefault((n, distance_m, deg), []).append(run)
    table = Table(
        "postures", "drift (mm)", "(deg)", "found", "error p50 (mm)", "max", "error p50 (deg)", "max", "said +-"
    )
    figures: dict[str, Any] = {}
    for (n, distance_m, deg), all_of in runs.items():
        found = sum(r.drift.exceeds(LIMIT_M, np.radians(LIMIT_DEG)) for r in all_of)
        mm = [1000 * abs(r.drift.shift_m - r.true_shift_m) for r in all_of]
        angle = [np.degrees(abs(r.drift.angle_rad - r.true_rad)) for r in all_of]
        said = [1000 * r.drift.std_m for r in all_of]
        row = [float(np.median(mm)), max(mm), float(np.median(angle)), max(angle), float(np.median(said))]
        table.add_row(
            str(n), f"{1000 * distance_m:g}", f"{deg:g}", f"{found}/{len(all_of)}", *(f"{v:.2f}" for v in row)
        )
        figures[f"{n} postures, {1000 * distance_m:g} mm, {deg:g} deg"] = {
            "found": found,
            "of": len(all_of),
            "figures": row,
        }
    console.print(table)
    return figures


def _spread_table(title: str, figures: dict[str, list[float]], console: Console) -> dict[str, Any]:
    table, out = Table(title, "p50", "p95", "max"), {}
    for name, values in figures.items():
        out[name] = [float(v) for v in (*np.percentile(values, [50, 95]), np.max(values))]
        table.add_row(name, *(f"{v:.3f}" for v in out[name]))
    console.print(table)
    return out


if __name__ == "__main__":
    main()
