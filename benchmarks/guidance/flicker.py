"""Still scenes through a guide that goes on: decisions that flip, ids that change, and noise of the fill."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

import cv2
import numpy as np
from rich.progress import track

from benchmarks.guidance.decisions import visible_plan
from benchmarks.guidance.scenes import Setup, View, draw_setups, make_cell, sensor_config, views
from stvla_ros.errors import StageError
from stvla_ros.geometry.cameras import cloud
from stvla_ros.perception.geometric import GeometricConfig, GeometricSegmenter
from stvla_ros.perception.guide import GuideConfig, SpatialGuide
from stvla_ros.sim.sensor import SensorConfig
from stvla_ros.types import F64, Bool, Guidance, RgbdFrame

FRAMES = 300
PERIOD_NS = 66_000_000
STILL = SensorConfig(enabled=True, exposure_jitter=0.0)
"""Noise of each pixel alone: brightness that varies from frame to frame as a whole would drown it."""


@dataclass
class Moments:
    """Sums over frames for a standard deviation per value; invalid values do not count."""

    count: Any = 0
    total: Any = 0.0
    square: Any = 0.0

    def add(self, values: np.ndarray) -> None:
        valid = np.isfinite(values)
        x = np.where(valid, values, 0.0).astype(np.float64)
        self.count, self.total, self.square = self.count + valid, self.total + x, self.square + x * x

    def deviation(self) -> F64:
        """NaN where less than half of the frames had a value."""
        n = np.where(self.count >= 0.5 * np.max(self.count), self.count, np.nan)
        return np.asarray(np.sqrt(np.maximum(self.square / n - (self.total / n) ** 2, 0.0)))


@dataclass
class Still:
    """Figures of one scene."""

    setup: Setup
    decisions: dict[str, Counter[bool]] = field(default_factory=dict)
    by_id: dict[int, Counter[bool]] = field(default_factory=dict)
    first_ids: frozenset[int] = frozenset()
    late_ids: set[int] = field(default_factory=set)
    lost: Counter[int] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    rgb: Moments = field(default_factory=Moments)
    depth: Moments = field(default_factory=Moments)
    frames: int = 0
    replaced: Any = 0

    def turned(self) -> list[str]:
        """Objects that were kept in some frames and removed in others."""
        return [name for name, found in self.decisions.items() if len(found) > 1]

    def add(self, view: View, frame: RgbdFrame, guidance: Guidance) -> None:
        ids = {**dict.fromkeys(guidance.kept_ids, True), **dict.fromkeys(guidance.removed_ids, False)}
        self.first_ids = self.first_ids or frozenset(ids)
        self.late_ids |= ids.keys() - self.first_ids
        self.lost.update(self.first_ids - ids.keys())
        for i, kept in ids.items():
            self.by_id.setdefault(i, Counter())[kept] += 1
        same = (guidance.frame.rgb == frame.rgb).all(axis=2)
        for name in view.counted():
            mine = view.labels == 1 + view.names.index(name)
            self.decisions.setdefault(name, Counter())[bool(same[mine].mean() > 0.5)] += 1
        self.frames += 1
        self.replaced = self.replaced + ~same
        self.rgb.add(guidance.frame.rgb)
        self.depth.add(guidance.frame.depth_m)


def measure(count: int = 6, frames: int = FRAMES, seed: int = 1, scenes: str = "easy") -> dict[str, Any]:
    """Figures with the usual sensor, and with one whose brightness does not vary."""
    usual = sensor_config(scenes)
    sensors = {"usual sensor": usual, "constant brightness": replace(usual, exposure_jitter=0.0)}
    return {name: _measure(draw_setups(count, seed, scenes), frames, sensor) for name, sensor in sensors.items()}


def _measure(setups: list[Setup], frames: int, sensor: SensorConfig) -> dict[str, Any]:
    cell, found, ratios = make_cell(scenes=setups[0].scenes), [], []
    try:
        for setup in track(setups, description="flicker", transient=True):
            view = next(views(cell, setup, (True,)))
            still = watch(view, frames, sensor)
            if still is not None:
                found.append(still)
                ratios.append(noise_ratios(view, still))
    finally:
        cell.close()
    return summary(found, ratios)


def watch(view: View, frames: int, sensor: SensorConfig) -> Still | None:
    """Guide several images of a still scene; None if its start is hidden."""
    plan = visible_plan(view)
    if plan is None:
        return None
    guide = SpatialGuide(GeometricSegmenter(GeometricConfig()), GuideConfig(mode="mask_only"))
    still, trace = Still(view.setup), None
    for i in range(frames):
        stamp_ns = view.frame.stamp_ns + i * PERIOD_NS
        frame = view.again(stamp_ns, sensor)
        try:
            trace = trace or guide.lift(plan, frame)
            robot = replace(view.robot, stamp_ns=stamp_ns)
            still.add(view, frame, guide.guide(trace, frame, robot))
        except StageError as error:
            still.errors[error.code.name] += 1
    return still


def noise_ratios(view: View, still: Still) -> dict[str, float]:
    """Mean deviation over time of the things that are always replaced, and of what is replaced only sometimes, over that
    of the table around it.

    Of what is always replaced, the pixels of the true things alone are judged: the rest of a hole is as wide as the
    masks jitter, so another code would be judged by other pixels.
    """
    share = np.asarray(still.replaced / max(still.frames, 1))
    always, sometimes = share > 0.98, (share > 0.02) & (share <= 0.98)
    things = always & (view.labels > 0)
    around = table_around(view, share > 0.02)
    if not things.any() or around.sum() < 50:
        return {}
    rgb, depth = still.rgb.deviation().mean(axis=2), still.depth.deviation()
    out = {"sometimes_replaced_share": float(sometimes.sum() / always.sum())}
    for place, mask in (("filled", things), ("sometimes_filled", sometimes)):
        if np.isfinite(depth[mask]).any():
            out[f"rgb_{place}"] = float(np.nanmean(rgb[mask]) / np.nanmean(rgb[around]))
            out[f"depth_{place}"] = float(np.nanmean(depth[mask]) / np.nanmean(depth[around]))
    return out


def table_around(view: View, filled: Bool) -> Bool:
    """Visible table 3 to 8 % of the image's width away from what is filled, and away from everything else."""
    width = view.frame.camera.width_px

    def grown(mask: Bool, share: float) -> Bool:
        size = 2 * round(share * width) + 1
        return np.asarray(cv2.dilate(mask.astype(np.uint8), np.ones((size, size), np.uint8)) > 0)

    flat = np.abs(cloud(view.ideal)[2]) < 0.002
    around = grown(filled, 0.08) & ~grown(filled, 0.03) & ~grown((view.labels != 0) & ~filled, 0.03)
    return np.asarray(around & flat)


def summary(found: list[Still], ratios: list[dict[str, float]]) -> dict[str, Any]:
    instances = sum(len(s.decisions) for s in found)
    turned = [f"scene {s.setup.index}: {name}" for s in found for name in s.turned()]
    ids = sum(len(s.first_ids) for s in found)
    return {
        "scenes": len(found),
        "frames": sum(s.frames for s in found),
        "objects": instances,
        "objects_turned_percent": round(100 * len(turned) / max(instances, 1), 3),
        "turned": turned,
        "ids": ids,
        "ids_turned_percent": round(100 * sum(len(f) > 1 for s in found for f in s.by_id.values()) / max(ids, 1), 3),
        "ids_new_after_first_frame": sum(len(s.late_ids) for s in found),
        "ids_missing_in_some_frame": sum(len(s.lost) for s in found),
        "refused_frames": dict(sum((s.errors for s in found), Counter())),
        "over_table": {
            name: {"mean": round(float(np.mean(values)), 3), "largest": round(float(np.max(values)), 3)}
            for name in sorted({name for r in ratios for name in r})
            if (values := [r[name] for r in ratios if name in r])
        },
    }
