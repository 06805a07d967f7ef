"""The figures as tables."""

from __future__ import annotations

import json
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.guidance import fill


def show(console: Console, part: str, results: dict[str, Any]) -> None:
    """Print the figures of one part."""
    match part:
        case "decisions":
            _decisions(console, results)
        case "holes":
            _holes(console, results)
        case "fill":
            fill.show(results, console)
        case "speed":
            _speed(console, results)
        case _:
            console.print(f"[bold]{part}[/bold]", json.dumps(results, indent=1))


def _decisions(console: Console, results: dict[str, Any]) -> None:
    table = _table(
        "Kept or removed", "masks", "F1", "kept F1", "removed F1", "asked kept", "distractors removed", "wrong"
    )
    for kind, found in results["decisions"].items():
        scores = [found["f1"], found["kept_f1"], found["removed_f1"]]
        scores += [found["task_level"]["asked_kept"], found["task_level"]["distractors_removed"]]
        table.add_row(kind, *(f"{v:.3f}" for v in scores), f"{found['wrong']} of {found['objects']}")
    console.print(table)
    for kind, found in results["decisions"].items():
        console.print(f"{kind}: wrong because of {found['causes'] or 'nothing'}")
    table = _table("Lifted path, mm", "source of error", "RMSE", "p50", "p95", "largest")
    for source, found in results["path_rmse_mm"].items():
        table.add_row(source, *(f"{found[k]:.2f}" for k in ("rmse", "p50", "p95", "p100")))
    console.print(table)
    start = results["start_depth_mm"]
    console.print(f"Start depth: p50 {start['p50']:.2f} mm, p95 {start['p95']:.2f} mm, largest {start['p100']:.1f} mm.")
    console.print(
        f"{results['frames']} frames; {results['unusable']} not used (start hidden); refused: {results['refused']}."
    )


def _holes(console: Console, results: dict[str, Any]) -> None:
    found = results["holes"]
    table = _table("Holes", "figure", *found)
    for figure in next(iter(found.values()), {}):
        table.add_row(figure, *(f"{figures[figure]:.2f}" if figure in figures else "" for figures in found.values()))
    console.print(table)
    table = _table("Instances matched one to one: mean IoU (share found), things", "kind", *results["instances"])
    for kind in sorted({k for matched in results["instances"].values() for k in matched["iou"]}):
        cells = [matched["iou"].get(kind) for matched in results["instances"].values()]
        table.add_row(
            kind, *(f"{c['mean']:.3f} ({c['found_percent']:.0f} %), {c['things']}" if c else "" for c in cells)
        )
    console.print(table)
    for noise, matched in results["instances"].items():
        count, percent = matched["false_per_frame"], matched["false_percent_of_frame"]
        console.print(
            f"{noise}: {count:.2f} false instances per frame, {percent:.2f} % of it; refused: {results['refused']}"
        )


def _speed(console: Console, results: dict[str, Any]) -> None:
    jobs = results["jobs"]
    table = _table("CPU ms, median (p95)", "stage", *jobs)
    for name in next(iter(jobs.values()))["ms"]:
        cells = [f"{job['ms'][name]['median']:.1f} ({job['ms'][name]['p95']:.1f})" for job in jobs.values()]
        table.add_row(name, *cells)
    for name in next(iter(jobs.values()))["hz"]:
        table.add_row(f"{name} [Hz]", *(f"{job['hz'][name]:.0f}" for job in jobs.values()))
    console.print(table)
    for of in (o for o in ("pixels", "objects") if f"exponent_{o}" in results):
        console.print(f"Time grows with {of} to the power of {results[f'exponent_{of}']}.")


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title)
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if i else "left")
    return table
