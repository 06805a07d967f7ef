"""Spatial guidance against the simulator's ground truth: decisions, depth, path, fill, speed, flicker, pictures.

The scenes are drawn from one seed over all tasks, with cameras that differ from scene to scene, 3 to 12 objects, two
image sizes, shadows on and off, and the arm at different moments. Times are CPU time of this process. The last line is
JSON with all figures.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
from rich.console import Console

from benchmarks.guidance import decisions, failures, fill, flicker, pictures, segment, speed, tables

PARTS = ("decisions", "fill", "segment", "speed", "flicker", "pictures")
NOISES = {"both": (False, True), "on": (True,), "off": (False,)}


def main() -> None:
    options = parse()
    cv2.setNumThreads(1)
    run: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
        "decisions": _decisions,
        "fill": lambda o: fill.measure(o.fill_scenes, o.seed),
        "segment": lambda o: segment.measure(o.segment_scenes, o.seed),
        "speed": lambda o: speed.measure(o.speed_scenes, o.seed),
        "flicker": lambda o: flicker.measure(o.flicker_scenes, o.flicker_frames, o.seed + 1),
        "pictures": _pictures,
    }
    console, results = Console(), {}
    for part in PARTS:
        if part in options.parts:
            results[part] = run[part](options)
            tables.show(console, part, results[part])
    settings = {"frames": options.frames, "noise": options.noise, "seed": options.seed, "load": os.getloadavg()[0]}
    print(json.dumps({"benchmark": "guidance", **settings, **results}))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.guidance", description=__doc__)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS[:-1], help="what to run")
    parser.add_argument("--frames", type=int, default=2000, help="frames of the decisions")
    parser.add_argument("--noise", choices=NOISES, default="both", help="sensor defects in the decisions")
    parser.add_argument("--seed", type=int, default=0, help="decides all scenes")
    parser.add_argument("--fill-scenes", type=int, default=10, help="scenes of the fill per kind and size")
    parser.add_argument(
        "--segment-scenes", type=int, default=2, help="scenes of the segmenter per task, size, noise and view"
    )
    parser.add_argument("--speed-scenes", type=int, default=3, help="scenes per image size and number of objects")
    parser.add_argument("--flicker-scenes", type=int, default=6, help="still scenes")
    parser.add_argument("--flicker-frames", type=int, default=flicker.FRAMES, help="images of each still scene")
    parser.add_argument("--pictures", type=Path, default=Path("docs/images/guidance"), help="folder of the ten scenes")
    parser.add_argument("--failures", type=Path, help="folder for pictures of the worst wrong decisions")
    return parser.parse_args()


def _decisions(options: argparse.Namespace) -> dict[str, Any]:
    figures, summary = decisions.measure(options.frames, options.seed, NOISES[options.noise])
    if options.failures is not None:
        failures.draw_worst(figures, options.failures)
    return summary


def _pictures(options: argparse.Namespace) -> dict[str, Any]:
    return {"folder": str(options.pictures), "problems": pictures.draw_all(options.pictures)}


if __name__ == "__main__":
    main()
