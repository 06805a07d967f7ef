"""Spatial guidance against the simulator's ground truth: decisions, holes, fill, instances, speed, flicker, pictures.

The scenes are drawn from one seed over all tasks, with cameras that differ from scene to scene, two image sizes, and
the arm at different moments. Easy scenes have 3 to 12 plain objects on one table, hard ones household things on many
tables, seen by a camera with a real one's defects. Times are CPU time of this process. The last line is JSON with all
figures; a file with such a line is what --against wants.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
from rich.console import Console

from benchmarks.guidance import against, decisions, failures, fill, flicker, holes, pictures, segment, speed, tables
from benchmarks.guidance.scenes import SCENES

PARTS = ("decisions", "holes", "fill", "segment", "speed", "flicker", "pictures")
NOISES = {"both": (False, True), "on": (True,), "off": (False,)}
COUNTS = {
    "decisions": ("frames",), "holes": ("hole_scenes",), "fill": ("fill_scenes",), "segment": ("segment_scenes",),
    "speed": ("speed_scenes",), "flicker": ("flicker_scenes", "flicker_frames"), "pictures": (),
}  # fmt: skip


def main() -> None:
    options = parse()
    cv2.setNumThreads(1)
    scenes, hard = options.scenes, options.scenes == "hard"
    run: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
        "decisions": _decisions,
        "holes": lambda o: holes.measure(o.hole_scenes, o.seed, scenes),
        "fill": lambda o: (fill.measure_hard if hard else fill.measure)(o.fill_scenes, o.seed),
        "segment": lambda o: (segment.measure_hard if hard else segment.measure)(o.segment_scenes, o.seed),
        "speed": lambda o: (speed.measure_hard if hard else speed.measure)(o.speed_scenes, o.seed),
        "flicker": lambda o: flicker.measure(o.flicker_scenes, o.flicker_frames, o.seed + 1, scenes),
        "pictures": _pictures,
    }
    console = Console(width=max(Console().width, 160))
    results: dict[str, Any] = {"benchmark": "guidance", "scenes": options.scenes}
    results |= {"seed": options.seed, "noise": options.noise, "counts": {}}
    for part in (p for p in PARTS if p in options.parts):
        results[part] = run[part](options)
        results["counts"] |= {name: getattr(options, name) for name in COUNTS[part]}
        tables.show(console, part, results[part])
    if options.against is not None:
        _compare(console, options.against, results)
    print(json.dumps({**results, "load": os.getloadavg()[0]}))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.guidance", description=__doc__)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS[:-1], help="what to run")
    parser.add_argument("--scenes", choices=SCENES, default="easy", help="plain objects, or household things")
    parser.add_argument("--frames", type=int, default=2000, help="frames of the decisions")
    parser.add_argument("--noise", choices=NOISES, default="both", help="sensor defects in the decisions")
    parser.add_argument("--seed", type=int, default=0, help="decides all scenes")
    parser.add_argument("--hole-scenes", type=int, default=24, help="scenes of the holes")
    parser.add_argument("--fill-scenes", type=int, default=10, help="scenes of the fill per kind and size")
    parser.add_argument(
        "--segment-scenes", type=int, default=2, help="scenes of the segmenter per task, size, noise and view"
    )
    parser.add_argument("--speed-scenes", type=int, default=3, help="scenes per image size and number of objects")
    parser.add_argument("--flicker-scenes", type=int, default=6, help="still scenes")
    parser.add_argument("--flicker-frames", type=int, default=flicker.FRAMES, help="images of each still scene")
    parser.add_argument("--pictures", type=Path, default=Path("docs/images/guidance"), help="folder of the pictures")
    parser.add_argument("--failures", type=Path, help="folder for pictures of the worst wrong decisions")
    parser.add_argument(
        "--against", type=Path, help="output of an earlier run with the same options: print what changed"
    )
    return parser.parse_args()


def _decisions(options: argparse.Namespace) -> dict[str, Any]:
    figures, summary = decisions.measure(options.frames, options.seed, NOISES[options.noise], options.scenes)
    if options.failures is not None:
        failures.draw_worst(figures, options.failures, scenes=options.scenes)
    return summary


def _pictures(options: argparse.Namespace) -> dict[str, Any]:
    problems = pictures.draw_all(options.pictures, options.scenes)
    return {"folder": str(options.pictures), "problems": problems}


def _compare(console: Console, file: Path, results: dict[str, Any]) -> None:
    try:
        results["against"] = against.show(console, file, results)
    except (OSError, ValueError) as error:
        print(f"{file} cannot be compared: {error}", file=sys.stderr)


if __name__ == "__main__":
    main()
