"""Instance tracking: an object keeps its id from frame to frame, even if the segmenter briefly splits or merges it.

While the camera stands still, masks are matched by overlap with the last frame. What overlap leaves undecided, and
everything after a camera motion, is matched by position and colour in the base frame. A carried object keeps its id
until the gripper releases it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from stvla_ros.config import param
from stvla_ros.geometry.components import member_pixels, sizes
from stvla_ros.tabletop.surface_colours import colour_feature
from stvla_ros.types import F32, F64, I32, Camera, Instance, RgbdFrame, RobotState, Segments

Overlap = Mapping[tuple[int, int], int]
"""Number of pixels per pair of labels, of the last frame and of this one."""

OWN_SHARE = 0.6
"""Two masks belong together when this share of the smaller one lies in the other."""

COLOUR_M = 0.35
"""Weight of a colour difference relative to a distance: two objects differ by about 0.3 (see ``SPLIT_DISTANCE``)."""

MAX_COLOUR_M = 0.05
"""Largest weighted colour difference of one object."""

HAND_M = 0.12
"""An object that vanishes or appears this close to the tool centre point was in the gripper."""

SAMPLE = 300
"""Points per instance from which position, size and colour are measured."""


@dataclass(frozen=True)
class TrackerConfig:
    """Settings of the tracker."""

    reach_m: float = param(0.08, "largest motion of an object between two frames [m]", ge=0.005, le=0.5)
    patience: int = param(5, "frames that a split or a merge must last before it is accepted", ge=0, le=100)
    memory_s: float = param(10.0, "how long an id is kept for an object out of sight [s]", ge=0.0, le=600.0)


@dataclass(frozen=True, eq=False)
class Observed:
    """One instance as observed in a frame.

    Attributes:
        box: Lower and upper corner in the base frame; None without valid depth.
        colour: (4,) :func:`stvla_ros.tabletop.surface_colours.colour_feature`.
        area_px: Number of pixels.
    """

    box: tuple[F64, F64] | None
    colour: F32
    area_px: int


@dataclass
class _Track:
    """An instance with its id over time."""

    seen: Observed
    stamp_ns: int
    in_hand: bool = False


@dataclass
class _Pending:
    """Splits or merges of tracks that are not yet accepted, and for how many frames each has lasted."""

    frames: dict[tuple[int, ...], int] = field(default_factory=dict)

    def lasting(self, found: set[tuple[int, ...]], patience: int) -> set[tuple[int, ...]]:
        """Those of ``found`` that have lasted long enough; the count of the others goes up."""
        self.frames = {key: self.frames.get(key, 0) + 1 for key in found}
        return {key for key, count in self.frames.items() if count > patience}


class InstanceTracker:
    """Gives the instances of consecutive frames stable ids. Ids are never reused."""

    Config = TrackerConfig

    def __init__(self, config: TrackerConfig) -> None:
        self._config = config
        self._tracks: dict[int, _Track] = {}
        self._labels: I32 | None = None  # of the last frame, stable ids
        self._camera: Camera | None = None
        self._splits, self._merges = _Pending(), _Pending()
        self._crossed: set[int] = set()  # tracks that the arm divides
        self._next = 1
        self.instances: tuple[Instance, ...] = ()
        """Instances of the last frame with valid depth."""

    def update(self, segments: Segments, frame: RgbdFrame, points_m: F32, robot: RobotState) -> Segments:
        """The same instances under stable ids. Brief splits and merges are undone.

        Args:
            segments: From a segmenter.
            frame: The image.
            points_m: (3, H, W) its cloud in the base frame.
            robot: Arm state at about the image's stamp.
        """
        shared = self._shared(segments.labels, frame.camera)
        labels = self._repaired(segments.labels, shared)
        if labels is not segments.labels:
            shared = self._shared(labels, frame.camera)
        ids = tuple((np.flatnonzero(sizes(labels)[1:]) + 1).tolist())
        seen = _observe_all(labels, ids, frame, points_m)
        names = self._ids(shared, seen, robot)
        stable = _renamed(labels, names)
        self._remember(stable, {names[i]: s for i, s in seen.items()}, robot, frame)
        return Segments(stable, tuple(sorted(names.values())))

    # --- brief splits and merges --------------------------------------------------------------------------------

    def _shared(self, labels: I32, camera: Camera) -> Overlap | None:
        """The overlap with the last frame; None when there is none, or another camera saw it."""
        if self._labels is None or not same_view(self._camera, camera):
            self._labels = None
            return None
        return _overlap(self._labels, labels)

    def _repaired(self, labels: I32, shared: Overlap | None) -> I32:
        """Labels in which splits and merges that have not lasted are undone."""
        if shared is None:
            return labels
        old, new = _areas(shared, 0), _areas(shared, 1)
        owned = {key: n for key, n in shared.items() if key[0] > 0 and key[1] > 0}
        merged = _groups({(j, t) for (t, j), n in owned.items() if n >= OWN_SHARE * old[t]})
        split = _groups({(t, j) for (t, j), n in owned.items() if n >= OWN_SHARE * new[j]})
        out = labels.copy() if merged or split else labels
        lasting = self._merges.lasting({tuple(ts) for ts in merged.values()}, self._config.patience)
        for j, tracks in merged.items():
            if tuple(tracks) not in lasting:
                self._unmerge(out, labels == j, tracks)
        self._crossed = {t for t in split if t in self._crossed or shared.get((t, -1), 0) > 0.02 * old[t]}
        lasting = self._splits.lasting({(t,) for t in split}, self._config.patience)
        for t, parts in split.items():
            if t in self._crossed or (t,) not in lasting:
                out[np.isin(labels, parts[1:])] = parts[0]
        return out

    def _unmerge(self, labels: I32, mask: npt.NDArray[np.bool_], tracks: list[int]) -> None:
        """Return the pixels of a merged mask to their former tracks; the rest goes to the first."""
        assert self._labels is not None
        fresh = int(labels.max()) + 1
        for k, t in enumerate(tracks[1:]):
            labels[mask & (self._labels == t)] = fresh + k

    # --- ids ------------------------------------------------------------------------------------------------------

    def _ids(self, shared: Overlap | None, seen: Mapping[int, Observed], robot: RobotState) -> dict[int, int]:
        """Stable id per label."""
        first = not self._tracks
        names = self._by_overlap(shared, seen)
        names.update(self._by_place(seen, names, robot))
        for i in seen:
            if i not in names:
                names[i] = i if first else self._next
                self._next = max(self._next, names[i]) + 1
        return {i: names[i] for i in seen}

    def _by_overlap(self, shared: Overlap | None, seen: Mapping[int, Observed]) -> dict[int, int]:
        """One-to-one matches by largest overlap; a small overlap counts only if the colours agree."""
        if shared is None:
            return {}
        old, new = _areas(shared, 0), _areas(shared, 1)
        pairs = [(n / (old[t] + new[j] - n), t, j) for (t, j), n in shared.items() if t > 0 and j > 0]
        names: dict[int, int] = {}
        for share, t, j in sorted(pairs, reverse=True):
            if j in names or t in names.values():
                continue
            inside = shared[t, j] >= OWN_SHARE * min(old[t], new[j])  # its visible part grew or shrank
            alike = _colour_m(seen[j], self._tracks[t].seen) <= MAX_COLOUR_M
            if share > OWN_SHARE or (alike and (share > 0.25 or inside)):
                names[j] = t
        return names

    def _by_place(self, seen: Mapping[int, Observed], named: Mapping[int, int], robot: RobotState) -> dict[int, int]:
        """Optimal assignment of the rest by distance plus colour difference, each within reach."""
        free = [i for i in seen if i not in named]
        lost = [t for t in self._tracks if t not in named.values()]
        if not free or not lost:
            return {}
        cost = np.array([[self._cost(seen[i], self._tracks[t], robot) for t in lost] for i in free])
        rows, columns = linear_sum_assignment(np.minimum(cost, 1e3))
        return {free[r]: lost[c] for r, c in zip(rows, columns, strict=True) if np.isfinite(cost[r, c])}

    def _cost(self, seen: Observed, track: _Track, robot: RobotState) -> float:
        """Distance plus weighted colour difference, m; infinite if it cannot be the same object."""
        if seen.box is None or track.seen.box is None:
            return float("inf")
        tool = robot.T_base_tcp[:3, 3]
        away = gap(seen.box, track.seen.box)
        colour = _colour_m(seen, track.seen)
        if track.in_hand:  # released, wherever that was
            away = max(_from_box(tool, seen.box) - HAND_M, 0.0)
        reach = self._config.reach_m
        return away + colour if away <= reach and colour <= MAX_COLOUR_M else float("inf")

    # --- memory ---------------------------------------------------------------------------------------------------

    def _remember(self, labels: I32, seen: Mapping[int, Observed], robot: RobotState, frame: RgbdFrame) -> None:
        tool = robot.T_base_tcp[:3, 3]
        for i, s in seen.items():
            self._tracks[i] = _Track(s, frame.stamp_ns)
        for i, track in list(self._tracks.items()):
            if i in seen:
                continue
            box = track.seen.box
            just_lost = self._labels is not None and bool((self._labels == i).any())
            track.in_hand |= just_lost and box is not None and _from_box(tool, box) < HAND_M
            too_old = frame.stamp_ns - track.stamp_ns > self._config.memory_s * 1e9
            if too_old and not track.in_hand:
                del self._tracks[i]
        self._labels, self._camera = labels, frame.camera
        self.instances = tuple(
            Instance(i, (s.box[0] + s.box[1]) / 2, s.box[1] - s.box[0]) for i, s in sorted(seen.items()) if s.box
        )


def same_view(a: Camera | None, b: Camera) -> bool:
    """The same pixels show the same places: equal size and intrinsics, pose within 1 mm and 0.001 rad."""
    return (
        a is not None
        and (a.width_px, a.height_px) == (b.width_px, b.height_px)
        and bool(np.allclose(a.K, b.K, atol=0.5))
        and bool(np.abs(a.T_base_camera - b.T_base_camera).max() < 0.001)
    )


def gap(a: tuple[F64, F64], b: tuple[F64, F64]) -> float:
    """Distance between the centres of two boxes (lower, upper corner), minus what a change of size explains."""
    middle = float(np.linalg.norm((a[0] + a[1]) / 2 - (b[0] + b[1]) / 2))
    growth = float(np.linalg.norm((a[1] - a[0]) - (b[1] - b[0]))) / 2  # the arm hid a part of it
    return max(middle - growth, 0.0)


def _colour_m(a: Observed, b: Observed) -> float:
    return COLOUR_M * float(np.linalg.norm(a.colour - b.colour))


def _from_box(point: F64, box: tuple[F64, F64]) -> float:
    return float(np.linalg.norm(np.maximum(np.maximum(box[0] - point, point - box[1]), 0.0)))


def _observe_all(labels: I32, ids: tuple[int, ...], frame: RgbdFrame, points_m: F32) -> dict[int, Observed]:
    if not ids:
        return {}
    flat, colours = points_m.reshape(3, -1), frame.rgb.reshape(-1, 3)
    members = member_pixels(labels, ids[-1])
    return {i: _observe(members[i - 1], flat, colours) for i in ids}


def _observe(pixels: npt.NDArray[np.intp], flat_m: F32, colours: npt.NDArray[np.uint8]) -> Observed:
    few = pixels[:: max(len(pixels) // SAMPLE, 1)]
    some = flat_m.take(few, axis=1)
    points: F64 = np.sort(some[:, np.isfinite(some[2])], axis=1).astype(np.float64)
    last = points.shape[1] - 1
    box = (points[:, round(0.02 * last)], points[:, round(0.98 * last)]) if last >= 0 else None
    return Observed(box, np.sort(colour_feature(colours.take(few, axis=0)), axis=0)[len(few) // 2], len(pixels))


def _overlap(a: I32, b: I32) -> Overlap:
    """Number of pixels per pair of labels that are not both 0, at every second row and column."""
    a, b = a[::2, ::2].ravel(), b[::2, ::2].ravel()
    some = np.flatnonzero(a | b)
    a, b = a.take(some) + 1, b.take(some) + 1
    width = int(b.max(initial=0)) + 1
    counts = np.bincount(a * width + b)
    return {(int(k) // width - 1, int(k) % width - 1): int(counts[k]) for k in np.flatnonzero(counts)}


def _areas(shared: Overlap, side: int) -> dict[int, int]:
    total: dict[int, int] = {}
    for key, n in shared.items():
        total[key[side]] = total.get(key[side], 0) + n
    return total


def _groups(pairs: set[tuple[int, int]]) -> dict[int, list[int]]:
    """Second members per first member, for first members with two or more."""
    groups: dict[int, list[int]] = {}
    for a, b in sorted(pairs):
        groups.setdefault(a, []).append(b)
    return {a: bs for a, bs in groups.items() if len(bs) > 1}


def _renamed(labels: I32, names: Mapping[int, int]) -> I32:
    if all(label == name for label, name in names.items()):
        return labels
    table = np.zeros(int(labels.max(initial=0)) + 2, dtype=np.int32)
    table[-1] = -1  # where label -1 finds it
    for label, name in names.items():
        table[label] = name
    return np.asarray(table.take(labels), dtype=np.int32)
