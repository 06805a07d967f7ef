"""Compare a path with the measured depth: does it enter a surface, or pass hidden behind one?

A depth camera sees the front of objects. A path point further away than the depth measured at its pixel is either
inside an object or in free space behind it. A single point cannot tell, the path leading there can. Follow it pixel by
pixel:

* if it falls behind the measured depth because the *measured depth jumps* (the outline of an object passes in front of
  it), the path went behind the object: legitimate, nothing changes;
* if it does so while the measured depth is *continuous*, the path itself went through the surface: it pierces it.

A part that pierces at most ``inside_m`` deep is moved along its rays to ``clear_m`` in front of the surface. A deeper
one is refused if the surface is a wall (a plane over a window of ``wall_m``). Otherwise it stays, with a note: nothing
says whether it should pass over, beside or behind the object. At both ends the tool is meant to enter the grasped or
filled object by ``grip_m``. A surface entered above the start may be the robot's own hand, which is there while it
holds something: it is ignored unless it is a wall.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stvla_ros.geometry.cameras import project, sampled
from stvla_ros.geometry.depths import depth_edge_m, valid_depth
from stvla_ros.geometry.paths import arc_length, runs
from stvla_ros.perception.lift.checks import implausible
from stvla_ros.perception.lift.config import LiftConfig
from stvla_ros.types import F32, F64, Bool, RgbdFrame

MEDIAN = 5
"""Length of the median filter over the measured depth along the path, against single flying pixels."""

WALL_SHARE = 0.8
"""A wall fills at least this share of the window."""


@dataclass(frozen=True, eq=False)
class Settled:
    """A path after comparison with the sensor.

    Attributes:
        xyz_m: (N, 3) samples, repaired.
        moved: (N,) samples that were moved to the sensor's depth.
        notes: One sentence per repair.
    """

    xyz_m: F64
    moved: Bool
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class _Seen:
    """The samples of a path with valid measured depth at their pixel, in order.

    Attributes:
        index: (S,) indices of the samples.
        px: (S, 2) their pixels.
        depth_m: (S,) depth of the path.
        surface_m: (S,) measured depth.
        allowed_m: (S,) how far behind the surface the path may be.
        hand: (S,) samples at which the measured surface may be the robot's hand.
    """

    index: npt.NDArray[np.intp]
    px: F64
    depth_m: F64
    surface_m: F64
    allowed_m: F64
    hand: Bool

    @property
    def behind_m(self) -> F64:
        return self.depth_m - self.surface_m

    @property
    def jumps(self) -> Bool:
        """(S + 1,) a depth edge lies between a sample and the previous one, or at most one sample further."""
        step = np.abs(np.diff(self.surface_m)) > depth_edge_m(self.surface_m[1:])
        padded = np.concatenate([[False, False], step, [False, False]])
        return np.asarray(padded[:-2] | padded[1:-1] | padded[2:])


def settle(samples_m: F64, frame: RgbdFrame, config: LiftConfig) -> Settled:
    """Compare a path with the depth image and move it out of surfaces (see the module docstring).

    Args:
        samples_m: (N, 3) path, about a pixel between neighbours.
        frame: The frame that it was drawn on.
        config: Settings.

    Raises:
        StageError: LIFT_IMPLAUSIBLE if it runs deep into a wall.
    """
    unchanged = Settled(samples_m, np.zeros(len(samples_m), dtype=bool))
    seen = _see(samples_m, frame, config)
    if len(seen.index) < 2:
        return unchanged
    out, moved, notes = samples_m.copy(), unchanged.moved.copy(), []
    inside = seen.behind_m > config.touch_m * np.maximum(1.0, seen.surface_m**2)
    for first, last, crossing in _piercing(seen, inside):
        excess = float((seen.behind_m - np.maximum(seen.allowed_m, 0.0))[first:last].max())
        if excess > config.inside_m:
            notes += _too_deep(seen, samples_m, crossing, excess, frame, config)
        if not 0 < excess <= config.inside_m or seen.hand[crossing]:
            continue
        span = _widened(seen, first, last, config.clear_m)
        target = seen.surface_m[span] + seen.allowed_m[span]
        nearer = target < seen.depth_m[span]
        chosen = seen.index[span][nearer]
        eye = frame.camera.T_base_camera[:3, 3]
        out[chosen] = eye + (samples_m[chosen] - eye) * (target / seen.depth_m[span])[nearer, None]
        moved[chosen] = True
        notes.append(_moved_sentence(samples_m[chosen], excess))
    return Settled(out, moved, tuple(notes))


def _see(samples_m: F64, frame: RgbdFrame, config: LiftConfig) -> _Seen:
    px, depth = project(frame.camera, samples_m)
    surface = sampled(frame.depth_m, px)
    surface[~(surface < config.range_m)] = np.nan
    index = np.flatnonzero(np.isfinite(surface))
    along = arc_length(samples_m)
    to_end = np.minimum(along, along[-1] - along)[index]
    fade = np.clip(2.0 - to_end / max(config.end_m, 1e-9), 0.0, 1.0)
    allowed = -config.clear_m + fade * (config.grip_m + config.clear_m)
    hand = _above_start(samples_m[index], samples_m[0], config.hand_m)
    return _Seen(index, px[index], depth[index], _median(surface[index]), allowed, hand)


def _above_start(xyz_m: F64, start_m: F64, hand_m: float) -> Bool:
    """Samples where the hand would be with the tool at the start: above it, until the path first leaves that column."""
    beside = np.hypot(*(xyz_m[:, :2] - start_m[:2]).T)
    above = (beside < hand_m) & (xyz_m[:, 2] > start_m[2] - 0.02)
    return np.asarray(np.logical_and.accumulate(above))


def _median(values: F64) -> F64:
    if len(values) < MEDIAN:
        return values
    padded = np.pad(values, MEDIAN // 2, mode="edge")
    return np.asarray(np.median(np.lib.stride_tricks.sliding_window_view(padded, MEDIAN), axis=1))


def _piercing(seen: _Seen, inside: Bool) -> list[tuple[int, int, int]]:
    """Runs of samples behind a surface that began or ended without a depth edge, and the sample where they did."""
    jumps, count = seen.jumps, len(inside)
    found = []
    for first, last in runs(inside):
        if not jumps[first]:
            found.append((first, last, first))
        elif last < count and not jumps[last]:
            found.append((first, last, last - 1))
    return found


def _widened(seen: _Seen, first: int, last: int, clear_m: float) -> slice:
    """The run, extended by adjacent samples that are too close to the surface."""
    close, jumps = (seen.behind_m > -clear_m) & ~seen.hand, seen.jumps
    while first > 0 and close[first - 1] and not jumps[first]:
        first -= 1
    while last < len(close) and close[last] and not jumps[last]:
        last += 1
    return slice(first, last)


def _too_deep(
    seen: _Seen, samples_m: F64, crossing: int, excess_m: float, frame: RgbdFrame, config: LiftConfig
) -> list[str]:
    """A note, unless it was the hand. Raises LIFT_IMPLAUSIBLE at a wall."""
    x, y, z = samples_m[seen.index[crossing]]
    where = f"at ({x:.2f}, {y:.2f}, {z:.2f}) m and gets {excess_m * 100:.0f} cm behind the surface measured there"
    size_px = config.wall_m * float(frame.camera.K[0, 0]) / seen.surface_m[crossing]
    if _is_wall(frame.depth_m, seen.px[crossing], size_px, config.range_m):
        raise implausible(f"it runs into a wall {where}")
    sentence = f"The path runs into an object {where}. It stays as drawn: how far the object extends is not visible."
    return [] if seen.hand[crossing] else [sentence]


def _is_wall(depth_m: F32, px: F64, size_px: float, range_m: float) -> bool:
    """The plane through the centre of a window fills the window."""
    v, u, q, tolerance = _inverse_depths(depth_m, px, size_px, range_m)
    middle = np.maximum(np.abs(u), np.abs(v)) < max(size_px / 8, 2.0)
    if middle.sum() < 9:
        return False
    A = np.column_stack([np.ones(len(q)), u, v])
    plane = np.linalg.lstsq(A[middle], q[middle], rcond=None)[0]
    return bool(np.mean(np.abs(q - A @ plane) < tolerance) > WALL_SHARE)


def _inverse_depths(depth_m: F32, px: F64, size_px: float, range_m: float) -> tuple[F64, F64, F64, F64]:
    """Rows and columns from the centre, inverse depths, and the step of those that is an edge: (N,) each."""
    h, w = depth_m.shape
    x, y = np.rint(px).astype(int)
    half = max(round(size_px / 2), 2)
    step = max(half // 32, 1)
    rows, columns = (
        np.arange(max(y - half, 0), min(y + half + 1, h), step),
        np.arange(max(x - half, 0), min(x + half + 1, w), step),
    )
    patch = depth_m[np.ix_(rows, columns)]
    valid = valid_depth(patch, range_m)
    i, j = np.nonzero(valid)
    z = patch[valid].astype(np.float64)
    return (rows[i] - px[1]), (columns[j] - px[0]), 1.0 / z, 2 * depth_edge_m(z) / z**2


def _moved_sentence(samples_m: F64, excess_m: float) -> str:
    x, y, _ = samples_m.mean(axis=0)
    length = float(np.linalg.norm(np.diff(samples_m, axis=0), axis=1).sum())
    return (
        f"{length * 100:.0f} cm of the path around ({x:.2f}, {y:.2f}) m were up to {excess_m * 1000:.0f} mm inside a surface "
        "and moved in front of it."
    )
