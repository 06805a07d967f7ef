"""How well the fill shows what is behind removed objects, compared with other ways to fill the same hole.

The truth is the simulator's image of the same instant without the objects and their shadows. Six objects are removed
from each scene; in the scenes ``edge`` a bottle stands so that its image straddles the table's edge. Errors are those
of the hole, in 1/255 and millimetres; jumps those across its border, from pixel to pixel and from gradient to gradient.
Times are CPU time in one thread. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import track
from rich.table import Table as Rows

from benchmarks.guidance.decisions import view_truth
from benchmarks.guidance.rivals import RIVALS
from benchmarks.guidance.scenes import Setup, draw_setups, make_cell, views
from stvla_ros.colours import COLOURS
from stvla_ros.geometry.cameras import cloud
from stvla_ros.perception.guide import GuideConfig
from stvla_ros.perception.inpaint import FillConfig, Filler
from stvla_ros.sim.camera import TripodCameraConfig
from stvla_ros.sim.cell import Cell, CellConfig
from stvla_ros.sim.objects import Bottle, SceneObject
from stvla_ros.sim.sensor import SensorConfig
from stvla_ros.sim.tasks import BASIC_TASKS, make_task
from stvla_ros.sim.world import World
from stvla_ros.tabletop.support_plane import SupportPlane, fit_support_plane
from stvla_ros.types import F32, U8, Bool, RgbdFrame

KINDS = ("plain", "shadow", "noise", "edge", "edge noise")
SIZES = ((640, 480), (256, 256))
LARGE = (1280, 720)
OBJECTS = (1, 6, 11)
TIMES = ("new plan", "again", "telea rgb", "removed_px")
REMOVED = 6
# a bottle that hides the side or (the last two) the far edge of the table; a square image does not show the sides
EDGE_SPOTS_M = ((0.45, 0.50), (0.45, -0.50), (-0.12, 0.40), (-0.12, -0.40))
FIGURES = ("rgb", "depth_mm", "depth_p95_mm", "jump", "gradient_jump", "ms")


@dataclass(frozen=True)
class Laid:
    """A task that only gives objects."""

    objects: tuple[SceneObject, ...]
    instruction: str = "Look."
    hold_s: float = 0.0

    def watch(self, world: World) -> None:
        """Nothing to remember."""

    def problem(self, world: World) -> str:
        """Never done."""
        return "No task was set."


@dataclass(frozen=True, eq=False)
class Case:
    """A frame, what is removed and what is kept, and the truth without what is removed."""

    frame: RgbdFrame
    remove: Bool
    keep: Bool
    rgb: U8
    depth_m: F32

    def table(self) -> tuple[SupportPlane, F32]:
        """The table as the guide fits it, and the heights above it."""
        points = cloud(self.frame)
        table = fit_support_plane(np.where(self.remove | self.keep, np.float32(np.nan), points))
        return table, table.height(points)


def cases(kind: str, size: tuple[int, int], seeds: range) -> Iterator[Case]:
    """One case for each seed."""
    camera = TripodCameraConfig(width_px=size[0], height_px=size[1], shadows=kind != "plain")
    cell = Cell(CellConfig(camera=camera, sensor=SensorConfig(enabled="noise" in kind)))
    try:
        for seed in seeds:
            yield _case(cell, kind, seed)
    finally:
        cell.close()


def hard_cases(noise: bool, setups: Sequence[Setup]) -> Iterator[Case]:
    """One case for each scene: all that the true path does not need is removed, by its true mask."""
    cell, config = make_cell(scenes="hard"), GuideConfig()
    try:
        for view in (next(views(cell, setup, (noise,))) for setup in setups):
            stay = view_truth(view, config).relevant
            names = [name for name in view.names if name not in stay]
            remove = np.isin(view.labels, [1 + view.names.index(name) for name in names])
            truth, ideal = cell.render(names, ideal=not noise), cell.render(names, ideal=True)
            yield Case(view.frame, remove, (view.labels != 0) & ~remove, truth.rgb, ideal.depth_m)
    finally:
        cell.close()


def _case(cell: Cell, kind: str, seed: int, removed: int = REMOVED) -> Case:
    objects = make_task("pick_place", seed, removed).objects
    gone = objects[2:]
    if kind.startswith("edge"):
        rng = np.random.default_rng(seed)
        spots = EDGE_SPOTS_M if cell.camera.width_px > cell.camera.height_px else EDGE_SPOTS_M[2:]
        x, y = np.add(spots[seed % len(spots)], rng.uniform(-0.02, 0.02, 2))
        gone = (Bottle(str(rng.choice(sorted(COLOURS))), (float(x), float(y))),)
        objects = (*objects[:2], *gone)
    cell.reset_to(Laid(objects), seed)
    names = [thing.name for thing in gone]
    frame, truth = cell.render(), cell.truth()
    remove = np.isin(truth.labels, [1 + truth.names.index(name) for name in names])
    keep = (truth.labels != 0) & ~remove
    return Case(frame, remove, keep, cell.render(names).rgb, cell.render(names, ideal=True).depth_m)


def jumps(image: npt.NDArray[np.floating], hole: Bool, kept: Bool) -> tuple[float, float]:
    """Mean step across the border of the hole, and mean change of the gradient there; kept pixels do not count.

    With o2, o1 outside and i1, i2 inside in a line, these are the sizes of i1 - o1 and (i2 - i1) - (o1 - o2).
    """
    value, gradient = [], []
    for k in range(4):
        turned, inside, shut = (np.rot90(a, k) for a in (image, hole, kept))
        inside_, shut_ = inside.astype(bool), shut.astype(bool)
        outside = ~inside_ & ~shut_
        at = outside[:, :-3] & outside[:, 1:-2] & inside_[:, 2:-1] & inside_[:, 3:]
        o2, o1, i1, i2 = (turned[:, a : turned.shape[1] - 3 + a][at] for a in range(4))
        value.append(np.abs(i1 - o1))
        gradient.append(np.abs((i2 - i1) - (o1 - o2)))
    return float(np.nanmean(np.concatenate(value))), float(np.nanmean(np.concatenate(gradient)))


def scores(case: Case, rgb: U8, depth_m: F32, hole: Bool) -> dict[str, float]:
    """Errors in the hole and jumps across its border."""
    error = 1e3 * np.abs(depth_m - case.depth_m)[hole & np.isfinite(case.depth_m)]
    error = np.where(np.isfinite(error), error, 1e3 * np.nanmax(case.depth_m))  # no depth is as bad as can be
    jump, gradient = jumps(rgb.astype(np.float64), hole, case.keep)
    return {
        "rgb": float(np.abs(rgb.astype(np.float64) - case.rgb)[hole].mean()),
        "depth_mm": float(error.mean()),
        "depth_p95_mm": float(np.percentile(error, 95)),
        "jump": jump,
        "gradient_jump": gradient,
    }


@dataclass
class Tally:
    """Figures per method, one entry for each case."""

    values: dict[str, list[dict[str, float]]] = field(default_factory=dict)

    def add(self, method: str, figures: dict[str, float]) -> None:
        self.values.setdefault(method, []).append(figures)

    def summary(self) -> dict[str, dict[str, float]]:
        """Mean over the cases; the median of times."""
        return {
            method: {
                name: round(float((np.median if name == "ms" else np.mean)([f[name] for f in all_])), 3)
                for name in all_[0]
            }
            for method, all_ in self.values.items()
        }


def one_case(tally: Tally, case: Case, rivals: bool) -> None:
    """Fill one case in all ways; the hole is that of the layered fill."""
    table, height_m = case.table()
    filler = Filler(FillConfig())
    arguments = (case.frame, case.remove, case.keep, table, height_m)
    first, again = float("inf"), float("inf")
    for _ in range(3):
        filler.reset()
        start = time.process_time()
        filled = filler.fill(*arguments)
        middle = time.process_time()
        filler.fill(*arguments)
        first, again = min(first, middle - start), min(again, time.process_time() - middle)
    hole = filled.hidden
    tally.add("layered", {**scores(case, filled.rgb, filled.depth_m, hole), "ms": 1e3 * first, "ms_again": 1e3 * again})
    tally.add("truth", {**scores(case, case.rgb, case.depth_m, hole), "ms": 0.0})
    for name, rival in RIVALS.items() if rivals else ():
        start = time.process_time()
        rgb, depth = rival(case.frame.rgb, case.frame.depth_m, hole)
        tally.add(name, {**scores(case, rgb, depth, hole), "ms": 1e3 * (time.process_time() - start)})


def cost(scenes: int, seed: int) -> dict[str, dict[str, float]]:
    """Median CPU ms by image size and number of removed objects: of a new plan, of the frames after it, of Telea."""
    results = {}
    for size in (*SIZES[::-1], LARGE):
        cell = Cell(CellConfig(camera=TripodCameraConfig(width_px=size[0], height_px=size[1], shadows=True)))
        for removed in OBJECTS:
            tally = Tally()
            for k in track(range(seed, seed + scenes), f"cost {size[0]}x{size[1]}", transient=True):
                tally.add("ms", times(_case(cell, "shadow", k, removed)))
            results[f"{size[0]}x{size[1]}, {removed} removed"] = {
                name: round(float(np.median([t[name] for t in tally.values["ms"]])), 3) for name in TIMES
            }
        cell.close()
    return results


def times(case: Case) -> dict[str, float]:
    """CPU ms of one case, the best of five."""
    arguments = (case.frame, case.remove, case.keep, *case.table())
    filler, hole = Filler(FillConfig()), np.uint8(255) * case.remove
    best = dict.fromkeys(TIMES, float("inf"))
    for _ in range(5):
        filler.reset()
        for name, work in (
            ("new plan", lambda: filler.fill(*arguments)),
            ("again", lambda: filler.fill(*arguments)),
            ("telea rgb", lambda: cv2.inpaint(case.frame.rgb, hole, 3, cv2.INPAINT_TELEA)),
        ):
            start = time.process_time()
            work()
            best[name] = min(best[name], 1e3 * (time.process_time() - start))
    return {**best, "removed_px": float(case.remove.sum())}


def steadiness(frames: int, seed: int) -> dict[str, dict[str, float]]:
    """Mean standard deviation over the frames of a still scene, noisy and with masks that jitter by a pixel.

    Brightness does not vary between the frames here: it would hide the noise of single pixels.
    """
    results = {}
    for size in SIZES:
        sensor = SensorConfig(enabled=True, exposure_jitter=0.0)
        cell = Cell(
            CellConfig(camera=TripodCameraConfig(width_px=size[0], height_px=size[1], shadows=True), sensor=sensor)
        )
        case, rng, filler = _case(cell, "noise", seed), np.random.default_rng(seed), Filler(FillConfig())
        filled, given, holes = [], [], []
        for _ in track(range(frames), f"steadiness {size[0]}x{size[1]}", transient=True):
            cell.advance(0.04)
            now = replace(case, frame=cell.render(), remove=jittered(case.remove, rng) & ~case.keep)
            out = filler.fill(now.frame, now.remove, now.keep, *now.table())
            filled.append((out.rgb, out.depth_m))
            given.append((now.frame.rgb, now.frame.depth_m))
            holes.append(out.hidden)
        cell.close()
        hole = np.logical_or.reduce(holes)
        around = cv2.dilate(hole.astype(np.uint8), np.ones((31, 31), np.uint8)).astype(bool) & ~hole & ~case.keep
        results[f"{size[0]}x{size[1]}"] = {
            "filled_rgb": _deviation([rgb for rgb, _ in filled], hole),
            "unmasked_rgb": _deviation([rgb for rgb, _ in given], around),
            "filled_depth_mm": 1e3 * _deviation([depth for _, depth in filled], hole),
            "unmasked_depth_mm": 1e3 * _deviation([depth for _, depth in given], around),
            "hole_px_that_come_and_go": int((hole & ~np.logical_and.reduce(holes)).sum()),
            "hole_px": int(hole.sum()),
        }
    return results


def _deviation(images: list[npt.NDArray[Any]], where: Bool) -> float:
    return round(float(np.nanmean(np.nanstd([image[where].astype(np.float32) for image in images], axis=0))), 6)


def jittered(mask: Bool, rng: np.random.Generator) -> Bool:
    """A mask moved, grown or shrunk by up to a pixel."""
    kind = rng.integers(4)
    if kind < 2:
        change = cv2.erode if kind else cv2.dilate
        return np.asarray(change(mask.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0)
    return np.roll(mask, rng.integers(-1, 2, 2), (0, 1))


def measure(scenes: int = 10, seed: int = 0, rivals: bool = True) -> dict[str, Any]:
    """Figures by kind of scene, image size and method; its cost; its noise over time."""
    cv2.setNumThreads(1)
    results: dict[str, Any] = {}
    cost_, steady = cost(scenes, seed), steadiness(40, seed)
    for kind in KINDS:
        for size in SIZES:
            tally = Tally()
            name = f"{kind} {size[0]}x{size[1]}"
            for case in track(cases(kind, size, range(seed, seed + scenes)), name, scenes, transient=True):
                one_case(tally, case, rivals)
            results[name] = tally.summary()
    return {"quality": results, "cost_ms": cost_, "steadiness": steady}


def measure_hard(scenes: int, seed: int = 0, rivals: bool = True) -> dict[str, Any]:
    """Figures of the hard scenes by image size and method, without and with sensor defects."""
    results: dict[str, Any] = {}
    setups = draw_setups(2 * len(BASIC_TASKS) * -(-scenes // len(BASIC_TASKS)), seed, "hard")
    for noise, (width, height) in product((False, True), SIZES):
        tally = Tally()
        name = f"hard{' noise' if noise else ''} {width}x{height}"
        mine = [s for s in setups if (s.camera.width_px, s.camera.height_px) == (width, height)]
        for case in track(hard_cases(noise, mine), name, len(mine), transient=True):
            one_case(tally, case, rivals)
        results[name] = tally.summary()
    return {"quality": results}


def show(results: dict[str, Any], console: Console) -> None:
    """A table for each kind of scene, and the rest."""
    for name, methods in results["quality"].items():
        table = Rows("method", *FIGURES, title=name)
        for method, figures in methods.items():
            table.add_row(method, *(f"{figures[f]:.2f}" for f in FIGURES))
        console.print(table)
    console.print({name: rest for name, rest in results.items() if name != "quality"})


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.guidance.fill", description=__doc__)
    parser.add_argument("--scenes", type=int, default=10, help="scenes per kind and image size")
    parser.add_argument("--seed", type=int, default=0, help="of the first scene")
    options = parser.parse_args()
    results = measure(options.scenes, options.seed)
    show(results, Console())
    print(json.dumps({"benchmark": "fill", "scenes": options.scenes, "seed": options.seed, **results}))


if __name__ == "__main__":
    main()
