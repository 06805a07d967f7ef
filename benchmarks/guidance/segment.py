"""The geometric segmenter against the simulator's truth: instances, decisions, milliseconds, flicker.

    OMP_NUM_THREADS=1 .venv/bin/python -m benchmarks.guidance.segment --scenes 12

Rendered scenes of all tasks with 3 to 13 objects, seen by cameras that differ from scene to scene, with the sensor's
defects off and on. A true instance counts when at least 60 of its pixels (of a 640x480 image) are seen. The clock is
CPU time. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

import cv2
import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.guidance.decisions import true_trace
from benchmarks.guidance.given import Anew
from benchmarks.guidance.scenes import draw_setups, make_cell
from benchmarks.guidance.scenes import views as view_scene
from stvla_ros.description.panda import HOME_Q_RAD
from stvla_ros.geometry.cameras import cloud
from stvla_ros.perception.geometric import GeometricConfig, GeometricSegmenter
from stvla_ros.perception.tube import Relevance, relevant
from stvla_ros.sim.camera import TripodCameraConfig
from stvla_ros.sim.cell import Cell, CellConfig, CellTruth
from stvla_ros.sim.sensor import SensorConfig
from stvla_ros.types import I32, JointPath, RgbdFrame, RobotState, Segments, Trace3d

TASKS = ("pick_place", "stack_cube", "push_buttons")
SIZES = ((256, 256), (640, 480), (1280, 720))
LEAST_SHARE = 60 / (640 * 480)
TUBE_M, END_M = 0.05, 0.10


@dataclass
class Figures:
    """Sums over scenes."""

    iou: list[float] = field(default_factory=list)
    ms: list[float] = field(default_factory=list)
    missed: int = 0
    split: int = 0
    merged: int = 0
    false: int = 0
    scenes: int = 0
    kept_right: int = 0
    kept_wrong: int = 0
    removed_right: int = 0
    removed_wrong: int = 0
    cut: int = 0

    def add(self, other: Figures) -> None:
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)

    def summary(self) -> dict[str, Any]:
        count = max(len(self.iou), 1)
        errors = self.kept_wrong + self.removed_wrong
        return {
            "scenes": self.scenes,
            "instances": len(self.iou),
            "iou_mean": _rounded(np.mean(self.iou or [0])),
            "iou_p05": _rounded(np.quantile(self.iou or [0], 0.05)),
            "recall_50": _rounded(1 - self.missed / count),
            "split": self.split,
            "merged": self.merged,
            "false_per_scene": _rounded(self.false / max(self.scenes, 1)),
            "f1_kept": _rounded(2 * self.kept_right / max(2 * self.kept_right + errors, 1)),
            "f1_removed": _rounded(2 * self.removed_right / max(2 * self.removed_right + errors, 1)),
            "cut_in_two": self.cut,
            "ms": _rounded(np.mean(self.ms or [0])),
        }


def _rounded(value: Any) -> float:
    return round(float(value), 4)


@dataclass(frozen=True)
class Setting:
    """Frames of one cell."""

    width: int
    height: int
    noise: bool
    view: int

    def config(self) -> CellConfig:
        """Views: the default, from the left, from the right and higher, low and near, steep."""
        sides = ((0.0, 0.0, 0.0), (0.05, -0.45, 0.0), (0.0, 0.4, 0.15), (-0.1, 0.1, -0.25), (-0.5, 0.05, 0.3))
        camera = TripodCameraConfig(width_px=self.width, height_px=self.height)
        dx, dy, dz = sides[self.view]
        camera = replace(camera, x_m=camera.x_m + dx, y_m=camera.y_m + dy, z_m=camera.z_m + dz)
        return CellConfig(camera=camera, sensor=SensorConfig(enabled=self.noise))


def measure_hard(scenes: int, seed: int = 0) -> dict[str, Any]:
    """Figures of 12 hard scenes for each of ``scenes``, at two moments each, without and with sensor defects."""
    groups: dict[str, Figures] = {"all": Figures()}
    segmenter, cell = Anew(), make_cell(scenes="hard")
    try:
        for setup in track(draw_setups(12 * scenes, seed, "hard"), description="segment", transient=True):
            for view in view_scene(cell, setup):
                figures = score(view.frame, view.robot, view.labels, len(view.names), true_trace(view), segmenter)
                for name in ("all", "noise" if view.noise else "no noise", view.size, view.moment, setup.task):
                    groups.setdefault(name, Figures()).add(figures)
    finally:
        cell.close()
    return {"benchmark": "segment", "groups": {name: figures.summary() for name, figures in groups.items()}}


def measure(scenes: int = 6, seed: int = 0, sizes: Iterable[tuple[int, int]] = SIZES, views: int = 5) -> dict[str, Any]:
    """Figures over all tasks, noise off and on, per view and size.

    Args:
        scenes: Scenes per task, size, noise and view.
        seed: Decides the scenes.
        sizes: Width and height of the images.
        views: How many of the five camera positions.
    """
    groups: dict[str, Figures] = {"all": Figures()}
    settings = [Setting(*size, noise, view) for size, noise, view in product(sizes, (False, True), range(views))]
    for setting in track(settings, description="segment", transient=True):
        for task, figures in _one_cell(setting, scenes, seed):
            names = (f"{setting.width}x{setting.height}", f"view {setting.view}", task)
            for name in ("all", "noise" if setting.noise else "no noise", *names):
                groups.setdefault(name, Figures()).add(figures)
    return {"benchmark": "segment", "groups": {name: figures.summary() for name, figures in groups.items()}}


def _one_cell(setting: Setting, scenes: int, first: int) -> Iterator[tuple[str, Figures]]:
    cell = Cell(setting.config())
    segmenter = Anew()
    try:
        for task, index in product(TASKS, range(scenes)):
            seed = 10_000 * first + 1000 * setting.view + 10 * index + TASKS.index(task)
            cell.reset(task, seed, distractors=1 + 3 * (index % 4))
            if index % 3 == 2:
                _reach(cell, seed)
            truth = cell.truth()
            labels, count = truth.labels, len(truth.names)
            yield task, score(cell.render(), cell.state(), labels, count, true_path(task, truth), segmenter)
    finally:
        cell.close()


def _reach(cell: Cell, seed: int) -> None:
    """Move the arm over the table, where it hides things."""
    q = HOME_Q_RAD + np.random.default_rng(seed).uniform(-1, 1, 7) * [0.35, 0.2, 0.1, 0.2, 0.1, 0.2, 0.5]
    q[1] += 0.3
    share = np.linspace(0.0, 1.0, 41)
    share = share**3 * (10 - 15 * share + 6 * share**2)
    path = HOME_Q_RAD + share[:, None] * (q - HOME_Q_RAD)
    t = np.linspace(0.0, 2.0, 41)
    cell.follow(JointPath(path, np.gradient(path, t, axis=0), t))
    cell.advance(2.1)


def score(
    frame: RgbdFrame, robot: RobotState, truth: I32, count: int, trace: Trace3d, segmenter: GeometricSegmenter
) -> Figures:
    """One frame with its true labels, of which there are ``count``, and the true path."""
    start = time.process_time()
    segments = segmenter.segment(frame, robot)
    ms = 1e3 * (time.process_time() - start)
    figures = compare(segments.labels, truth, count)
    figures.ms, figures.scenes = [ms], 1
    _decide(figures, trace, frame, segments, truth)
    return figures


def compare(labels: I32, truth: I32, count: int) -> Figures:
    """Instances against the true ones, of which there are ``count``."""
    figures = Figures()
    least = LEAST_SHARE * labels.size
    overlap = np.zeros((count + 1, int(labels.max()) + 1))
    np.add.at(overlap, (np.maximum(truth, 0), np.maximum(labels, 0)), 1)
    areas, true_areas = overlap.sum(axis=0), overlap.sum(axis=1)
    for i in np.flatnonzero(true_areas[1:] >= least) + 1:
        iou = overlap[i, 1:] / np.maximum(areas[1:] + true_areas[i] - overlap[i, 1:], 1)
        figures.iou.append(float(iou.max(initial=0.0)))
        figures.missed += figures.iou[-1] < 0.5
        own = (overlap[i, 1:] > 0.5 * areas[1:]) & (overlap[i, 1:] > 0.1 * true_areas[i])
        figures.split += int(own.sum() > 1)
    seen = true_areas[1:] >= least
    covers = overlap[1:, 1:] > 0.3 * true_areas[1:, None]
    figures.merged = int((covers[seen].sum(axis=0) > 1).sum())
    figures.false = int((overlap[1:, 1:].max(axis=0, initial=0.0) < 0.5 * areas[1:]).sum())
    return figures


def _decide(figures: Figures, trace: Trace3d, frame: RgbdFrame, segments: Segments, truth: I32) -> None:
    """What a path keeps and removes, with our instances and with the true ones."""
    points = cloud(frame)
    ids = tuple(int(i) for i in np.unique(truth) if i > 0)
    wanted: Relevance = relevant(trace, Segments(truth, ids), points, TUBE_M, END_M)
    found = relevant(trace, segments, points, TUBE_M, END_M)
    removed_px = np.isin(segments.labels, found.removed)
    for i in ids:
        own = truth == i
        if own.sum() < LEAST_SHARE * own.size:
            continue
        share, keep = float(removed_px[own].mean()), i in wanted.kept
        figures.kept_right += keep and share < 0.5
        figures.kept_wrong += keep and share >= 0.5
        figures.removed_right += not keep and share >= 0.5
        figures.removed_wrong += not keep and share < 0.5
        figures.cut += 0.15 < share < 0.85


def true_path(task: str, truth: CellTruth) -> Trace3d:
    """From the first object over the table to the second; down onto the first where it is pushed."""
    up = np.array([0.0, 0.0, 1.0])
    start = truth.T_base_object[truth.names[0]][:3, 3] + 0.02 * up
    if task == "push_buttons":
        corners = np.array([start + 0.15 * up, start + 0.015 * up])
    else:
        end = truth.T_base_object[truth.names[1]][:3, 3] + 0.04 * up
        corners = np.array([start, start + 0.15 * up, end + 0.15 * up, end])
    at = np.linspace(0.0, len(corners) - 1.0, 40)
    xyz = np.stack([np.interp(at, np.arange(len(corners)), corners[:, k]) for k in range(3)], axis=1)
    return Trace3d(xyz.astype(np.float32), np.ones(40, np.uint8), "truth", task)


def measure_flicker(frames: int = 100, size: tuple[int, int] = (640, 480), seeds: int = 3) -> dict[str, Any]:
    """A still scene under the sensor's noise: share of instances unlike the usual ones of their scene.

    The frames' instances are matched to those of the first frame by overlap; an instance is lost, split or merged
    in a frame where that is not one to one.
    """
    counts = {"instances": 0, "lost": 0, "split": 0, "merged": 0, "extra": 0}
    for task, seed in product(TASKS, range(seeds)):
        labels = list(_still(task, seed, frames, size))
        usual = np.stack(labels)
        reference = labels[int(np.argmin([_unlike(a, labels[:: max(frames // 8, 1)]) for a in labels[:8]]))]
        for each in usual:
            for name, value in _changes(reference, each).items():
                counts[name] += value
    total = max(counts["instances"], 1)
    shares = {name: _rounded(counts[name] / total) for name in ("lost", "split", "merged", "extra")}
    return {"frames": frames, "instances": counts["instances"], **shares}


def _still(task: str, seed: int, frames: int, size: tuple[int, int]) -> Iterator[I32]:
    cell = Cell(Setting(*size, True, seed % 5).config())
    segmenter = GeometricSegmenter(GeometricConfig())
    try:
        cell.reset(task, seed, distractors=4)
        for _ in range(frames):
            cell.advance(0.034)
            yield segmenter.segment(cell.render(), cell.state()).labels
    finally:
        cell.close()


def _unlike(labels: I32, others: list[I32]) -> int:
    return sum(sum(v for k, v in _changes(labels, other).items() if k != "instances") for other in others)


def _changes(reference: I32, labels: I32) -> dict[str, int]:
    """How the instances of a frame differ from the usual ones."""
    overlap = np.zeros((int(reference.max()) + 1, int(labels.max()) + 1))
    np.add.at(overlap, (np.maximum(reference, 0), np.maximum(labels, 0)), 1)
    ours, theirs = overlap.sum(axis=1)[1:], overlap.sum(axis=0)[1:]
    inner = overlap[1:, 1:]
    pieces = (inner > 0.15 * ours[:, None]).sum(axis=1)
    sources = ((inner > 0.15 * theirs) & (inner > 0.3 * ours[:, None])).sum(axis=0)
    return {
        "instances": len(ours),
        "lost": int((inner.sum(axis=1) < 0.5 * ours).sum()),
        "split": int((pieces > 1).sum()),
        "merged": int((sources > 1).sum()),
        "extra": int((inner.sum(axis=0) < 0.5 * theirs).sum()),
    }


def measure_speed(repeat: int = 7) -> dict[str, Any]:
    """CPU ms per size and number of objects, and of Telea over a twentieth of the image in the same run."""
    out: dict[str, Any] = {}
    for size in SIZES:
        cell = Cell(Setting(*size, True, 0).config())
        try:
            for distractors in (2, 5, 8):
                cell.reset("pick_place", 0, distractors=distractors)
                frame, robot = cell.render(), cell.state()
                out[f"{size[0]}x{size[1]}, {distractors + 2} objects"] = _clock(frame, robot, repeat)
            out[f"{size[0]}x{size[1]}, telea"] = _clock_telea(frame, repeat)
        finally:
            cell.close()
    return out


def _clock(frame: RgbdFrame, robot: RobotState, repeat: int) -> float:
    segmenter, times = Anew(), []
    for _ in range(repeat):
        start = time.process_time()
        segmenter.segment(frame, robot)
        times.append(time.process_time() - start)
    return _rounded(1e3 * np.median(times))


def _clock_telea(frame: RgbdFrame, repeat: int) -> float:
    mask = np.zeros(frame.depth_m.shape, np.uint8)
    h, w = frame.depth_m.shape
    mask[h // 3 : h // 3 + h // 5, w // 3 : w // 3 + w // 4] = 1
    times = []
    for _ in range(repeat):
        start = time.process_time()
        cv2.inpaint(frame.rgb, mask, 3, cv2.INPAINT_TELEA)
        times.append(time.process_time() - start)
    return _rounded(1e3 * np.median(times))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.guidance.segment", description=__doc__)
    parser.add_argument("--scenes", type=int, default=6, help="scenes per task, size, noise and view")
    parser.add_argument("--seed", type=int, default=0, help="decides the scenes")
    parser.add_argument("--views", type=int, default=5, help="camera positions")
    parser.add_argument("--sizes", default="256x256,640x480,1280x720")
    parser.add_argument("--frames", type=int, default=0, help="frames of the flicker measurement")
    parser.add_argument("--speed", action="store_true", help="also measure the speed")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    sizes = [(int(w), int(h)) for w, _, h in (size.partition("x") for size in options.sizes.split(","))]
    result = measure(options.scenes, options.seed, sizes, options.views)
    if options.frames:
        result["flicker"] = measure_flicker(options.frames)
    if options.speed:
        result["speed_ms"] = measure_speed()
    columns = list(result["groups"]["all"])
    table = Table("group", *columns, title="Geometric segmenter")
    for name, figures in result["groups"].items():
        table.add_row(name, *(str(figures[c]) for c in columns))
    Console(width=200).print(table)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
