"""What guidance puts where things were, against the same instant rendered without them: size of the hole, colour,
depth, grain, ghosts; with true masks and with geometric ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from rich.progress import track

from benchmarks.guidance.decisions import visible_plan
from benchmarks.guidance.given import Anew, GivenMasks, sort_instances
from benchmarks.guidance.grain import WIDTH_PX, ghosts, grain, split_error
from benchmarks.guidance.instances import Matches, kinds_of
from benchmarks.guidance.scenes import View, draw_setups, make_cell, views
from stvla_ros.errors import StageError
from stvla_ros.geometry.cameras import cloud
from stvla_ros.perception.guide import GuideConfig, SpatialGuide
from stvla_ros.sim.cell import Cell
from stvla_ros.types import F32, Bool, RgbdFrame, Segments

COLOUR_LEVELS = 4.0
"""What changes by less when a thing goes is hidden by the camera's noise (sigma 2)."""

DEPTH_M = 0.01
"""Smaller changes of depth are left: beside a thing a stereo camera measures the table some millimetres too high."""

FRINGE_PX = 2
"""Of an image 640 wide: pixels this near to a changed one may mix both colours."""

CUT_SHARE = 0.25
"""A thing that loses more of its visible pixels must be gone altogether."""

GHOST_PX = 100.0


@dataclass(frozen=True, eq=False)
class Emptied:
    """What guidance made of a frame, and what it should have made.

    Attributes:
        frame: Guidance's.
        hidden: (H, W) pixels that it replaced.
        truth: The frame without the removed things and with the same noise.
        depth_m: (H, W) exact depth behind them.
        changed: (H, W) pixels that the removed things change.
        shut: (H, W) robot and things that stay; they are not judged.
    """

    frame: RgbdFrame
    hidden: Bool
    truth: RgbdFrame
    depth_m: F32
    changed: Bool
    shut: Bool


def changed_pixels(frame: RgbdFrame, ideal: RgbdFrame, truth: RgbdFrame, ideal_truth: RgbdFrame) -> Bool:
    """Where colour, depth or its being measured depends on the removed things: they, their shadows, lost and flying
    depth around them. Colours are compared without noise, depths with the noise that both frames share."""
    colour = np.abs(ideal.rgb.astype(np.int16) - ideal_truth.rgb).max(axis=2) > COLOUR_LEVELS
    lost = np.isfinite(frame.depth_m) != np.isfinite(truth.depth_m)
    return np.asarray(colour | lost | (np.abs(frame.depth_m - truth.depth_m) > DEPTH_M))


def judge(emptied: Emptied) -> dict[str, float]:
    """All figures of a frame; lengths and areas are those of an image 640 wide. NaN where nothing was to be judged."""
    changed, hidden = emptied.changed & ~emptied.shut, emptied.hidden & ~emptied.shut
    fringe = max(round(FRINGE_PX * hidden.shape[1] / WIDTH_PX), 1)
    true = cv2.dilate(changed.astype(np.uint8), np.ones((2 * fringe + 1,) * 2, np.uint8)).astype(bool) & ~emptied.shut
    sizes = {
        "hidden_px": float(hidden.sum()),
        "true_px": float(true.sum()),
        "missed_percent": 100 * float((changed & ~hidden).sum() / max(changed.sum(), 1)),
        "frame_percent": 100 * float(hidden.mean()),
        "true_frame_percent": 100 * float(true.mean()),
    }
    if not changed.any():
        return sizes
    rgb, true_rgb = emptied.frame.rgb, emptied.truth.rgb
    off = rgb.astype(np.float32) - true_rgb
    beside = hidden & ~true
    return {
        **sizes,
        **{f"rgb{part}": v for part, v in split_error(off, changed).items()},
        "rgb_beside": float(np.abs(off[beside]).mean()) if beside.any() else 0.0,
        **_depth_errors(emptied, changed),
        **grain(rgb, true_rgb, changed & hidden),
        **ghosts(rgb, true_rgb, changed | hidden),
    }


def _depth_errors(emptied: Emptied, changed: Bool) -> dict[str, float]:
    """Errors in millimetres, and the share of pixels that have no depth although something is there."""
    real = changed & np.isfinite(emptied.depth_m)
    seen = real & np.isfinite(emptied.frame.depth_m)
    if not seen.any():
        return {}
    off = 1e3 * np.where(seen, emptied.frame.depth_m - emptied.depth_m, 0.0)
    errors = {f"depth_mm{part}": v for part, v in split_error(off, seen).items()}
    p95 = float(np.percentile(np.abs(off[seen]), 95))
    return {**errors, "depth_mm_p95": p95, "depth_missing_percent": 100 * float(1 - seen.sum() / real.sum())}


def measure(count: int, seed: int = 0, scenes: str = "easy") -> dict[str, Any]:
    """Figures of so many scenes at two moments each, without and with sensor defects."""
    segmenter, matches = Anew(), {False: Matches(), True: Matches()}
    found: dict[str, list[dict[str, float]]] = {}
    refused: dict[str, int] = {}
    cell = make_cell(scenes=scenes)
    try:
        for setup in track(draw_setups(count, seed, scenes), description="holes", transient=True):
            for view in views(cell, setup):
                geometric = segmenter.segment(view.frame, view.robot)
                matches[view.noise].add(geometric.labels, view.labels, kinds_of(view, cell.task.objects))
                for masks, segments in (("true", view.true_segments()), ("geometric", geometric)):
                    name = f"{masks}, noise" if view.noise else masks
                    try:
                        found.setdefault(name, []).extend(judge(e) for e in emptied(cell, view, segments))
                    except StageError as error:
                        refused[f"{name}: {error.code.name}"] = refused.get(f"{name}: {error.code.name}", 0) + 1
    finally:
        cell.close()
    return {
        "holes": {name: summary(figures) for name, figures in found.items()},
        "instances": {"noise" if noise else "no noise": m.summary() for noise, m in matches.items()},
        "refused": refused,
    }


def emptied(cell: Cell, view: View, segments: Segments) -> Iterator[Emptied]:
    """Guide one view on given masks; nothing if its start is hidden or nothing was removed."""
    plan, config = visible_plan(view), GuideConfig(mode="mask_only")
    if plan is None:
        return
    guide = SpatialGuide(GivenMasks(segments), config)
    trace = guide.lift(plan, view.frame)
    guidance = guide.guide(trace, view.frame, view.robot)
    if guidance.removed_px is None:
        return
    found = sort_instances(trace, segments, cloud(view.frame), config)
    removed = np.isin(segments.labels, found.removed)
    masks = {name: view.labels == 1 + i for i, name in enumerate(view.names)}
    gone = [name for name, mine in masks.items() if mine.any() and removed[mine].mean() > CUT_SHARE]
    ideal = cell.render(gone, ideal=True)
    truth = cell.render(gone) if view.noise else ideal
    shut = (view.labels != 0) & ~np.logical_or.reduce([masks[name] for name in gone] or [np.zeros_like(removed)])
    changed = changed_pixels(view.frame, view.ideal, truth, ideal)
    yield Emptied(guidance.frame, guidance.removed_px, truth, ideal.depth_m, changed, shut)


def summary(found: list[dict[str, float]]) -> dict[str, float]:
    """Means over the frames (of the grain's ratio: the median), and sizes of holes relative to what should have been replaced."""
    names = list({name: None for frame in found for name in frame})
    columns = {name: np.array([frame.get(name, np.nan) for frame in found]) for name in names}
    means = {name: float(np.nanmean(values)) for name, values in columns.items() if np.isfinite(values).any()}
    if not means.get("true_px"):
        return {"frames": float(len(found))}
    shares = columns["hidden_px"] / np.where(columns["true_px"] > 0, columns["true_px"], np.nan)
    means["grain_ratio"] = float(np.nanmedian(columns["grain_ratio"]))  # remains on a plain table count by far too much
    ghost = np.fmax(columns["bright_ghost_px"], columns["dark_ghost_px"])
    out = {
        "frames": float(len(found)),
        "hole_share": means.pop("hidden_px") / means.pop("true_px"),
        "hole_share_median": float(np.nanmedian(shares)),
        "hole_share_p95": float(np.nanpercentile(shares, 95)),
        **means,
        "frames_with_ghost_percent": 100 * float((ghost > GHOST_PX).mean()),
    }
    return {name: round(value, 3) for name, value in out.items()}
