"""How far two annotations of the same videos are apart: in frames, millimetres and words.

They may be those of two people, or what the pipeline found and what a person made of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.spatial.transform import Rotation

from stvla_ros.config import ConfigError
from stvla_ros.data.st_human.info import Action, VideoInfo
from stvla_ros.types import F64

FRAMES, CONTACT_MM, PATH_MM = 2, 5.0, 10.0
"""What an auditor lets pass: contact and release, the points there, and the rest of the path."""

OVERLAP = 0.5
"""Two actions are the same one if they share so much of the time that they span together."""


@dataclass(frozen=True)
class Pair:
    """An action in both annotations. Distances are NaN where one of them has no point.

    Attributes:
        video: Id of the video.
        first, second: Ids of the action.
        template: Of the first.
        frames: Start, contact, release, end: by how much the second's are later.
        contact_mm: Between the points at contact and those at release.
        path_mm: (K,) between the poses at frames from contact to release that both have.
        turn_deg: (K,) between their rotations.
        same_template: Whether they name the same kind of action.
        same_sentence: Whether they say the same.
    """

    video: str
    first: str
    second: str
    template: str
    frames: tuple[int, int, int, int]
    contact_mm: tuple[float, float]
    path_mm: F64
    turn_deg: F64
    same_template: bool
    same_sentence: bool

    @property
    def agrees(self) -> bool:
        """Whether an auditor who has the second would let the first pass; a missing point is none that agrees."""
        return bool(
            self.same_sentence
            and max(abs(self.frames[1]), abs(self.frames[2])) <= FRAMES
            and all(apart <= CONTACT_MM for apart in self.contact_mm)
            and (self.path_mm <= PATH_MM).all()
        )

    def figures(self) -> dict[str, Any]:
        """For a file: who differs from whom by how much; None: not to be compared."""
        known = bool(np.isfinite(self.contact_mm).all())
        return {
            "video": self.video,
            "first": self.first,
            "second": self.second,
            "template": self.template,
            "frames": self.frames,
            "contact_mm": [round(mm, 2) for mm in self.contact_mm] if known else None,
            "path_max_mm": round(float(self.path_mm.max()), 2) if len(self.path_mm) else None,
            "turn_max_deg": round(float(self.turn_deg.max()), 2) if len(self.turn_deg) else None,
            "same_template": self.same_template,
            "same_sentence": self.same_sentence,
            "would_pass": self.agrees,
        }


@dataclass(frozen=True)
class Agreement:
    """Two annotations of the same videos.

    Attributes:
        videos: How many are in both.
        pairs: Actions in both.
        only_first: Templates of the actions that only the first has.
        only_second: The same of the second.
        only_in: Ids of videos that only one has, by which: 0 or 1.
    """

    videos: int
    pairs: tuple[Pair, ...]
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]
    only_in: tuple[tuple[str, ...], tuple[str, ...]]

    def rows(self) -> dict[str, dict[str, Any]]:
        """The figures by template, then of ``all``; None where there is nothing to count."""
        names = sorted({*(p.template for p in self.pairs), *self.only_first, *self.only_second})
        return {name: self._row({name}) for name in names} | {"all": self._row(set(names))}

    def _row(self, names: set[str]) -> dict[str, Any]:
        pairs = [p for p in self.pairs if p.template in names]
        single = [sum(t in names for t in some) for some in (self.only_first, self.only_second)]
        frames = np.abs(np.array([p.frames for p in pairs], float).reshape(-1, 4))
        contact = np.array([p.contact_mm for p in pairs], float).ravel()
        path, turn = (
            np.concatenate([getattr(p, name) for p in pairs] or [np.zeros(0)]) for name in ("path_mm", "turn_deg")
        )
        return {
            "both": len(pairs),
            "only_first": single[0],
            "only_second": single[1],
            "segments_f1": 2 * len(pairs) / (2 * len(pairs) + sum(single)) if pairs or any(single) else None,
            "contact_frames": _mean(frames[:, 1]),
            "release_frames": _mean(frames[:, 2]),
            "contact_mm": _median(contact),
            "path_rms_mm": float(np.sqrt(np.mean(path**2))) if len(path) else None,
            "turn_deg": _median(turn),
            "template": _mean([p.same_template for p in pairs]),
            "sentence": _mean([p.same_sentence for p in pairs]),
            "agree": _mean([p.agrees for p in pairs]),
        }


def compare(first: Iterable[VideoInfo], second: Iterable[VideoInfo]) -> Agreement:
    """Compare two annotations of the same videos, whose ids say which is which.

    Raises:
        ConfigError: No video is in both, or a video has another camera or another number of frames in the second.
    """
    ours, theirs = ({info.video.id: info for info in infos} for infos in (first, second))
    both = sorted(ours.keys() & theirs.keys())
    if not both:
        raise ConfigError(
            f"wanted two annotations of the same videos, found none in both: the first has {_some(ours)}, "
            f"the second {_some(theirs)}."
        )
    pairs: list[Pair] = []
    single: tuple[list[str], list[str]] = ([], [])
    for name in both:
        a, b = ours[name], theirs[name]
        if a.video.frames != b.video.frames or a.camera.K != b.camera.K:
            raise ConfigError(
                f"{name}: wanted annotations of one video, found {a.video.frames} and {b.video.frames} frames, "
                f"cameras {a.camera.K} and {b.camera.K}."
            )
        matches = _matches(a.actions, b.actions)
        pairs += [_pair(name, a, b, a.actions[i], b.actions[k]) for i, k in matches]
        for alone, actions, matched in zip(single, (a.actions, b.actions), (*zip(*matches),) or ((), ()), strict=True):
            alone.extend(action.template for i, action in enumerate(actions) if i not in matched)
    lonely = tuple(sorted(ours.keys() - theirs.keys())), tuple(sorted(theirs.keys() - ours.keys()))
    return Agreement(len(both), tuple(pairs), tuple(single[0]), tuple(single[1]), lonely)


def _matches(first: Sequence[Action], second: Sequence[Action]) -> list[tuple[int, int]]:
    """Pairs of actions that overlap in time, so that all of them together overlap most."""
    spans = [
        np.array([(a.start_frame, a.end_frame + 1) for a in some], float).reshape(-1, 2) for some in (first, second)
    ]
    shared = np.minimum(spans[0][:, None, 1], spans[1][None, :, 1]) - np.maximum(
        spans[0][:, None, 0], spans[1][None, :, 0]
    )
    length = [s[:, 1] - s[:, 0] for s in spans]
    shared = np.maximum(shared, 0.0)
    overlap = shared / (length[0][:, None] + length[1][None, :] - shared)
    overlap = np.where(overlap >= OVERLAP, overlap, 0.0)
    return [(int(i), int(k)) for i, k in zip(*linear_sum_assignment(-overlap), strict=True) if overlap[i, k] > 0.0]


def _pair(name: str, a: VideoInfo, b: VideoInfo, one: Action, other: Action) -> Pair:
    moments = ("start_frame", "contact_frame", "release_frame", "end_frame")
    mine, theirs = (
        {w.frame: w for w in x.trajectory if x.contact_frame <= w.frame <= x.release_frame} for x in (one, other)
    )
    shared = sorted(mine.keys() & theirs.keys())
    points = [np.array([some[f].xyz_m for f in shared]).reshape(-1, 3) for some in (mine, theirs)]
    turns = [np.array([some[f].quat_xyzw for f in shared]).reshape(-1, 4) for some in (mine, theirs)]
    apart = (Rotation.from_quat(turns[0]).inv() * Rotation.from_quat(turns[1])).magnitude() if shared else np.zeros(0)
    return Pair(
        video=name,
        first=one.id,
        second=other.id,
        template=one.template,
        frames=tuple(getattr(other, m) - getattr(one, m) for m in moments),
        contact_mm=_contact_mm(one, other),
        path_mm=1000.0 * np.linalg.norm(points[0] - points[1], axis=1),
        turn_deg=np.degrees(apart),
        same_template=one.template == other.template,
        same_sentence=one.template == other.template and _said(one, a.names) == _said(other, b.names),
    )


def _contact_mm(one: Action, other: Action) -> tuple[float, float]:
    if one.contact_points is None or other.contact_points is None:
        return np.nan, np.nan
    ends = ((getattr(x.contact_points, end).xyz_m for x in (one, other)) for end in ("initial", "final"))
    first, last = (1000.0 * float(np.linalg.norm(np.subtract(*both))) for both in ends)
    return first, last


def _said(action: Action, names: Mapping[str, str]) -> dict[str, Any]:
    """Slots with names instead of ids: two people may number things in another order."""

    def called(value: Any) -> Any:
        return tuple(called(v) for v in value) if isinstance(value, tuple) else names.get(value, value)

    return {slot: called(value) for slot, value in action.slots.items()}


def _mean(values: Any) -> float | None:
    return float(np.mean(values)) if len(values) else None


def _median(values: F64) -> float | None:
    values = values[np.isfinite(values)]
    return float(np.median(values)) if len(values) else None


def _some(infos: Mapping[str, VideoInfo]) -> str:
    return ", ".join([*sorted(infos)[:3], *(["..."] if len(infos) > 3 else [])]) or "no video"
