"""CPU milliseconds of the guidance per stage, for a new plan and between plans, and how they grow."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import cv2
import numpy as np
from rich.progress import track

from benchmarks.guidance.decisions import visible_plan
from benchmarks.guidance.given import Anew, GivenMasks, sort_instances
from benchmarks.guidance.scenes import Setup, View, draw_setups, make_cell, views
from stvla_ros.errors import StageError
from stvla_ros.geometry.cameras import cloud
from stvla_ros.perception.geometric import GeometricConfig, GeometricSegmenter
from stvla_ros.perception.guide import GuideConfig, SpatialGuide
from stvla_ros.perception.inpaint import FillConfig, Filler
from stvla_ros.perception.overlay import draw_trace
from stvla_ros.perception.tracking import InstanceTracker
from stvla_ros.perception.tube import Relevance
from stvla_ros.sim.camera import TripodCameraConfig
from stvla_ros.sim.looks import dressed
from stvla_ros.sim.tasks import make_task
from stvla_ros.tabletop.support_plane import fit_support_plane
from stvla_ros.types import Bool, RgbdFrame, RobotState, Segments, TracePlan

SIZES = ((256, 256), (640, 480), (1280, 720))
REMOVED = (3, 6, 12)
USUAL = 6
STAGES = (
    "lift", "cloud", "track", "tube", "table", "fill, first", "fill, again", "overlay", "Telea", "Navier-Stokes",
)  # fmt: skip
FULL = 15
"""Things on a crowded table."""

ROUNDS, PERIOD_NS = 4, 66_000_000
"""A still scene between plans is timed on so many rounds of its noisy images, at this interval."""

WHOLE = (
    "new plan", "between plans", "geometric masks", "new plan with masks", "between plans with masks",
    "between plans with masks found anew",
)  # fmt: skip
T = TypeVar("T")


@dataclass(frozen=True)
class Job:
    """What is timed: image size, how many objects are removed, and how many of them stand at the table's edge."""

    size: tuple[int, int]
    removed: int
    bottles: int = 0

    def setup(self, seed: int) -> Setup:
        camera = TripodCameraConfig(width_px=self.size[0], height_px=self.size[1])
        return Setup(seed, "pick_place", self.removed - self.bottles, camera, "home", 0.0, 0.2, self.bottles)

    def fits(self, removed: int, things: int) -> bool:
        return removed == self.removed


@dataclass(frozen=True)
class Crowd:
    """A table with :data:`FULL` things, of which most are removed, seen at 640x480.

    Attributes:
        scenes: One of ``easy`` and ``hard``.
    """

    scenes: str

    def setup(self, seed: int) -> Setup | None:
        """None when no number of distractors gives so many things."""
        if self.scenes == "easy":
            return replace(Job((640, 480), FULL - 3).setup(seed), neighbours=1)
        hard = draw_setups(seed + 1, 0, "hard")[seed]
        for distractors in range(FULL - 2):
            if len(dressed(make_task("pick_place", seed, distractors), seed).objects) == FULL:
                camera = replace(hard.camera, width_px=640, height_px=480)
                return replace(hard, task="pick_place", camera=camera, distractors=distractors, bottles=0, neighbours=0)
        return None

    def fits(self, removed: int, things: int) -> bool:
        return things == FULL and removed >= FULL // 2


@dataclass
class Clock:
    """CPU milliseconds per name."""

    ms: dict[str, list[float]] = field(default_factory=dict)

    def __call__(self, name: str, work: Callable[..., T], *given: Any) -> T:
        start = time.process_time()
        result = work(*given)
        self.ms.setdefault(name, []).append(1e3 * (time.process_time() - start))
        return result

    def add(self, other: Clock) -> None:
        for name, ms in other.ms.items():
            self.ms.setdefault(name, []).extend(ms)

    def median(self, name: str) -> float:
        return float(np.median(self.ms[name]))

    def summary(self) -> dict[str, Any]:
        out = {
            name: {"median": round(self.median(name), 2), "p95": round(float(np.percentile(v, 95)), 2)}
            for name, v in self.ms.items()
        }
        telea = self.median("Telea")
        ratios = {name: round(self.median(name) / telea, 3) for name in (*WHOLE, "fill, first", "fill, again")}
        rates = {name: round(1e3 / self.median(name), 1) for name in WHOLE}
        return {"ms": out, "times_telea": ratios, "hz": rates}


def measure_hard(scenes: int = 3, seed: int = 0, frames: int = 8) -> dict[str, Any]:
    """Figures of crowded hard scenes."""
    cv2.setNumThreads(1)
    return {"jobs": {f"hard, {FULL} things": _clocked(Crowd("hard"), scenes, seed, frames).summary()}}


def measure(scenes: int = 3, seed: int = 0, frames: int = 8) -> dict[str, Any]:
    """Figures per image size with six removed objects, per number of removed objects at 640x480, and exponents.

    Args:
        scenes: Scenes per size and number.
        seed: Decides the scenes.
        frames: Noisy images of each scene; every one is timed as the first of a new plan, and again in their order.
    """
    cv2.setNumThreads(1)
    jobs: dict[str, Job | Crowd] = {f"{w}x{h}": Job((w, h), USUAL) for w, h in SIZES}
    jobs |= {f"{n} removed": Job((640, 480), n) for n in REMOVED if n != USUAL}
    jobs |= {"one at the table's edge": Job((640, 480), USUAL, 1), f"{FULL} things": Crowd("easy")}
    clocks = {name: _clocked(job, scenes, seed, frames) for name, job in track(jobs.items(), "speed", transient=True)}
    by_pixels = {w * h: clocks[f"{w}x{h}"] for w, h in SIZES}
    by_count = {n: clocks["640x480" if n == USUAL else f"{n} removed"] for n in REMOVED}
    return {
        "jobs": {name: clock.summary() for name, clock in clocks.items()},
        "exponent_pixels": {name: exponent(by_pixels, name) for name in WHOLE},
        "exponent_objects": {name: exponent(by_count, name) for name in WHOLE},
    }


def exponent(clocks: dict[int, Clock], name: str) -> float:
    """Slope of log time over log size: 1 is linear."""
    x, y = np.log(list(clocks)), np.log([clock.median(name) for clock in clocks.values()])
    return round(float(np.polyfit(x, y, 1)[0]), 3)


def _clocked(job: Job | Crowd, scenes: int, first: int, frames: int) -> Clock:
    clock, cell, found = Clock(), make_cell(scenes=job.scenes if isinstance(job, Crowd) else "easy"), 0
    try:
        for setup in (job.setup(seed) for seed in range(1000 * first, 1000 * (first + 1))):
            if setup is None:
                continue
            view = next(views(cell, setup, (True,)))
            plan, segments = visible_plan(view), view.true_segments()
            if plan is None or not job.fits(len(_sorted(view, plan, segments).removed), len(view.names)):
                continue
            mine = Clock()
            try:
                time_view(mine, view, plan, segments, frames)
            except StageError:  # geometric masks of a hard scene can end in a refusal
                continue
            clock.add(mine if found else Clock())  # the first warms up
            found += 1
            if found > scenes:
                break
    finally:
        cell.close()
    return clock


def _sorted(view: View, plan: TracePlan, segments: Segments) -> Relevance:
    config = GuideConfig()
    trace = SpatialGuide(GivenMasks(segments), config).lift(plan, view.frame)
    return sort_instances(trace, segments, cloud(view.frame), config)


def time_view(clock: Clock, view: View, plan: TracePlan, segments: Segments, frames: int) -> None:
    """Time one still scene on so many noisy images."""
    images = [view.again(view.frame.stamp_ns + i * 33_000_000) for i in range(frames)]
    given, geometric, anew = GivenMasks(segments), GeometricSegmenter(GeometricConfig()), Anew()
    for image in images:
        clock("new plan", _new_plan, SpatialGuide(given, GuideConfig()), plan, image, view.robot)
        clock("geometric masks", anew.segment, image, view.robot)
        clock("new plan with masks", _new_plan, SpatialGuide(geometric, GuideConfig()), plan, image, view.robot)
    first_ns = images[0].stamp_ns
    later = [replace(image, stamp_ns=first_ns + i * PERIOD_NS) for i, image in enumerate(images[1:] * ROUNDS, start=1)]
    guides = {}
    for name, segmenter in zip(("", " with masks", " with masks found anew"), (given, geometric, anew), strict=True):
        guide = SpatialGuide(segmenter, GuideConfig())
        guides[f"between plans{name}"] = guide, guide.lift(plan, images[0])
    for image in (images[0], *later):
        for name, (guide, trace) in guides.items():  # in turn, so that ratios hold on a shared machine
            if image is images[0]:
                guide.guide(trace, image, view.robot)
            else:
                clock(name, guide.guide, trace, image, view.robot)
    time_stages(clock, images, plan, segments, view.robot)


def _new_plan(guide: SpatialGuide, plan: TracePlan, image: RgbdFrame, robot: RobotState) -> None:
    guide.guide(guide.lift(plan, image), image, robot)


def time_stages(clock: Clock, images: list[RgbdFrame], plan: TracePlan, segments: Segments, robot: RobotState) -> None:
    """One stage after the other, as the guide runs them."""
    config, going_on = GuideConfig(), Filler(FillConfig())
    tracker = InstanceTracker(config.tracker)
    guide = SpatialGuide(GivenMasks(segments), config)
    for i, image in enumerate(images):
        trace = clock("lift", guide.lift, plan, image)
        points = clock("cloud", cloud, image)
        clock("track", tracker.update, segments, image, points, robot)
        found = clock("tube", sort_instances, trace, segments, points, config)
        remove, keep = np.isin(segments.labels, found.removed), np.isin(segments.labels, (-1, *found.kept))
        table = clock("table", fit_support_plane, np.where(segments.labels == 0, points, np.float32(np.nan)))
        hole = image, remove, keep, table, table.height(points)
        filled = clock("fill, first", Filler(FillConfig()).fill, *hole)
        clock("fill, again" if i else "warm-up", going_on.fill, *hole)
        clock("overlay", draw_trace, filled.rgb, trace, image.camera)
        clock("Telea", inpaint, image, filled.hidden, cv2.INPAINT_TELEA)
        clock("Navier-Stokes", inpaint, image, filled.hidden, cv2.INPAINT_NS)


def inpaint(frame: RgbdFrame, hidden: Bool, method: int) -> None:
    """Colour and depth by OpenCV, one after the other."""
    mask = hidden.astype(np.uint8)
    cv2.inpaint(frame.rgb, mask, 3, method)
    millimetres = np.nan_to_num(frame.depth_m * 1000, nan=0.0).clip(0, 65535).astype(np.uint16)
    cv2.inpaint(millimetres, mask, 3, method)
