"""Replays of one recording in new processes: are the hashes the same, how fast is it, does memory grow with the length?

A long recording is made of a short one: its messages again and again, with later stamps and other plan ids. Every replay
is the command's work without the report. The last line is JSON with all figures.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console
from rich.progress import track

from benchmarks.replay.long_bag import repeat_bag


def main() -> None:
    options = parse()
    if options.once:
        print(json.dumps(replay_once(options.bag, options.every_frame)))
        return
    console = Console()
    results = {"hashes": hashes(options.bag, options.replays, console)}
    if options.minutes:
        results["long"] = long(options.bag, options.minutes, options.every_frame, console)
    print(json.dumps({"benchmark": "replay", "load": os.getloadavg()[0], **results}))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.replay", description=__doc__)
    parser.add_argument("bag", type=Path, help="a bag of stvla record")
    parser.add_argument("--replays", type=int, default=20, help="half of them on 1 thread, half on 2")
    parser.add_argument("--minutes", type=float, default=10.0, help="length of the long recording; 0: none")
    parser.add_argument("--every-frame", action="store_true", help="guide every frame of the long recording")
    parser.add_argument("--once", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def replay_once(bag: Path, every_frame: bool) -> dict[str, Any]:
    """Hash and figures of one replay in this process."""
    import cv2

    from stvla_ros.evaluate.stack import StackSettings
    from stvla_ros.replay.running import Setup, against_recorded, replay
    from stvla_ros.ros.frames import CameraConfig
    from stvla_ros.ros.recorded_task import open_task

    settings = StackSettings()
    cv2.setNumThreads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    start = time.process_time()
    task = open_task(bag, CameraConfig(), settings.robot)
    before = _peak_mb()
    made = replay(task, Setup("replayed", settings, every_frame=every_frame))
    compared = against_recorded(task, made, every_frame)
    cpu_s = time.process_time() - start
    return {
        "hash": made.hash,
        "seconds": task.seconds,
        "decisions": len(made.decisions),
        "differ": sum(not d.equal for d in compared.differences),
        "cpu_s": cpu_s,
        "times_real_time": task.seconds / cpu_s,
        "opened_mb": before,
        "peak_mb": _peak_mb(),
    }


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _in_new_process(bag: Path, threads: int, every_frame: bool = False) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.replay", str(bag), "--once", *["--every-frame"] * every_frame]
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    environment = {**os.environ, **dict.fromkeys(names, str(threads))}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def hashes(bag: Path, count: int, console: Console) -> dict[str, Any]:
    """Replays in new processes, on 1 and 2 threads in turn."""
    made = [_in_new_process(bag, 1 + i % 2) for i in track(range(count), "replays", console=console)]
    found = sorted({one["hash"] for one in made})
    console.print(f"{count} replays in new processes, on 1 and 2 threads: {len(found)} hash(es), {', '.join(found)}")
    return {"replays": count, "hashes": found, "of_one": made[0] if made else {}}


def long(bag: Path, minutes: float, every_frame: bool, console: Console) -> dict[str, Any]:
    """A long recording next to the short one, on one thread."""
    with TemporaryDirectory() as place:
        path = repeat_bag(bag, Path(place) / "bag", 60 * minutes)
        size = sum(file.stat().st_size for file in path.iterdir())
        rows = {"short": _in_new_process(bag, 1, every_frame), "long": _in_new_process(path, 1, every_frame)}
    for name, row in rows.items():
        console.print(
            f"{name}: {row['seconds']:.0f} s, {row['decisions']} decisions, {row['differ']} differ, {row['cpu_s']:.1f} s of "
            f"processor time ({row['times_real_time']:.1f} times real time), peak {row['peak_mb']:.0f} MB"
        )
    return {"bytes": size, **rows}


if __name__ == "__main__":
    main()
