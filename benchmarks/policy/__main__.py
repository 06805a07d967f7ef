"""The keypose network: plain path, fast path and the published code; same weights, same noise, one process, in turn.

Weights and images are random: times do not depend on them. Reference code is imported from clones of
github.com/nickgkan/3d_flowmatch_actor and 3d_diffuser_actor if their folders are given. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.policy import inference, recipe, training
from benchmarks.policy.cases import CASES, DIFFUSER, FLOWMATCH
from benchmarks.policy.clock import Clock

PARTS = ("inference", "training", "recipe")


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    clock, console = Clock(torch.device(options.device), options.threads), Console(width=120)
    clones = {DIFFUSER: options.reference_3dda, FLOWMATCH: options.reference_3dfa}
    clones = {name: path for name, path in clones.items() if path is not None}
    results: dict[str, Any] = {part: {} for part in options.parts}
    for name in options.cases:
        if "inference" in options.parts:
            results["inference"][name] = inference.measure(CASES[name], clones, options.runs, clock)
            console.print(inference_table(name, clock.name, results["inference"][name]))
        if "training" in options.parts:
            found = training.measure(CASES[name], clones, options.runs, options.batch, clock)
            results["training"][name] = found
            console.print(training_line(name, found))
    if "recipe" in options.parts:
        results["recipe"] = recipe.measure("nano-3dfa", options.runs, clock)
        console.print(recipe_line(results["recipe"]))
    settings = {"device": options.device, "threads": options.threads, "runs": options.runs, "clock": clock.name}
    print(json.dumps({"benchmark": "policy", **settings, "load": os.getloadavg()[0], **results}))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.policy", description=__doc__)
    parser.add_argument("--parts", type=_listed(PARTS), default=PARTS[:1], help=f"of {','.join(PARTS)}")
    parser.add_argument("--cases", type=_listed(tuple(CASES)), default=tuple(CASES), help=f"of {','.join(CASES)}")
    parser.add_argument("--reference-3dfa", type=Path, metavar="DIR", help="clone of 3d_flowmatch_actor")
    parser.add_argument("--reference-3dda", type=Path, metavar="DIR", help="clone of 3d_diffuser_actor")
    parser.add_argument("--runs", type=int, default=5, help="number of runs; their median counts")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--batch", type=int, default=4, help="observations per step of training")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    options = parser.parse_args()
    if options.device == "auto":
        options.device = "cuda" if torch.cuda.is_available() else "cpu"
    return options


def inference_table(name: str, unit: str, found: Mapping[str, Any]) -> Table:
    """A table of milliseconds, with the fast path's fraction."""
    ms = found["ms"]
    differences = ", ".join(f"{side} {value:.1e}" for side, value in found["difference"].items())
    shown = Table(title=f"{name}: {unit}; largest difference to the plain keypose: {differences}")
    shown.add_column("row")
    others = [side for side in ms if side != "fast"]
    for heading in (*ms, *(f"{side} / fast" for side in others)):
        shown.add_column(heading, justify="right")
    for row in inference.ROWS:
        ratios = (f"{ms[side][row] / ms['fast'][row]:.2f}" for side in others)
        shown.add_row(row, *(f"{ms[side][row]:.1f}" for side in ms), *ratios)
    return shown


def training_line(name: str, found: Mapping[str, Any]) -> str:
    rates = found["samples_per_s"]
    parts = [f"{side} {rate:.2f}" for side, rate in rates.items()]
    more = f", plain / reference {rates['plain'] / rates['reference']:.2f}" if "reference" in rates else ""
    return f"{name}, training, batch {found['batch']}, samples/s: {', '.join(parts)}{more}"


def recipe_line(found: Mapping[str, Any]) -> str:
    parts = [
        f"{side} {found[side]['samples_per_s']:.1f} samples/s, {found[side]['draws_per_s']:.0f} draws/s"
        for side in ("before", "now")
    ]
    return f"nano-3dfa, recipe: {'; '.join(parts)}; draws now / before {found['ratio']:.2f}"


def _listed(allowed: tuple[str, ...]):  # type: ignore[no-untyped-def]
    def read(text: str) -> tuple[str, ...]:
        wanted = tuple(text.split(","))
        if not set(wanted) <= set(allowed):
            raise argparse.ArgumentTypeError(f"{text!r} is not of {','.join(allowed)}")
        return wanted

    return read


if __name__ == "__main__":
    main()
