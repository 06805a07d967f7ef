"""How well ``stvla human process`` finds what synthetic videos truly show: segments, contact, paths, relations, words.

It reads folders with rgb, depth, camera.json and, for the comparison only, truth.json and truth.npz beside them. The
template and the names of the things are given as a person would give them; which is which is for the pipeline to find.
The output's folder gets ``report.md``, a table with a row per task, and ``report.json``, with a row per video too. A run
that was stopped resumes. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from benchmarks.human.score import CONTACT_PX, MOMENT_FRAMES, Score, score
from stvla_ros.config import ConfigError
from stvla_ros.data.st_human.info_json import read_info
from stvla_ros.data.st_human.process.video import ProcessSettings, process_video
from stvla_ros.files import read_json

COLUMNS = {
    "videos": "videos", "segments_f1": "F1", "contact": "contact", "release": "release", "contact_point": "point",
    "rms_held_mm": "held mm", "rms_seen_mm": "seen mm", "rms_gap_mm": "gap mm", "relations": "relations", "relations_wrong": "wrong",
    "sentence": "sentence", "routed": "to person", "rest_sentence": "rest sentence", "rest_rms_held_mm": "rest held mm",
    "cpu_s": "CPU s",
}  # fmt: skip
"""Figures of the table and their headings."""


ASKED = ("content", "part", "angle")
"""Slots that the protocol asks for and no shape shows: they are told with the template."""


def main() -> None:
    options = parse()
    console, scores = Console(width=140, stderr=True), {}
    settings = ProcessSettings(options.hands, options.hand_models, samples=False)
    folders = sorted(path.parent for path in options.videos.rglob("truth.json"))
    if not folders:
        raise SystemExit(f"{options.videos}: wanted synthetic videos with truth.json, found none.")
    for number, folder in enumerate(folders[: options.most], 1):
        scores[folder.name] = _one(folder, options.output / folder.name, options.template, settings, console)
        console.print(f"{number} of {len(folders)}: {folder.name}", highlight=False)
        write(options.output, scores)
    print((options.output / "report.md").read_text())
    print(json.dumps({"benchmark": "human", "load": os.getloadavg()[0], **figures(list(scores.values()))}))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.human", description=__doc__)
    parser.add_argument("videos", type=Path, help="folder of synthetic videos")
    parser.add_argument("--output", type=Path, required=True, help="folder of the results")
    parser.add_argument("--most", type=int, default=None, help="only the first so many videos")
    parser.add_argument(
        "--no-template", dest="template", action="store_false", help="let the pipeline guess the template"
    )
    parser.add_argument(
        "--hands", choices=("depth", "mediapipe"), default="depth", help="what finds hands; default depth"
    )
    parser.add_argument("--hand-models", default="", help="folder of the files of mediapipe")
    return parser.parse_args()


def _one(folder: Path, output: Path, template: bool, settings: ProcessSettings, console: Console) -> Score:
    """Process one video in a folder without its truth, then compare."""
    true = read_json(folder / "truth.json")
    source = output / "video"
    source.mkdir(parents=True, exist_ok=True)
    for name in ("rgb", "depth", "camera.json"):
        if not (source / name).exists():
            (source / name).symlink_to((folder / name).resolve())
    things = [
        {"name": o["name"], "roles": ["container"] if o["container"] else []}
        for o in true["objects"]
        if o.get("part_of") is None
    ]
    told: dict[str, Any] = {"id": folder.name, "objects": things, "hand": true["hand"]}
    told["slots"] = {name: value for name, value in true["slots"].items() if name in ASKED}
    (source / "video.json").write_text(
        json.dumps(told | ({"template": true["template"]} if template else {"slots": {}}))
    )
    start = time.process_time()
    try:
        report = process_video(source, output, settings)
    except ConfigError as error:
        console.print(f"{folder.name}: {error}", markup=False)
        return Score(true["kind"], frames=true["frames"])
    used = time.process_time() - start
    routes = {e["id"]: e["route"] for e in read_json(output / "quality.json")["episodes"]}
    found = score(read_info(output / "info.json"), routes, folder)
    found.seconds, found.cpu_s = report.seconds, used
    return found


def figures(scores: Sequence[Score]) -> dict[str, Any]:
    """The figures of some videos."""
    right, wrong, missed = (sum(s.segments[k] for s in scores) for k in range(3))
    timed = [s.moments for s in scores]
    px = [s.contact_px if s.contact_px is not None else np.inf for s in scores]
    rest = [s for s in scores if not s.routed]
    clear, spurious = ([sum(getattr(s, name)[k] for s in scores) for k in (0, 1)] for name in ("relations", "spurious"))

    def near(k: int) -> float:
        return float(np.mean([m is not None and abs(m[k]) <= MOMENT_FRAMES for m in timed]))

    return {
        "videos": len(scores),
        "segments_f1": 2 * right / max(2 * right + wrong + missed, 1),
        "contact": near(0),
        "release": near(1),
        "contact_point": float(np.mean([p <= CONTACT_PX for p in px])),
        "rms_held_mm": _rms([s.held_mm for s in scores]),
        "rms_seen_mm": _rms([s.seen_mm for s in scores]),
        "rms_gap_mm": _rms([s.gap_mm for s in scores]),
        "relations": clear[0] / max(clear[1], 1),
        "relations_wrong": spurious[0] / max(spurious[1], 1),
        "sentence": float(np.mean([s.exact for s in scores])),
        "routed": float(np.mean([s.routed for s in scores])),
        "rest_sentence": float(np.mean([s.exact for s in rest])) if rest else None,
        "rest_contact_point": float(np.mean([(s.contact_px or 0.0) <= CONTACT_PX for s in rest])) if rest else None,
        "rest_rms_held_mm": _rms([s.held_mm for s in rest]),
        "rest_rms_seen_mm": _rms([s.seen_mm for s in rest]),
        "cpu_s": float(np.mean([s.cpu_s for s in scores])),
        "cpu_ms_per_frame": 1000 * sum(s.cpu_s for s in scores) / max(sum(s.frames for s in scores), 1),
    }


def _rms(errors: Sequence[np.ndarray]) -> float | None:
    all_ = np.concatenate([*errors, np.zeros(0)])
    return float(np.sqrt((all_**2).mean())) if len(all_) else None


def write(folder: Path, scores: Mapping[str, Score]) -> None:
    """``report.md`` and ``report.json`` of videos by their names."""
    rows = {kind: figures(ones) for kind, ones in by_kind(list(scores.values())).items()}
    spent: dict[str, float] = {}
    for one in scores.values():
        for name, seconds in one.seconds.items():
            spent[name] = spent.get(name, 0.0) + seconds
    stages = ", ".join(f"{name} {seconds:.1f}" for name, seconds in spent.items())
    (folder / "report.md").write_text(f"{markdown(rows)}\n\nWall seconds per stage: {stages or 'none was run'}.\n")
    videos = {name: {"kind": one.kind} | figures([one]) | {"moments": one.moments} for name, one in scores.items()}
    (folder / "report.json").write_text(
        json.dumps({"tasks": rows, "videos": videos, "seconds": spent}, indent=1) + "\n"
    )


def by_kind(scores: Sequence[Score]) -> dict[str, list[Score]]:
    """Videos by their task, and ``all``."""
    kinds = sorted({s.kind for s in scores})
    return {kind: [s for s in scores if s.kind == kind] for kind in kinds} | {"all": list(scores)}


def markdown(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """A table with a row per task."""
    lines = ["| task | " + " | ".join(COLUMNS.values()) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    lines += [
        f"| {kind} | " + " | ".join(_shown(name, row[name]) for name in COLUMNS) + " |" for kind, row in rows.items()
    ]
    return "\n".join(lines)


def _shown(name: str, value: float | None) -> str:
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.1f}" if name.endswith(("mm", "_s")) else f"{value:.2f}"


if __name__ == "__main__":
    main()
