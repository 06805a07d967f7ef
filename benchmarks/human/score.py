"""Compares the ``info.json`` of a processed video with the truth of the synthetic video that it was made from."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from stvla_ros.data.st_human.info import Action, VideoInfo
from stvla_ros.files import read_arrays, read_json
from stvla_ros.types import F64

SEGMENT_FRAMES, MOMENT_FRAMES, CONTACT_PX, CLEAR = 5, 3, 10.0, 1.5
"""Tolerances of a segment's ends, of contact and release, of the first contact point; and a clear relation's margin."""


@dataclass
class Score:
    """One video.

    Attributes:
        kind: Its task.
        segments: Right, wrong, missed.
        moments: Frames by which contact and release are off; None: no action.
        contact_px: By how much the first contact point is off; None: no action.
        seen_mm: (K,) errors of path points with a measurement.
        gap_mm: (K,) the same without.
        held_mm: (K,) of those with one, from the true contact to the true release: the path that samples are made of.
        relations: True clear relations that were found, and all of them.
        spurious: Clear relations found that do not hold, and all found.
        exact: Whether the sentence is the true one.
        routed: Whether it goes to a person.
        seconds: Wall time of each stage.
        cpu_s: CPU time of all.
        frames: In the video.
    """

    kind: str
    segments: tuple[int, int, int] = (0, 0, 1)
    moments: tuple[int, int] | None = None
    contact_px: float | None = None
    seen_mm: F64 = field(default_factory=lambda: np.zeros(0))
    gap_mm: F64 = field(default_factory=lambda: np.zeros(0))
    held_mm: F64 = field(default_factory=lambda: np.zeros(0))
    relations: tuple[int, int] = (0, 0)
    spurious: tuple[int, int] = (0, 0)
    exact: bool = False
    routed: bool = True
    seconds: dict[str, float] = field(default_factory=dict)
    cpu_s: float = 0.0
    frames: int = 0


def score(info: VideoInfo, routes: dict[str, str], truth: Path) -> Score:
    """Compare a result with ``truth.json`` and ``truth.npz`` in a folder. Each synthetic video has one action."""
    true = read_json(truth / "truth.json")
    out = Score(true["kind"], frames=true["frames"])
    ends = np.array([true["start_frame"], true["end_frame"]])
    fits = [a for a in info.actions if np.abs(np.array([a.start_frame, a.end_frame]) - ends).max() <= SEGMENT_FRAMES]
    out.segments = (len(fits[:1]), len(info.actions) - len(fits[:1]), 1 - len(fits[:1]))
    if not info.actions:
        return out
    middle = (true["contact_frame"] + true["release_frame"]) / 2
    action = min(info.actions, key=lambda a: abs((a.contact_frame + a.release_frame) / 2 - middle))
    out.moments = action.contact_frame - true["contact_frame"], action.release_frame - true["release_frame"]
    if action.contact_points is not None:
        out.contact_px = float(
            np.hypot(*np.subtract(action.contact_points.initial.px, true["contact_points"]["initial"]["px"]))
        )
    held = true["contact_frame"], true["release_frame"]
    out.seen_mm, out.gap_mm, out.held_mm = _path(action, read_arrays(truth / "truth.npz")["grip_m"], held)
    out.relations, out.spurious = _relations(info, action, true)
    out.exact, out.routed = action.sentence == true["sentence"], routes.get(action.id) != "audit"
    return out


def _path(action: Action, grip_m: np.ndarray, held: tuple[int, int]) -> tuple[F64, F64, F64]:
    off = np.array([1000 * np.linalg.norm(np.subtract(w.xyz_m, grip_m[w.frame])) for w in action.trajectory])
    filled = np.array([w.source == "interpolated" for w in action.trajectory], bool)
    within = np.array([held[0] <= w.frame <= held[1] for w in action.trajectory], bool)
    return off[~filled], off[filled], off[~filled & within]


def _relations(info: VideoInfo, action: Action, true: dict[str, Any]) -> tuple[tuple[int, int], tuple[int, int]]:
    """Of the moved thing, or what it is a part of, after the action, by names; one near its threshold counts neither way."""
    names = {o["id"]: o["name"] for o in true["objects"]}

    def said(relations: Any, called: dict[str, str], least: float) -> set[tuple[str, ...]]:
        found = set()
        for r in relations:
            subject, predicate, objects, margin = (
                (r["subject"], r["predicate"], r["objects"], r["margin"])
                if isinstance(r, dict)
                else (r.subject, r.predicate, r.objects, r.margin)
            )
            if margin >= least:
                found.add((called.get(subject, subject), predicate, *sorted(called.get(o, o) for o in objects)))
        return found

    whole = {o["id"]: o["part_of"] for o in true["objects"] if o.get("part_of")}
    moved = names.get(whole.get(true["moved"], true["moved"]), "")  # a button's cap has no relations of its own
    ours = {r for r in said(action.relations.after, info.names, 1.0) if r[0] == moved}
    clear = {r for r in said(action.relations.after, info.names, CLEAR) if r[0] == moved}
    wanted = {r for r in said(true["relations"]["after"], names, CLEAR) if r[0] == moved}
    holds = {r for r in said(true["relations"]["after"], names, 1.0) if r[0] == moved}
    return (len(ours & wanted), len(wanted)), (len(clear - holds), len(clear))
