"""Latency of a plan by ``qwen3_vl``: images to patches, prefill, decoding, for both stages; tokens per second and the
memory's limit. Models with random weights (nano anywhere, the shapes of Qwen3-VL-4B where a GPU is), or a checkpoint's
folder. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.planner import models
from benchmarks.planner.measure import PARTS, STAGES, clock_of, measure
from stvla_ros.devices import Placement, choose_placement

SHAPES = {"nano": models.nano, "4b": models.qwen3_vl_4b}


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    console, results = Console(width=110), {}
    for name in options.models:
        placement = choose_placement(options.device, options.precision, "benchmark")
        found = measure(_checkpoint(name, placement), options.size, options.runs, options.tokens)
        clock = "CPU time" if clock_of(placement.device, options.threads) is time.thread_time else "wall time"
        found |= {
            "clock": clock,
            "device": str(placement.device),
            "precision": str(placement.dtype).removeprefix("torch."),
        }
        results[name] = found
        console.print(table(name, found))
    settings = {"threads": options.threads, "runs": options.runs, "size_px": options.size, "load": os.getloadavg()[0]}
    print(json.dumps({"benchmark": "planner", **settings, "gpu": _gpu(), "models": results}))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.planner", description=__doc__)
    default = ["nano", "4b"] if torch.cuda.is_available() else ["nano"]
    parser.add_argument(
        "--models", type=lambda text: text.split(","), default=default, help="of nano, 4b, or folders of checkpoints"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda")
    parser.add_argument("--precision", default="auto", choices=("auto", "bf16", "float32"))
    parser.add_argument("--size", type=_pair, default=(640, 480), metavar="WxH", help="of the image; default 640x480")
    parser.add_argument("--tokens", type=_pair, metavar="NxM", help="lengths of the answers; default: by the tokenizer")
    parser.add_argument("--runs", type=int, default=5, help="number of plans; their median counts")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    return parser.parse_args()


def _checkpoint(name: str, placement: Placement) -> models.Checkpoint:
    if name in SHAPES:
        return models.checkpoint(SHAPES[name](), placement)
    return models.folder_checkpoint(Path(name), placement)


def table(name: str, found: dict[str, Any]) -> Table:
    """For people."""
    shown = Table(
        title=f"{name}, {found['parameters'] / 1e6:.1f} M parameters, {found['precision']} on {found['device']}: "
        f"{found['tokens_per_s']:.0f} tokens/s ({found['clock']}), {100 * found['share_of_limit']:.0f} % of what the memory allows",
        title_justify="left",
    )
    columns = [part[:-2] + "_ms" for part in PARTS]
    for heading in ("", "stage", "prompt", "reused", "answer", *columns, "plan ms"):
        shown.add_column(heading, justify="left" if heading in ("", "stage") else "right")
    for kind in ("plan", "plan, nothing kept"):
        for stage in STAGES:
            row = found[kind][stage]
            counts = (str(row[c]) for c in ("prompt_tokens", "reused_tokens", "reply_tokens"))
            total = f"{found[kind]['total_ms']:.0f}" if stage == STAGES[0] else ""
            shown.add_row(
                kind if stage == STAGES[0] else "", stage, *counts, *(f"{row[c]:.1f}" for c in columns), total
            )
    return shown


def _gpu() -> str | None:
    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else None


def _pair(text: str) -> tuple[int, int]:
    first, _, second = text.partition("x")
    if not (first.isdigit() and second.isdigit() and int(first) > 0 and int(second) > 0):
        raise argparse.ArgumentTypeError(f"wanted two numbers such as 640x480, got {text!r}")
    return int(first), int(second)


if __name__ == "__main__":
    main()
